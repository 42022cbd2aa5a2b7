"""From a camera URI to a camera."""

import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

from edge.cameras.capture.network_stream import check_stream, open_stream
from edge.cameras.capture.v4l2 import open_v4l2
from edge.cameras.files.existing_images import Inventory
from edge.cameras.files.not_inspected import NotInspected
from edge.cameras.files.pacing import Pace
from edge.cameras.files.replay import GLOB_CHARACTERS, ReplayCamera, find_images
from edge.cameras.files.video_file import VideoFile
from edge.cameras.files.watched_folder import FolderMemory, WatchedFolder, watched_path
from edge.cameras.genicam.camera import open_aravis
from edge.cameras.genicam.discovery import parse_uri
from edge.cameras.interface import Camera, CameraLine, EndOfFrames, LiveCamera
from edge.cameras.supervised.camera import SupervisedCamera
from edge.cameras.supervised.state_machine import AWAY, CameraState, CameraStatus
from edge.errors import CameraLost, CameraNotOpened, CameraSettingRefused, CameraUriInvalid
from edge.imaging.frame import FrameStatus, Pixels
from edge.imaging.image_files import is_image
from edge.journal.judged_images import JudgedImages
from edge.redaction import redacted
from edge.settings.addresses import Scheme, parse_scheme
from edge.settings.camera import CameraSettings, TriggerSettings
from edge.system.file_access import why_closed
from edge.wording import counted

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4", ".m4v", ".mpg", ".mpeg", ".webm"})
STREAM_SCHEMES = frozenset({Scheme.RTSP, Scheme.RTSPS, Scheme.HTTP, Scheme.HTTPS})
GENICAM_SCHEMES = frozenset({Scheme.GIGE, Scheme.USB3, Scheme.ARAVIS})
KNOWN = (
    "a folder or glob of images, an image, a video file, watch://FOLDER, gige://ADDRESS, "
    "gige://SERIAL, usb3://SERIAL, 0, /dev/video0, /dev/v4l/by-id/NAME, rtsp://… or http://…"
)


class CameraKind(StrEnum):
    """The cameras there are."""

    IMAGES = "image files"
    VIDEO = "video file"
    FOLDER = "watched folder"
    DEVICE = "V4L2 device"
    STREAM = "network stream"
    GENICAM = "GenICam camera"

    @property
    def is_live(self) -> bool:
        """Frames come when they come; what gives them may go and come back."""
        return self not in (CameraKind.IMAGES, CameraKind.VIDEO)


# A trigger takes the next file.
TRIGGERED_FILES = frozenset({CameraKind.IMAGES, CameraKind.VIDEO, CameraKind.FOLDER})


def camera_kind(uri: str) -> CameraKind:
    """Tell what a URI names, without opening a camera.

    Raises:
        CameraUriInvalid: an unknown scheme, or a path that does not exist or is of no use.
    """
    if uri.isdecimal() or re.match(r"/dev/(?!shm(/|$))", uri):  # there, files are in memory
        return CameraKind.DEVICE
    scheme = parse_scheme(uri)
    if scheme is not None:
        if scheme in STREAM_SCHEMES:
            return CameraKind.STREAM
        if scheme in GENICAM_SCHEMES:
            return CameraKind.GENICAM
        if scheme == Scheme.WATCH:
            return CameraKind.FOLDER
        raise CameraUriInvalid(
            f"{redacted(uri)}: no camera has the scheme {scheme!r}. Known are {KNOWN}."
        )
    try:
        return _kind_of_file(uri)
    except PermissionError as error:
        raise CameraUriInvalid(f"{uri}: {why_closed()}.") from error


def _kind_of_file(uri: str) -> CameraKind:
    path = Path(uri)
    if path.is_dir() or (path.is_file() and is_image(path)):
        return CameraKind.IMAGES
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return CameraKind.VIDEO
    if path.exists():
        raise CameraUriInvalid(f"{uri}: neither an image nor a video. Known are {KNOWN}.")
    if GLOB_CHARACTERS & set(uri):
        return CameraKind.IMAGES
    raise CameraUriInvalid(f"{uri}: no such file or folder. Known are {KNOWN}.")


