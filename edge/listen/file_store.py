"""Where edge-listen keeps verdicts and what it knows of them: SQLite, or CSV with SQLite beside."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from edge.contract.commands import RecordKind
from edge.errors import OutputNotWritable
from edge.journal.database import database_files
from edge.listen.columns import COLUMNS, HEADER, IMAGE_COLUMNS, KEY_COLUMNS, row_values
from edge.listen.csv_file import CsvEnd, CsvFile
from edge.listen.file_faults import BUSY_LIMIT_S, FilesInPlace, not_stored
from edge.listen.known_journals import KnownJournals, ReportedJournal
from edge.listen.records import Arrived, Batch, Kept, short_id
from edge.listen.sequence_ranges import SequenceRanges, Stretch

# ``given`` is for a CSV file: which verdict has which number; ``journal`` there is the key of one.
_STRETCH = ["station", "journal", "first", "last"]
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
CREATE TABLE IF NOT EXISTS csv(bytes INTEGER, end_sha256 TEXT);
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
            OutputNotWritable: a file cannot be opened, is locked, or is of another program.
        """
        super().__init__()
        self._path, self._table_path = database, table
        self._from_seq = from_seq
        self._table: CsvFile | None = None
        self._database: sqlite3.Connection | None = None
        self._version = -1
        try:
            self._open(database, table)
        except (OSError, sqlite3.Error) as error:
            self._close_files()
            raise self._not_stored("verdicts", error) from error
        except BaseException:
            self._close_files()
            raise
        self._in_place = FilesInPlace([*database_files(database), *([table] if table else [])])

    def keep(
        self, arrived: Sequence[Arrived], reported_journals: Sequence[ReportedJournal] = ()
    ) -> Kept:
        """Keep what is new; what of it another listener has kept here is not.

        Raises:
            NotStoredNow: not at present; nothing of these is kept.
            OutputNotWritable: the files are not to be used any more; these are not kept there.
        """
        with self._writing("verdicts"):
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
                end = self._end()
                assert end is not None
                self._record_end(self._table.append(map(row_values, fresh), end))
        return Kept(len(fresh), conflicts, other_heads)

    def keep_batch(self, batch: Batch) -> Kept:
        """Keep the verdicts and notes of a batch; states have no place here.

        Raises:
            NotStoredNow, OutputNotWritable: as ``keep``.
        """
        return self.keep(batch.arrived, batch.reported_journals)

    def conflicts(self, station: str, journal: str) -> list[Stretch]:
        """Return the numbers that more than one verdict has."""
        found = SequenceRanges()
        for (seq,) in self._connection.execute(
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
        """Remember that these numbers can no longer be had.

        Raises:
            NotStoredNow, OutputNotWritable: as ``keep``.
        """
        with self._writing("lost numbers"):
            self._lost.setdefault((station, journal), []).append(gap)
            self._connection.execute(
                "INSERT OR REPLACE INTO lost VALUES (?, ?, ?, ?)",
                (station, journal, gap.first, gap.last),
            )

    def close(self) -> None:
        self._close_files()

    def _open(self, database: Path, table: Path | None) -> None:
        if database.exists() and not database.is_file():
            raise OutputNotWritable(f"{database}: is no file. Name a file.")
        self._database = sqlite3.connect(database, BUSY_LIMIT_S, isolation_level=None)
        self._check_own(database)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(f"BEGIN IMMEDIATE;{_TABLES}COMMIT;")
        # One listener at a time: another one may be writing rows that it has not counted yet.
        with self._transaction():
            self._check_columns(database)
            self._check_kind(database, table)
            if table is not None:
                end = self._end()
                self._table = CsvFile(table, end)
                if self._table.begun != end:
                    self._record_end(self._table.begun)

    def _check_own(self, database: Path) -> None:
        found = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if found.fetchall() and self._read_columns("stretch") != _STRETCH:
            raise OutputNotWritable(
                f"{database}: it is a database of another program, or of edge-listen --database. "
                "Name another file."
            )

    def _check_columns(self, database: Path) -> None:
        """Demand the columns that are used; a table of verdicts may lack some, and keeps those."""
        if self._read_columns("csv") == ["bytes"]:  # version 0.2.0
            self._connection.execute("ALTER TABLE csv ADD COLUMN end_sha256 TEXT")
        found = set(self._read_columns("verdict"))
        self._columns = [name for name in HEADER if name in found]
        wanted = {"key", *(field.name for field in fields(ReportedJournal))}
        if not found >= {*KEY_COLUMNS, "payload"} or not wanted <= set(
            self._read_columns("journal")
        ):
            raise OutputNotWritable(
                f"{database}: its tables are of another program, or of another version of "
                "edge-listen. Name another file."
            )

    def _read_columns(self, table: str) -> list[str]:
        rows = self._connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        return [name for (name,) in rows]

    def _check_kind(self, database: Path, table: Path | None) -> None:
        """Demand that the file is used as before: verdicts in it are not those of a CSV file."""
        if table is None and self._end() is not None:
            raise OutputNotWritable(
                f"{database}: it lies beside a CSV file and holds no verdicts. Name that with "
                "--csv, or another file."
            )
        if table is not None and self._end() is None and self._known:
            raise OutputNotWritable(
                f"{database}: it holds verdicts of its own. Name it with --sqlite, or another CSV "
                "file."
            )

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._database is not None
        return self._database

    def _close_files(self) -> None:
        if self._database is not None:
            self._database.close()
        if self._table is not None:
            self._table.close()

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Do all or nothing of what is written inside, in files that people find.

        Raises:
            NotStoredNow: not at present; nothing is kept.
            OutputNotWritable: the files are not to be used any more.
        """
        try:
            with self._transaction():
                yield
                self._in_place.check()
        except (OSError, sqlite3.Error) as error:
            self._in_place.check()
            raise self._not_stored(what, error) from error
        # Before anybody takes it for kept: a file that was removed takes everything.
        self._in_place.check()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            if self._data_version() != self._version:
                self._load()
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite itself ends one that finds no room
                self._connection.execute("ROLLBACK")
            self._forget()
            raise

    def _forget(self) -> None:
        """Know again what the file holds, or nothing where it cannot be read now."""
        self._known, self._lost, self._reported = {}, {}, {}
        try:
            self._load()
        except sqlite3.Error:
            self._version = -1  # before the next transaction, then

    def _data_version(self) -> int:
        """Return a number that changes when somebody else has written."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _load(self) -> None:
        version = self._data_version()
        stretches: dict[tuple[str, str], list[Stretch]] = {}
        for station, journal, first, last in self._connection.execute("SELECT * FROM stretch"):
            stretches.setdefault((station, journal), []).append(Stretch(first, last))
        self._lost = {}
        for station, journal, first, last in self._connection.execute("SELECT * FROM lost"):
            self._lost.setdefault((station, journal), []).append(Stretch(first, last))
        self._known = {key: SequenceRanges(found) for key, found in stretches.items()}
        names = [field.name for field in fields(ReportedJournal)]
        rows = self._connection.execute(
            f"SELECT {', '.join(names)} FROM journal WHERE head IS NOT NULL"
        )
        reported_journals = [ReportedJournal(**dict(zip(names, row, strict=True))) for row in rows]
        self._reported = {
            (reported.station, reported.journal): reported for reported in reported_journals
        }
        self._version = version

    def _count(self, one: Arrived) -> bool:
        key = (one.station, one.journal)
        if key not in self._known:
            before = [Stretch(0, self._from_seq - 1)] if self._from_seq is not None else []
            self._known[key] = SequenceRanges(before)
            for stretch in before:
                self._connection.execute(
                    "INSERT INTO stretch VALUES (?, ?, ?, ?)", (*key, stretch.first, stretch.last)
                )
        change = self._known[key].add(one.seq)
        if change is None:
            return False
        self._open_again(one)
        for gone in change[0]:
            self._connection.execute(
                "DELETE FROM stretch WHERE station = ? AND journal = ? AND first = ?",
                (*key, gone.first),
            )
        self._connection.execute(
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
            self._connection.execute(
                "DELETE FROM lost WHERE station = ? AND journal = ? AND first = ?",
                (*key, lost.first),
            )

    def _keep_reported(self, reported: ReportedJournal) -> bool:
        """Remember the newest head; False when the same record was reported with another."""
        known = self._reported.get((reported.station, reported.journal))
        if known is not None and known.position >= reported.position:
            return known.agrees_with(reported)
        key = self._key(reported.station, reported.journal)
        self._connection.execute(
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
            found = self._connection.execute(
                "SELECT id FROM verdict WHERE station = ? AND journal = ? AND seq = ?",
                (one.station, one.journal, one.seq),
            ).fetchall()
            new = (one.content["id"],) not in found
        else:
            key = self._key(one.station, one.journal)
            found = self._connection.execute(
                "SELECT id FROM given WHERE journal = ? AND seq = ?", (key, one.seq)
            ).fetchall()
            new = (short_id(one.content["id"]),) not in found
        if not found or not new:  # without any: below the number from which verdicts are wanted
            return False
        self._connection.execute(
            "INSERT OR IGNORE INTO conflict VALUES (?, ?, ?, ?)",
            (one.station, one.journal, one.seq, one.content["id"]),
        )
        return True

    def _keep_one(self, one: Arrived) -> None:
        if self._table is not None:
            self._give(one.station, one.journal, one.seq, one.content["id"])
            return
        cells = dict(zip(HEADER, row_values(one), strict=True))
        marks = ", ".join("?" * (len(self._columns) + 1))
        self._connection.execute(
            f"INSERT INTO verdict ({', '.join(self._columns)}, payload) VALUES ({marks})",
            (*(cells[name] for name in self._columns), one.payload),
        )

    def _give(self, station: str, journal: str, seq: int, identity: Any) -> None:
        self._connection.execute(
            "INSERT OR IGNORE INTO given VALUES (?, ?, ?)",
            (self._key(station, journal), seq, short_id(identity)),
        )

    def _key(self, station: str, journal: str) -> int:
        where = "WHERE station = ? AND journal = ?"
        found = self._connection.execute(f"SELECT key FROM journal {where}", (station, journal))
        row = found.fetchone()
        if row is None:
            made = self._connection.execute(
                "INSERT INTO journal (station, journal) VALUES (?, ?)", (station, journal)
            )
            assert made.lastrowid is not None
            return made.lastrowid
        return int(row[0])

    def _end(self) -> CsvEnd | None:
        """Return where the rows of the CSV file end that are kept; None before it was begun."""
        row = self._connection.execute("SELECT bytes, end_sha256 FROM csv").fetchone()
        return CsvEnd(*row) if row and row[0] else None

    def _record_end(self, end: CsvEnd) -> None:
        self._connection.execute("DELETE FROM csv")
        self._connection.execute("INSERT INTO csv VALUES (?, ?)", (end.length, end.sha256))

    def _not_stored(self, what: str, error: OSError | sqlite3.Error) -> OutputNotWritable:
        table = self._table_path if isinstance(error, OSError) else None
        return not_stored(table or self._path, what, error)
