"""What the doctor says about the rest of a station: model, broker, disks, clock."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from paho.mqtt.enums import MQTTProtocolVersion

from edge.config import MqttSettings, Settings
from edge.credentials import PASSWORD_KEY, read_secret, waits_for_credentials
from edge.doctor.finding import Finding, advice, fault, good, not_seen
from edge.doctor.machine import disk_finding
from edge.errors import StationError
from edge.frame import Frame
from edge.inspection.detector import Detector, Network
from edge.inspection.inspector import Inspector
from edge.inspection.self_test import golden_pictures, self_test
from edge.inspection.thresholding import Reason
from edge.manifest import Bundle, load_bundle
from edge.messaging.clock_sync import ClockSource, ClockSync, clock_sync
from edge.messaging.connection import Broker, Connection, ConnectionRefused, WakeUp
from edge.messaging.tls import tls_of
from edge.station.inspectors import inspectors_of, run_plan
from edge.station.records import journal_folder_seen_from

LATENCY_ROUNDS = 30
LATENCY_LIMIT_S = 3.0
# A verdict must be ready well before its deadline, whatever else the PC does.
MOST_OF_DEADLINE = 0.5
# Beyond it the order of events on two stations cannot be told any more.
MOST_CLOCK_ERROR_MS = 500.0
UNSUITABLE = (Reason.FRAME_INCOMPLETE, Reason.MODEL_ERROR)


def clock_finding(sync: ClockSync | None = None) -> Finding:
    """Say what keeps the wall clock right; verdicts carry its time."""
    sync = sync or clock_sync()
    subject = "clock"
    if sync.source is ClockSource.UNKNOWN:
        return not_seen(subject, "the kernel does not tell", "timedatectl")
    if sync.source is ClockSource.FREE:
        return advice(subject, "nothing keeps it right", "timedatectl set-ntp true")
    error = f", off by {sync.error_ms:g} ms at most" if sync.error_ms is not None else ""
    found = f"kept by {sync.source.value.upper()}{error}"
    if sync.error_ms is not None and sync.error_ms > MOST_CLOCK_ERROR_MS:
        return advice(subject, found, "check that the time server is reachable: timedatectl")
    return good(subject, found)


def disk_findings(settings: Settings, config: Path | None) -> Iterator[Finding]:
    """Look where the station writes, or the service of these settings."""
    journal = journal_folder_seen_from(config, settings)
    if journal is not None:
        yield disk_finding("journal's disk", journal)
    if settings.snapshots is not None:
        snapshots = settings.snapshots
        floor = snapshots.free_space_floor_bytes
        yield disk_finding("snapshots' disk", Path(snapshots.folder), floor)
    if settings.save is not None:
        yield disk_finding("overlays' disk", Path(settings.save.folder))


def broker_finding(mqtt: MqttSettings) -> Finding:
    """Connect once and hang up in order, under a name of the doctor's own and without a will.

    The station's own name would end the station's connection.
    """
    subject = "broker"
    if waits_for_credentials(mqtt.password_file, mqtt.key_file):
        found = f"{mqtt.url}: systemd gives its password or key to the service alone"
        return not_seen(subject, found, "systemctl status edge-run@NAME")
    wake_up = WakeUp()
    try:
        password = (
            read_secret(Path(mqtt.password_file), PASSWORD_KEY) if mqtt.password_file else None
        )
        tls = tls_of(mqtt)
        broker = Broker(
            host=mqtt.host,
            port=mqtt.port,
            client_id=f"{mqtt.topic.client_id}-doctor",
            username=mqtt.username,
            password=lambda: password,
            tls=tls,
        )
        began_s = time.monotonic()
        try:
            version = "5"
            connection = _connected(broker, MQTTProtocolVersion.MQTTv5, wake_up)
        except ConnectionRefused as refused:
            if not (refused.version_refused or refused.unanswered):
                raise
            version = "3.1.1"
            connection = _connected(broker, MQTTProtocolVersion.MQTTv311, wake_up)
        took_ms = (time.monotonic() - began_s) * 1e3
        connection.disconnect()
    except (ConnectionRefused, StationError) as error:
        return fault(subject, str(error), "")
    who = f" as {mqtt.username}" if mqtt.username else ""
    secured = "" if tls else ", not encrypted"
    found = f"{mqtt.url}{who}: MQTT {version}, accepted after {took_ms:.0f} ms{secured}"
    return good(subject, found)


def _connected(broker: Broker, version: MQTTProtocolVersion, wake_up: WakeUp) -> Connection:
    return Connection(broker, version, None, "", wake_up, lambda: False)


def model_findings(settings: Settings, tuning: Path, frame: Frame | None) -> Iterator[Finding]:
    """Read, verify, compile and self-test the model, and inspect a picture of the camera.

    Args:
        tuning: file that may hold a measured run plan.
        frame: of the camera; None where it gave none.
    """
    try:
        key = settings.model.public_key
        bundle = load_bundle(Path(settings.model.path), Path(key) if key else None)
        signed = ", signed" if key else ""
        yield good("model", f"{_name(bundle)}: all three files are whole{signed}")
        network = Network(bundle, settings.model.device, run_plan(settings, bundle, tuning))
        detector = Detector(network)
        self_test(detector, bundle.manifest)
        yield good("self-test", _self_tested(bundle, settings.model.device))
        inspector = inspectors_of(network, settings)[0]
    except StationError as error:
        yield fault("model", str(error), "")
        return
    yield from _frame_path(settings, bundle, inspector, frame)


def _frame_path(
    settings: Settings, bundle: Bundle, inspector: Inspector, frame: Frame | None
) -> Iterator[Finding]:
    shown = frame or _golden_frame(bundle)
    of_camera = "a picture of the camera" if frame else "a golden picture"
    inspection = inspector.inspect(shown)
    reason = inspection.decision.reason
    if frame is not None and reason in UNSUITABLE:
        yield fault("picture and model", inspection.detail, "")
        return
    if frame is not None and inspection.detail:
        yield advice("picture and model", inspection.detail, "")
    elif frame is not None:
        yield good("picture and model", f"the model takes it: score {inspection.score:.4g}")
    latencies = _latencies_ms(lambda: inspector.inspect(shown))
    median, most = float(np.median(latencies)), max(latencies)
    found = f"{of_camera} in {median:.1f} ms, {most:.1f} at most of {len(latencies)}"
    deadline_ms = settings.decision.deadline_ms
    if deadline_ms is None:
        yield good("latency", found)
    elif most > deadline_ms:
        todo = "tune this PC (edge-run --tune), or choose a smaller model"
        yield fault("latency", f"{found}; the deadline is {deadline_ms:g} ms", todo)
    elif most > MOST_OF_DEADLINE * deadline_ms:
        todo = "tune this PC (edge-run --tune), and take other load off it"
        yield advice("latency", f"{found}; the deadline is {deadline_ms:g} ms", todo)
    else:
        yield good("latency", f"{found}; the deadline is {deadline_ms:g} ms")


def _latencies_ms(inspect: Callable[[], object]) -> list[float]:
    latencies: list[float] = []
    until_s = time.monotonic() + LATENCY_LIMIT_S
    while len(latencies) < LATENCY_ROUNDS and (not latencies or time.monotonic() < until_s):
        began_s = time.perf_counter()
        inspect()
        latencies.append((time.perf_counter() - began_s) * 1e3)
    return latencies


def _golden_frame(bundle: Bundle) -> Frame:
    size = bundle.manifest.input
    pictures = golden_pictures(size.height, size.width)
    pixels: NDArray[np.uint8] = pictures["noise"]
    return Frame(pixels, 1, time.monotonic_ns(), time.time_ns())


def _name(bundle: Bundle) -> str:
    identity = bundle.manifest.identity
    return f"{identity.name} ({identity.algorithm}), {bundle.sha256[:12]}"


def _self_tested(bundle: Bundle, device: str) -> str:
    count = len(bundle.manifest.self_test)
    if not count:
        return f"compiles for {device} and gives finite numbers; the bundle names no scores to meet"
    return f"{count} golden pictures give the scores of the export on {device}"
