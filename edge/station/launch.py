"""From settings to a running station, and its end told in plain words."""

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import openvino

from edge.cameras.camera import Camera
from edge.cameras.opening import camera_kind, open_camera
from edge.config import MqttSettings, Settings, read_password
from edge.errors import CameraLost, StationError
from edge.frame import Frame
from edge.manifest import Bundle, load_bundle
from edge.messaging.mqtt import MqttPublisher, VerdictsUndelivered
from edge.messaging.standard_output import StandardOutput
from edge.messaging.state import Condition, State
from edge.messaging.verdict import StationIdentity, Verdict, payload, utc_text
from edge.redaction import redacted
from edge.station.inspectors import make_inspectors, run_plan
from edge.station.mailbox import EveryMailbox, LatestMailbox, Mailbox
from edge.station.pictures import OverlayWriter
from edge.station.sinks import Sink
from edge.station.station import Station
from edge.station.tally import Tally
from edge.station.worker import Failures, Worker

log = logging.getLogger(__name__)

# Frames that wait for their hash and their payload.
RECORD_QUEUE_BOUND = 32
DELIVERY_LIMIT_S = 10.0
STOP_DELIVERY_LIMIT_S = 5.0
NETWORK_STOP_LIMIT_S = 8.0


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended.

    Attributes:
        tally: the counts.
        overlays: where the overlays are and how many; None without ``--save``.
    """

    tally: Tally
    overlays: tuple[Path, int] | None

    def __str__(self) -> str:
        if self.overlays is None:
            return str(self.tally)
        folder, count = self.overlays
        return f"{self.tally}\n{count} overlays in {folder}"


def run_station(
    settings: Settings, once: bool, tuning: Path, report: Callable[[RunReport], None]
) -> None:
    """Run until the pictures end or a signal comes.

    Args:
        settings: validated.
        tuning: file that may hold a measured run plan.
        once: inspect every picture of a file source once, or one frame of a live camera.
        report: is given the counts at the end, also of a run that fails on its way.

    Raises:
        StationError: cause and next step, with the exit code of the process.
    """
    camera_kind(settings.camera.uri)  # a wrong address is told before the model is compiled
    bundle = load_bundle(Path(settings.model.path))
    network = _Network(settings.mqtt, bundle, settings) if settings.mqtt else None
    failures = Failures()
    reasons: tuple[str, ...] = ("internal",)
    with _Stopper() as stopper:
        try:
            if network:
                network.start(failures)
            _run(settings, once, tuning, report, bundle, network, stopper, failures)
            reasons = ()
        except CameraLost:
            reasons = ("camera_lost",)
            raise
        except StationError as error:
            reasons = (type(error).__name__,)
            raise
        finally:
            if network:
                network.stop(*reasons)


def _run(
    settings: Settings,
    once: bool,
    tuning: Path,
    report: Callable[[RunReport], None],
    bundle: Bundle,
    network: "_Network | None",
    stopper: "_Stopper",
    failures: Failures,
) -> None:
    cv2.setNumThreads(1)  # the pictures are small; OpenCV's pool would fight with inference
    inspectors = make_inspectors(settings, bundle, run_plan(settings, bundle, tuning))
    overlays = None
    if settings.save:
        overlays = OverlayWriter(Path(settings.save.folder), inspectors[0].map_scale)
    camera = open_camera(settings.camera.uri, settings.camera)
    output = network.publisher if network else StandardOutput(on_reader_gone=stopper.stop)
    sinks = [_record_sink(output, _identity(settings, bundle, camera), camera, failures)]
    if settings.save and overlays:
        bound = settings.save.queue_bound
        sinks.append(Sink("overlays", overlays.write, bound, camera.can_wait, failures))
    station = Station(
        camera,
        _mailbox(settings, camera, len(inspectors)),
        inspectors,
        sinks,
        failures,
        settings.decision.deadline_ms,
    )
    stopper.stops(station)
    if network:
        network.publisher.set_state(Condition.ONLINE)
    log.info("inspecting %s with %s", camera.identity, bundle.manifest.identity.name)
    undelivered = None
    try:
        station.run(
            most_parts=1 if once and not camera.can_wait else None,
            on_degraded=network.degraded if network else lambda _: None,
        )
    finally:
        if network:
            undelivered = network.wait_until_delivered(stopper, failures)
        folder = (overlays.folder, overlays.written) if overlays else None
        report(RunReport(station.tally(), folder))
    if undelivered:
        if not stopper.stopped:
            raise undelivered
        log.warning("%s", undelivered)


class _Network:
    """The MQTT publisher and its thread."""

    def __init__(self, mqtt: MqttSettings, bundle: Bundle, settings: Settings) -> None:
        password = read_password(Path(mqtt.password_file)) if mqtt.password_file else None
        state = State(
            condition=Condition.STARTING,
            since_utc=utc_text(time.time_ns()),
            camera=redacted(settings.camera.uri),
            model=bundle.manifest.identity.name,
        )
        self.publisher = MqttPublisher(mqtt, state, password)
        self._address = mqtt.url
        self._worker: Worker | None = None

    def start(self, failures: Failures) -> None:
        self._worker = Worker("mqtt", self.publisher.run, failures)
        self._worker.start()

    def degraded(self, reason: str) -> None:
        self.publisher.set_state(Condition.DEGRADED, reason)

    def wait_until_delivered(
        self, stopper: "_Stopper", failures: Failures
    ) -> VerdictsUndelivered | None:
        """Wait for the broker's acknowledgements; return the error if some do not come."""
        limit_s = STOP_DELIVERY_LIMIT_S if stopper.stopped else DELIVERY_LIMIT_S
        delivery = self.publisher.wait_until_delivered(limit_s, failures.any)
        if not delivery.missing:
            return None
        return VerdictsUndelivered(
            f"{delivery.missing} of {delivery.missing + delivery.acknowledged} verdicts were not "
            f"acknowledged by the broker at {self._address} ({delivery.waiting} waiting, "
            f"{delivery.dropped} dropped, {delivery.refused} refused). "
            "They are lost; bring the broker back and inspect the parts again."
        )

    def stop(self, *reasons: str) -> None:
        self.publisher.stop(*reasons)
        if self._worker and not self._worker.join(NETWORK_STOP_LIMIT_S):
            log.warning("the connection to the broker did not end in time")


