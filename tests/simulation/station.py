"""A station's process, of the product's parts, built in the order in which ``edge.app`` does."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from edge.app import assembly
from edge.cameras.supervised.camera import SupervisedCamera
from edge.cameras.supervised.state_machine import CameraStatus
from edge.contract.announcements import Meta
from edge.contract.commands import Ack, ControlMessage, PortName, Trigger
from edge.contract.event import Datum, Event, Severity
from edge.contract.state import Condition, State, StationReport
from edge.contract.verdict import Recipe, StationIdentity
from edge.errors import ConfigurationError
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.decision import decide
from edge.inspection.inspector import Inspection, Inspector
from edge.journal.database import Synchronous
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.mqtt.command_queue import CommandQueue
from edge.mqtt.publisher import MqttPublisher
from edge.settings.journal import JournalSettings
from edge.settings.station import Settings
from edge.station.command_threads import CommandHandlers, CommandThreads
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.mqtt_port import MqttPort
from edge.station.handshake.part import Input, Part, PartResult, Rejection, Repeated, Rules
from edge.station.handshake.state_machine import HandshakeMachine
from edge.station.monitoring.camera_monitor import CAMERA, CameraMonitor
from edge.station.monitoring.health import Health
from edge.station.monitoring.heartbeat import Heartbeats
from edge.station.monitoring.systemd import ServiceManager
from edge.station.monitoring.watchdog import Watchdog
from edge.station.pipeline.pipeline import Station
from edge.station.pipeline.work import Beats, InspectionSetup
from edge.station.recording.station_journal import StationJournal
from edge.station.recording.verdict_recorder import JournalRecorder
from edge.station.threads import Failures, Worker
from tests.simulation.camera import Device
from tests.simulation.disk import Disk
from tests.simulation.oversight import Oversight
from tests.simulation.scheduler import MILLISECOND, SECOND, Scheduler, Signal

INSPECTION = "inspection"
STATION = "plant/line/cell/top"
DEFECT_OF_THE_SIMULATION = "a defect that the simulation asked for"


class InjectedDefect(Exception):
    """An inspector that fails, as the plan has it."""


@dataclass(slots=True)
class Surroundings:
    """What of a station outlives its process.

    Attributes:
        settings_file: what the site has set: recipe and threshold; read at each start.
        inspect_ns: how long an inspection takes.
        hang, defect: what the next inspection meets.
        hung: inspections that hung.
    """

    scheduler: Scheduler
    disk: Disk
    device: Device
    oversight: Oversight
    settings: Settings
    pairing: Any
    leader: PortName
    recipe: str = "bottle"
    threshold: float = 1.0
    inspect_ns: int = 25 * MILLISECOND
    hang: bool = False
    defect: bool = False
    hung: int = 0
    camera_working: bool = False


class SimulatedInspector(Inspector):
    """Takes the score from the image itself; what is done about it is the product's."""

    def __init__(self, around: Surroundings, threshold: float) -> None:
        self.criteria: Any = SimpleNamespace(threshold=threshold, pixel_threshold=threshold)
        self._around = around

    def inspect(self, frame: Frame) -> Inspection:
        around = self._around
        if frame.status is not FrameStatus.COMPLETE:
            return super().inspect(frame)
        if around.hang:
            around.hang = False
            around.hung += 1
            around.scheduler.sleep_ns(3600 * SECOND)
        around.scheduler.sleep_ns(around.inspect_ns)
        if around.defect:
            around.defect = False
            raise InjectedDefect(DEFECT_OF_THE_SIMULATION)
        score = float(frame.pixels.flat[8]) / 100
        threshold = self.criteria.threshold
        return Inspection(
            decision=decide(score, threshold),
            threshold=threshold,
            pixel_threshold=threshold,
            score=score,
            normalized_score=min(max(score - threshold + 0.5, 0.0), 1.0),
        )


class PlcPort:
    """What a PLC at the station's own port sees of the hand-shake."""

    def __init__(self, oversight: Oversight, journal: str, plc: "Plc") -> None:
        self._oversight = oversight
        self._journal = journal
        self._plc = plc

    def ready(self, ready: bool) -> None:
        self._plc.ready = ready

    def accepted(self, part: Part) -> None:
        self._oversight.on_accepted(part)

    def rejected(self, part: Part, rejection: Rejection, recorded: bool) -> None:
        self._oversight.on_rejected(part, rejection, recorded)
        self._plc.over(part.trigger_id)

    def repeated(self, known: Repeated) -> None:
        self._oversight.on_repeated(known)

    def exposed(self, part: Part) -> None:
        self._plc.over(part.trigger_id)

    def unexpected(self, frame: Frame) -> None:
        """What it shows passes without inspection."""

    def result_valid(self, part: Part, seq: int, decided: PartResult) -> None:
        self._oversight.on_result_valid(part, seq, decided, self._journal)
        self._plc.over(part.trigger_id)
        self._plc.on_result(seq, self._journal)

    def result_cleared(self, part: Part) -> None:
        self._oversight.on_cleared(part)


