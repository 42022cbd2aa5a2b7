"""What the doctor says about the rest of a station: model, broker, disks, clock."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.loading import Bundle, fallback_sentence, load_bundle
from edge.bundle.signature import check_public_key
from edge.contract.announcements import META_SCHEMA, Meta, meta_payloads
from edge.contract.clock_sync import ClockSource, ClockSync
from edge.contract.encoding import to_json
from edge.contract.topics import StationTopic
from edge.contract.verdict import MAX_VERDICT_BYTES
from edge.doctor.finding import Finding, Grade, advice, fault, good, not_seen
from edge.doctor.machine import disk_finding
from edge.errors import StationError
from edge.imaging.frame import Frame
from edge.inspection.criteria import crop_sentence
from edge.inspection.decision import Reason
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.graph_trial import try_model
from edge.inspection.inspector import Inspector
from edge.inspection.self_test import golden_images, self_test
from edge.mqtt.broker_reason_codes import (
    QOS_NOT_SUPPORTED,
    RETAIN_NOT_SUPPORTED,
    Packet,
    describe_code,
    find_meaning,
)
from edge.mqtt.connection import Broker, Connection, ConnectionRefused, Echo, WakeUp
from edge.mqtt.reconnect import Connector, station_subscriptions, station_will
from edge.mqtt.tls import make_tls
from edge.settings.credentials import (
    PASSWORD_KEY,
    read_by_everybody,
    read_secret,
    waits_for_credentials,
)
from edge.settings.hmi import HmiSettings
from edge.settings.mqtt import MqttSettings
from edge.settings.station import Settings
from edge.settings.unprotected_access import in_plain_sight, page_in_plain_sight, public_keys
from edge.station.model.inspectors import make_inspectors, run_plan
from edge.station.model.releases import Releases
from edge.station.monitoring.kernel_clock import clock_sync
from edge.station.recording.journal_folder import journal_folder_seen_from
from edge.system.file_access import who_else_may_exchange
from edge.wording import counted

LATENCY_ROUNDS = 30
LATENCY_LIMIT_S = 3.0
# A verdict must be ready well before its deadline, whatever else the PC does.
MAX_DEADLINE_SHARE = 0.5
# Beyond it the order of events on two stations cannot be told any more.
MAX_CLOCK_ERROR_MS = 500.0
SUBSCRIBED_LIMIT_S = 5.0
# With topic and properties around it.
MAX_PUBLISH_BYTES = MAX_VERDICT_BYTES + 512
UNSUITABLE = (Reason.FRAME_INCOMPLETE, Reason.MODEL_ERROR)


def clock_finding(sync: ClockSync | None = None) -> Finding:
    """Say what keeps the wall clock right; verdicts carry its time."""
    sync = sync or clock_sync()
    subject = "clock"
    if sync.source is ClockSource.UNKNOWN:
        return not_seen(subject, "the kernel does not report it", "timedatectl")
    if sync.source is ClockSource.FREE:
        return advice(subject, "nothing synchronizes it", "timedatectl set-ntp true")
    error = f", off by {sync.error_ms:g} ms at most" if sync.error_ms is not None else ""
    found = f"kept by {sync.source.value.upper()}{error}"
    if sync.error_ms is not None and sync.error_ms > MAX_CLOCK_ERROR_MS:
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


def key_findings(settings: Settings) -> Iterator[Finding]:
    """Say of each key that decides what is accepted whether it can be used, and who has it."""
    for name, key in public_keys(settings):
        try:
            check_public_key(key)
        except StationError as error:
            yield fault(name, str(error), "")
            continue
        if who := who_else_may_exchange(key):
            todo = "let it and its folder belong to root, and let nobody else write there"
            yield advice(name, f"{key} can be exchanged by {who}", todo)
        else:
            yield good(name, str(key))


def page_finding(hmi: HmiSettings) -> Finding:
    """Say whether what is said to the page can be read in the network."""
    subject, found = "page", f"listens on {hmi.host}:{hmi.port}"
    if page_in_plain_sight(hmi):
        todo = "let it listen on 127.0.0.1, behind a reverse proxy with TLS"
        return advice(subject, f"{found}: its token is sent unencrypted", todo)
    return good(subject, found)


def private_key_findings(settings: Settings) -> Iterator[Finding]:
    """Name the private keys that are no secret on this PC."""
    mqtt, opcua = settings.mqtt, settings.opcua
    files: dict[str, str | None] = {}
    if mqtt is not None:
        files["mqtt.key_file"] = mqtt.key_file
        if mqtt.sparkplug is not None:
            files["mqtt.sparkplug.key_file"] = mqtt.sparkplug.key_file
    if opcua is not None:
        files["opcua.key_file"] = opcua.key_file
    for key, file in files.items():
        if file is not None and read_by_everybody(Path(file)):
            found = f"{file}: every user of this PC can read the file of {key}"
            yield advice("private key", found, f"chmod o= {file}")


def broker_finding(mqtt: MqttSettings, meta: Meta = Meta()) -> Finding:
    """Connect as the station does, and hang up in order: the will is not said.

    Under a name of the doctor's own: the station's would end the station's connection.

    Args:
        meta: what the station says of itself, whose size is looked at.
    """
    subject = "broker"
    if waits_for_credentials(mqtt.password_file, mqtt.key_file):
        found = f"{mqtt.url}: systemd gives its password or key only to the service"
        return not_seen(subject, found, "systemctl status edge-run@NAME")
    try:
        password = (
            read_secret(Path(mqtt.password_file), PASSWORD_KEY) if mqtt.password_file else None
        )
        tls = make_tls(mqtt)
        broker = Broker(
            host=mqtt.host,
            port=mqtt.port,
            client_id=f"{mqtt.topic.client_id}.doctor",
            username=mqtt.username,
            password=lambda: password,
            tls=tls,
        )
        connector = Connector(
            broker=lambda: broker,
            will=partial(station_will, mqtt.topic),
            subscriptions=station_subscriptions(mqtt.topic),
            url=mqtt.url,
            wake_up=WakeUp(),
            stopping=lambda: False,
        )
        began_s = time.monotonic()
        connection = connector.reach()
        elapsed_ms = (time.monotonic() - began_s) * 1e3
        until_s = time.monotonic() + SUBSCRIBED_LIMIT_S
        while not connection.closed and (
            connection.subscribed is None or connection.echo is Echo.ASKED
        ):
            if time.monotonic() > until_s:
                break
            connection.turn(until_s - time.monotonic())
        lacking = [*_lacking(connection, connector, mqtt.topic, meta)]
        if in_plain_sight(mqtt):
            what = "password and verdicts" if mqtt.password_file else "verdicts"
            found = f"anyone on that network can read {what}"
            lacking.append(advice("", found, "set up TLS at the broker, and use mqtts://"))
        if not connection.closed:
            connection.disconnect()
    except (ConnectionRefused, StationError) as error:
        return fault(subject, str(error), "")
    who = f" as {mqtt.username}" if mqtt.username else ""
    secured = "" if tls else ", not encrypted"
    found = (
        f"{mqtt.url}{who}: MQTT {connection.version}, accepted after {elapsed_ms:.0f} ms{secured}"
    )
    if not lacking:
        return good(subject, found)
    grade = max((one.grade for one in lacking), key=[Grade.ADVICE, Grade.FAULT].index)
    whole = "; ".join((found, *(one.found for one in lacking)))
    return Finding(subject, grade, whole, "; ".join(one.advice for one in lacking if one.advice))


def _lacking(
    connection: Connection, connector: Connector, topic: StationTopic, meta: Meta
) -> Iterator[Finding]:
    """Yield what this broker does not take of what the station has to say."""
    if connection.reason is not None:
        yield fault("", describe_code(connection.reason, Packet.DISCONNECT), "")
    refused = [reason for reason in connection.subscribed or () if reason.is_failure]
    if refused:
        found = f"commands will not arrive: {describe_code(refused[0], Packet.SUBACK)}"
        yield advice("", found, "")
    if connection.echo is not Echo.NOT_NEEDED:
        proof = "a verdict counts as delivered when it comes back on the station's own topic"
        if connection.echo is not Echo.GRANTED:
            proof = f"it is not known whether verdicts arrive: {connection.echo} to {topic.verdict}"
        todo = f"let the station write and read {topic.verdict}, or use a broker with MQTT 5"
        yield advice("", f"MQTT 3.1.1 cannot refuse a message; {proof}", todo)
    limits = connection.limits
    if not connection.accepts_qos_1 or not connector.learned.will_qos:
        yield fault("", str(find_meaning(QOS_NOT_SUPPORTED, Packet.CONNACK)), "")
    if not (limits.retain_available and connector.learned.will_retain):
        yield advice("", str(find_meaning(RETAIN_NOT_SUPPORTED, Packet.CONNACK)), "")
    largest = limits.max_packet_bytes
    if largest is not None and largest < MAX_PUBLISH_BYTES:
        content = to_json(meta_payloads(meta, topic, connector.session)[0]).encode()
        size = connection.packet_bytes(topic.meta, content, META_SCHEMA)
        shortened = f" and meta, {size} bytes, is shortened" if size > largest else ""
        found = (
            f"it accepts packets of {largest} bytes, but verdicts may have "
            f"{MAX_PUBLISH_BYTES}: larger ones lose regions or become dead "
            f"letters{shortened}"
        )
        yield advice("", found, f"raise max_packet_size at the broker to {MAX_PUBLISH_BYTES}")


def model_findings(
    settings: Settings, config: Path | None, tuning: Path, frame: Frame | None
) -> Iterator[Finding]:
    """Read, verify, compile and self-test the model, and inspect an image of the camera.

    Args:
        config: the settings' file; None for the command line alone.
        tuning: file that may hold a measured run plan.
        frame: of the camera; None where it gave none.
    """
    try:
        key = settings.model.public_key
        bundle = load_bundle(Path(settings.model.path), Path(key) if key else None)
        signed = ", signed" if key else ""
        if key and not settings.model.allow_downgrade:
            kept = Releases(journal_folder_seen_from(config, settings))
            kept.check(bundle.manifest, bundle.path)
        yield good("model", f"{_name(bundle)}: all three files are intact{signed}")
        fallback = fallback_sentence(bundle)
        if fallback is not None:
            todo = "export the model on a PC like this one to get its fastest precision"
            yield advice("model", fallback, todo)
        squeezed = crop_sentence(bundle.manifest.input, settings.camera.crop)
        if squeezed is not None:
            yield advice("model", squeezed, "")
        plan = run_plan(settings, bundle, tuning)
        try_model(bundle, settings.model.device, plan)
        network = CompiledModel(bundle, settings.model.device, plan)
        detector = Detector(network)
        self_test(detector, bundle.manifest)
        yield good("self-test", _self_tested(bundle, settings.model.device))
        inspector = make_inspectors(network, settings)[0]
    except StationError as error:
        yield fault("model", str(error), "")
        return
    yield from _frame_path(settings, bundle, inspector, frame)


def _frame_path(
    settings: Settings, bundle: Bundle, inspector: Inspector, frame: Frame | None
) -> Iterator[Finding]:
    shown = frame or _golden_frame(bundle)
    of_camera = "an image of the camera" if frame else "a golden image"
    inspection = inspector.inspect(shown)
    reason = inspection.decision.reason
    if frame is not None and reason in UNSUITABLE:
        yield fault("image and model", inspection.detail, "")
        return
    if frame is not None and inspection.detail:
        yield advice("image and model", inspection.detail, "")
    elif frame is not None:
        yield good("image and model", f"the model accepts it: score {inspection.score:.4g}")
    latencies = _latencies_ms(lambda: inspector.inspect(shown))
    median, max_ms = float(np.median(latencies)), max(latencies)
    found = f"{of_camera} in {median:.1f} ms, {max_ms:.1f} at most of {len(latencies)}"
    deadline_ms = settings.decision.deadline_ms
    if deadline_ms is None:
        yield good("latency", found)
    elif max_ms > deadline_ms:
        todo = "tune this PC (edge-run --tune), or choose a smaller model"
        yield fault("latency", f"{found}; the deadline is {deadline_ms:g} ms", todo)
    elif max_ms > MAX_DEADLINE_SHARE * deadline_ms:
        todo = "tune this PC (edge-run --tune), and reduce its other load"
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
    images = golden_images(size.height, size.width)
    pixels: NDArray[np.uint8] = images["noise"]
    return Frame(
        pixels=pixels, number=1, captured_ns=time.monotonic_ns(), captured_utc_ns=time.time_ns()
    )


def _name(bundle: Bundle) -> str:
    identity = bundle.manifest.identity
    return f"{identity.name} ({identity.algorithm}), {bundle.sha256[:12]}"


def _self_tested(bundle: Bundle, device: str) -> str:
    count = len(bundle.manifest.self_test)
    if not count:
        return (
            f"compiles for {device} and gives finite numbers; the bundle contains no "
            "reference scores"
        )
    return (
        f"{counted(count, 'reference image gives', 'reference images give')} the scores of the "
        f"export on {device}"
    )
