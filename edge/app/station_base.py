"""What a station stands on before it has a model: health, records, broker, camera."""

import logging
import time
from pathlib import Path

from edge.app.reload import Reloader
from edge.app.signals import Stopper
from edge.contract.announcements import Meta
from edge.contract.delivery import VerdictsUndelivered
from edge.contract.encoding import utc_text
from edge.contract.event import Event, Severity
from edge.contract.state import Condition, State
from edge.journal.database import Synchronous
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.mqtt.command_queue import CommandQueue
from edge.mqtt.publisher import MqttPublisher
from edge.mqtt.sparkplug.publisher import SparkplugPublisher
from edge.redaction import redacted
from edge.settings.journal import JournalSettings
from edge.settings.layers import SettingsLayers
from edge.settings.mqtt import DEFAULT_STATION, MqttSettings
from edge.station.fleet.inbox import DesiredInbox
from edge.station.monitoring.camera_monitor import CAMERA, CameraMonitor
from edge.station.monitoring.health import Health
from edge.station.monitoring.heartbeat import Heartbeats
from edge.station.monitoring.systemd import ServiceManager, StatusLine
from edge.station.opcua.server_process import OpcUaProcess
from edge.station.outputs.devices import camera_lines
from edge.station.recording import reports
from edge.station.recording.journal_folder import journal_folder
from edge.station.recording.reporter import StationReporter
from edge.station.recording.station_journal import StationJournal, log_event
from edge.station.recording.stdout import StandardOutput
from edge.station.recording.verdict_output import VerdictOutput
from edge.station.threads import Failures, Worker
from edge.wording import counted

log = logging.getLogger(__name__)

# What ``Health`` waits for beside the camera.
INSPECTION = "inspection"
JOURNAL_STOP_LIMIT_S = 10.0
# One that refuses gets another chance when it is closed.
TROUBLE_STOP_LIMIT_S = 1.0
NETWORK_STOP_LIMIT_S = 8.0
OPCUA_STOP_LIMIT_S = 5.0
# A broker that is away is no fault of the station: its thread's silence is logged, and that is all.
PUBLISH_SILENCE_S = 60.0


