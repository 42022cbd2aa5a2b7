"""What a station records and publishes with: journal, broker or standard output."""

import logging
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from edge.contract.announcements import HandshakeMessage, Meta, Metrics
from edge.contract.commands import CommandAnswer
from edge.contract.delivery import VerdictsUndelivered
from edge.contract.event import Event, Severity
from edge.contract.state import JournalReport, StationReport
from edge.contract.verdict import Verdict
from edge.journal.database import Synchronous
from edge.journal.entries import JournalError
from edge.journal.judged_images import JudgedImages
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.mqtt.command_queue import CommandQueue
from edge.redaction import redacted
from edge.settings.recording import JournalSettings
from edge.settings.station import Settings
from edge.station.monitoring.health import Health
from edge.station.monitoring.heartbeat import Heartbeats
from edge.station.recording import reports
from edge.station.recording.journal_recorder import (
    JournalRecords,
    PartsNotRecorded,
    PlainRecords,
    Told,
    claimed_journal_folder,
)
from edge.station.recording.mqtt_thread import MqttThread
from edge.station.recording.stdout import StandardOutput
from edge.station.recording.verdict_output import VerdictOutput
from edge.station.threads import Failures, Worker

log = logging.getLogger(__name__)

JOURNAL_STOP_LIMIT_S = 10.0
# One that refuses gets another chance when it is closed.
TROUBLE_STOP_LIMIT_S = 1.0
# While the station stops, a journal or a reader that takes nothing is waited for so long.
STOP_RECORDING_LIMIT_S = 5.0
# A broker that is away is no fault of the station: its thread's silence is told, and that is all.
PUBLISH_SILENCE_S = 60.0