class Plc:
    """The wire between the PLC and the station; messages wait here while nobody reads."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.ready = False
        self.pending: set[str] = set()
        self.messages: deque[ControlMessage] = deque()
        self.came = Signal(scheduler)
        self.on_result: Any = lambda _seq, _journal: None

    def send(self, message: ControlMessage) -> None:
        self.messages.append(message)
        self.came.notify_all()

    def over(self, trigger_id: str | None) -> None:
        """Note that the part may move on."""
        self.pending.discard(trigger_id or "")


class StationProcess:
    """One process from its start to its end.

    Attributes:
        exit_code: None while it runs.
    """

    def __init__(self, around: Surroundings, plc: Plc, number: int) -> None:
        self.around = around
        self.plc = plc
        self.number = number
        self.exit_code: int | None = None
        self.failure: BaseException | None = None
        self.inspects = False
        self.status: CameraStatus | None = None
        self.publisher: MqttPublisher | None = None
        self.journal: StationJournal | None = None
        self.station: Station | None = None
        self.stopping = False
        self.given_up = False

    def run(self, on_given_up: Any) -> None:
        """Build it, inspect, end in order: the body of the process."""
        try:
            self._open()
            self._inspect(on_given_up)
            self.exit_code = 0
        except Exception as error:
            self.failure = error
            self.exit_code = getattr(error, "exit_code", 70)

    def stop(self) -> None:
        self.stopping = True
        if self.station is not None:
            self.station.stop()

    @property
    def ending(self) -> bool:
        """Whether it was stopped, or met a defect: then it closes its camera, and reads no more."""
        return self.stopping or self.failures.any()

    def _open(self) -> None:
        around = self.around
        around.oversight.begin(self.number)
        self.failures = failures = Failures()
        self.heartbeats = heartbeats = Heartbeats()
        self.health = health = Health(CAMERA, INSPECTION)
        self.messages = CommandQueue()
        opened = open_journal(around.disk.folder, Synchronous.FULL)
        around.disk.opened(opened.lock.descriptor)
        around.disk.opened(opened.witness._descriptor)
        settings = around.settings.journal or JournalSettings()
        self.journal = journal = StationJournal(
            journal=opened,
            settings=settings,
            relayed=True,
            health=health,
            heartbeats=heartbeats,
            silence_limit_s=around.settings.watchdog.journal_s,
        )
        mqtt = around.settings.mqtt
        assert mqtt is not None
        self.handshake: HandshakeCoordinator | None = None
        self.publisher = publisher = MqttPublisher(
            settings=mqtt,
            state=State(condition=Condition.STARTING, since_utc="", camera="camera"),
            meta=Meta(camera="camera", journal=journal.journal),
            outbox=Outbox(journal.path),
            marks=journal.writer,
            control=self.messages,
            on_event=journal.event,
            report=self._report,
            beat=heartbeats.stage("publish", 60.0, critical=False),
        )
        journal.on_commit(publisher.wake)
        health.subscribe(publisher.on_health)
        self._journal_thread = Worker("journal", journal.writer.run, failures)
        self._network_thread = Worker("mqtt", publisher.run, failures)
        self.camera = CameraMonitor(
            settings=around.settings.camera,
            once=False,
            health=health,
            record_event=journal.event,
            on_state_change=publisher.state_changed,
        )
        supervised = self.camera.camera
        assert isinstance(supervised, SupervisedCamera)
        self.handshake = handshake = self._make_handshake()
        self.recorder = recorder = JournalRecorder(
            journal=journal,
            output=None,
            ending=lambda: self.ending,
            handshake=handshake,
            can_wait=False,
            failures=failures,
        )
        self.setup = self.make_setup()
        watchdog = around.settings.watchdog
        self.station = Station(
            camera=supervised,
            mailbox=assembly.make_mailbox(around.settings, False, 1),
            line=self.setup,
            sinks=[recorder],
            failures=failures,
            rules=assembly.make_rules(around.settings, False, None),
            triggering=handshake,
            beats=Beats.of(heartbeats, 1, watchdog.capture_s, watchdog.inspect_s),
        )
        if self.stopping:
            self.station.stop()
        if handshake is not None:
            handshake.set_ready(Input.MODEL, True)
            journal.on_writable(handshake.on_writable)
        journal.on_writable(self._on_writable)
        self.camera.subscribe(self.station)
        self._journal_thread.start()
        self._network_thread.start()
        journal.event(Event("started", Severity.INFO, "the station starts"))
        self.camera.start()

    def _inspect(self, on_given_up: Any) -> None:
        around, station = self.around, self.station
        assert station is not None and self.journal is not None and self.publisher is not None
        watchdog = Watchdog(self.heartbeats, ServiceManager(), on_given_up)
        control = self._command_threads()
        threads = [
            Worker("watchdog", watchdog.run, self.failures),
            Worker("control", lambda: control.run(self._ended), self.failures),
            Worker("commands", lambda: control.run_commands(self._ended, _nothing), self.failures),
            Worker("plc", self._read_plc, self.failures),
        ]
        self.health.arrived(INSPECTION)
        for thread in threads:
            thread.start()
        self.inspects = True
        try:
            station.run()
        finally:
            self.inspects = False
            self.health.end()
            watchdog.end()
            self.plc.came.notify_all()
            for thread in threads:
                thread.join(3.0)
            if not self.failures.any():
                self.journal.writer.flush(10.0 if self.journal.trouble is None else 1.0)
            self.publisher.wait_until_delivered(5.0, self.failures.any)
            self.messages.close()
            self.publisher.stop()
            self._network_thread.join(8.0)
            self.journal.writer.close()
            self._journal_thread.join(10.0)
        self.failures.raise_first()
        lost = self.recorder.unaccounted()
        if lost is not None:
            raise lost
        around.oversight.at_end_in_order()

    def make_setup(self) -> InspectionSetup:
        """Return what inspects by the settings as they are now."""
        around = self.around
        name, threshold = around.recipe, around.threshold
        digest = f"{name}-{threshold:.6f}"
        around.oversight.settings_known[digest] = threshold
        identity = StationIdentity(
            simulated=False,
            trigger_source="software",
            model_name=name,
            model_version="1",
            model_sha256=name,
            precision="fp32/f32",
            device="CPU",
            runtime="simulated",
            config_sha256=digest,
            deadline_ms=around.settings.decision.deadline_ms,
            recipe=Recipe(name, 1),
        )
        inspector = SimulatedInspector(around, threshold)
        return InspectionSetup((inspector,), identity, Recipe(name, 1))

    def _make_handshake(self) -> HandshakeCoordinator | None:
        around, journal, publisher = self.around, self.journal, self.publisher
        assert journal is not None and publisher is not None
        if around.pairing is None:
            return None
        trigger = around.settings.camera.trigger
        rules = Rules(
            pairing=around.pairing,
            slots=around.settings.handshake.slots,
            result_hold_ms=around.settings.handshake.result_hold_ms,
            frame_timeout_ms=trigger.frame_timeout_ms,
            deadline_ms=around.settings.decision.deadline_ms,
            recipe=Recipe(around.recipe, 1),
        )
        return HandshakeCoordinator(
            handshake=HandshakeMachine(rules),
            ports=[
                MqttPort(publisher.handshake, publisher.state_changed),
                PlcPort(around.oversight, journal.journal, self.plc),
            ],
            expose=self._expose,
            record_event=journal.event,
        )

    def _expose(self) -> None:
        # Once the trigger waits for it, the driver's read returns.
        self.around.scheduler.after(0, self.around.device.poke)
        self.camera.trigger()

    def _on_writable(self, writable: bool) -> None:
        life, now_ns = self.around.oversight.life, self.around.scheduler.now_ns
        life.troubled_ns = None if writable else now_ns

    def _report(self) -> StationReport:
        ready = self.handshake.ready if self.handshake is not None else None
        return StationReport(trigger_ready=ready)

    def _command_threads(self) -> CommandThreads:
        assert self.station is not None and self.journal is not None
        handshake = self.handshake
        return CommandThreads(
            messages=self.messages,
            handlers=CommandHandlers(
                trigger=self.station.trigger,
                acknowledge=handshake.acknowledged if handshake else None,
                reload=self._reload,
                self_test=dict,
                set_recipe=self._set_recipe,
            ),
            source=assembly.trigger_source(self.around.settings),
            leader=self.around.leader,
            recipe=lambda: self.setup.recipe,
            journal=self.journal.journal,
            replies=self.publisher,
            record_event=self.journal.event,
            beat=self.heartbeats.stage("control", 10.0, critical=False),
        )

    def _reload(self) -> Mapping[str, Datum]:
        assert self.station is not None
        setup = self.make_setup()
        self.around.scheduler.sleep_ns(400 * MILLISECOND)  # a model that compiles
        self.setup = setup
        self.station.exchange(setup)
        return {"changed": "threshold"}

    def _set_recipe(self, recipe: Recipe) -> Mapping[str, Datum]:
        if recipe.id not in ("bottle", "cap"):
            raise ConfigurationError(f"{recipe} is not set up here.")
        self.around.recipe = recipe.id
        return self._reload()

    def _ended(self) -> bool:
        return self.health.ended

    def _read_plc(self) -> None:
        """Take what the PLC sends, as the thread of a fieldbus does."""
        plc = self.plc
        while not self._ended():
            while plc.messages:
                message = plc.messages.popleft()
                if isinstance(message, Trigger):
                    now_ns = self.around.scheduler.now_ns
                    message = replace(message, received_ns=now_ns, port=self.around.leader)
                elif isinstance(message, Ack):
                    self.around.oversight.life.acknowledged.add(message.seq)
                if not self.messages.put(message) and isinstance(message, Trigger):
                    plc.over(message.trigger_id)
            plc.came.wait(200 * MILLISECOND)


def _nothing() -> None:
    """Nothing is asked for by signals here."""


def make_opener(device: Device) -> Any:
    """Return what stands in for ``edge.cameras.factory.live_camera_opener``."""
    return lambda *_: device.open
