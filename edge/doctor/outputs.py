"""What the doctor says of digital outputs: whether their devices are there; and the lamp test."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

from edge.cameras.factory import live_camera_opener
from edge.cameras.interface import SwitchesLines
from edge.doctor.finding import Finding, advice, fault, good, not_seen
from edge.errors import CameraError, StationError
from edge.plc.encoder import EncoderCounter
from edge.plc.gpio import GpioLines
from edge.plc.output_device import OutputDevice
from edge.plc.remote_io import RemoteIo
from edge.settings.outputs import EncoderSettings, OutputsSettings
from edge.settings.station import Settings
from edge.station.outputs.conveyor import unwrapped
from edge.station.outputs.devices import CameraLines, camera_lines

LAMP_S = 0.5
# Between two outputs.
PAUSE_S = 0.2
# Between two readings of the encoder.
LOOK_S = 0.5


def output_findings(settings: Settings, lamp_test: bool, running: bool) -> Iterator[Finding]:
    """Look at the devices of the outputs; with ``lamp_test`` switch each output for a moment.

    Args:
        running: a station runs with these settings, and its lines are its own.
    """
    outputs = settings.outputs
    if outputs is None:
        if lamp_test:
            yield not_seen("lamp test", "the settings name no outputs", "set the section outputs")
        return
    for warning in outputs.not_fail_safe():
        yield advice("outputs", warning, "see docs/outputs.md")
    if running:
        found = "the station with these settings is running and switches its lines"
        yield not_seen("outputs", found, "see its page, or stop it and run the doctor again")
        return
    if lamp_test:
        yield from _lamp_tests(settings, outputs)
        return
    if outputs.module is not None:
        yield _module(outputs)
    if outputs.gpio is not None:
        yield _gpio(outputs)
    if outputs.encoder is not None:
        yield _encoder(outputs.encoder)
    if outputs.lines("camera"):
        found = "lines of the camera are set up when the station opens it"
        yield not_seen("outputs", found, "try them: edge-run --doctor --lamp-test")


def _module(outputs: OutputsSettings) -> Finding:
    assert outputs.module is not None
    subject, where = "outputs.module", f"{outputs.module.host}:{outputs.module.port}"
    coils = [int(one.line) for one in outputs.lines("module").values()]
    try:
        module = RemoteIo(outputs.module)
        with closing(module):
            began_s = time.monotonic()
            module.read(coils)
            elapsed_ms = (time.monotonic() - began_s) * 1e3
    except StationError as error:
        return fault(subject, str(error), "")
    return good(subject, f"{where} answers for coils {_listed(coils)} within {elapsed_ms:.1f} ms")


def _gpio(outputs: OutputsSettings) -> Finding:
    assert outputs.gpio is not None
    lines = [one.line for one in outputs.lines("gpio").values()]
    try:
        GpioLines(outputs.gpio).look(lines)
    except StationError as error:
        return fault("outputs.gpio", str(error), "")
    return good(
        "outputs.gpio", f"{outputs.gpio.chip} has lines {_listed(lines)}, and they are free"
    )


def _encoder(settings: EncoderSettings) -> Finding:
    subject = "outputs.encoder"
    try:
        counter = EncoderCounter(settings)
        with closing(counter):
            before = counter.read()
            time.sleep(LOOK_S)
            after = counter.read()
    except StationError as error:
        return fault(subject, str(error), "")
    counts = unwrapped(0, after - before, settings.bits) * (-1 if settings.reversed else 1)
    moves = f"and changes by {counts / LOOK_S:.0f} counts/s" if counts else "and does not change"
    found = f"{settings.area} register {settings.address} stands at {after}, {moves}"
    if counts < 0:
        return advice(subject, found, "set outputs.encoder.reversed if parts move forward")
    return good(subject, found)


def _lamp_tests(settings: Settings, outputs: OutputsSettings) -> Iterator[Finding]:
    openers: dict[str, Callable[[], OutputDevice]] = {}
    if outputs.module is not None:
        module = outputs.module
        openers["module"] = lambda: RemoteIo(module)
    if outputs.gpio is not None:
        gpio = outputs.gpio
        openers["gpio"] = lambda: GpioLines(gpio)
    for name, opener in openers.items():
        try:
            with closing(opener()) as device:
                yield from _lamp_test(outputs, name, device)
        except StationError as error:
            yield fault(f"lamp test, {name}", str(error), "")
    if outputs.lines("camera"):
        try:
            opened = live_camera_opener(
                settings.camera.uri, settings.camera, lines=camera_lines(outputs)
            )()
            with closing(opened) as camera:
                if not isinstance(camera, SwitchesLines):
                    raise CameraError(f"{camera.identity}: has no lines.")
                yield from _lamp_test(outputs, "camera", CameraLines(camera))
        except StationError as error:
            yield fault("lamp test, camera", str(error), "")


def _lamp_test(outputs: OutputsSettings, name: str, device: OutputDevice) -> Iterator[Finding]:
    """Switch each output of a device over and back, one after the other."""
    lines = outputs.lines(name)
    safe = {one.line: outputs.safe_level(output) ^ one.inverted for output, one in lines.items()}
    device.open(safe)
    try:
        for output, one in lines.items():
            level = safe[one.line]
            began_s = time.monotonic()
            device.write({one.line: not level})
            elapsed_ms = (time.monotonic() - began_s) * 1e3
            time.sleep(LAMP_S)
            device.write({one.line: level})
            time.sleep(PAUSE_S)
            word = "inactive" if outputs.safe_level(output) else "active"
            found = (
                f"line {one.line} of {name} was {word} for {LAMP_S:g} s, confirmed after "
                f"{elapsed_ms:.1f} ms"
            )
            yield good(f"lamp test, {output}", found)
    finally:
        with suppress(StationError):  # what went wrong before is what is told
            device.write(safe)


def _listed(lines: list[int] | list[int | str]) -> str:
    return ", ".join(map(str, lines))
