"""What waits for the writer: bounded, and refused rather than forgotten."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from edge.journal.bounds import Bounds, Fill, Usage, fits
from edge.journal.entries import Committed, Entry, JournalRefuses, Refusal

# Acknowledgements wait for company; each commit costs, and a lost one costs a duplicate only.
SETTLE_INTERVAL_S = 0.2
SETTLED_AT_ONCE = 256
SETTLEMENTS_BOUND = 10_000

_NEXT_STEP = {
    Refusal.QUEUE_FULL: "the disk is too slow, and entries are waiting for it. Check the disk.",
    Refusal.JOURNAL_FULL: "it is full (journal.max_rows, journal.max_bytes). Restore the "
    "broker, or "
    "raise the limits.",
    Refusal.CLOSED: "the station is stopping.",
}


@dataclass(frozen=True, slots=True)
class Queued:
    """An accepted entry, serialised, and whom to tell."""

    entry: Entry
    body: bytes
    on_committed: Callable[[Committed], None] | None


@dataclass(slots=True)
class Group:
    """What one commit makes durable; kept and tried again when the disk refuses."""

    entries: list[Queued] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    dead_letters: dict[int, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.entries or self.acknowledged or self.dead_letters)


class WriteQueue:
    """Between the threads that submit and the one that writes.

    Its lock is never held around the disk or a callback.
    """

    def __init__(self, bounds: Bounds, queue_bound: int, used: Usage, fill: Fill) -> None:
        self._bounds = bounds
        self._queue_bound = queue_bound
        self._used = used
        self._fill = fill
        self._changed = threading.Condition()
        self._queue: deque[Queued] = deque()
        self._acknowledged: set[int] = set()
        self._dead_letters: dict[int, str] = {}
        # Accepted and not yet committed: the queue and the group that is being written.
        self._open_rows = self._open_bytes = 0
        self._writing = False
        self._flushing = 0
        self._ended = False
        self.closed = False

    @property
    def refusal(self) -> Refusal | None:
        """Why an entry would be refused now; None when it would be accepted."""
        with self._changed:
            return self._refusal()

    @property
    def waiting(self) -> int:
        """Entries that were accepted and are not committed yet."""
        return self._open_rows

    def put(self, queued: Queued) -> None:
        """Take an entry.

        Raises:
            JournalRefuses: it was not accepted.
        """
        with self._changed:
            refusal = self._refusal()
            if refusal is not None:
                raise JournalRefuses(
                    refusal,
                    f"the journal cannot accept a {queued.entry.kind.value} now: "
                    f"{_NEXT_STEP[refusal]}",
                )
            self._queue.append(queued)
            self._open_rows += 1
            self._open_bytes += len(queued.body)
            self._changed.notify_all()

    def acknowledge(self, positions: Iterable[int]) -> bool:
        """Take acknowledgements; False when too many wait already, and none of these was taken."""
        with self._changed:
            if not self._has_settlement_room():
                return False
            self._acknowledged.update(positions)
            self._changed.notify_all()
            return True

    def mark_dead_letter(self, position: int, reason: str) -> bool:
        """Take a dead letter; False as of ``acknowledge``."""
        with self._changed:
            if not self._has_settlement_room():
                return False
            self._dead_letters[position] = reason
            self._changed.notify_all()
            return True

    def next_group(self, max_count: int) -> Group:
        """Return what there is to write, after a short wait when there is nothing urgent."""
        with self._changed:
            self._changed.wait_for(self._urgent, SETTLE_INTERVAL_S)
            group = Group([], sorted(self._acknowledged), dict(self._dead_letters))
            self._acknowledged.clear()
            self._dead_letters.clear()
            self._collect_entries(group, max_count)
            self._writing = bool(group)
            return group

    def more(self, group: Group, max_count: int) -> bool:
        """Add entries that came meanwhile to the group; tell whether there were any."""
        with self._changed:
            return self._collect_entries(group, max_count)

    def done(self, group: Group, used: Usage, fill: Fill) -> None:
        """Note that a group is committed, and what the journal holds now."""
        with self._changed:
            self._open_rows -= len(group.entries)
            self._open_bytes -= sum(len(queued.body) for queued in group.entries)
            self._used, self._fill = used, fill

    def mark_announced(self) -> None:
        """Note that everybody who waited for the last group has been called."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is left to write; tell whether that came."""
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._ended or self._empty(), timeout_s)
                return self._empty()
            finally:
                self._flushing -= 1

    def close(self) -> None:
        """Take nothing more; what was accepted is still to be written."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def end(self) -> None:
        """Note that nobody writes any more."""
        with self._changed:
            self.closed = self._ended = True
            self._changed.notify_all()

    def left(self) -> list[Queued]:
        """Return what was accepted and never given out."""
        with self._changed:
            return list(self._queue)

    def finished(self) -> bool:
        """Tell whether it is closed and everything is written."""
        with self._changed:
            return self.closed and self._empty()

    def pause(self, delay_s: float) -> None:
        """Wait before trying again; not longer than needed once closed."""
        deadline = time.monotonic() + delay_s
        with self._changed:
            while not self.closed and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
        time.sleep(max(0.0, min(deadline - time.monotonic(), 0.05)))

    def _refusal(self) -> Refusal | None:
        if self.closed:
            return Refusal.CLOSED
        full = self._fill is Fill.FULL
        if full or not fits(self._used, self._open_rows, self._open_bytes, self._bounds):
            return Refusal.JOURNAL_FULL
        return Refusal.QUEUE_FULL if self._open_rows >= self._queue_bound else None

    def _has_settlement_room(self) -> bool:
        waiting = len(self._acknowledged) + len(self._dead_letters)
        return not self._ended and waiting < SETTLEMENTS_BOUND

    def _urgent(self) -> bool:
        many = len(self._acknowledged) + len(self._dead_letters) >= SETTLED_AT_ONCE
        return bool(self._queue) or many or self._flushing > 0 or self.closed

    def _empty(self) -> bool:
        return not (self._queue or self._acknowledged or self._dead_letters or self._writing)

    def _collect_entries(self, group: Group, max_count: int) -> bool:
        count = min(len(self._queue), max_count - len(group.entries))
        group.entries += [self._queue.popleft() for _ in range(count)]
        return count > 0
