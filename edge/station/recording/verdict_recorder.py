"""The recorders: sinks that give every verdict its record, and name those that have none."""

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from edge.contract.delivery import VerdictsUndelivered
from edge.contract.image_source import image_name
from edge.contract.verdict import Verdict, payload, to_json
from edge.errors import StationError
from edge.journal.entries import (
    Committed,
    Entry,
    JournalError,
    JournalRefuses,
    RecordKind,
    Refusal,
)
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.monitoring.kernel_clock import clock_sync
from edge.station.pipeline.sinks import Sink
from edge.station.recording.station_journal import StationJournal
from edge.station.recording.verdict_output import VerdictOutput
from edge.station.threads import Failures
from edge.wording import counted

log = logging.getLogger(__name__)

# Frames that wait for their hash and their payload.
QUEUE_BOUND, QUEUE_BYTES = 32, 512 * 2**20
# While the station stops, a journal or a reader that takes nothing is waited for so long.
STOP_LIMIT_S = 5.0
# How long a verdict waits before the journal is asked again to take it.
ROOM_POLL_S = 0.05
CLOCK_LOOK_S = 10.0
# Parts without a record that the last message names; the log has them all.
MAX_NAMED = 20


class PartsNotRecorded(JournalError):
    """The station ended, and verdicts are on no record."""


class VerdictObserver(Protocol):
    """Whoever hears of each verdict behind its record; nothing of it is waited for."""

    def on_verdict(self, verdict: Verdict) -> None: ...


class RecordObserver(Protocol):
    """Whoever acts on verdicts as soon as they are on record; returns at once."""

    def on_recorded(self, verdict: Verdict) -> None: ...
    def on_not_recorded(self, verdict: Verdict) -> None: ...


class VerdictRecorder(Sink):
    """The sink that gives verdicts their record, in order, and the station waits for.

    Observers are called in its thread.
    """

    def __init__(
        self,
        *,
        ending: Callable[[], bool],
        handshake: HandshakeCoordinator | None,
        can_wait: bool,
        keeps_all: bool,
        failures: Failures,
        outputs: RecordObserver | None,
    ) -> None:
        """Prepare a sink; what it records into is its subclass's.

        Args:
            ending: the station was told to end; until then a slow reader has all the time.
            handshake: whose results become valid with the record; None where every frame is a part.
            can_wait: the source of the images does not run away.
            keeps_all: no verdict is dropped, whatever the source.
            outputs: lines that switch for parts on record; called by whatever thread records.
        """
        super().__init__(
            name="verdicts",
            deliver=self._deliver_one,
            bound=QUEUE_BOUND,
            wait_for_room=can_wait,
            failures=failures,
            keeps_all=keeps_all,
            max_bytes=QUEUE_BYTES,
            undelivered=self._leave,
        )
        self._ending = ending
        self._handshake = handshake
        self._outputs = outputs
        self._observers: list[VerdictObserver] = []
        self._stopping_s: float | None = None  # monotonic, since the station ends

    def add_observer(self, observer: VerdictObserver) -> None:
        self._observers.append(observer)

    @abstractmethod
    def unaccounted(self) -> StationError | None:
        """Return the error of parts without a record, or not written; None without any.

        Called once the sink and the journal's thread have ended.
        """

    @abstractmethod
    def _record(self, verdict: Verdict) -> bool:
        """Give a verdict its record; False when it has none."""

    @abstractmethod
    def _remember_unrecorded(self, verdict: Verdict) -> None:
        """Keep a verdict that the end of the station left without a record, for its message."""

    def _deliver_one(self, verdict: Verdict) -> None:
        if not self._record(verdict):
            self._on_not_recorded(verdict)
        for observer in self._observers:
            observer.on_verdict(verdict)

    def _leave(self, verdict: Verdict) -> None:
        self._remember_unrecorded(verdict)
        self._on_not_recorded(verdict)

    def _on_committed(self, verdict: Verdict, seq: int) -> None:
        if self._outputs is not None:
            self._outputs.on_recorded(verdict)
        if self._handshake is not None:
            self._handshake.on_committed(verdict.id, seq)

    def _on_not_recorded(self, verdict: Verdict) -> None:
        if self._outputs is not None:
            self._outputs.on_not_recorded(verdict)
        if self._handshake is not None:
            self._handshake.on_not_recorded(verdict.id)

    def _stop_waiting(self) -> bool:
        """Tell whether a journal or a reader that takes nothing is waited for no longer."""
        if self._ending():  # from its first time on, however many verdicts still wait
            self._stopping_s = self._stopping_s or time.monotonic()
        stopping_s = self._stopping_s
        return stopping_s is not None and time.monotonic() - stopping_s > STOP_LIMIT_S


