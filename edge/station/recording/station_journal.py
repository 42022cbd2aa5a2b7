"""The journal of a station: its writer, its events, and what its state means to the station."""

import logging
import time
from collections.abc import Callable
from contextlib import closing

from edge.contract.event import Event, Severity, event_payload
from edge.journal.bounds import Bounds, Fill, Overflow
from edge.journal.entries import Entry, JournalRefuses, RecordKind
from edge.journal.judged_images import JudgedImages
from edge.journal.open import Journal
from edge.journal.outbox import Outbox
from edge.journal.writer import GroupCommit, JournalWriter
from edge.settings.journal import JournalSettings
from edge.station.monitoring.health import Health
from edge.station.monitoring.heartbeat import Heartbeats

log = logging.getLogger(__name__)

_LEVELS = {
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.ALARM: logging.ERROR,
}


def log_event(event: Event) -> None:
    """Log an event; all that a station without a journal does with it."""
    log.log(_LEVELS[event.severity], "%s: %s", event.kind, event.detail)


class StationJournal:
    """The journal and what follows from its state: health, readiness, events.

    Attributes:
        path, journal: of the database, its file and its UUID.
        writer: takes entries; its ``run`` is the body of the journal's thread.
        trouble: why nothing can be written at the moment, with the next step; None when it can.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        settings: JournalSettings,
        relayed: bool,
        health: Health,
        heartbeats: Heartbeats,
        silence_limit_s: float,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Take a journal over, and report what was found when it was opened.

        Args:
            journal: open; its thread closes it.
            relayed: a broker is to have the rows.
            silence_limit_s: how long the disk may hold the writer.
        """
        self._opened = journal
        self.path = journal.path
        self.journal = journal.journal
        self._health = health
        self._utc_ns = utc_ns
        self.trouble: str | None = None
        self._displaced = False
        self._fill = Fill.ROOM
        self._events_lost = 0
        self._on_writable: list[Callable[[bool], None]] = []
        self._on_commit: list[Callable[[], None]] = []
        self.writer = JournalWriter(
            journal=journal,
            bounds=Bounds(
                max_rows=settings.max_rows,
                max_bytes=settings.max_bytes,
                retention_days=settings.retention_days,
                overflow=Overflow(settings.overflow),
            ),
            commit=GroupCommit(settings.commit_interval_ms, settings.commit_rows),
            relayed=relayed,
            on_commit=self._committed,
            on_trouble=self._set_trouble,
            on_fill=self._set_fill,
            beat=heartbeats.stage("journal", silence_limit_s, critical=True),
            utc_ns=utc_ns,
        )
        self._set_fill(self.writer.fill)
        if journal.quarantined is not None:
            self._report_quarantine(journal)
        if journal.lost:
            self._report_lost(journal)
        if journal.copied is not None:
            self._report_copy(journal)

    @property
    def writable(self) -> bool:
        """Whether it takes records now."""
        return self.trouble is None and self._fill is not Fill.FULL

    @property
    def waiting(self) -> int:
        """Records that were accepted and are not committed yet."""
        return self.writer.waiting

    @property
    def judged_images(self) -> JudgedImages:
        """Which image files have a verdict."""
        return JudgedImages(self.path)

    def identities(self) -> tuple[str, ...]:
        """Return the UUID of the journal, and the one that it follows where it was put back.

        Raises:
            JournalError: it cannot be read.
        """
        with closing(Outbox(self.path)) as outbox:
            follows = outbox.backlog().follows
        return (self.journal,) if follows is None else (self.journal, follows)

    def on_writable(self, listener: Callable[[bool], None]) -> None:
        """Add who hears now, and at every change, whether the journal takes records."""
        self._on_writable.append(listener)
        listener(self.writable)

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Add who hears that there are new rows."""
        self._on_commit.append(listener)

    def event(self, event: Event) -> None:
        """Record an event; never waits. One that finds no room is counted and logged."""
        log_event(event)
        try:
            self.writer.submit(Entry(RecordKind.EVENT, event_payload(event, self._utc_ns())))
        except JournalRefuses as refused:
            self._events_lost += 1
            if self._events_lost == 1:
                log.error("an event was not recorded: %s", refused)

    def kept(self) -> str:
        """Tell where the verdicts are that the broker does not have."""
        if self.writer.displaced:
            return f"They are not in the journal's place: {self.trouble}"
        return (
            f"Nothing is lost: they wait in {self.path} and are sent when the station "
            "runs again and the broker accepts them."
        )

    def close(self) -> None:
        """Let go of a journal whose thread was never started."""
        self._opened.close()

    def _set_trouble(self, trouble: str | None) -> None:
        self.trouble = trouble
        self._health.set("journal_unwritable", trouble is not None, trouble or "")
        self._notify_writable()
        displaced = trouble is not None and self.writer.displaced
        if trouble is not None and displaced and not self._displaced:
            self.event(Event("journal_displaced", Severity.ALARM, trouble))
        self._displaced = displaced

    def _set_fill(self, fill: Fill) -> None:
        self._fill = fill
        detail = "the broker has not accepted the records in the journal. Restore it."
        for level in (Fill.NEARLY_FULL, Fill.FULL):
            self._health.set(level.value, fill is level, detail)
        self._notify_writable()

    def _notify_writable(self) -> None:
        for listener in self._on_writable:
            listener(self.writable)

    def _committed(self) -> None:
        for listener in self._on_commit:
            listener()

    def _report_quarantine(self, journal: Journal) -> None:
        text = (
            f"the journal was damaged ({journal.damage}) and is kept as "
            f"{journal.quarantined}; records start at 1 in a new one. Check the disk, and "
            "keep that file."
        )
        self._health.set("journal_quarantined", True, text)
        self.event(
            Event(
                "journal_quarantined",
                Severity.ALARM,
                text,
                {"damage": journal.damage, "kept_as": str(journal.quarantined)},
            )
        )

    def _report_lost(self, journal: Journal) -> None:
        runs = ", ".join(f"{kind} {a} to {b}" for kind, (a, b) in journal.lost.items())
        text = (
            f"the disk lost records that had been written: {runs}. Their numbers are not "
            "used again. Check the disk; consumers that received them should keep them."
        )
        self._health.set("journal_lost_records", True, text)
        self.event(Event("journal_lost_records", Severity.ALARM, text, {"records": runs}))

    def _report_copy(self, journal: Journal) -> None:
        text = (
            f"this journal is a copy: {journal.copied}. What is recorded from now on belongs to "
            f"journal {journal.journal}; what was recorded before keeps {journal.former}. If the "
            "original runs elsewhere, give one of the two another mqtt.station."
        )
        data = {"why": journal.copied, "former": journal.former, "journal": journal.journal}
        self.event(Event("journal_copied", Severity.WARNING, text, data))