class Recording:
    """The way of verdicts and events out of the station.

    Attributes:
        messages: what PLC and MES ask for; nothing comes without a broker.
        keeps_all: verdicts are journalled, and nothing accepted is ever dropped.
        writable: records are taken now.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        health: Health,
        heartbeats: Heartbeats,
        failures: Failures,
        on_writable: Callable[[bool], None],
        on_reader_gone: Callable[[], None],
    ) -> None:
        """Open the journal if there is one; no thread runs yet.

        Args:
            on_writable: told whether the journal takes records now.
            on_reader_gone: the reader of standard output has ended.

        Raises:
            ConfigurationError: folder, certificates or password cannot be used.
            JournalError: the disk refuses.
        """
        self.messages = CommandQueue()
        self.writable = True
        self._settings = settings
        self._failures = failures
        self._heartbeats = heartbeats
        self._on_writable = on_writable
        self._network: MqttThread | None = None
        self._worker: Worker | None = None
        self._journal: JournalRecords | None = None
        self._plain: PlainRecords | None = None
        self._output: VerdictOutput | None = None
        folder = claimed_journal_folder(settings)
        if folder is None:
            self._output = VerdictOutput(StandardOutput(on_reader_gone), failures)
            self._plain = PlainRecords(self._output)
        else:
            self._journal = self._opened(folder, health, heartbeats, on_reader_gone)
        self.keeps_all = self._journal is not None
        self._folder = folder
        self._starts_ns: tuple[int, ...] = ()
        self._ending_s: float | None = None  # monotonic, since the station ends

    @property
    def journal(self) -> str | None:
        """UUID of the journal."""
        return self._journal.journal if self._journal else None

    @property
    def judged_images(self) -> JudgedImages | None:
        """Which image files have a verdict; None without a journal."""
        return JudgedImages(self._journal.path) if self._journal else None

    @property
    def waiting(self) -> int:
        """Records that were accepted and are not committed yet."""
        return self._journal.writer.waiting if self._journal else 0

    @property
    def network(self) -> MqttThread | None:
        """The connection to the broker, after ``start``."""
        return self._network

    def start(
        self,
        report: Callable[[JournalReport | None, Path], StationReport],
        metrics: Callable[[int], Metrics],
    ) -> None:
        """Start the journal's thread and the connection to the broker.

        Args:
            report: what goes with the state, given the journal's and where the disk is.
            metrics: the numbers, given how many records wait for their commit.

        Raises:
            ConfigurationError: certificates or password cannot be used.
        """
        if self._output is not None:
            self._output.start()
        journal, mqtt = self._journal, self._settings.mqtt
        if journal is None or self._folder is None:
            return
        folder = self._folder
        with closing(Outbox(journal.path)) as before:
            self._starts_ns = reports.starts(before)
        self._worker = Worker("journal", journal.writer.run, self._failures)
        self._worker.start()
        if mqtt is None:
            return
        reading: list[Outbox] = []  # opened by the connection's thread, whose it is

        def reported() -> StationReport:
            now_ns, now = time.time_ns(), None
            with suppress(JournalError):  # told by its writer; the rest is reported all the same
                if not reading:
                    reading.append(Outbox(journal.path))
                now = reports.journal_report(journal.journal, reading[0], journal.path, now_ns)
            recent = reports.within_an_hour(self._starts_ns, now_ns)
            return replace(report(now, folder), restarts_1h=recent)

        self._network = MqttThread(
            mqtt=mqtt,
            camera=redacted(self._settings.camera.uri),
            meta=Meta(camera=redacted(self._settings.camera.uri), journal=journal.journal),
            journal=journal.path,
            writer=journal.writer,
            messages=self.messages,
            on_event=self.event,
            report=reported,
            metrics=lambda: metrics(journal.writer.waiting),
            beat=self._heartbeats.stage("publish", PUBLISH_SILENCE_S, critical=False),
            kept=journal.kept,
        )
        self._network.start(self._failures)
        self.event(Event(reports.STARTED, Severity.INFO, "the station starts"))

    def record(self, verdict: Verdict, told: Told, ending: Callable[[], bool]) -> bool:
        """Hand a verdict over; wait while the journal takes none.

        Args:
            told: is called with its id and number, once it is durable.
            ending: the station ends.

        Returns:
            False when the verdict has no record.
        """
        given_up = partial(self._given_up, ending)
        if self._journal is not None:
            return self._journal.record(verdict, told, given_up)
        self._plain_records.record(verdict, given_up)
        told(verdict.id, 0)
        return True

    def not_taken(self, verdict: Verdict) -> None:
        """Note a verdict that the end of the station left without a record: ``stop`` names it."""
        (self._journal or self._plain_records).not_taken(verdict)

    def event(self, event: Event) -> None:
        """Record an event; never waits."""
        (self._journal or self._plain_records).event(event)

    def answer(self, answer: CommandAnswer) -> None:
        """Tell the sender of a command how it ended."""
        if self._network:
            self._network.publisher.answer(answer)

    def handshake(self, handshake: HandshakeMessage) -> None:
        """Tell the sender of a trigger what became of it."""
        if self._network:
            self._network.publisher.handshake(handshake)

    def set_reasons(self, reasons: tuple[str, ...]) -> None:
        """Say what is wrong with the station that inspects."""
        if self._network:
            self._network.set_reasons(reasons)

    def state_changed(self) -> None:
        """Say the state again: what is reported with it has changed."""
        if self._network:
            self._network.publisher.state_changed()

    def login_changed(self) -> bool:
        """Tell whether password or certificates differ from those the connection was made with.

        Raises:
            ConfigurationError: one of their files cannot be used.
        """
        return self._network is not None and self._network.publisher.login_changed()

    def renew_connection(self) -> None:
        """Connect to the broker anew, with password and certificates as they are now."""
        if self._network:
            self._network.publisher.renew()

    def set_meta(self, meta: Meta) -> None:
        """Say what the station is."""
        if self._network:
            self._network.publisher.set_meta(meta)

    def deliver(self, limit_s: float, given_up: Callable[[], bool]) -> VerdictsUndelivered | None:
        """Wait until all is durable, and the broker has it; return the error if it does not."""
        if self._journal is None:
            return None
        limit = JOURNAL_STOP_LIMIT_S if self._journal.trouble is None else TROUBLE_STOP_LIMIT_S
        if not self._failures.any() and not self._journal.writer.flush(limit):
            log.error("the journal does not take what is left")
        return self._network.wait_until_delivered(limit_s, given_up) if self._network else None

    def stop(
        self, reasons: tuple[str, ...], ending: Callable[[], bool]
    ) -> PartsNotRecorded | VerdictsUndelivered | None:
        """Say ``stopped`` with the reasons, hang up, close the journal.

        Args:
            ending: the station was told to end; until then a slow reader has all the time.

        Returns:
            The error of parts without a record, or not written; None when there are none.
        """
        self.messages.close()
        journal = self._journal
        if journal is not None and journal.trouble is not None:
            reasons = (*reasons, "journal_unwritable")
        if self._network:
            self._network.stop(*reasons)
        given_up = partial(self._given_up, ending)
        if journal is None:
            return self._plain_records.unaccounted(given_up)
        journal.writer.close()
        if self._worker is None:
            journal.close()
        elif not self._worker.join(JOURNAL_STOP_LIMIT_S):
            log.error("the journal was not closed in time; what was committed is safe")
        return journal.unaccounted(given_up)

    def _given_up(self, ending: Callable[[], bool]) -> bool:
        """Tell whether a journal or a reader that takes nothing is waited for no longer."""
        if ending():  # from its first time on, however many verdicts still wait
            self._ending_s = self._ending_s or time.monotonic()
        ending_s = self._ending_s
        return ending_s is not None and time.monotonic() - ending_s > STOP_RECORDING_LIMIT_S

    @property
    def _plain_records(self) -> PlainRecords:
        assert self._plain is not None
        return self._plain

    def _opened(
        self,
        folder: Path,
        health: Health,
        heartbeats: Heartbeats,
        on_reader_gone: Callable[[], None],
    ) -> JournalRecords:
        settings = self._settings.journal or JournalSettings()
        if self._settings.mqtt is None:
            self._output = VerdictOutput(StandardOutput(on_reader_gone), self._failures)
        return JournalRecords(
            journal=open_journal(folder, Synchronous(settings.synchronous)),
            settings=settings,
            relayed=self._settings.mqtt is not None,
            health=health,
            heartbeats=heartbeats,
            silence_limit_s=self._settings.watchdog.journal_s,
            on_writable=self._note_writable,
            on_commit=self._wake,
            output=self._output,
        )

    def _note_writable(self, writable: bool) -> None:
        self.writable = writable
        self._on_writable(writable)

    def _wake(self) -> None:
        if self._network:
            self._network.publisher.wake()
