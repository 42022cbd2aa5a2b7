"""Where verdicts and events go: into the journal first, then to whoever waits for them."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from edge.atomic_files import create_new
from edge.contract.delivery import VerdictsUndelivered
from edge.contract.event import Event, Severity, event_payload
from edge.contract.image_source import image_name
from edge.contract.verdict import Verdict, payload, to_json
from edge.errors import OutputNotWritable
from edge.journal.bounds import Bounds, Fill, Overflow
from edge.journal.database import FILE_NAME as JOURNAL_FILE
from edge.journal.entries import (
    Committed,
    Entry,
    JournalError,
    JournalRefuses,
    RecordKind,
    Refusal,
)
from edge.journal.open import Journal
from edge.journal.writer import GroupCommit, JournalWriter
from edge.settings.recording import JournalSettings
from edge.settings.station import Settings
from edge.station.monitoring.health import Health
from edge.station.monitoring.heartbeat import Heartbeats
from edge.station.monitoring.kernel_clock import clock_sync
from edge.station.recording.verdict_output import VerdictOutput
from edge.system.file_access import is_folder

log = logging.getLogger(__name__)

# How long a verdict waits before the journal is asked again to take it.
ROOM_POLL_S = 0.05
CLOCK_LOOK_S = 10.0
# Parts without a record that the last message names; the log has them all.
MOST_NAMED = 20
# Of systemd/edge-run@.service.
SERVICE_SETTINGS = Path("/etc/edge")
SERVICE_STATE = Path("/var/lib/edge")

OWNER_FILE = "station"

_LEVELS = {
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.ALARM: logging.ERROR,
}

Told = Callable[[str, int], None]


def journal_folder(settings: Settings) -> Path | None:
    """Return where the journal of a station lies; None for a station that keeps none."""
    journal = settings.journal
    if journal is not None and journal.folder is not None:
        return Path(journal.folder)
    if settings.mqtt is None and journal is None:
        return None
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state:
        return Path(state) / "journal"
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "edge"
    if settings.mqtt is None:
        return base / "station"
    topic = settings.mqtt.topic
    folder, former = base / topic.client_id, base / topic.former_folder_name
    # Of a version whose names were not one station's alone: whoever went on with it first, has it.
    goes_on = (former / JOURNAL_FILE).exists() and _owner(former) in (None, topic.name)
    return former if goes_on and not (folder / JOURNAL_FILE).exists() else folder


def claimed_journal_folder(settings: Settings) -> Path | None:
    """Return where this station's journal lies, and keep its name there if it is a former folder.

    Raises:
        OutputNotWritable: the name cannot be kept.
    """
    folder = journal_folder(settings)
    mqtt = settings.mqtt
    if folder is None or mqtt is None or folder.name != mqtt.topic.former_folder_name:
        return folder
    if mqtt.topic.client_id == folder.name or _owner(folder) == mqtt.topic.name:
        return folder
    try:
        _claim(folder, mqtt.topic.name)
    except FileExistsError:
        return journal_folder(settings)  # another station was faster
    except OSError as error:
        raise OutputNotWritable(
            f"{folder}: cannot be written ({error.strerror}). Check the folder and its owner."
        ) from error
    log.warning(
        "%s: going on with this journal of an older version. Its folder's name fits other "
        "stations, too; if it is not of %s, set journal.folder.",
        *(folder, mqtt.topic.name),
    )
    return folder


def _claim(folder: Path, name: str) -> None:
    """Write down, whole or not at all, that a folder is this station's.

    Raises:
        FileExistsError: it is another one's.
        OSError: the disk refuses.
    """
    partial = folder / f".{OWNER_FILE}.{os.getpid()}.partial"
    try:
        with create_new(partial) as file:
            file.write(f"{name}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, folder / OWNER_FILE)
    finally:
        partial.unlink(missing_ok=True)


def _owner(folder: Path) -> str | None:
    """Return the station that has claimed a folder; None where none has."""
    try:
        return (folder / OWNER_FILE).read_text("utf-8", errors="replace").strip()
    except OSError:
        return None


def journal_folder_seen_from(config: Path | None, settings: Settings) -> Path | None:
    """Return where the journal lies for somebody who looks at it from a shell.

    A service has a state folder of its own, ``edge-run@cam1`` that of ``/etc/edge/cam1.yaml``,
    which only its own process is told of.

    Args:
        config: the settings' file; None for the command line alone.
    """
    named = settings.journal is not None and settings.journal.folder is not None
    kept = journal_folder(settings)
    if kept is None or named or config is None or "STATE_DIRECTORY" in os.environ:
        return kept
    if config.absolute().parent != SERVICE_SETTINGS:
        return kept
    state = SERVICE_STATE / config.stem
    return state / "journal" if is_folder(state) else kept


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Whom to tell of committed verdicts: by id and ``seq``."""

    verdict_id: str
    told: Told

    def __call__(self, committed: Committed) -> None:
        self.told(self.verdict_id, committed.seq)


