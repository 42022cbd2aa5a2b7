"""Looking into the journal, also while the station runs."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge.contract.image_source import encoded_name
from edge.journal import database
from edge.journal.entries import JournalRow, RecordKind
from edge.journal.outbox import COLUMNS, as_row

ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which rows are wanted; None asks for no limit on that side. Both ends are included.

    Attributes:
        kind, result: exactly these.
        part_id: of the part, or the name of the file that its image came from.
        from_seq, to_seq: numbers, of each kind.
        from_utc_ns, to_utc_ns: wall-clock time of the commit, in nanoseconds since 1970.
        waiting: only what the broker does not have yet.
    """

    kind: RecordKind | None = None
    result: str | None = None
    part_id: str | None = None
    from_seq: int | None = None
    to_seq: int | None = None
    from_utc_ns: int | None = None
    to_utc_ns: int | None = None
    waiting: bool = False

    def condition(self) -> tuple[str, list[str | int | bytes]]:
        """Return an SQL condition and its values."""
        limits: list[tuple[str, str | int | None]] = [
            ("kind = ?", self.kind),
            ("result = ?", self.result),
            ("seq >= ?", self.from_seq),
            ("seq <= ?", self.to_seq),
            ("created_utc_ns >= ?", self.from_utc_ns),
            ("created_utc_ns <= ?", self.to_utc_ns),
        ]
        asked = [(text, value) for text, value in limits if value is not None]
        texts = [text for text, _ in asked]
        values: list[str | int | bytes] = [value for _, value in asked]
        if self.part_id is not None:
            texts.append("(part_id = ? OR instr(payload, ?))")
            values += [self.part_id, encoded_name(self.part_id) + b'"']
        if self.waiting:
            texts.append("acknowledged = 0 AND dead IS NULL")
        return " AND ".join(texts) or "1", values


def query(path: Path, wanted: Query = Query()) -> Iterator[JournalRow]:
    """Yield rows in the order they were written, in bounded memory.

    No transaction stays open between rows, so a slow reader does not hold up the writer's log.

    Raises:
        JournalUnavailable: there is no journal, or it cannot be read.
        JournalUnsuitable: another program's database, or a newer version's.
    """
    condition, values = wanted.condition()
    statement = (
        f"SELECT {COLUMNS} FROM record WHERE {condition} AND position > ? ORDER BY position LIMIT ?"
    )
    position = 0
    with closing(database.connect_reading(path)) as connection:
        while True:
            try:
                found = connection.execute(statement, (*values, position, ROWS_AT_ONCE)).fetchall()
            except sqlite3.Error as error:
                raise database.unreadable(path, error) from error
            for one in found:
                yield as_row(one)
            if len(found) < ROWS_AT_ONCE:
                return
            position = found[-1][0]


def newest(path: Path, wanted: Query, max_count: int) -> list[JournalRow]:
    """Return the newest rows, in the order they were written; the others are not read.

    Raises:
        JournalUnavailable, JournalUnsuitable: as ``query``.
    """
    condition, values = wanted.condition()
    statement = f"SELECT {COLUMNS} FROM record WHERE {condition} ORDER BY position DESC LIMIT ?"
    with closing(database.connect_reading(path)) as connection:
        try:
            found = connection.execute(statement, (*values, max_count)).fetchall()
        except sqlite3.Error as error:
            raise database.unreadable(path, error) from error
    return [as_row(one) for one in reversed(found)]


def newest_first(path: Path, kind: RecordKind) -> Iterator[JournalRow]:
    """Yield the rows of a kind from the newest one back; others are not read.

    Raises:
        JournalUnavailable, JournalUnsuitable: as ``query``.
    """
    statement = (
        f"SELECT {COLUMNS} FROM record INDEXED BY record_by_seq"
        " WHERE kind = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
    )
    seq = 2**63 - 1
    with closing(database.connect_reading(path)) as connection:
        while True:
            try:
                values = (kind.value, seq, ROWS_AT_ONCE)
                found = connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise database.unreadable(path, error) from error
            for one in map(as_row, found):
                yield one
                seq = one.seq
            if len(found) < ROWS_AT_ONCE:
                return
