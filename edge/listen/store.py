"""Where edge-listen keeps verdicts and what it knows of them: SQLite, or CSV with SQLite beside."""

import csv
import io
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import OutputNotWritable
from edge.listen.numbers import Numbers, Stretch, without
from edge.messaging.image_source import image_name

# Column and where its value stands in the payload.
COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id",),
    "decided_utc": ("time", "decided_utc"),
    "part_id": ("part_id",),
    "trigger_id": ("trigger_id",),
    "result": ("result",),
    "reason": ("reason",),
    "anomaly_score": ("anomaly_score",),
    "threshold": ("threshold",),
    "deadline_met": ("deadline_met",),
    "simulated": ("simulated",),
    "replayed": ("replayed",),
    "model": ("model", "name"),
    "model_version": ("model", "version"),
}
# Columns that came later. They stand at the end: a table that was begun without them goes on so.
LATER_COLUMNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "image_uri": lambda content: _at(content, ("image", "uri")),
    "image_source_uri": lambda content: _at(content, ("image", "source_uri")),
    "image_name": image_name,
}
HEADER = ("station", "journal", "seq", *COLUMNS, "arrived_utc", *LATER_COLUMNS)

_TABLES = f"""
CREATE TABLE IF NOT EXISTS stretch(station TEXT, journal TEXT, first INTEGER, last INTEGER,
    PRIMARY KEY (station, journal, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost(station TEXT, journal TEXT, first INTEGER, last INTEGER,
    PRIMARY KEY (station, journal, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS csv(bytes INTEGER);
CREATE TABLE IF NOT EXISTS verdict(station TEXT, journal TEXT, seq INTEGER,
    {", ".join(COLUMNS)}, arrived_utc TEXT, payload TEXT, {", ".join(LATER_COLUMNS)},
    PRIMARY KEY (station, journal, seq));
"""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A verdict as it came."""

    station: str
    journal: str
    seq: int
    content: dict[str, Any]
    payload: str
    arrived_utc: str


class Store:
    """Keeps each verdict once; what ``keep`` returned from is on the disk."""

    def __init__(self, database: Path, table: Path | None, from_seq: int | None) -> None:
        """Args:
        database: SQLite file; holds the verdicts too where there is no ``table``.
        table: CSV file.
        from_seq: number from which a journal that was not known is to be complete; None is
            the first one that arrives.

        Raises:
            OutputNotWritable: a file cannot be opened, or is of another program.
        """
        self._from_seq = from_seq
        self._width = len(HEADER)
        self._known: dict[tuple[str, str], Numbers] = {}
        self._lost: dict[tuple[str, str], list[Stretch]] = {}
        try:
            self._database = sqlite3.connect(database, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_TABLES)
            self._add_later_columns()
            self._load()
            self._table = _open_table(table, self._table_bytes()) if table else None
            if self._table is not None:
                self._note_length(self._table)
                self._width = _width(self._table)
        except (OSError, sqlite3.Error) as error:
            raise OutputNotWritable(
                f"{table or database}: cannot be written ({error}). "
                "Check the folder, its owner and that the file is one of edge-listen."
            ) from error

    def keep(self, arrived: Sequence[Arrived]) -> int:
        """Keep what is new and return how many that were.

        Raises:
            OutputNotWritable: the disk refuses; nothing of these is kept.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                fresh = [one for one in arrived if self._note(one)]
                if self._table is not None:
                    self._write_lines(fresh)
                else:
                    self._insert(fresh)
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                self._load()
                raise
        except (OSError, sqlite3.Error) as error:
            raise OutputNotWritable(
                f"verdicts cannot be kept ({error}). Check the disk and its free space."
            ) from error
        return len(fresh)

    def journals(self) -> list[tuple[str, str]]:
        """Return station and journal of everything known."""
        return list(self._known)

    def numbers(self, station: str, journal: str) -> Numbers:
        return self._known.get((station, journal), Numbers())

    def missing(self, station: str, journal: str, up_to: int) -> list[Stretch]:
        """Return what is missing between the first number and ``up_to``, but for the given up."""
        gaps = self.numbers(station, journal).gaps(up_to)
        return without(gaps, self._lost.get((station, journal), []))

    def lost(self, station: str, journal: str) -> list[Stretch]:
        """Return what was given up and did not come after all."""
        given_up = self._lost.get((station, journal), [])
        return without(given_up, list(self.numbers(station, journal)))

    def give_up(self, station: str, journal: str, gap: Stretch) -> None:
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

    def _add_later_columns(self) -> None:
        found = {name for _, name, *_ in self._database.execute("PRAGMA table_info(verdict)")}
        for name in LATER_COLUMNS:
            if name not in found:
                self._database.execute(f"ALTER TABLE verdict ADD COLUMN {name}")

    def _load(self) -> None:
        stretches: dict[tuple[str, str], list[Stretch]] = {}
        for station, journal, first, last in self._database.execute("SELECT * FROM stretch"):
            stretches.setdefault((station, journal), []).append(Stretch(first, last))
        self._lost = {}
        for station, journal, first, last in self._database.execute("SELECT * FROM lost"):
            self._lost.setdefault((station, journal), []).append(Stretch(first, last))
        self._known = {key: Numbers(found) for key, found in stretches.items()}

    def _note(self, one: Arrived) -> bool:
        key = (one.station, one.journal)
        if key not in self._known:
            before = [Stretch(0, self._from_seq - 1)] if self._from_seq is not None else []
            self._known[key] = Numbers(before)
            for stretch in before:
                self._database.execute(
                    "INSERT INTO stretch VALUES (?, ?, ?, ?)", (*key, stretch.first, stretch.last)
                )
        change = self._known[key].add(one.seq)
        if change is None:
            return False
        for gone in change[0]:
            self._database.execute(
                "DELETE FROM stretch WHERE station = ? AND journal = ? AND first = ?",
                (*key, gone.first),
            )
        self._database.execute(
            "INSERT INTO stretch VALUES (?, ?, ?, ?)", (*key, change[1].first, change[1].last)
        )
        return True

    def _insert(self, fresh: Sequence[Arrived]) -> None:
        marks = ", ".join("?" * (len(HEADER) + 1))
        self._database.executemany(
            f"INSERT INTO verdict ({', '.join(HEADER)}, payload) VALUES ({marks})",
            [(*_values(one), one.payload) for one in fresh],
        )

    def _write_lines(self, fresh: Sequence[Arrived]) -> None:
        """Write lines first, then how long the file is: what was not counted is cut off again."""
        assert self._table is not None
        lines = io.StringIO(newline="")
        csv.writer(lines).writerows(_values(one)[: self._width] for one in fresh)
        self._table.write(lines.getvalue().encode())
        self._table.flush()
        os.fsync(self._table.fileno())
        self._note_length(self._table)

    def _note_length(self, table: io.BufferedRandom) -> None:
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


def _width(table: io.BufferedRandom) -> int:
    """Return how many columns a table has: one of an older version has fewer."""
    end = table.tell()
    table.seek(0)
    width = table.readline().count(b",") + 1
    table.seek(end)
    return width


def _values(one: Arrived) -> tuple[Any, ...]:
    found = (_at(one.content, path) for path in COLUMNS.values())
    later = (find(one.content) for find in LATER_COLUMNS.values())
    return (one.station, one.journal, one.seq, *found, one.arrived_utc, *later)


def _at(content: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, str | int | float | None) else str(content)