def checked_kind(settings: CameraSettings) -> CameraKind:
    """Tell what the settings name, and refuse what no camera of that kind does; opens nothing.

    Raises:
        CameraUriInvalid: see ``camera_kind``; also a form that the kind does not have.
        CameraSettingRefused: triggers, or settings, that do not go with it.
        ConfigurationInvalid: ``camera.ca_file`` cannot be read.
    """
    uri = settings.uri
    kind = camera_kind(uri)
    _refuse_triggers(uri, kind, settings)
    if kind is CameraKind.GENICAM:
        parse_uri(uri)
    if kind is CameraKind.FOLDER:
        _refuse_a_closed_folder(uri)
    if kind is CameraKind.STREAM:
        check_stream(uri, settings.sensor, settings.ca_file)
    if kind.is_live and kind is not CameraKind.FOLDER:
        _refuse_a_limit_below_the_period(settings)
    return kind


def open_camera(
    uri: str, settings: CameraSettings, not_inspected: NotInspected | None = None
) -> Camera:
    """Open the camera that a URI names, once and without supervision.

    Args:
        not_inspected: counts what files hold beside the images that are given.

    Raises:
        CameraUriInvalid: nothing that can ever be opened.
        CameraSettingRefused: the camera does not take a setting.
        CameraNotOpened: a device or stream that is absent, busy or not permitted now.
    """
    kind = camera_kind(uri)
    if kind.is_live:
        return live_camera_opener(uri, settings)()
    _warn_of_unused(uri, settings)
    pace = Pace(settings.rate_fps)
    if kind is CameraKind.IMAGES:
        counted = not_inspected or NotInspected(uri)
        return ReplayCamera(
            identity=uri,
            images=find_images(uri, counted),
            pace=pace,
            not_inspected=counted,
            loop=settings.loop,
            max_pixels=settings.max_pixels,
        )
    return VideoFile(Path(uri), pace, settings.loop)


def live_camera_opener(
    uri: str,
    settings: CameraSettings,
    memory: FolderMemory | None = None,
    lines: Sequence[CameraLine] = (),
) -> Callable[[], LiveCamera]:
    """Return what opens and configures a live camera, the same one at every call.

    Args:
        memory: of a watched folder; None begins with a new one.
        lines: that it switches, of a GenICam camera.

    Raises:
        CameraUriInvalid: the URI names no live camera.
        CameraSettingRefused: triggers for a camera that takes none.
    """
    kind = camera_kind(uri)
    if settings.rate_fps is not None:
        log.warning("%s sets its own pace; the rate is for files only", redacted(uri))
    sensor, supervision = settings.sensor, settings.supervision
    if kind is CameraKind.GENICAM:
        return lambda: open_aravis(uri, sensor, settings.trigger, lines)
    _refuse_triggers(uri, kind, settings)
    if kind is CameraKind.FOLDER:
        watched_path(uri)
        _warn_of_unused(uri, settings)
        remembered = memory or FolderMemory(inspect_existing=settings.watch.existing == "take")
        triggered = settings.trigger.mode == "software"
        limit_ms = settings.trigger.frame_timeout_ms if triggered else None
        return lambda: WatchedFolder(
            uri=uri, memory=remembered, trigger_limit_ms=limit_ms, max_pixels=settings.max_pixels
        )
    if kind is CameraKind.DEVICE:
        return lambda: open_v4l2(_device(uri), sensor)
    if kind is CameraKind.STREAM:
        return lambda: open_stream(uri, sensor, supervision, settings.ca_file)
    raise CameraUriInvalid(f"{uri}: is not a live camera; files are replayed.")


def _warn_of_unused(uri: str, settings: CameraSettings) -> None:
    """Tell of settings that a sensor would take; the same file may name a camera tomorrow."""
    unused = settings.sensor.model_dump(exclude_defaults=True)
    if unused:
        log.warning("%s: camera.sensor.%s is not used with files", uri, next(iter(unused)))


def supervised_camera(
    settings: CameraSettings,
    on_change: Callable[[CameraStatus], None],
    *,
    judged: JudgedImages | None = None,
    on_inventory: Callable[[Inventory], None] | None = None,
    not_inspected: NotInspected | None = None,
    lines: Sequence[CameraLine] = (),
) -> SupervisedCamera:
    """Return the supervisor of a live camera; it has not been started.

    Args:
        settings: name a camera whose kind ``is_live``.
        on_change: see ``SupervisedCamera``.
        judged, on_inventory, not_inspected: of a watched folder, see ``FolderMemory``.
        lines: that it switches, of a GenICam camera.

    Raises:
        CameraUriInvalid, CameraSettingRefused: see ``checked_kind``.
    """
    memory: FolderMemory | None = None
    if checked_kind(settings) is CameraKind.FOLDER:
        memory = FolderMemory(
            inspect_existing=settings.watch.existing == "take",
            judged=judged,
            on_inventory=on_inventory,
            not_inspected=not_inspected,
        )
    return SupervisedCamera(
        open_camera=live_camera_opener(settings.uri, settings, memory, lines),
        settings=settings.supervision,
        # Nobody says when a frame will appear in a folder.
        triggered=memory is not None or settings.trigger.mode != "free_run",
        hurried=bool(lines),
        on_change=on_change,
        identity=redacted(_device(settings.uri)),
        simulated=parse_scheme(settings.uri) == Scheme.ARAVIS,
        can_wait=memory is not None,
        busy=None if memory is None else memory.is_busy,
        idle=CameraState.WAITING_TRIGGER
        if memory is None or settings.trigger.mode != "free_run"
        else CameraState.WAITING_IMAGE,
    )


