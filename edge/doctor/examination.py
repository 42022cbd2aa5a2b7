"""The whole examination, in the order in which a person would look."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.contract.announcements import Meta
from edge.doctor.camera import Thoroughness, camera_findings
from edge.doctor.finding import Finding, Grade, fault, finding_line, good, not_seen, summary
from edge.doctor.machine import governor_finding, receive_buffer_finding, usb_memory_finding
from edge.doctor.modbus import modbus_finding
from edge.doctor.opcua import opcua_finding
from edge.doctor.outputs import output_findings
from edge.doctor.programs import named, running_stations, stations_with
from edge.doctor.recipes import code_findings, recipe_findings
from edge.doctor.sparkplug import sparkplug_finding
from edge.doctor.station import (
    broker_finding,
    clock_finding,
    disk_findings,
    key_findings,
    model_findings,
    page_finding,
    private_key_findings,
)
from edge.doctor.telemetry import telemetry_finding
from edge.imaging.frame import Frame
from edge.settings.station import Settings
from edge.station.recording.reports import meta
from edge.system.priority import COMPUTES_BESIDE, lower_priority

# A driver that has not returned by then will not: opening, two tests, two closings.
CAMERA_LIMIT_S = 90.0
# Beside a station that runs, the doctor takes what is left of the processor.


def run_doctor(
    settings: Settings | None,
    config: Path | None,
    tuning: Path | None,
    camera: bool,
    *,
    model: bool,
    emit: Callable[[str], None],
    lamp_test: bool = False,
    limits: Thoroughness = Thoroughness(),
) -> int:
    """Look at everything, say it line by line; reads only.

    Args:
        settings: None where none were given: the machine alone is looked at.
        config: the settings' file.
        tuning: file that may hold a measured run plan.
        camera, model: whether the settings name one.
        emit: prints a line.
        lamp_test: switch each output for a moment.

    Returns:
        The exit code: 0, or 1 when something keeps the station from working.
    """
    findings = []
    looked_at = examination(
        settings, config, tuning, camera, model=model, lamp_test=lamp_test, limits=limits
    )
    for finding in looked_at:
        findings.append(finding)
        emit(finding_line(finding))
    emit(summary(findings))
    return int(any(finding.grade is Grade.FAULT for finding in findings))


def examination(
    settings: Settings | None,
    config: Path | None,
    tuning: Path | None,
    camera: bool,
    *,
    model: bool,
    lamp_test: bool = False,
    limits: Thoroughness = Thoroughness(),
) -> Iterator[Finding]:
    """Yield one finding after the other, each as soon as it is known; see ``run_doctor``."""
    stations = running_stations()
    if stations:
        lower_priority(COMPUTES_BESIDE)
        yield good("stations", f"running on this PC: {named(stations)}")
    if settings is not None and config is not None:
        yield good("settings", f"{config}, sha256 {settings.sha256[:12]}")
    yield governor_finding()
    yield clock_finding()
    if settings is not None:
        yield from disk_findings(settings, config)
    frame = None
    if settings is not None and camera:
        seen: list[Frame] = []
        yield from bounded(_camera(settings, stations, limits, seen), CAMERA_LIMIT_S)
        frame = seen[0] if seen else None
    else:
        yield receive_buffer_finding()
        yield usb_memory_finding()
        yield not_seen("camera", "none was named", "give --camera URI or --config STATION.yaml")
    if settings is not None and model and tuning is not None:
        yield from model_findings(settings, config, tuning, frame)
    else:
        yield not_seen("model", "none was named", "give --model BUNDLE.xml")
    if settings is not None:
        yield from key_findings(settings)
        yield from recipe_findings(settings)
        yield from code_findings(settings, frame)
    yield telemetry_finding()
    if settings is not None:
        yield from private_key_findings(settings)
    if settings is not None and settings.mqtt is not None:
        running = stations_with(config, stations) if config is not None else []
        if running:
            yield not_seen("broker", *_of_who_runs(running))
        else:
            yield broker_finding(settings.mqtt, _meta_like(settings))
    else:
        yield not_seen("broker", "none is set; verdicts go to standard output")
    if settings is not None and settings.mqtt is not None and settings.mqtt.sparkplug is not None:
        running = stations_with(config, stations) if config is not None else []
        if running:
            yield not_seen("sparkplug", *_of_who_runs(running))
        else:
            yield sparkplug_finding(settings.mqtt, settings.mqtt.sparkplug)
    if settings is not None and settings.opcua is not None:
        running = stations_with(config, stations) if config is not None else []
        yield opcua_finding(settings.opcua, bool(running))
    if settings is not None and settings.modbus is not None:
        running = stations_with(config, stations) if config is not None else []
        yield modbus_finding(settings.modbus, bool(running))
    if settings is not None:
        running = stations_with(config, stations) if config is not None else []
        yield from output_findings(settings, lamp_test, bool(running))
    if settings is not None and settings.hmi is not None and settings.hmi.enabled:
        yield page_finding(settings.hmi)


def _of_who_runs(running: list[int]) -> tuple[str, str]:
    """Say why the doctor does not connect: a broker that binds client ids would end the station's.

    Returns:
        What is found, and what to do.
    """
    found = (
        f"{named(running)} is running with these settings, and its account can only "
        "be connected once"
    )
    return found, "see its log and page, or stop it and run the doctor again"


def _meta_like(settings: Settings) -> Meta:
    """Return what the station will say of itself, but for the model's and the journal's ids."""
    model = {"name": Path(settings.model.path).stem, "version": "1", "sha256": "0" * 64}
    return meta(settings, False, model, "0" * 36)


def _camera(
    settings: Settings, stations: list[int], limits: Thoroughness, seen: list[Frame]
) -> Iterator[Finding]:
    frame = yield from camera_findings(settings.camera, stations, limits)
    if frame is not None:
        seen.append(frame)


def bounded(findings: Iterator[Finding], limit_s: float) -> Iterator[Finding]:
    """Yield findings as they are made in a thread: a driver may never return.

    Args:
        limit_s: for all of them; what is missing then is a fault.
    """
    made: queue.SimpleQueue[Finding | BaseException | None] = queue.SimpleQueue()

    def make() -> None:
        try:
            for finding in findings:
                made.put(finding)
            made.put(None)
        except BaseException as error:
            made.put(error)

    threading.Thread(target=make, name="camera", daemon=True).start()
    until_s = time.monotonic() + limit_s
    while True:
        try:
            one = made.get(timeout=max(0.0, until_s - time.monotonic()))
        except queue.Empty:
            yield fault(
                "camera",
                f"its driver has not returned for {limit_s:g} s",
                "unplug the camera and plug it in again; if this happens again, check hub "
                "and driver",
            )
            return
        if one is None:
            return
        if isinstance(one, BaseException):
            raise one
        yield one