class PartsNotRecorded(JournalError):
    """The station ended, and verdicts are on no record."""


class JournalRecords:
    """The journal of a station and its thread.

    Nothing that was accepted is dropped: while the journal takes no more, ``record`` waits, and
    with it the station.

    Attributes:
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
        on_writable: Callable[[bool], None],
        on_commit: Callable[[], None],
        output: VerdictOutput | None = None,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Args:
        journal: open; its thread closes it.
        relayed: a broker is to have the rows.
        silence_limit_s: how long the disk may hold the writer.
        on_writable: told whether the journal takes records now.
        on_commit: there are new rows.
        output: where committed verdicts are written; None where a broker gets them.
        """
        self._opened = journal
        self.path = journal.path
        self.journal = journal.journal
        self._health = health
        self._on_writable = on_writable
        self._output = output
        self._utc_ns = utc_ns
        self.trouble: str | None = None
        self._displaced = False
        self._refused: list[Entry] = []
        self._fill = Fill.ROOM
        self._events_lost = 0
        self._clock, self._clock_read_s = clock_sync(), time.monotonic()
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
            on_commit=on_commit,
            on_trouble=self._note_trouble,
            on_fill=self._note_fill,
            beat=heartbeats.stage("journal", silence_limit_s, critical=True),
            utc_ns=utc_ns,
        )
        self._note_fill(self.writer.fill)
        if journal.quarantined is not None:
            self._note_quarantine(journal)
        if journal.lost:
            self._note_lost(journal)
        if journal.copied is not None:
            self._note_copy(journal)

    def record(self, verdict: Verdict, told: Told, given_up: Callable[[], bool]) -> bool:
        """Hand a verdict to the journal; wait while it takes none.

        Args:
            told: is called in the journal's thread, once the verdict is durable.
            given_up: a journal that takes nothing is not waited for any more.

        Returns:
            False when the station ended first: the verdict has no record.
        """
        content = self._content(verdict)
        decision, part = verdict.inspection.decision, verdict.part
        entry = Entry(
            RecordKind.VERDICT, content, decision.result.value, part.part_id if part else None
        )
        committed: SimpleQueue[Committed] = SimpleQueue()
        then = _Recorded(verdict.id, told) if self._output is None else committed.put
        while True:
            try:
                self.writer.submit(entry, then)
                break
            except JournalRefuses as refused:
                if refused.refusal is Refusal.CLOSED or given_up():
                    log.error("verdict %s has no record: %s", verdict.id, refused)
                    self._refused.append(entry)
                    return False
            time.sleep(ROOM_POLL_S)
        return self._output is None or self._written(content, committed, told, given_up)

    def not_taken(self, verdict: Verdict) -> None:
        """Note a verdict that the end of the station left without a record."""
        self._refused.append(Entry(RecordKind.VERDICT, self._content(verdict)))

    def unaccounted(
        self, given_up: Callable[[], bool]
    ) -> PartsNotRecorded | VerdictsUndelivered | None:
        """Return which parts have no record, or were not written, once the journal's thread ended.

        Args:
            given_up: the reader of standard output is not waited for any more.
        """
        lost = [*self._refused, *self.writer.unrecorded()]
        parts = [_named(entry.content) for entry in lost if entry.kind is RecordKind.VERDICT]
        silent = self._output.finish(given_up) if self._output is not None else []
        unwritten = [part for part in silent if part not in parts]
        undelivered = None
        if unwritten:
            undelivered = VerdictsUndelivered(
                f"{len(unwritten)} verdicts were not written to standard output, whose reader took "
                f"no more: {_listed('not written', unwritten)}. Nothing is lost: they are the "
                f"newest ones on record, up to number {self.writer.last_seq}. Read them with "
                f"edge-run --journal {self.path.parent}."
            )
        if not parts:
            return undelivered
        if undelivered is not None:
            log.error("%s", undelivered)
        why = self.trouble or "The journal took no more. Bring the broker back, or see the log."
        return PartsNotRecorded(
            f"{len(parts)} parts have no record: {_listed('not recorded', parts)}. The newest "
            f"verdict on record is number {self.writer.last_seq}. Inspect these parts again. {why}"
        )

    def kept(self) -> str:
        """Tell where the verdicts are that the broker does not have."""
        if self.writer.displaced:
            return f"They are not where the station keeps them: {self.trouble}"
        return (
            f"Nothing is lost: they wait in {self.path} and are sent when the station runs again "
            "and the broker takes them."
        )

    def close(self) -> None:
        """Let go of a journal whose thread was never started."""
        self._opened.close()

    def event(self, event: Event) -> None:
        """Record an event; never waits. One that finds no room is counted and logged."""
        level = _LEVELS[event.severity]
        log.log(level, "%s: %s", event.kind, event.detail)
        try:
            self.writer.submit(Entry(RecordKind.EVENT, event_payload(event, self._utc_ns())))
        except JournalRefuses as refused:
            self._events_lost += 1
            if self._events_lost == 1:
                log.error("an event has no record: %s", refused)

    def _content(self, verdict: Verdict) -> dict[str, Any]:
        assert verdict.identity is not None
        now_s = time.monotonic()
        if now_s - self._clock_read_s > CLOCK_LOOK_S:
            self._clock, self._clock_read_s = clock_sync(), now_s
        return payload(verdict, verdict.identity, None, self._clock)

    def _written(
        self,
        content: Mapping[str, Any],
        committed: "SimpleQueue[Committed]",
        told: Told,
        given_up: Callable[[], bool],
    ) -> bool:
        """Have a verdict written to standard output once it is durable; its reader may be slow."""
        assert self._output is not None
        while True:
            try:
                record = committed.get(timeout=ROOM_POLL_S)
            except Empty:
                if given_up():
                    self._output.skip(_named(content))
                    return False
                continue
            told(content["id"], record.seq)
            self._output.put(_named(content), record.payload, given_up)
            return True

    def _note_trouble(self, trouble: str | None) -> None:
        self.trouble = trouble
        self._health.set("journal_unwritable", trouble is not None, trouble or "")
        self._tell_readiness()
        displaced = trouble is not None and self.writer.displaced
        if trouble is not None and displaced and not self._displaced:
            self.event(Event("journal_displaced", Severity.ALARM, trouble))
        self._displaced = displaced

    def _note_fill(self, fill: Fill) -> None:
        self._fill = fill
        detail = "the broker has not taken the records in the journal. Bring it back."
        for level in (Fill.NEARLY_FULL, Fill.FULL):
            self._health.set(level.value, fill is level, detail)
        self._tell_readiness()

    def _tell_readiness(self) -> None:
        self._on_writable(self.trouble is None and self._fill is not Fill.FULL)

    def _note_quarantine(self, journal: Journal) -> None:
        text = (
            f"the journal was damaged ({journal.damage}) and is kept as {journal.quarantined}; "
            "records count from 1 in a new one. Look at the disk, and keep that file."
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

    def _note_lost(self, journal: Journal) -> None:
        runs = ", ".join(f"{kind} {a} to {b}" for kind, (a, b) in journal.lost.items())
        text = (
            f"the disk lost records that were written: {runs}. Their numbers are not used again. "
            "Look at the disk; consumers that have them keep them."
        )
        self._health.set("journal_lost_records", True, text)
        self.event(Event("journal_lost_records", Severity.ALARM, text, {"records": runs}))

    def _note_copy(self, journal: Journal) -> None:
        text = (
            f"this journal is a copy: {journal.copied}. What is recorded from now on belongs to "
            f"journal {journal.journal}; what was recorded before keeps {journal.former}. If the "
            "original runs elsewhere, give one of the two another mqtt.station."
        )
        data = {"why": journal.copied, "former": journal.former, "journal": journal.journal}
        self.event(Event("journal_copied", Severity.WARNING, text, data))


def _named(content: Mapping[str, Any]) -> str:
    """Name a part so that people find it: part, file or frame, with its result."""
    name = content["part_id"] or image_name(content) or f"frame {content['frame']['id']}"
    return f"part {name} ({content['result']}, id {content['id']})"


def _listed(what: str, parts: Sequence[str]) -> str:
    """Log every part, and return the first ones for a message."""
    for part in parts:
        log.error("%s: %s", what, part)
    more = f" and {len(parts) - MOST_NAMED} more, named in the log" * (len(parts) > MOST_NAMED)
    return ", ".join(parts[:MOST_NAMED]) + more


class PlainRecords:
    """Standard output alone: verdicts as JSON lines, without journal and numbers."""

    def __init__(self, output: VerdictOutput) -> None:
        self._output = output

    def record(self, verdict: Verdict, given_up: Callable[[], bool]) -> None:
        """Have a verdict written."""
        content = _plain(verdict)
        self._output.put(_named(content), to_json(content).encode(), given_up)

    def not_taken(self, verdict: Verdict) -> None:
        """Note a verdict that the end of the station left unwritten."""
        self._output.skip(_named(_plain(verdict)))

    def unaccounted(self, given_up: Callable[[], bool]) -> PartsNotRecorded | None:
        """Return which verdicts were not written, once the last one was handed over."""
        parts = self._output.finish(given_up)
        if not parts:
            return None
        return PartsNotRecorded(
            f"{len(parts)} parts have no record: {_listed('not written', parts)}. The reader of "
            "standard output took no more. Inspect these parts again; a station with a journal "
            "(journal.folder) keeps their verdicts."
        )

    def event(self, event: Event) -> None:
        """Log an event."""
        level = _LEVELS[event.severity]
        log.log(level, "%s: %s", event.kind, event.detail)


def _plain(verdict: Verdict) -> dict[str, Any]:
    assert verdict.identity is not None
    return payload(verdict, verdict.identity, session=None)
