"""Following the hash chain through a whole journal."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.journal import database
from edge.journal.chain import first_link, link
from edge.journal.entries import RecordKind
from edge.journal.high_water_mark import HighWaterRecord, read_high_water_mark
from edge.journal.identity import FormerJournal, read_formers
from edge.journal.ledger import read_totals

ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class ChainFault:
    """Where the chain breaks.

    Attributes:
        position: of the first row that is altered or missing.
        kind, seq: of the row at or behind it; None at the end of the journal.
        what: for people.
    """

    position: int
    kind: RecordKind | None
    seq: int | None
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What following the chain showed.

    Attributes:
        rows: that were followed.
        removed: rows that retention or the overflow policy removed, and wrote down.
        fault: None when every row is as it was written and none is missing.
        head_position: of the row at which the chain had the head that was asked for; None when
            none was asked for, or it was not met.
    """

    journal: str
    rows: int
    removed: int
    fault: ChainFault | None
    head_position: int | None = None


def verify_chain(path: Path, head: bytes | None = None) -> ChainReport:
    """Find the first row that was altered or taken away, also while the station runs.

    The chain has no secret: by itself it shows damage and careless changes. A head that was kept
    where the station cannot write also shows that somebody computed later values anew.

    Args:
        head: a value of the chain that was published once, and has to be met.

    Raises:
        JournalUnavailable: there is no journal, or it cannot be read.
        JournalUnsuitable: another program's database, or a newer version's.
    """
    seen = read_high_water_mark(path.parent)  # first: the writer notes there what it has committed
    with closing(database.connect_reading(path)) as connection:
        try:
            (journal,) = connection.execute("SELECT journal FROM meta").fetchone()
        except sqlite3.Error as error:
            raise database.unreadable(path, error) from error
        walk = _Walk(connection, journal, read_formers(connection), head)
        try:
            while walk.fault is None and walk.step():
                pass
        except sqlite3.Error as error:
            walk.fault = ChainFault(
                walk.position + 1, None, None, f"the database cannot be read here ({error})"
            )
        fault = walk.fault or _disagreement(walk, journal, seen)
        if fault is None and head is not None and walk.head_position is None:
            fault = ChainFault(walk.position, None, None, _not_met(head, walk.removed))
        return ChainReport(
            journal=journal,
            rows=walk.rows,
            removed=walk.removed,
            fault=fault,
            head_position=walk.head_position,
        )


def _disagreement(walk: "_Walk", journal: str, seen: HighWaterRecord | None) -> ChainFault | None:
    """Compare the end of the chain with what the witness beside the journal has seen."""
    if seen is None:
        return None
    if seen.journal != journal:
        what = (
            f"the witness file beside it belongs to journal {seen.journal}: this database "
            "was restored from a copy"
        )
        return ChainFault(walk.position, None, None, what)
    if seen.position > walk.position:
        what = (
            f"rows {walk.position + 1} to {seen.position} are missing, up to verdict "
            f"{seen.verdict_seq}: the witness file beside the journal recorded them"
        )
        return ChainFault(walk.position + 1, None, None, what)
    return None


def _not_met(head: bytes, removed: int) -> str:
    what = (
        f"no row has the head {head.hex()}: rows were changed or removed after that "
        "head was reported"
    )
    if removed:
        what += ", or its row is among those that retention removed (then compare a newer head)"
    return what


class _Walk:
    """The way through the rows, in steps, so that the writer's log can shrink between them."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        journal: str,
        formers: Sequence[FormerJournal],
        head: bytes | None,
    ) -> None:
        self._connection = connection
        self._journal = journal
        self._formers = formers
        self._head = head
        self.head_position: int | None = None
        self.rows = self.removed = 0
        self._reach(0, first_link(formers[0].journal if formers else journal))
        self.fault: ChainFault | None = None

    def step(self) -> bool:
        """Follow some rows; tell whether there may be more."""
        self._connection.execute("BEGIN")  # rows, bridges and books of the same moment
        try:
            found = self._connection.execute(
                "SELECT position, kind, seq, result, part_id, chain, CAST(payload AS BLOB)"
                " FROM record WHERE position > ? ORDER BY position LIMIT ?",
                (self.position, ROWS_AT_ONCE),
            ).fetchall()
            for row in found:
                self.fault = self._follow(row)
                if self.fault is not None:
                    return False
            if len(found) < ROWS_AT_ONCE:
                self.fault = self._end()
                return False
            return True
        finally:
            self._connection.execute("COMMIT")

    def _follow(self, row: tuple[Any, ...]) -> ChainFault | None:
        position, kind, seq, _, _, chain, payload = row
        if position != self.position + 1 and not self._cross(position - 1):
            what = f"rows {self.position + 1} to {position - 1} are missing"
            return ChainFault(self.position + 1, kind, seq, what)
        if link(self._chain, payload) != chain:
            what = "the row was changed after it was written"
            return ChainFault(position, kind, seq, what)
        if differs := self._difference(row):
            what = f"{differs} does not match the row's payload"
            return ChainFault(position, kind, seq, what)
        self._reach(position, chain)
        self.rows += 1
        return None

    def _difference(self, row: tuple[Any, ...]) -> str | None:
        """Name a column that does not agree with the payload, which the chain protects."""
        position, _, seq, result, part_id, _, payload = row
        content = json.loads(payload)
        journal = self._journal_at(position)
        columns = {"seq": seq, "journal": journal, "result": result, "part_id": part_id}
        for name, value in columns.items():
            if content.get(name, value) != value:
                return name
        return None

    def _journal_at(self, position: int) -> str:
        """Return the UUID under which a row was written."""
        written = (one.journal for one in self._formers if position <= one.position)
        return next(written, self._journal)

    def _end(self) -> ChainFault | None:
        totals = read_totals(self._connection)
        if totals.position != self.position and not self._cross(totals.position):
            what = f"rows {self.position + 1} to {totals.position} are missing"
            return ChainFault(self.position + 1, None, None, what)
        if totals.chain != self._chain:
            return ChainFault(
                self.position, None, None, "the journal's totals do not end with this row"
            )
        return None

    def _cross(self, position: int) -> bool:
        """Go to the end of a removed run; False when its removal was not written down."""
        found = self._connection.execute(
            "SELECT chain FROM bridge WHERE position = ?", (position,)
        ).fetchone()
        if found is None:
            return False
        self.removed += position - self.position
        self._reach(position, found[0])
        return True

    def _reach(self, position: int, chain: bytes) -> None:
        self.position, self._chain = position, chain
        if chain == self._head:
            self.head_position = position
