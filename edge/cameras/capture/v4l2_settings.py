"""Settings of a USB camera: written, read back, and refused when the camera did not take them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2

from edge.errors import CameraSettingRefused
from edge.settings.camera import SensorSettings

# The unit of V4L2_CID_EXPOSURE_ABSOLUTE.
EXPOSURE_UNIT_US = 100.0
# Values of V4L2_CID_EXPOSURE_AUTO and V4L2_CID_AUTO_WHITE_BALANCE: nothing automatic.
MANUAL_EXPOSURE = 1.0
MANUAL_WHITE_BALANCE = 0.0
RATE_TOLERANCE = 0.02

# What OpenCV says of a control that the camera does not have.
NOT_THERE = -1.0

# What the USB video class does not have, and what to use instead.
_NOT_OF_USB = {
    "offset_x_px": "use camera.crop",
    "offset_y_px": "use camera.crop",
    "white_balance_red": "use camera.sensor.white_balance_k",
    "white_balance_blue": "use camera.sensor.white_balance_k",
    "packet_size_bytes": "it is for GigE Vision",
    "packet_delay_ns": "it is for GigE Vision",
    "buffers": "it is for GigE and USB3 Vision",
}


class Controls(Protocol):
    """What ``cv2.VideoCapture`` gives access to."""

    def set(self, property_id: int, value: float) -> bool: ...

    def get(self, property_id: int) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlChange:
    """One control as it shall be.

    Attributes:
        key: in ``camera.sensor``.
        property_id: of OpenCV.
        value: in the control's own unit.
        asked: as the site wrote it.
        unit: how many of the key's units make one of the control's.
        tolerance: by which the read-back may differ, relative.
    """

    key: str
    property_id: int
    value: float
    asked: str
    unit: float = 1.0
    tolerance: float = 0.0


def apply_settings(
    controls: Controls, sensor: SensorSettings, identity: str
) -> tuple[tuple[str, str], ...]:
    """Write what is set and read all of it back.

    Returns:
        Name and value of each setting as the camera has it now.

    Raises:
        CameraSettingRefused: names key, what was asked for and what the camera has.
    """
    asked = sensor.model_dump(exclude_defaults=True)
    for key, instead in _NOT_OF_USB.items():
        if key in asked:
            raise CameraSettingRefused(
                f"{identity}: camera.sensor.{key} is not a setting of USB cameras; {instead}."
            )
    changes = list(_changes(controls, sensor, identity))
    for change in changes:
        _leave_automatic(controls, change.key)
        controls.set(change.property_id, change.value)
    # Only when all is written: format and size change what the others may be.
    for change in changes:
        _check(controls, change, identity)
    return tuple(
        (change.key, _shown(change, controls.get(change.property_id))) for change in changes
    )


def _changes(controls: Controls, sensor: SensorSettings, identity: str) -> Iterator[ControlChange]:
    if sensor.pixel_format is not None:
        code = fourcc(sensor.pixel_format, identity)
        yield ControlChange(
            key="pixel_format",
            property_id=cv2.CAP_PROP_FOURCC,
            value=code,
            asked=sensor.pixel_format,
        )
    if sensor.width_px is not None or sensor.height_px is not None:
        # OpenCV writes them together, once it has been given both.
        width = sensor.width_px or int(controls.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = sensor.height_px or int(controls.get(cv2.CAP_PROP_FRAME_HEIGHT))
        yield ControlChange(
            key="width_px", property_id=cv2.CAP_PROP_FRAME_WIDTH, value=width, asked=str(width)
        )
        yield ControlChange(
            key="height_px", property_id=cv2.CAP_PROP_FRAME_HEIGHT, value=height, asked=str(height)
        )
    rate = sensor.frame_rate_fps
    if rate is not None:
        yield ControlChange(
            key="frame_rate_fps",
            property_id=cv2.CAP_PROP_FPS,
            value=rate,
            asked=f"{rate:g}",
            unit=1.0,
            tolerance=RATE_TOLERANCE,
        )
    if sensor.exposure_us is not None:
        yield _exposure(sensor.exposure_us, identity)
    if sensor.gain_db is not None:
        yield ControlChange(
            key="gain_db",
            property_id=cv2.CAP_PROP_GAIN,
            value=sensor.gain_db,
            asked=f"{sensor.gain_db:g}",
        )
    kelvin = sensor.white_balance_k
    if kelvin is not None:
        yield ControlChange(
            key="white_balance_k",
            property_id=cv2.CAP_PROP_WB_TEMPERATURE,
            value=kelvin,
            asked=str(kelvin),
        )


def _exposure(exposure_us: float, identity: str) -> ControlChange:
    steps = round(exposure_us / EXPOSURE_UNIT_US)
    if steps < 1:
        raise CameraSettingRefused(
            f"{identity}: camera.sensor.exposure_us: asked for {exposure_us:g}; USB cameras take "
            f"multiples of {EXPOSURE_UNIT_US:g}. Choose {EXPOSURE_UNIT_US:g} or more."
        )
    return ControlChange(
        key="exposure_us",
        property_id=cv2.CAP_PROP_EXPOSURE,
        value=steps,
        asked=f"{exposure_us:g}",
        unit=EXPOSURE_UNIT_US,
    )


def fourcc(name: str, identity: str) -> int:
    """Return the code of a pixel format such as ``MJPG`` or ``YUYV``.

    Raises:
        CameraSettingRefused: not four letters.
    """
    if len(name) != 4 or not name.isascii():
        raise CameraSettingRefused(
            f"{identity}: camera.sensor.pixel_format: asked for {name!r}; USB cameras name formats "
            "by four letters. Choose MJPG or YUYV, or one of `v4l2-ctl --list-formats`."
        )
    return cv2.VideoWriter.fourcc(*name)


def _leave_automatic(controls: Controls, key: str) -> None:
    if key == "exposure_us":
        controls.set(cv2.CAP_PROP_AUTO_EXPOSURE, MANUAL_EXPOSURE)
    elif key == "white_balance_k":
        controls.set(cv2.CAP_PROP_AUTO_WB, MANUAL_WHITE_BALANCE)


def _check(controls: Controls, change: ControlChange, identity: str) -> None:
    got = controls.get(change.property_id)
    # Half a step: controls are whole numbers, whatever OpenCV calls them.
    allowed = max(0.5, change.tolerance * change.value) if change.key != "pixel_format" else 0.0
    if abs(got - change.value) <= allowed and got != NOT_THERE:
        return
    raise CameraSettingRefused(
        f"{identity}: camera.sensor.{change.key}: asked for {change.asked}, the camera has "
        f"{_shown(change, got)}. Choose a value that it takes; `v4l2-ctl --list-formats-ext "
        "--list-ctrls` shows them."
    )


def _shown(change: ControlChange, got: float) -> str:
    if change.key == "pixel_format":
        code = int(got)
        letters = bytes(code >> shift & 0xFF for shift in (0, 8, 16, 24)) if code > 0 else b""
        return letters.decode("latin-1") if letters.isalnum() else "another format"
    if got == NOT_THERE:
        return "no such control"
    return f"{got * change.unit:g}"
