"""From a camera URI to a camera."""

import logging
import re
import time
from enum import StrEnum
from pathlib import Path

from edge.cameras.camera import Camera, EndOfPictures
from edge.cameras.pace import Pace
from edge.cameras.replay import GLOB_CHARACTERS, ReplayCamera, find_pictures
from edge.config import CameraSettings
from edge.errors import CameraLost, CameraUriInvalid
from edge.frame import FrameStatus, Pixels
from edge.pictures import is_picture
from edge.redaction import redacted

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4", ".m4v", ".mpg", ".mpeg", ".webm"})
STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
KNOWN = (
    "a folder or glob of pictures, a picture, a video file, 0, /dev/video0, "
    "/dev/v4l/by-id/NAME, rtsp://… or http://…"
)


class CameraKind(StrEnum):
    """The cameras there are."""

    PICTURES = "pictures"
    VIDEO = "video file"
    DEVICE = "V4L2 device"
    STREAM = "network stream"


def camera_kind(uri: str) -> CameraKind:
    """Tell what a URI names, without opening a camera.

    Raises:
        CameraUriInvalid: an unknown scheme, or a path that does not exist or is of no use.
    """
    if uri.isdecimal() or uri.startswith("/dev/"):
        return CameraKind.DEVICE
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme:
        if scheme[1].lower() in STREAM_SCHEMES:
            return CameraKind.STREAM
        raise CameraUriInvalid(
            f"{redacted(uri)}: no camera has the scheme {scheme[1]!r}. Known are {KNOWN}."
        )
    path = Path(uri)
    if path.is_dir() or (path.is_file() and is_picture(path)):
        return CameraKind.PICTURES
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return CameraKind.VIDEO
    if path.exists():
        raise CameraUriInvalid(f"{uri}: neither a picture nor a video. Known are {KNOWN}.")
    if GLOB_CHARACTERS & set(uri):
        return CameraKind.PICTURES
    raise CameraUriInvalid(f"{uri}: no such file or folder. Known are {KNOWN}.")


def open_camera(uri: str, settings: CameraSettings) -> Camera:
    """Open the camera that a URI names.

    Raises:
        CameraUriInvalid: nothing that can ever be opened.
        CameraNotOpened: a device or stream that is absent, busy or not permitted now.
    """
    kind = camera_kind(uri)
    pace = Pace(settings.rate_fps)
    if kind is CameraKind.PICTURES:
        return ReplayCamera(uri, find_pictures(uri), pace, settings.loop)
    from edge.cameras import opencv

    if kind is CameraKind.VIDEO:
        return opencv.VideoFile(Path(uri), pace, settings.loop)
    if settings.rate_fps is not None:
        log.warning("%s sets its own pace; the rate is for files only", redacted(uri))
    if kind is CameraKind.DEVICE:
        return opencv.open_v4l2(f"/dev/video{uri}" if uri.isdecimal() else uri)
    return opencv.open_stream(uri)


def some_frames(settings: CameraSettings, most: int, limit_s: float = 10.0) -> list[Pixels]:
    """Take some complete frames of a camera, for measurements.

    Raises:
        CameraUriInvalid, CameraNotOpened: see ``open_camera``.
        CameraLost: not one complete frame came within the limit.
    """
    camera = open_camera(settings.uri, settings)
    deadline = time.monotonic() + limit_s
    frames: list[Pixels] = []
    try:
        while len(frames) < most and time.monotonic() < deadline:
            frame = camera.read(timeout_s=1.0)
            if frame is not None and frame.status is FrameStatus.COMPLETE:
                frames.append(frame.pixels)
    except EndOfPictures:
        log.debug("the source has %d frames", len(frames))
    finally:
        camera.close()
    if not frames:
        raise CameraLost(f"{redacted(settings.uri)}: gave no complete frame. Check the camera.")
    return frames
