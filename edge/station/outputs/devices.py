"""From settings to outputs: which devices they are on, and how each is opened."""

import logging
from collections.abc import Callable
from typing import Protocol

from edge.cameras.interface import CameraLine
from edge.contract.event import Event
from edge.errors import CameraClosed, CameraError
from edge.plc.encoder import EncoderCounter
from edge.plc.gpio import GpioLines
from edge.plc.output_device import Levels, OutputDevice, OutputDeviceAway, OutputDeviceClosed
from edge.plc.remote_io import RemoteIo
from edge.settings.outputs import OutputsSettings
from edge.settings.station import Settings
from edge.station.monitoring.health import Health
from edge.station.outputs.control import OutputControl

log = logging.getLogger(__name__)


# Lines of a camera that was away are at their fail-safe level when it is back.
CAMERA_REFRESH_S = 1.0


class SetsLines(Protocol):
    """What holds the camera."""

    def set_line(self, line: str, high: bool) -> None: ...


class CameraLines:
    """The lines of the station's own camera, which set them up when it was opened."""

    def __init__(self, camera: SetsLines) -> None:
        self.refresh_s: float | None = CAMERA_REFRESH_S
        self._camera = camera

    def open(self, levels: Levels) -> None:
        self.write(levels)

    def write(self, levels: Levels) -> None:
        try:
            for line, high in levels.items():
                self._camera.set_line(str(line), high)
        except CameraClosed as error:
            raise OutputDeviceClosed(str(error)) from error
        except CameraError as error:
            raise OutputDeviceAway(f"outputs of the camera: {error}") from error

    def close(self) -> None:
        """The station closes its camera."""


def camera_lines(settings: OutputsSettings | None) -> tuple[CameraLine, ...]:
    """Return the lines that the camera has to set up, each with its fail-safe level."""
    if settings is None:
        return ()
    return tuple(
        CameraLine(
            line=str(one.line),
            high=settings.safe_level(name) ^ one.inverted,
            key=f"outputs.{name}.line",
        )
        for name, one in settings.lines("camera").items()
    )


def make_outputs(
    settings: Settings,
    camera: SetsLines,
    health: Health,
    record_event: Callable[[Event], None],
) -> OutputControl | None:
    """Return the outputs that the settings ask for, not open yet; None without the section.

    Raises:
        ConfigurationError: a device cannot be used on this PC.
    """
    section = settings.outputs
    if section is None:
        return None
    for warning in section.not_fail_safe():
        log.warning("%s", warning)
    devices: dict[str, OutputDevice] = {}
    if section.module is not None:
        devices["module"] = RemoteIo(section.module)
    if section.gpio is not None:
        devices["gpio"] = GpioLines(section.gpio)
    if section.lines("camera"):
        devices["camera"] = CameraLines(camera)
    return OutputControl(
        settings=section,
        devices=devices,
        counter=EncoderCounter(section.encoder) if section.encoder is not None else None,
        triggered=settings.camera.trigger.mode != "free_run",
        health=health,
        record_event=record_event,
    )