class JournalRecorder(VerdictRecorder):
    """Verdicts into the journal; without a broker to standard output as well.

    Nothing that was accepted is dropped: while the journal takes no more, the sink waits, and
    with it the station.
    """

    def __init__(
        self,
        *,
        journal: StationJournal,
        output: VerdictOutput | None,
        ending: Callable[[], bool],
        handshake: HandshakeCoordinator | None,
        can_wait: bool,
        failures: Failures,
        outputs: RecordObserver | None = None,
    ) -> None:
        """Prepare to record into a journal.

        Args:
            output: where committed verdicts are written; None where a broker gets them.
        """
        super().__init__(
            ending=ending,
            handshake=handshake,
            can_wait=can_wait,
            keeps_all=True,
            failures=failures,
            outputs=outputs,
        )
        self._journal = journal
        self._output = output
        self._refused: list[Entry] = []
        self._clock, self._clock_read_s = clock_sync(), time.monotonic()

    def unaccounted(self) -> StationError | None:
        writer, path = self._journal.writer, self._journal.path
        lost = [*self._refused, *writer.unrecorded()]
        parts = [_named(entry.content) for entry in lost if entry.kind is RecordKind.VERDICT]
        silent = self._output.finish(self._stop_waiting) if self._output is not None else []
        unwritten = [part for part in silent if part not in parts]
        undelivered = None
        if unwritten:
            undelivered = VerdictsUndelivered(
                f"{counted(len(unwritten), 'verdict was', 'verdicts were')} not written to "
                "standard output, because its "
                f"reader accepted no more: {_listed('not written', unwritten)}. Nothing is "
                f"lost: they are the newest ones recorded, up to number {writer.last_seq}. "
                f"Read them with edge-run --journal {path.parent}."
            )
        if not parts:
            return undelivered
        if undelivered is not None:
            log.error("%s", undelivered)
        refused_text = "The journal accepted no more. Restore the broker, or see the log."
        return PartsNotRecorded(
            f"{counted(len(parts), 'part has', 'parts have')} no record: "
            f"{_listed('not recorded', parts)}. The newest "
            f"verdict on record is number {writer.last_seq}. Inspect these parts again. "
            f"{self._journal.trouble or refused_text}"
        )

    def _record(self, verdict: Verdict) -> bool:
        content = self._content(verdict)
        result = verdict.inspection.decision.result.value
        entry = Entry(RecordKind.VERDICT, content, result, verdict.part_id)
        written: SimpleQueue[Committed] = SimpleQueue()

        def on_committed(committed: Committed) -> None:
            if self._output is None:
                self._on_committed(verdict, committed.seq)
            else:
                written.put(committed)

        while True:
            try:
                self._journal.writer.submit(entry, on_committed)
                break
            except JournalRefuses as refused:
                if refused.refusal is Refusal.CLOSED or self._stop_waiting():
                    log.error("verdict %s has no record: %s", verdict.id, refused)
                    self._refused.append(entry)
                    return False
            time.sleep(ROOM_POLL_S)
        if self._output is None:
            return True
        return self._write(self._output, verdict, content, committed=written)

    def _remember_unrecorded(self, verdict: Verdict) -> None:
        self._refused.append(Entry(RecordKind.VERDICT, self._content(verdict)))

    def _content(self, verdict: Verdict) -> dict[str, Any]:
        assert verdict.identity is not None
        now_s = time.monotonic()
        if now_s - self._clock_read_s > CLOCK_LOOK_S:
            self._clock, self._clock_read_s = clock_sync(), now_s
        return payload(verdict, verdict.identity, None, self._clock)

    def _write(
        self,
        output: VerdictOutput,
        verdict: Verdict,
        content: Mapping[str, Any],
        *,
        committed: "SimpleQueue[Committed]",
    ) -> bool:
        """Have a verdict written to standard output once it is durable; its reader may be slow."""
        while True:
            try:
                record = committed.get(timeout=ROOM_POLL_S)
            except Empty:
                if self._stop_waiting():
                    output.skip(_named(content))
                    return False
                continue
            self._on_committed(verdict, record.seq)
            output.put(_named(content), record.payload, self._stop_waiting)
            return True


class StdoutRecorder(VerdictRecorder):
    """Standard output alone: verdicts as JSON lines, without journal and numbers."""

    def __init__(
        self,
        *,
        output: VerdictOutput,
        ending: Callable[[], bool],
        handshake: HandshakeCoordinator | None,
        can_wait: bool,
        failures: Failures,
        outputs: RecordObserver | None = None,
    ) -> None:
        super().__init__(
            ending=ending,
            handshake=handshake,
            can_wait=can_wait,
            keeps_all=False,
            failures=failures,
            outputs=outputs,
        )
        self._output = output

    def unaccounted(self) -> StationError | None:
        parts = self._output.finish(self._stop_waiting)
        if not parts:
            return None
        return PartsNotRecorded(
            f"{counted(len(parts), 'part has', 'parts have')} no record: "
            f"{_listed('not written', parts)}. The "
            "reader of standard output accepted no more. Inspect these parts again; a "
            "station with a journal (journal.folder) keeps their verdicts."
        )

    def _record(self, verdict: Verdict) -> bool:
        content = _plain(verdict)
        self._output.put(_named(content), to_json(content).encode(), self._stop_waiting)
        self._on_committed(verdict, 0)
        return True

    def _remember_unrecorded(self, verdict: Verdict) -> None:
        self._output.skip(_named(_plain(verdict)))


def _plain(verdict: Verdict) -> dict[str, Any]:
    assert verdict.identity is not None
    return payload(verdict, verdict.identity, session=None)


def _named(content: Mapping[str, Any]) -> str:
    """Name a part so that people find it: part, file or frame, with its result."""
    name = content["part_id"] or image_name(content) or f"frame {content['frame']['id']}"
    return f"part {name} ({content['result']}, id {content['id']})"


def _listed(what: str, parts: Sequence[str]) -> str:
    """Log every part, and return the first ones for a message."""
    for part in parts:
        log.error("%s: %s", what, part)
    more = f" and {len(parts) - MAX_NAMED} more, named in the log" * (len(parts) > MAX_NAMED)
    return ", ".join(parts[:MAX_NAMED]) + more
