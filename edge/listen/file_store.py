"""Where edge-listen keeps verdicts and what it knows of them: SQLite, or CSV with SQLite beside."""

import csv
import io
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from edge.contract.commands import RecordKind
from edge.csv_table import write_rows
from edge.errors import OutputNotWritable
from edge.listen.columns import COLUMNS, HEADER, IMAGE_COLUMNS, row_values, value_at
from edge.listen.known_journals import KnownJournals, ReportedJournal
from edge.listen.records import Arrived, Batch, Kept, short_id
from edge.listen.sequence_ranges import SequenceRanges, Stretch

# ``given`` is for a CSV file: which verdict has which number; ``journal`` there is the key of one.
_TABLES = f"""
CREATE TABLE IF NOT EXISTS stretch(station TEXT, journal TEXT, first INTEGER, last INTEGER,
    PRIMARY KEY (station, journal, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost(station TEXT, journal TEXT, first INTEGER, last INTEGER,
    PRIMARY KEY (station, journal, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conflict(station TEXT, journal TEXT, seq INTEGER, id TEXT,
    PRIMARY KEY (station, journal, seq, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal(key INTEGER PRIMARY KEY, station TEXT, journal TEXT,
    first_seq INTEGER, follows TEXT, position INTEGER, seq INTEGER, head TEXT,
    UNIQUE (station, journal));
CREATE TABLE IF NOT EXISTS given(journal INTEGER, seq INTEGER, id BLOB,
    PRIMARY KEY (journal, seq, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS csv(bytes INTEGER);
CREATE TABLE IF NOT EXISTS verdict(station TEXT, journal TEXT, seq INTEGER,
    {", ".join(COLUMNS)}, arrived_utc TEXT, payload TEXT, {", ".join(IMAGE_COLUMNS)},
    PRIMARY KEY (station, journal, seq, id));
"""


