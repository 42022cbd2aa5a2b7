"""The reading side of the journal for the relay: what the broker does not have yet."""

import sqlite3
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from edge.contract.state import ChainHead
from edge.journal import database
from edge.journal.entries import (
    Backlog,
    JournalDamaged,
    JournalRow,
    JournalUnavailable,
    JournalUnsuitable,
    RecordKind,
)
from edge.journal.identity import read_formers
from edge.journal.ledger import read_totals
from edge.journal.open_files import file_identity
from edge.journal.sqlite_errors import is_damage

COLUMNS = "position, kind, seq, result, part_id, payload, created_utc_ns, acknowledged, dead"


class Outbox:
    """A read-only connection of its own; one thread uses it, beside the writer's.

    Every call reads at most what was asked for and leaves no transaction open, so that the
    writer's log stays short. Where the writer had to write a removed journal anew, it is opened
    again.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal for reading.

        Args:
            path: of the database, ``Journal.path``.

        Raises:
            JournalUnavailable: there is no journal, or it cannot be read.
        """
        self._path = path
        self._connection = database.connect_reading(path)
        self._file = file_identity(path)
        self._foreign: tuple[int, int] | None = None

    def pending(self, kind: RecordKind, after_position: int, max_count: int) -> list[JournalRow]:
        """Return the first rows of a kind behind a position that the broker does not have yet.

        They are neither acknowledged nor dead, and come in order.

        Raises:
            JournalUnavailable: the disk refused; later it may not.
            JournalDamaged: the file is no longer sound.
        """
        return self._rows(
            f"SELECT {COLUMNS} FROM record INDEXED BY record_waiting"
            " WHERE acknowledged = 0 AND dead IS NULL AND kind = ? AND position > ?"
            " ORDER BY position LIMIT ?",
            (kind.value, after_position, max_count),
        )

    def newest_position(self) -> int:
        """Return the position of the newest row; 0 without any.

        Raises:
            JournalUnavailable, JournalDamaged: as ``pending``.
        """
        self._follow()
        try:
            (newest,) = self._connection.execute("SELECT max(position) FROM record").fetchone()
        except sqlite3.Error as error:
            raise _fault(self._path, error) from error
        return newest or 0

    def rows(
        self, kind: RecordKind, from_seq: int, to_seq: int, max_count: int
    ) -> list[JournalRow]:
        """Return rows of a kind by number, both ends included, for sending them again.

        Rows that retention or the overflow policy removed are not there.

        Raises:
            JournalUnavailable, JournalDamaged: as ``pending``.
        """
        return self._rows(
            f"SELECT {COLUMNS} FROM record INDEXED BY record_by_seq"
            " WHERE kind = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
            (kind.value, from_seq, to_seq, max_count),
        )

    def backlog(self) -> Backlog:
        """Return how much waits; the cost does not grow with it.

        Raises:
            JournalUnavailable, JournalDamaged: as ``pending``.
        """
        self._follow()
        try:
            self._connection.execute("BEGIN")  # both statements see the same moment
            try:
                totals = read_totals(self._connection)
                former = next(reversed(read_formers(self._connection)), None)
                oldest = self._connection.execute(
                    "SELECT created_utc_ns FROM record INDEXED BY record_waiting"
                    " WHERE acknowledged = 0 AND dead IS NULL ORDER BY position LIMIT 1"
                ).fetchone()
            finally:
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise _fault(self._path, error) from error
        return Backlog(
            count=totals.waiting_rows,
            bytes=totals.waiting_bytes,
            oldest_utc_ns=None if oldest is None else oldest[0],
            last_seq={kind: totals.seq(kind) for kind in RecordKind},
            first_seq=former.verdict_seq + 1 if former else 1,
            follows=former.journal if former else None,
            head=ChainHead(totals.position, totals.verdict_seq, totals.chain.hex()),
        )

    def close(self) -> None:
        self._connection.close()

    def _follow(self) -> None:
        """Go over to the file at the place, if it is this journal and has come as far."""
        now = file_identity(self._path)
        if now in (None, self._file, self._foreign):
            return
        with suppress(JournalUnavailable, JournalUnsuitable, sqlite3.Error), ExitStack() as opened:
            fresh = opened.enter_context(closing(database.connect_reading(self._path)))
            if not _goes_on(self._connection, fresh):
                self._foreign = now
                return
            opened.pop_all()
            self._connection.close()
            self._connection, self._file = fresh, now

    def _rows(self, statement: str, values: tuple[int | str, ...]) -> list[JournalRow]:
        self._follow()
        try:
            return [as_row(found) for found in self._connection.execute(statement, values)]
        except sqlite3.Error as error:
            raise _fault(self._path, error) from error


def _goes_on(before: sqlite3.Connection, now: sqlite3.Connection) -> bool:
    one, other = (each.execute("SELECT journal FROM meta").fetchone() for each in (before, now))
    return one == other and read_totals(now).position >= read_totals(before).position


def as_row(found: tuple[Any, ...]) -> JournalRow:
    """Make a row of the values of ``COLUMNS``."""
    position, kind, seq, result, part_id, payload, created_utc_ns, acknowledged, dead = found
    return JournalRow(
        position=position,
        kind=RecordKind(kind),
        seq=seq,
        result=result,
        part_id=part_id,
        payload=payload,
        created_utc_ns=created_utc_ns,
        acknowledged=bool(acknowledged),
        dead=dead,
        kept_only=acknowledged > 1,
    )


def _fault(path: Path, error: sqlite3.Error) -> JournalUnavailable | JournalDamaged:
    if not is_damage(error):
        return database.unreadable(path, error)
    return JournalDamaged(
        f"{path}: the journal is damaged ({error}). Restart the station: it sets the file aside "
        "and begins a new journal."
    )
