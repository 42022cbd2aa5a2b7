"""What edge-listen keeps of joined parts, beside the verdicts: tables of its SQLite file."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.errors import OutputNotWritable
from edge.listen.file_faults import BUSY_LIMIT_S, not_stored

# ``part`` is for people, too; ``part_open`` holds views of parts that are not decided yet,
# ``part_known`` the id of every verdict that was taken.
_TABLES = """
CREATE TABLE IF NOT EXISTS part(row INTEGER PRIMARY KEY, id TEXT, name TEXT, part_id TEXT,
    result TEXT, reason TEXT, decided_utc TEXT, simulated INTEGER, replayed INTEGER,
    published INTEGER, payload TEXT);
CREATE INDEX IF NOT EXISTS part_waiting ON part(row) WHERE NOT published;
CREATE TABLE IF NOT EXISTS part_open(row INTEGER PRIMARY KEY, name TEXT, part_id TEXT, view TEXT);
CREATE INDEX IF NOT EXISTS part_open_id ON part_open(name, part_id);
CREATE TABLE IF NOT EXISTS part_known(name TEXT, id TEXT, PRIMARY KEY (name, id)) WITHOUT ROWID;
"""


class PartStore:
    """Parts of one name; what ``writing`` ended with is on the disk."""

    def __init__(self, database: Path, name: str) -> None:
        """Make or open the tables.

        Raises:
            OutputNotWritable: the file cannot be opened, or is of another program.
        """
        self._path = database
        self._name = name
        with self._faults():
            self._database = sqlite3.connect(database, BUSY_LIMIT_S, isolation_level=None)
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_TABLES)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Do all or nothing of what is written inside.

        Raises:
            NotStoredNow: not at present; nothing inside was done.
            OutputNotWritable: the disk refuses.
        """
        with self._faults():
            self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                # Whoever joins parts has gone on meanwhile: only a new start knows what is kept.
                refused = not_stored(self._path, "parts", error)
                raise OutputNotWritable(str(refused)) from error
            raise

    def add_verdict(self, identity: str) -> bool:
        """Know a verdict from now on; False where it was known."""
        added = self._database.execute(
            "INSERT OR IGNORE INTO part_known VALUES (?, ?)", (self._name, identity)
        )
        return added.rowcount > 0

    def add_view(self, part_id: str, view: dict[str, Any]) -> None:
        self._database.execute(
            "INSERT INTO part_open (name, part_id, view) VALUES (?, ?, ?)",
            (self._name, part_id, json.dumps(view)),
        )

    def remove_view(self, part_id: str, identity: str) -> None:
        self._database.execute(
            "DELETE FROM part_open WHERE name = ? AND part_id = ?"
            " AND json_extract(view, '$.id') = ?",
            (self._name, part_id, identity),
        )

    def add_part(self, payload: dict[str, Any], text: str) -> None:
        """Keep a decided part until it is published, and beyond.

        Args:
            payload: ``part/1``.
            text: the same, as it is published.
        """
        names = ("id", "name", "part_id", "result", "reason", "decided_utc")
        self._database.execute(
            f"INSERT INTO part ({', '.join(names)}, simulated, replayed, published, payload)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
            (*(payload[name] for name in names), payload["simulated"], payload["replayed"], text),
        )

    def open_views(self) -> list[tuple[str, dict[str, Any]]]:
        """Return part id and view of every part that is not decided, in the order they came."""
        rows = self._database.execute(
            "SELECT part_id, view FROM part_open WHERE name = ? ORDER BY row", (self._name,)
        )
        return [(part_id, json.loads(view)) for part_id, view in rows]

    def newest(self, max_count: int) -> list[dict[str, Any]]:
        """Return the payloads of the parts decided last, oldest of them first."""
        rows = self._database.execute(
            "SELECT payload FROM part WHERE name = ? ORDER BY row DESC LIMIT ?",
            (self._name, max_count),
        ).fetchall()
        return [json.loads(payload) for (payload,) in reversed(rows)]

    def unpublished(self, after: int, max_count: int) -> list[tuple[int, str]]:
        """Return row and payload of parts that no broker has acknowledged."""
        with self._faults():
            return self._database.execute(
                "SELECT row, payload FROM part WHERE NOT published AND name = ? AND row > ?"
                " ORDER BY row LIMIT ?",
                (self._name, after, max_count),
            ).fetchall()

    def mark_published(self, row: int) -> None:
        with self._faults():
            self._database.execute("UPDATE part SET published = 1 WHERE row = ?", (row,))

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise not_stored(self._path, "parts", error) from error
