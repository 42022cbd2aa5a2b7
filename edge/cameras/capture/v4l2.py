"""USB cameras through V4L2: ``/dev/video0``, ``/dev/v4l/by-id/…``."""

import errno
import fcntl
import os
import struct
from pathlib import Path

import cv2

from edge.cameras.capture.opencv import (
    JPEG_CODES,
    OpenCVCamera,
    concealment,
    read_codec,
    warn_once,
)
from edge.cameras.capture.v4l2_settings import apply_settings
from edge.cameras.interface import CameraReport
from edge.errors import CameraLost, CameraNotOpened
from edge.settings.camera import SensorSettings

# linux/videodev2.h
VIDIOC_REQBUFS = 0xC0145608
VIDIOC_STREAMON = 0x40045612
VIDIOC_STREAMOFF = 0x40045613
VIDEO_CAPTURE = 1
MEMORY_MAPPED = 1
PROBED_BUFFERS = 2
# Pixels without compression: nothing is filled, and what is short the driver marks as no frame.
_PLAIN_FORMATS = frozenset(
    {"YUYV", "UYVY", "YVYU", "VYUY", "NV12", "NV21", "YU12", "YV12", "411P", "422P"}
    | {"BGR3", "RGB3", "BGR4", "RGB4", "XR24", "AR24", "GREY", "Y10", "Y12", "Y16"}
    | {"BA81", "GBRG", "GRBG", "RGGB"}
)


def open_v4l2(device: str, sensor: SensorSettings) -> OpenCVCamera:
    """Open a USB camera, always through V4L2, configure it and take a first frame.

    Raises:
        CameraNotOpened: absent, not permitted, not a camera, in use, or without bandwidth.
        CameraSettingRefused: the camera does not take a setting as asked.
    """
    _check_device(device)
    # Whole seconds; its 10 would keep a silent camera from being opened again.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    try:
        if not capture.isOpened():
            raise CameraNotOpened(
                f"{device}: is not a camera that V4L2 can open. Choose another device; "
                "`v4l2-ctl --list-devices` shows them."
            )
        # Asks for fresh frames; drivers may ignore it, so nothing rests on it.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        capture.set(cv2.CAP_PROP_MODE, 0)  # controls in the driver's own units
        settings = apply_settings(capture, sensor, device)
        # Raw buffers: OpenCV would fill what a JPEG lost on the way and call it a success.
        gives_jpegs = read_codec(capture) in JPEG_CODES and capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        if not capture.grab():
            capture.release()  # else the question why meets a device in use
            raise CameraNotOpened(why_no_stream(device, streaming_errno(device)))
        if concealed := v4l2_concealment(read_codec(capture), gives_jpegs):
            warn_once(device, concealed)
    except BaseException:
        capture.release()
        raise
    return OpenCVCamera(
        identity=device,
        capture=capture,
        report=CameraReport(model=_name(device), settings=settings),
        has_clock=True,  # the kernel stamps each buffer
        check=lambda: check_present(device),
        gives_jpegs=gives_jpegs,
    )


def v4l2_concealment(codec: str, gives_jpegs: bool) -> str:
    """Return what may be hidden in the frames of a USB camera, with what to do; empty for nothing.

    Args:
        codec: as V4L2 names the pixel format.
        gives_jpegs: they come as they are, and are checked.
    """
    if gives_jpegs or codec.strip() in _PLAIN_FORMATS:
        return ""
    if codec in JPEG_CODES:
        return (
            "its JPEGs are decoded by OpenCV, which conceals lost or damaged data "
            "without reporting it: such a part may be judged OK. Set "
            "camera.sensor.pixel_format: YUYV"
        )
    return concealment(codec)


def check_present(device: str) -> None:
    """Tell whether the device node of an open camera is still there; it goes with the plug.

    Raises:
        CameraLost: it is not.
    """
    if not Path(device).exists():
        raise CameraLost(f"{device}: was unplugged. Plug it in; it is reopened automatically.")


def streaming_errno(device: str) -> int:
    """Start and stop a stream to learn why one does not start; 0 when it does."""
    try:
        file = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return error.errno or errno.EIO
    try:
        request = struct.pack("=5I", PROBED_BUFFERS, VIDEO_CAPTURE, MEMORY_MAPPED, 0, 0)
        fcntl.ioctl(file, VIDIOC_REQBUFS, request)
        kind = struct.pack("=i", VIDEO_CAPTURE)
        fcntl.ioctl(file, VIDIOC_STREAMON, kind)
        fcntl.ioctl(file, VIDIOC_STREAMOFF, kind)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.close(file)
    return 0


def why_no_stream(device: str, number: int) -> str:
    """Return cause and next step for the error with which a stream did not start."""
    if number == errno.ENOSPC:
        return (
            f"{device}: no USB bandwidth is left for this camera (errno 28; no disk is full). "
            "Set camera.sensor.pixel_format: MJPG or a smaller size or rate, or plug the camera "
            "into another root hub; `lsusb -t` shows them."
        )
    if number == errno.EBUSY:
        return (
            f"{device}: another program uses this camera. Close it; `fuser -v {device}` shows it."
        )
    cause = os.strerror(number) if number else "the stream starts, but no frame comes"
    return f"{device}: sends no frames ({cause}). Check cable, hub and the camera's power."


def _name(device: str) -> str | None:
    """Return what the driver calls the camera."""
    node = Path(device).resolve().name
    try:
        return Path(f"/sys/class/video4linux/{node}/name").read_text("utf-8").strip()
    except OSError:
        return None


def _check_device(device: str) -> None:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError:
        found = [str(p) for p in sorted(Path("/dev").glob("v4l/by-id/*"))]
        found = found or [str(p) for p in sorted(Path("/dev").glob("video*"))]
        choice = f" or choose one of {', '.join(found)}" if found else ""
        raise CameraNotOpened(
            f"{device}: no such camera on this machine. Plug it in{choice}."
        ) from None
    except PermissionError:
        raise CameraNotOpened(
            f"{device}: not permitted. Add the user to the group 'video' and log in again."
        ) from None
    except OSError as error:
        raise CameraNotOpened(
            f"{device}: cannot be opened ({error.strerror}). Check that no other program uses it."
        ) from None