class _Stopper:
    """Turns the first SIGTERM or SIGINT into an orderly stop; the second one ends at once."""

    def __init__(self) -> None:
        self.stopped = False
        self._station: Station | None = None
        self._before: dict[int, Any] = {}

    def stop(self) -> None:
        self.stopped = True
        if self._station is not None:
            self._station.stop()

    def stops(self, station: Station) -> None:
        """Name what is to be stopped; at once, if the signal came while it was built."""
        self._station = station
        if self.stopped:
            station.stop()

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.stop()


def _record_sink(
    output: MqttPublisher | StandardOutput,
    identity: StationIdentity,
    camera: Camera,
    failures: Failures,
) -> Sink:
    def deliver(verdict: Verdict) -> None:
        output.publish(payload(verdict, identity, session=None))

    return Sink("verdicts", deliver, RECORD_QUEUE_BOUND, camera.can_wait, failures)


def _mailbox(settings: Settings, camera: Camera, inspectors: int) -> Mailbox[Frame]:
    policy = settings.camera.policy
    if policy == "latest" or (policy == "auto" and not camera.can_wait):
        return LatestMailbox()
    if camera.can_wait:
        # One picture for each inspector is enough; more would only wait.
        return EveryMailbox(inspectors, room_limit_s=None)
    return EveryMailbox(settings.camera.queue_depth, room_limit_s=0.0)


def _identity(settings: Settings, bundle: Bundle, camera: Camera) -> StationIdentity:
    manifest = bundle.manifest
    return StationIdentity(
        simulated=camera.simulated,
        trigger_source="free_run",
        model_name=manifest.identity.name,
        model_version=manifest.identity.created.strftime("%Y%m%dT%H%M%SZ"),
        model_sha256=bundle.sha256,
        precision=f"{manifest.precision.weights}/{manifest.precision.inference}",
        device=settings.model.device,
        runtime=f"openvino {openvino.__version__.partition('-')[0]}",
        config_sha256=settings.sha256,
        deadline_ms=settings.decision.deadline_ms,
    )