class FileStore(KnownJournals):
    """Keeps each verdict once; what ``keep`` returned from is on the disk.

    The same number with another id is another verdict: of a journal that was put back or cloned.
    It is kept, too, and is a conflict.
    """

    look_every_s: float | None = None
    keeps_events = False
    may_repair = True

    def __init__(self, database: Path, table: Path | None, from_seq: int | None) -> None:
        """Make or open the files, and read what is known.

        Args:
            database: SQLite file; holds the verdicts too where there is no ``table``.
            table: CSV file.
            from_seq: number from which a journal that was not known is to be complete; None is the
                first one that arrives.

        Raises:
            OutputNotWritable: a file cannot be opened, or is of another program.
        """
        super().__init__()
        self._from_seq = from_seq
        self._table: io.BufferedRandom | None = None
        try:
            self._database = sqlite3.connect(database, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_TABLES)
            self._load()
            self._table = _open_table(table, self._table_bytes()) if table else None
            if self._table is not None:
                self._record_length(self._table)
        except (OSError, sqlite3.Error, csv.Error) as error:
            raise OutputNotWritable(
                f"{table or database}: cannot be written ({error}). "
                "Check the folder, its owner and that the file is one of edge-listen."
            ) from error

    def keep(
        self, arrived: Sequence[Arrived], reported_journals: Sequence[ReportedJournal] = ()
    ) -> Kept:
        """Keep what is new.

        Raises:
            OutputNotWritable: the disk refuses; nothing of these is kept.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                other_heads = [
                    reported for reported in reported_journals if not self._keep_reported(reported)
                ]
                fresh: list[Arrived] = []
                conflicts: list[Arrived] = []
                for one in arrived:
                    if self._count(one):
                        fresh.append(one)
                    elif self._conflicts(one):
                        conflicts.append(one)
                        fresh.append(one)
                    else:
                        continue
                    self._keep_one(one)
                if self._table is not None and fresh:
                    self._write_lines(fresh)
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                self._load()
                raise
        except (OSError, sqlite3.Error) as error:
            raise OutputNotWritable(
                f"verdicts cannot be stored ({error}). Check the disk and its free space."
            ) from error
        return Kept(len(fresh), conflicts, other_heads)

    def keep_batch(self, batch: Batch) -> Kept:
        """Keep the verdicts and notes of a batch; states have no place here.

        Raises:
            OutputNotWritable: the disk refuses; nothing of these is kept.
        """
        return self.keep(batch.arrived, batch.reported_journals)

    def conflicts(self, station: str, journal: str) -> list[Stretch]:
        """Return the numbers that more than one verdict has."""
        found = SequenceRanges()
        for (seq,) in self._database.execute(
            "SELECT DISTINCT seq FROM conflict WHERE station = ? AND journal = ?",
            (station, journal),
        ):
            found.add(seq)
        return list(found)

    def event_gaps(self) -> list[tuple[str, str, list[Stretch]]]:
        """Return nothing: events are not kept here."""
        return []

    def give_up(
        self, station: str, journal: str, gap: Stretch, _kind: RecordKind = "verdict"
    ) -> None:
        """Remember that these numbers can no longer be had."""
        self._lost.setdefault((station, journal), []).append(gap)
        self._database.execute(
            "INSERT OR REPLACE INTO lost VALUES (?, ?, ?, ?)",
            (station, journal, gap.first, gap.last),
        )

    def close(self) -> None:
        self._database.close()
        if self._table is not None:
            self._table.close()

    def _load(self) -> None:
        stretches: dict[tuple[str, str], list[Stretch]] = {}
        for station, journal, first, last in self._database.execute("SELECT * FROM stretch"):
            stretches.setdefault((station, journal), []).append(Stretch(first, last))
        self._lost = {}
        for station, journal, first, last in self._database.execute("SELECT * FROM lost"):
            self._lost.setdefault((station, journal), []).append(Stretch(first, last))
        self._known = {key: SequenceRanges(found) for key, found in stretches.items()}
        names = [field.name for field in fields(ReportedJournal)]
        rows = self._database.execute(
            f"SELECT {', '.join(names)} FROM journal WHERE head IS NOT NULL"
        )
        reported_journals = [ReportedJournal(**dict(zip(names, row, strict=True))) for row in rows]
        self._reported = {
            (reported.station, reported.journal): reported for reported in reported_journals
        }

    def _count(self, one: Arrived) -> bool:
        key = (one.station, one.journal)
        if key not in self._known:
            before = [Stretch(0, self._from_seq - 1)] if self._from_seq is not None else []
            self._known[key] = SequenceRanges(before)
            for stretch in before:
                self._database.execute(
                    "INSERT INTO stretch VALUES (?, ?, ?, ?)", (*key, stretch.first, stretch.last)
                )
        change = self._known[key].add(one.seq)
        if change is None:
            return False
        self._open_again(one)
        for gone in change[0]:
            self._database.execute(
                "DELETE FROM stretch WHERE station = ? AND journal = ? AND first = ?",
                (*key, gone.first),
            )
        self._database.execute(
            "INSERT INTO stretch VALUES (?, ?, ?, ?)", (*key, change[1].first, change[1].last)
        )
        return True

    def _open_again(self, one: Arrived) -> None:
        """Let what was given up be missing again where some of it comes after all.

        Else a number that was forged far ahead, given up with all before it, would hide the gaps
        among the verdicts that come later.
        """
        key = (one.station, one.journal)
        for lost in [gap for gap in self._lost.get(key, []) if gap.first <= one.seq <= gap.last]:
            self._lost[key].remove(lost)
            self._database.execute(
                "DELETE FROM lost WHERE station = ? AND journal = ? AND first = ?",
                (*key, lost.first),
            )

    def _keep_reported(self, reported: ReportedJournal) -> bool:
        """Remember the newest head; False when the same record was reported with another."""
        known = self._reported.get((reported.station, reported.journal))
        if known is not None and known.position >= reported.position:
            return known.agrees_with(reported)
        key = self._key(reported.station, reported.journal)
        self._database.execute(
            "UPDATE journal SET first_seq = ?, follows = ?, position = ?, seq = ?, head = ?"
            " WHERE key = ?",
            (
                reported.first_seq,
                reported.follows,
                reported.position,
                reported.seq,
                reported.head,
                key,
            ),
        )
        self._reported[reported.station, reported.journal] = reported
        return True

    def _conflicts(self, one: Arrived) -> bool:
        """Tell whether a known number came with an unknown id."""
        if self._table is None:
            found = self._database.execute(
                "SELECT id FROM verdict WHERE station = ? AND journal = ? AND seq = ?",
                (one.station, one.journal, one.seq),
            ).fetchall()
            ids = {identity for (identity,) in found}
            new = one.content.get("id") not in ids
        else:
            key = self._key(one.station, one.journal)
            found = self._database.execute(
                "SELECT id FROM given WHERE journal = ? AND seq = ?", (key, one.seq)
            ).fetchall()
            new = (short_id(one.content.get("id")),) not in found
        if not found or not new:  # without any: below the number from which verdicts are wanted
            return False
        self._database.execute(
            "INSERT OR IGNORE INTO conflict VALUES (?, ?, ?, ?)",
            (one.station, one.journal, one.seq, value_at(one.content, ("id",))),
        )
        return True

    def _keep_one(self, one: Arrived) -> None:
        if self._table is not None:
            self._give(one.station, one.journal, one.seq, one.content.get("id"))
            return
        marks = ", ".join("?" * (len(HEADER) + 1))
        self._database.execute(
            f"INSERT INTO verdict ({', '.join(HEADER)}, payload) VALUES ({marks})",
            (*row_values(one), one.payload),
        )

    def _give(self, station: str, journal: str, seq: int, identity: Any) -> None:
        self._database.execute(
            "INSERT OR IGNORE INTO given VALUES (?, ?, ?)",
            (self._key(station, journal), seq, short_id(identity)),
        )

    def _key(self, station: str, journal: str) -> int:
        where = "WHERE station = ? AND journal = ?"
        found = self._database.execute(f"SELECT key FROM journal {where}", (station, journal))
        row = found.fetchone()
        if row is None:
            made = self._database.execute(
                "INSERT INTO journal (station, journal) VALUES (?, ?)", (station, journal)
            )
            assert made.lastrowid is not None
            return made.lastrowid
        return int(row[0])

    def _write_lines(self, fresh: Sequence[Arrived]) -> None:
        """Write lines first, then how long the file is: what was not counted is cut off again."""
        assert self._table is not None
        lines = io.StringIO(newline="")
        write_rows(lines, (row_values(one) for one in fresh))
        self._table.write(lines.getvalue().encode())
        self._table.flush()
        os.fsync(self._table.fileno())
        self._record_length(self._table)

    def _record_length(self, table: io.BufferedRandom) -> None:
        self._database.execute("DELETE FROM csv")
        self._database.execute("INSERT INTO csv VALUES (?)", (table.tell(),))

    def _table_bytes(self) -> int:
        found = self._database.execute("SELECT bytes FROM csv").fetchone()
        return int(found[0]) if found else 0


def _open_table(path: Path, counted_bytes: int) -> io.BufferedRandom:
    table = path.open("r+b") if path.exists() else path.open("w+b")
    length = table.seek(0, os.SEEK_END)
    if length < counted_bytes:
        table.close()
        raise OSError(f"it is shorter than it was, {length} of {counted_bytes} bytes")
    if counted_bytes:
        table.truncate(counted_bytes)  # lines of a batch that was not finished; it comes again
    elif length:
        table.close()
        raise OSError("it exists already, and was not written by edge-listen")
    else:
        table.write((",".join(HEADER) + "\r\n").encode())
        table.flush()
    table.seek(0, os.SEEK_END)
    return table