def started_camera(settings: CameraSettings) -> Camera | SupervisedCamera:
    """Open a camera for a command that needs it there: files as they are, live ones supervised.

    Raises:
        CameraUriInvalid, CameraSettingRefused: see ``checked_kind``.
        CameraNotOpened: a live camera is absent, or busy.
    """
    if not checked_kind(settings).is_live:
        return open_camera(settings.uri, settings)
    camera = supervised_camera(settings, _ignored)
    camera.start()
    if camera.status.state in AWAY:
        camera.close()
        raise CameraNotOpened(camera.status.detail)
    return camera


def _ignored(_status: CameraStatus) -> None:
    """The supervisor logs every change; nobody else has to know."""


def _refuse_triggers(uri: str, kind: CameraKind, settings: CameraSettings) -> None:
    mode = settings.trigger.mode
    if mode == "free_run" or kind is CameraKind.GENICAM:
        return
    if mode == "software" and kind in TRIGGERED_FILES:
        return
    raise CameraSettingRefused(
        f"{redacted(uri)} ({kind}): camera.trigger.mode {mode} is only for gige:// "
        "and usb3:// cameras; software also works with files and watched folders. "
        "Set camera.trigger.mode: free_run."
    )


def _refuse_a_closed_folder(uri: str) -> None:
    """A folder that is not there may come; one that is closed to us stays so."""
    try:
        os.scandir(watched_path(uri)).close()
    except PermissionError as error:
        raise CameraUriInvalid(f"{uri}: {why_closed()}.") from error
    except OSError as error:
        log.debug("%s: not available now (%s)", uri, error)


def absent_folder(uri: str) -> str | None:
    """Return the watched folder that a URI names if it is not there now; None for all else."""
    if camera_kind(uri) is not CameraKind.FOLDER:
        return None
    path = watched_path(uri)
    return None if path.is_dir() else str(path)


def _refuse_a_limit_below_the_period(settings: CameraSettings) -> None:
    sensor, limit_s = settings.sensor, settings.supervision.lost_after_s
    if settings.trigger.mode != "free_run":
        return
    periods_s = {
        "frame_rate_fps": 1 / sensor.frame_rate_fps if sensor.frame_rate_fps else 0.0,
        "exposure_us": (sensor.exposure_us or 0.0) / 1e6,
    }
    key = max(periods_s, key=lambda one: periods_s[one])
    if periods_s[key] >= limit_s:
        raise CameraSettingRefused(
            f"{redacted(settings.uri)}: at camera.sensor.{key} {getattr(sensor, key):g} a frame "
            f"comes every {periods_s[key]:g} s, and camera.supervision.lost_after_s is "
            f"{limit_s:g}. Set it to more than twice the time between two frames."
        )


def _device(uri: str) -> str:
    """Return the device of an index; every other address is its own."""
    return f"/dev/video{uri}" if uri.isdecimal() else uri


def some_frames(settings: CameraSettings, max_count: int, limit_s: float = 10.0) -> list[Pixels]:
    """Take some complete frames of a camera, for measurements; one with a trigger runs free.

    Raises:
        CameraUriInvalid, CameraSettingRefused, CameraNotOpened: see ``open_camera``.
        CameraLost: not one complete frame came within the limit.
    """
    running_free = settings.model_copy(update={"trigger": TriggerSettings()})
    camera = open_camera(settings.uri, running_free)
    deadline = time.monotonic() + limit_s
    frames: list[Pixels] = []
    try:
        while len(frames) < max_count and time.monotonic() < deadline:
            frame = camera.read(timeout_s=1.0)
            if frame is not None and frame.status is FrameStatus.COMPLETE:
                frames.append(frame.pixels)
    except EndOfFrames:
        log.debug("the source has %s", counted(len(frames), "frame"))
    finally:
        camera.close()
    if not frames:
        raise CameraLost(f"{redacted(settings.uri)}: sent no complete frame. Check the camera.")
    return frames
