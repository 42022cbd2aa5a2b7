"""How much the journal may hold, and what gives way when it is full."""

from dataclasses import dataclass
from enum import StrEnum

from edge.contract.event import Event, Severity, event_payload
from edge.journal.entries import Entry, RecordKind
from edge.journal.ledger import Dropped, JournalTotals, Ledger
from edge.wording import counted

NEARLY_FULL = 0.8
# Once said, a level is taken back only this far below it; else it would flicker at the edge.
HYSTERESIS = 0.05
# One event names so many runs of dropped numbers: 200 characters hold them.
RANGES_PER_EVENT = 8
# Rows removed or given back at a time, so that no commit takes long.
REMOVED_AT_ONCE = 512
# A payload of one row takes so much of the file, with indices, at worst half a page lost.
FILE_SHARE = 2.0
# Free pages beyond this share of the file, and beyond 4 MiB, are given back to the disk.
FREE_SHARE = 0.25
FREE_PAGES = 1024
_DAY_NS = 86_400_000_000_000


class Overflow(StrEnum):
    """What a full journal does: take nothing more, or give up OK verdicts that were not sent."""

    STOP = "stop"
    DROP_OLDEST_OK = "drop_oldest_ok"


class Fill(StrEnum):
    """How full the journal is; at ``FULL`` it refuses entries."""

    ROOM = "room"
    NEARLY_FULL = "journal_nearly_full"
    FULL = "journal_full"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much the journal may hold.

    Attributes:
        max_rows: never exceeded.
        max_bytes: of the pages in use; exceeded at most by what was accepted already.
        retention_days: settled rows are kept at least so long, counted while the station runs, so
            that no step of the wall clock removes any; sooner removed only when room is needed.
        overflow: when all that is left has not reached the broker.
    """

    max_rows: int = 1_000_000
    max_bytes: int = 2 * 2**30
    retention_days: float = 7.0
    overflow: Overflow = Overflow.STOP

    @property
    def reserved_rows(self) -> int:
        """Rows kept free for the events that tell what was dropped."""
        if self.overflow is Overflow.STOP:
            return 0
        return 1 + self.rows_at_once // RANGES_PER_EVENT

    @property
    def rows_at_once(self) -> int:
        """Bound of a group commit, so that dropping for it stays possible in a small journal."""
        return max(self.max_rows // 10, 1)

    @property
    def retention_ns(self) -> int:
        return int(self.retention_days * _DAY_NS)


@dataclass(frozen=True, slots=True)
class Usage:
    """What is in the journal that cannot give way, and what waits for the broker.

    Attributes:
        fixed_rows, fixed_bytes: neither retention nor the overflow policy may remove them.
        waiting_rows, waiting_bytes: not acknowledged, OK verdicts that may be dropped included.
    """

    fixed_rows: int
    fixed_bytes: float
    waiting_rows: int
    waiting_bytes: float


def usage(totals: JournalTotals, used_bytes: int, bounds: Bounds) -> Usage:
    """Return how much of the journal is taken; bytes are shared out by payload."""
    droppable = bounds.overflow is Overflow.DROP_OLDEST_OK
    fixed_rows = totals.waiting_rows - (totals.waiting_ok_rows if droppable else 0)
    fixed = totals.waiting_bytes - (totals.waiting_ok_bytes if droppable else 0)
    per_byte = used_bytes / max(totals.bytes, 1) if totals.bytes else 0.0
    return Usage(fixed_rows, fixed * per_byte, totals.waiting_rows, totals.waiting_bytes * per_byte)


def fits(used: Usage, queued_rows: int, queued_bytes: int, bounds: Bounds) -> bool:
    """Tell whether one more entry can be recorded behind those that are queued already."""
    rows = used.fixed_rows + queued_rows + bounds.reserved_rows
    size = used.fixed_bytes + queued_bytes * FILE_SHARE
    return rows < bounds.max_rows and size < bounds.max_bytes


def level(used: Usage, before: Fill, bounds: Bounds) -> Fill:
    """Return how full the journal is, given what was said last."""
    capacity = bounds.max_rows - bounds.reserved_rows
    fixed = max(used.fixed_rows / capacity, used.fixed_bytes / bounds.max_bytes)
    waiting = max(used.waiting_rows / capacity, used.waiting_bytes / bounds.max_bytes)
    if fixed >= 1.0 - (HYSTERESIS if before is Fill.FULL else 0.0):
        return Fill.FULL
    if waiting >= NEARLY_FULL - (0.0 if before is Fill.ROOM else HYSTERESIS):
        return Fill.NEARLY_FULL
    return Fill.ROOM


def make_room(ledger: Ledger, rows: int, size: int, bounds: Bounds) -> list[Dropped]:
    """Remove what may give way until so many rows fit; return what was dropped unsent.

    Settled rows go first, oldest first; then, where the policy says so, OK verdicts that wait.
    """
    dropped: list[Dropped] = []

    def missing() -> int:
        """How many rows must go; bytes count as one, as they are asked again after each step."""
        events = len(dropped) + (bounds.overflow is Overflow.DROP_OLDEST_OK)
        over = ledger.totals.rows + rows + events - bounds.max_rows
        too_large = ledger.used_bytes() + size * FILE_SHARE > bounds.max_bytes
        return max(over, int(too_large))

    while (need := missing()) > 0:
        if ledger.remove_settled(min(need + bounds.rows_at_once, REMOVED_AT_ONCE)):
            continue
        if bounds.overflow is Overflow.STOP:
            break
        # Some more than needed: each drop costs a row that tells of it.
        max_count = need + min(bounds.max_rows // 50, REMOVED_AT_ONCE)
        step = ledger.drop_oldest_ok(max_count, RANGES_PER_EVENT)
        if not step.count:
            break
        dropped.append(step)
    return dropped


def remove_expired(ledger: Ledger, station_ns: int, bounds: Bounds) -> bool:
    """Remove some of the settled rows whose time is over; tell whether there may be more."""
    limit = station_ns - bounds.retention_ns
    oldest = ledger.oldest_station_ns()
    if oldest is None or oldest > limit:
        return False
    return ledger.remove_settled(REMOVED_AT_ONCE, limit) == REMOVED_AT_ONCE


def pages_to_give_back(ledger: Ledger, page_bytes: int = 4096) -> int:
    """Return by how many pages the file should shrink now."""
    free = ledger.free_pages()
    used = ledger.used_bytes() // page_bytes
    surplus = free - max(FREE_PAGES, int((used + free) * FREE_SHARE))
    return max(0, min(surplus, REMOVED_AT_ONCE))


def dropped_event(dropped: Dropped, utc_ns: int) -> Entry:
    """Return the record that stands for the verdicts that are gone."""
    ranges = " ".join(f"{first}-{last}" for first, last in dropped.ranges)
    event = Event(
        kind="verdicts_dropped",
        severity=Severity.ALARM,
        detail="the journal was full and "
        f"{counted(dropped.count, 'OK verdict was', 'OK verdicts were')} deleted unsent. "
        "Restore the broker, or raise journal.max_rows and journal.max_bytes.",
        data={
            "first_seq": dropped.ranges[0][0],
            "last_seq": dropped.ranges[-1][1],
            "count": dropped.count,
            "ranges": ranges,
        },
    )
    return Entry(RecordKind.EVENT, event_payload(event, utc_ns))
