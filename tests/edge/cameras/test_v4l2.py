"""USB cameras: what can be proven of them without one.

Settings are tried on a real ``cv2.VideoCapture`` of a video file, which has a size, a rate and a
format and takes no other; and on controls that clamp and round as drivers do.
"""

import errno
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras.capture.v4l2 import (
    check_present,
    streaming_errno,
    v4l2_concealment,
    why_no_stream,
)
from edge.cameras.capture.v4l2_settings import MANUAL_EXPOSURE, MANUAL_WHITE_BALANCE, apply_settings
from edge.cameras.factory import open_camera
from edge.errors import CameraLost, CameraNotOpened, CameraSettingRefused
from edge.settings.camera import CameraSettings, SensorSettings

CAM = "/dev/video7"


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[cv2.VideoCapture]:
    """A capture that takes nothing but what it has: 64 x 48 MJPG at 10 frames a second."""
    path = str(tmp_path / "line.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    opened = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    yield opened
    opened.release()


class Registers:
    """Controls of a USB camera: whole numbers, clamped to their range, automatics first."""

    def __init__(self) -> None:
        self.ranges = {
            cv2.CAP_PROP_EXPOSURE: (1, 500),
            cv2.CAP_PROP_GAIN: (0, 100),
            cv2.CAP_PROP_WB_TEMPERATURE: (2800, 6500),
            cv2.CAP_PROP_AUTO_EXPOSURE: (0, 3),
            cv2.CAP_PROP_AUTO_WB: (0, 1),
        }
        self.values = {key: float(high) for key, (_, high) in self.ranges.items()}

    def set(self, property_id: int, value: float) -> bool:
        if property_id not in self.ranges:
            return False
        automatic = {
            cv2.CAP_PROP_EXPOSURE: self.values[cv2.CAP_PROP_AUTO_EXPOSURE] != MANUAL_EXPOSURE,
            cv2.CAP_PROP_WB_TEMPERATURE: self.values[cv2.CAP_PROP_AUTO_WB] != MANUAL_WHITE_BALANCE,
        }
        if automatic.get(property_id):
            return False
        low, high = self.ranges[property_id]
        self.values[property_id] = float(min(high, max(low, round(value))))
        return True

    def get(self, property_id: int) -> float:
        return self.values.get(property_id, -1.0)


def test_what_a_capture_has_is_taken_and_reported(capture: cv2.VideoCapture) -> None:
    sensor = SensorSettings(pixel_format="MJPG", width_px=64, height_px=48, frame_rate_fps=10.1)

    assert apply_settings(capture, sensor, CAM) == (
        ("pixel_format", "MJPG"),
        ("width_px", "64"),
        ("height_px", "48"),
        ("frame_rate_fps", "10"),
    )


@pytest.mark.parametrize(
    ("sensor", "reported"),
    [
        (SensorSettings(pixel_format="YUYV"), "pixel_format: asked for YUYV, the camera has MJPG"),
        (SensorSettings(width_px=128), "width_px: asked for 128, the camera has 64"),
        (SensorSettings(height_px=96), "height_px: asked for 96, the camera has 48"),
        (SensorSettings(frame_rate_fps=30), "frame_rate_fps: asked for 30, the camera has 10"),
        (SensorSettings(exposure_us=500), "exposure_us: asked for 500, the camera has no such"),
        (SensorSettings(gain_db=0), "gain_db: asked for 0, the camera has no such control"),
        (SensorSettings(white_balance_k=5000), "white_balance_k: asked for 5000, the camera has"),
        (SensorSettings(exposure_us=40), "USB cameras take multiples of 100"),
        (SensorSettings(pixel_format="Mono8"), "name formats by four letters"),
        (SensorSettings(offset_x_px=8), "offset_x_px is not a setting of USB cameras; use camera."),
        (SensorSettings(packet_delay_ns=1), "it is for GigE Vision"),
        (SensorSettings(buffers=4), "buffers is not a setting of USB cameras; it is for GigE and"),
    ],
    ids=lambda value: next(iter(value.model_fields_set)) if not isinstance(value, str) else "",
)
def test_what_a_capture_does_not_take_is_refused_by_name(
    capture: cv2.VideoCapture, sensor: SensorSettings, reported: str
) -> None:
    with pytest.raises(CameraSettingRefused) as raised:
        apply_settings(capture, sensor, CAM)

    assert reported in str(raised.value) and CAM in str(raised.value)
    assert raised.value.exit_code == 78


def test_exposure_is_written_in_steps_with_automatics_off_and_reported_in_microseconds() -> None:
    registers = Registers()
    sensor = SensorSettings(exposure_us=1230, gain_db=3.7, white_balance_k=5000)

    reported = apply_settings(registers, sensor, CAM)

    assert registers.values[cv2.CAP_PROP_EXPOSURE] == 12
    assert reported == (("exposure_us", "1200"), ("gain_db", "4"), ("white_balance_k", "5000"))


def test_a_value_that_the_driver_clamps_is_refused() -> None:
    with pytest.raises(CameraSettingRefused, match="asked for 70000, the camera has 50000"):
        apply_settings(Registers(), SensorSettings(exposure_us=70_000), CAM)
    with pytest.raises(CameraSettingRefused, match="asked for 101, the camera has 100"):
        apply_settings(Registers(), SensorSettings(gain_db=101), CAM)


def test_what_is_not_set_is_not_touched() -> None:
    registers = Registers()
    before = dict(registers.values)

    assert apply_settings(registers, SensorSettings(), CAM) == ()
    assert registers.values == before


@pytest.mark.parametrize("uri", ["77", "/dev/video77", "/dev/v4l/by-id/usb-none"])
def test_an_absent_device_is_reported(uri: str) -> None:
    with pytest.raises(CameraNotOpened, match="no such camera on this machine") as raised:
        open_camera(uri, CameraSettings(uri=uri))

    assert raised.value.exit_code == 69


def test_a_device_that_is_no_camera_is_reported() -> None:
    with pytest.raises(CameraNotOpened, match="/dev/null: is not a camera"):
        open_camera("/dev/null", CameraSettings(uri="/dev/null"))


def test_an_unplugged_camera_is_lost(tmp_path: Path) -> None:
    node = tmp_path / "video0"
    node.touch()
    check_present(str(node))
    node.unlink()

    with pytest.raises(CameraLost, match="was unplugged"):
        check_present(str(node))


@pytest.mark.parametrize(
    ("codec", "gives_jpegs", "reported"),
    [
        ("YUYV", False, ""),
        ("Y16 ", False, ""),
        ("MJPG", True, ""),
        ("MJPG", False, "its JPEGs are decoded by OpenCV"),
        ("H264", False, "come as H264, whose decoder conceals lost or damaged"),
        ("S910", False, "come as S910"),
    ],
)
def test_a_usb_camera_whose_decoder_hides_damage_is_warned_of(
    codec: str, gives_jpegs: bool, reported: str
) -> None:
    found = v4l2_concealment(codec, gives_jpegs)
    assert reported in found and bool(found) == bool(reported)


def test_no_space_left_on_device_is_explained_as_usb_bandwidth() -> None:
    reported = why_no_stream(CAM, errno.ENOSPC)

    assert (
        "no USB bandwidth is left" in reported
        and "no disk is full" in reported
        and "MJPG" in reported
    )


def test_the_kernel_is_asked_why_a_stream_does_not_start() -> None:
    assert streaming_errno("/dev/null") == errno.ENOTTY  # a real ioctl, to no camera
    assert streaming_errno("/dev/video77") == errno.ENOENT
    assert "Inappropriate ioctl" in why_no_stream("/dev/null", errno.ENOTTY)
    assert "another program uses" in why_no_stream(CAM, errno.EBUSY)
    assert "no frame comes" in why_no_stream(CAM, 0)
