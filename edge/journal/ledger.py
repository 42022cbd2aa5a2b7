"""What changes the journal: appending, settling, removing; each inside the caller's transaction."""

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple, dataclass, fields

from edge.journal.chain import link
from edge.journal.entries import Committed, Entry, RecordKind, payload

_KEPT_ONLY = 2
_WAITING = "acknowledged = 0 AND dead IS NULL"


@dataclass(slots=True, kw_only=True)
class JournalTotals:
    """The journal's own books; columns of the table of that name, in its order.

    Attributes:
        position, chain: of the newest row that was ever written.
        verdict_seq, event_seq: the highest numbers given.
        rows, bytes: all that is there, and its payloads.
        waiting_rows, waiting_bytes: of them, neither acknowledged nor dead.
        waiting_ok_rows, waiting_ok_bytes: of these, the OK verdicts.
        station_ns: how long the station has run since the journal began; the clock of retention.
    """

    position: int
    verdict_seq: int
    event_seq: int
    chain: bytes
    rows: int
    bytes: int
    waiting_rows: int
    waiting_bytes: int
    waiting_ok_rows: int
    waiting_ok_bytes: int
    station_ns: int

    def seq(self, kind: RecordKind) -> int:
        return self.verdict_seq if kind is RecordKind.VERDICT else self.event_seq


_NAMES = [field.name for field in fields(JournalTotals)]
_TOTALS = ", ".join(_NAMES)
_SET_TOTALS = ", ".join(f"{field.name} = ?" for field in fields(JournalTotals))


@dataclass(frozen=True, slots=True)
class Dropped:
    """OK verdicts that were deleted unsent, because the journal was full.

    Attributes:
        ranges: first and last ``seq`` of each run, ascending.
        count: how many verdicts.
    """

    ranges: tuple[tuple[int, int], ...]
    count: int


def read_totals(connection: sqlite3.Connection) -> JournalTotals:
    """Return the books as they are committed, or as this transaction left them."""
    row = connection.execute(f"SELECT {_TOTALS} FROM tally").fetchone()
    return JournalTotals(**dict(zip(_NAMES, row, strict=True)))