class StationBase:
    """Opens records and camera, and runs the threads of the records.

    Attributes:
        layers: the settings of each recipe, and how they are read again.
        settings: as the station started with.
        manager: the service manager, where there is one.
        health, heartbeats, failures: of all threads.
        journal: None for a station that keeps none.
        output: standard output, where no broker gets the verdicts.
        messages: what PLC and MES ask for; nothing comes without a broker.
        publisher, reporter: None without a broker.
        desired: what the station is to have in force; nothing comes without the section ``fleet``.
        sparkplug: None where the station is no edge node.
        opcua: None without the section.
        camera: and who must act when it goes.
        reload: takes changed settings over.
    """

    def __init__(self, layers: SettingsLayers, *, once: bool, stopper: Stopper) -> None:
        """Open all of it; no thread runs yet.

        Args:
            once: inspect every image of a file source once, or one frame of a live camera.

        Raises:
            StationError: something cannot be used.
        """
        self.layers = layers
        self.settings = settings = layers.first()
        self.manager = ServiceManager()
        self.failures = Failures()
        self.heartbeats = Heartbeats()
        self.health = Health(CAMERA, INSPECTION)
        self.status = StatusLine(self.manager, self.health)
        self.messages = CommandQueue()
        self.desired = DesiredInbox()
        self.journal: StationJournal | None = None
        self.publisher: MqttPublisher | None = None
        self.reporter: StationReporter | None = None
        self.sparkplug: SparkplugPublisher | None = None
        folder, mqtt = journal_folder(settings), settings.mqtt
        if folder is not None:
            self.journal = self._open_journal(folder)
        self.output: VerdictOutput | None = None
        if mqtt is None:
            self.output = VerdictOutput(StandardOutput(stopper.stop), self.failures)
        elif self.journal is not None and folder is not None:
            self.reporter = StationReporter(self.journal, folder)
            self.publisher = self._open_publisher(mqtt, self.journal, self.reporter)
            self.sparkplug = self._open_sparkplug(mqtt, self.journal)
        self.opcua = self._open_opcua()
        self.camera = CameraMonitor(
            settings=settings.camera,
            once=once,
            health=self.health,
            record_event=self.record_event,
            on_state_change=self.publisher.state_changed if self.publisher else None,
            judged=self.journal.judged_images if self.journal else None,
            lines=camera_lines(settings.outputs),
        )
        if self.reporter is not None:
            self.reporter.camera = self.camera
        self.reload = Reloader(self.status, self.record_event)
        if self.publisher is not None:
            self.reload.add("password or certificates of mqtt", self.publisher)
        if self.sparkplug is not None:
            self.reload.add("password or certificates of mqtt.sparkplug", self.sparkplug)
        self._journal_thread: Worker | None = None
        self._network_thread: Worker | None = None
        self._sparkplug_thread: Worker | None = None
        self._opcua_thread: Worker | None = None

    def start(self) -> None:
        """Start the threads of the records; the broker hears that the station starts."""
        if self.output is not None:
            self.output.start()
        if self.journal is None:
            return
        self._journal_thread = Worker("journal", self.journal.writer.run, self.failures)
        self._journal_thread.start()
        if self.opcua is not None:
            self._opcua_thread = Worker("opcua", self.opcua.run, self.failures)
            self._opcua_thread.start()
        if self.publisher is not None:
            self._network_thread = Worker("mqtt", self.publisher.run, self.failures)
            self._network_thread.start()
            if self.sparkplug is not None:
                run = self.sparkplug.run
                self._sparkplug_thread = Worker("sparkplug", run, self.failures)
                self._sparkplug_thread.start()
            self.record_event(Event(reports.STARTED, Severity.INFO, "the station starts"))

    def record_event(self, event: Event) -> None:
        """Record an event; never waits."""
        if self.journal is not None:
            self.journal.event(event)
        else:
            log_event(event)

    def deliver(self, limit_s: float) -> VerdictsUndelivered | None:
        """Block until all is durable, and the broker has it; return the error if it does not."""
        if self.journal is None:
            return None
        limit = JOURNAL_STOP_LIMIT_S if self.journal.trouble is None else TROUBLE_STOP_LIMIT_S
        if not self.failures.any() and not self.journal.writer.flush(limit):
            log.error("the journal does not accept the remaining entries")
        if self.publisher is None or self.settings.mqtt is None:
            return None
        delivery = self.publisher.wait_until_delivered(limit_s, self.failures.any)
        if self.sparkplug is not None:
            waiting = self.sparkplug.wait_until_published(limit_s, self.failures.any)
            if waiting:
                log.warning(
                    "%s will be sent at the next start of the Sparkplug node",
                    counted(waiting, "verdict"),
                )
        if delivery.verdicts_complete:
            if not delivery.complete:
                log.warning("the broker does not have all events. %s", self.journal.kept())
            return None
        return VerdictsUndelivered(
            f"not all verdicts were acknowledged by the broker at {self.settings.mqtt.url}. "
            f"{self.journal.kept()}"
        )

    def stop(self, reasons: tuple[str, ...]) -> None:
        """Publish ``stopped`` with the reasons, hang up, close the journal."""
        self.messages.close()
        journal = self.journal
        if journal is not None and journal.trouble is not None:
            reasons = (*reasons, "journal_unwritable")
        if self.publisher is not None:
            self.publisher.stop(*reasons)
        if self.sparkplug is not None:
            self.sparkplug.stop()
        if self.opcua is not None:
            self.opcua.stop()
        if self._network_thread and not self._network_thread.join(NETWORK_STOP_LIMIT_S):
            log.warning("the connection to the broker did not end in time")
        if self._sparkplug_thread and not self._sparkplug_thread.join(NETWORK_STOP_LIMIT_S):
            log.warning("the connection of the Sparkplug node did not end in time")
        if self._opcua_thread and not self._opcua_thread.join(OPCUA_STOP_LIMIT_S):
            log.warning("the process of OPC UA did not end in time")
        if journal is None:
            return
        journal.writer.close()
        if self._journal_thread is None:
            journal.close()
        elif not self._journal_thread.join(JOURNAL_STOP_LIMIT_S):
            log.error("the journal was not closed in time; what was committed is safe")

    def _open_journal(self, folder: Path) -> StationJournal:
        settings = self.settings.journal or JournalSettings()
        return StationJournal(
            journal=open_journal(folder, Synchronous(settings.synchronous)),
            settings=settings,
            relayed=self.settings.mqtt is not None,
            health=self.health,
            heartbeats=self.heartbeats,
            silence_limit_s=self.settings.watchdog.journal_s,
        )

    def _open_publisher(
        self, mqtt: MqttSettings, journal: StationJournal, reporter: StationReporter
    ) -> MqttPublisher:
        camera = redacted(self.settings.camera.uri)
        publisher = MqttPublisher(
            settings=mqtt,
            state=State(
                condition=Condition.STARTING,
                since_utc=utc_text(time.time_ns()),
                camera=camera,
            ),
            meta=Meta(camera=camera, journal=journal.journal),
            outbox=Outbox(journal.path),
            marks=journal.writer,
            control=self.messages,
            on_event=self.record_event,
            on_desired=self.desired.put if self.settings.fleet is not None else None,
            report=reporter.report,
            metrics=reporter.metrics,
            beat=self.heartbeats.stage("publish", PUBLISH_SILENCE_S, critical=False),
        )
        journal.on_commit(publisher.wake)
        self.health.subscribe(publisher.on_health)
        return publisher

    def _open_sparkplug(
        self, mqtt: MqttSettings, journal: StationJournal
    ) -> SparkplugPublisher | None:
        if mqtt.sparkplug is None:
            return None
        node = SparkplugPublisher(
            settings=mqtt,
            sparkplug=mqtt.sparkplug,
            journal=journal.journal,
            folder=journal.path.parent,
            outbox=Outbox(journal.path),
            on_event=self.record_event,
            beat=self.heartbeats.stage("sparkplug", PUBLISH_SILENCE_S, critical=False),
        )
        journal.on_commit(node.wake)
        self.health.subscribe(node.on_health)
        return node

    def _open_opcua(self) -> OpcUaProcess | None:
        settings, journal = self.settings, self.journal
        if settings.opcua is None or journal is None:
            return None
        server = OpcUaProcess(
            settings=settings.opcua,
            station=settings.mqtt.station if settings.mqtt else DEFAULT_STATION,
            triggered=settings.camera.trigger.mode != "free_run",
            journal=journal.path,
            health=self.health,
        )
        journal.on_commit(server.wake)
        self.health.subscribe(server.on_health)
        return server