class Ledger:
    """The journal's tables under the writer's connection.

    Use it between ``begin`` and ``commit``. When anything between them raises, nothing of it
    counts, and the next ``begin`` takes up where the file stands.

    Attributes:
        tally: the books, with what this transaction has changed.
    """

    def __init__(self, connection: sqlite3.Connection, journal: str) -> None:
        self._connection = connection
        self._journal = journal
        self.totals = read_totals(connection)
        # All OK verdicts before it are settled or removed, so that a long backlog of others is
        # not searched again at every drop.
        self._droppable_from = self._removable_from = 0
        self._unfinished = False

    def begin(self, station_ns: int) -> None:
        """Begin a transaction at this running time of the station."""
        if self._unfinished:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self.totals = read_totals(self._connection)
            self._droppable_from = 0
        self._unfinished = True
        self._connection.execute("BEGIN IMMEDIATE")
        self.totals.station_ns = station_ns

    def commit(self) -> None:
        """Write the books and make everything since ``begin`` durable."""
        self._connection.execute(f"UPDATE tally SET {_SET_TOTALS}", astuple(self.totals))
        self._connection.execute("COMMIT")
        self._unfinished = False

    def append(self, entry: Entry, body: bytes, utc_ns: int, kept_only: bool) -> Committed:
        """Write an entry behind all others; it counts once ``commit`` has returned.

        Args:
            body: the entry as ``records.body`` serialised it.
            utc_ns: wall-clock time to be written down.
            kept_only: no broker is to have it.
        """
        totals = self.totals
        seq = totals.seq(entry.kind) + 1
        position = totals.position + 1
        content = payload(body, seq, self._journal)
        chain = link(totals.chain, content)
        self._connection.execute(
            "INSERT INTO record (position, kind, seq, result, part_id, acknowledged,"
            " created_utc_ns, station_ns, chain, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                position,
                entry.kind.value,
                seq,
                entry.result,
                entry.part_id,
                _KEPT_ONLY if kept_only else 0,
                utc_ns,
                totals.station_ns,
                chain,
                content,
            ),
        )
        totals.position, totals.chain = position, chain
        if entry.kind is RecordKind.VERDICT:
            totals.verdict_seq = seq
        else:
            totals.event_seq = seq
        totals.rows += 1
        totals.bytes += len(content)
        if not kept_only:
            self._count_waiting(1, len(content), entry.result)
        return Committed(position=position, seq=seq, kind=entry.kind, payload=content, entry=entry)

    def acknowledge(self, positions: Iterable[int]) -> None:
        """Note that the broker has these rows; unknown and settled ones are passed over."""
        for position in positions:
            self._settle(position, "acknowledged = 1", ())

    def mark_dead_letter(self, position: int, reason: str) -> None:
        """Note that a row is not tried to be sent any more."""
        self._settle(position, "dead = ?", (reason,))

    def remove_settled(self, max_count: int, up_to_station_ns: int | None = None) -> int:
        """Remove the oldest settled rows; return how many.

        Those before the first that waits go first. A row that waits for long, as one that the
        broker refuses, does not keep those behind it.

        Args:
            max_count: at most so many.
            up_to_station_ns: only rows that were written no later than this.
        """
        removed = self._remove_before_waiting(max_count, up_to_station_ns)
        if removed:
            self._removable_from = 0
            return removed
        if self.totals.rows <= self.totals.waiting_rows:
            return 0
        return self._remove_behind_waiting(max_count, up_to_station_ns)

    def _remove_behind_waiting(self, max_count: int, up_to_station_ns: int | None) -> int:
        rows: list[tuple[int, int, bytes]] = []
        for position, station_ns, size, chain in self._connection.execute(
            "SELECT position, station_ns, length(payload), chain FROM record"
            f" WHERE NOT ({_WAITING}) AND position >= ? ORDER BY position LIMIT ?",
            (self._removable_from, max_count),
        ).fetchall():
            if up_to_station_ns is not None and station_ns > up_to_station_ns:
                break
            rows.append((position, size, chain))
        for position, size, chain in rows:
            self._remove_one(position, size, chain)
            self._removable_from = position + 1
        return len(rows)

    def _remove_one(self, position: int, size: int, chain: bytes) -> None:
        """Remove a row from amid others; the chain goes on from what is kept of it."""
        self._connection.execute("DELETE FROM record WHERE position = ?", (position,))
        # Only the last row of a removed run is needed to go on from.
        self._connection.execute("DELETE FROM bridge WHERE position = ?", (position - 1,))
        self._connection.execute("INSERT INTO bridge VALUES (?, ?)", (position, chain))
        self.totals.rows -= 1
        self.totals.bytes -= size

    def _remove_before_waiting(self, max_count: int, up_to_station_ns: int | None) -> int:
        (waiting,) = self._connection.execute(
            f"SELECT min(position) FROM record INDEXED BY record_waiting WHERE {_WAITING}"
        ).fetchone()
        before = self.totals.position + 1 if waiting is None else waiting
        oldest = self._connection.execute(
            "SELECT position, station_ns, length(payload), chain FROM record"
            " WHERE position < ? ORDER BY position LIMIT ?",
            (before, max_count),
        ).fetchall()
        if up_to_station_ns is not None:
            oldest = [row for row in oldest if row[1] <= up_to_station_ns]
        if not oldest:
            return 0
        last, _, _, chain = oldest[-1]
        self._connection.execute("DELETE FROM record WHERE position <= ?", (last,))
        self._connection.execute("DELETE FROM bridge WHERE position <= ?", (last,))
        self._connection.execute("INSERT INTO bridge VALUES (?, ?)", (last, chain))
        self.totals.rows -= len(oldest)
        self.totals.bytes -= sum(row[2] for row in oldest)
        return len(oldest)

    def drop_oldest_ok(self, max_count: int, max_ranges: int) -> Dropped:
        """Remove the oldest OK verdicts that wait; every other row stays.

        Args:
            max_count: at most so many.
            max_ranges: and at most so many runs of consecutive ``seq``.
        """
        ranges: list[tuple[int, int]] = []
        rows: list[tuple[int, int, bytes]] = []
        for position, seq, size, chain in self._connection.execute(
            "SELECT position, seq, length(payload), chain FROM record INDEXED BY record_waiting"
            f" WHERE {_WAITING} AND result = 'OK' AND position >= ? ORDER BY position LIMIT ?",
            (self._droppable_from, max_count),
        ).fetchall():
            if ranges and ranges[-1][1] == seq - 1:
                ranges[-1] = (ranges[-1][0], seq)
            elif len(ranges) < max_ranges:
                ranges.append((seq, seq))
            else:
                break
            rows.append((position, size, chain))
        for position, size, chain in rows:
            self._remove_one(position, size, chain)
            self._droppable_from = position + 1
            self._count_waiting(-1, -size, "OK")
        return Dropped(tuple(ranges), len(rows))

    def oldest_station_ns(self) -> int | None:
        """Return when the oldest row was written, in running time of the station."""
        row = self._connection.execute(
            "SELECT station_ns FROM record ORDER BY position LIMIT 1"
        ).fetchone()
        return None if row is None else row[0]

    def used_bytes(self) -> int:
        """Return the size of the pages in use; free ones are used again before the file grows."""
        return (self._pragma("page_count") - self.free_pages()) * self._pragma("page_size")

    def free_pages(self) -> int:
        return self._pragma("freelist_count")

    def shorten(self, pages: int) -> None:
        """Shorten the file by so many of its free pages; only between transactions."""
        with suppress(sqlite3.OperationalError):  # a failing disk; the next commit tells of it
            # As a script: `execute` would free a single page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({pages})")
            # The file itself grows shorter only when the log is brought into it.
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _settle(self, position: int, change: str, values: tuple[str, ...]) -> None:
        for size, result in self._connection.execute(
            f"UPDATE record SET {change} WHERE position = ? AND {_WAITING}"
            " RETURNING length(payload), result",
            (*values, position),
        ).fetchall():
            self._count_waiting(-1, -size, result)

    def _count_waiting(self, rows: int, size: int, result: str | None) -> None:
        self.totals.waiting_rows += rows
        self.totals.waiting_bytes += size
        if result == "OK":
            self.totals.waiting_ok_rows += rows
            self.totals.waiting_ok_bytes += size

    def _pragma(self, name: str) -> int:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]
