"""The station's disk: real SQLite in a folder in memory, with faults in between.

Every statement of the product passes here. So the simulation knows what is on record from the
statements themselves, not from what the product says of them.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from edge.journal.database import FILE_NAME, database_files
from tests.simulation.scheduler import ProcessEnded, Scheduler

INSERT = "INSERT INTO record"
COUNT_WAITING = "SELECT count(*) FROM record WHERE acknowledged = 0 AND dead IS NULL"
WRITES = ("BEGIN IMMEDIATE", INSERT, "UPDATE", "DELETE", "COMMIT")


@dataclass(frozen=True, slots=True)
class Row:
    """A record as the journal was asked to write it."""

    position: int
    kind: str
    seq: int
    result: str | None
    part_id: str | None
    chain: bytes
    payload: bytes


class Disk:
    """Folder, faults and truth of one station.

    Attributes:
        fault: what writing meets now: ``full``, ``failing``, ``unreadable`` or none.
        delay_ns: how long each commit takes.
        on_commit: called with the rows of each commit that is on the disk.
        before_commit: called in the writer's thread around commits; may never return.
    """

    def __init__(self, folder: Path, scheduler: Scheduler) -> None:
        self.folder = folder
        self.scheduler = scheduler
        self.fault = ""
        self.delay_ns = 0
        self.trouble_until_ns = 0
        self.commits = 0
        self.on_commit: Callable[[list[Row]], None] = lambda _: None
        self.before_commit: Callable[[bool], None] = lambda _: None
        self._open: list[SimulatedFile] = []
        self._descriptors: list[tuple[int, int, int]] = []

    @property
    def path(self) -> Path:
        return self.folder / FILE_NAME

    def connector(self, kind: "type[SimulatedFile]") -> Callable[..., sqlite3.Connection]:
        """Return what stands in for ``sqlite3.connect``."""

        def connect(*args: Any, **options: Any) -> sqlite3.Connection:
            if self.fault == "unreadable" and options.get("uri"):
                self.trouble_until_ns = self.scheduler.now_ns
                raise _error("disk I/O error", sqlite3.SQLITE_IOERR)
            made: SimulatedFile = sqlite3.connect(
                *args, factory=cast(Any, partial(kind, self)), **options
            )
            made.reads_only = bool(options.get("uri"))
            self._open.append(made)
            return made

        return connect

    def waiting(self) -> int:
        """Count the records that nobody has acknowledged, as the file has them."""
        uri = f"file:{self.path}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return int(connection.execute(COUNT_WAITING).fetchone()[0])

    def opened(self, descriptor: int) -> None:
        """Remember what a process holds beside its databases; its end closes that, too."""
        status = os.fstat(descriptor)
        self._descriptors.append((descriptor, status.st_dev, status.st_ino))

    def kill(self, torn_tail: bytes = b"") -> None:
        """Leave the files as a process leaves them that ends at this moment.

        Args:
            torn_tail: of a write that the kill cut off; it lies behind the log's last commit.
        """
        kept = {file: file.read_bytes() for file in database_files(self.path)[:2] if file.exists()}
        for connection in self._open:
            connection.release()
        self._open.clear()
        self._close_descriptors()
        for file in database_files(self.path)[1:]:
            file.unlink(missing_ok=True)
        for file, content in kept.items():
            tail = torn_tail if file.name.endswith("-wal") and content else b""
            with file.open("r+b" if file.exists() else "wb") as opened:
                opened.truncate(0)
                opened.write(content + tail)

    def end(self) -> None:
        for connection in self._open:
            connection.release()
        self._open.clear()
        self._close_descriptors()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _close_descriptors(self) -> None:
        for descriptor, device, inode in self._descriptors:
            with suppress(OSError):  # closed by the product, and perhaps another file's by now
                status = os.fstat(descriptor)
                if (status.st_dev, status.st_ino) == (device, inode):
                    os.close(descriptor)
        self._descriptors.clear()

    def run(
        self, file: "SimulatedFile", execute: Callable[..., Any], statement: str, values: Any
    ) -> Any:
        """Carry out one statement, unless the disk does not."""
        if self.scheduler.task is not None and not self.scheduler.task.process.alive:
            raise ProcessEnded
        writes = statement.startswith(WRITES) and not file.reads_only
        if writes and self.fault in ("full", "failing"):
            self._refuse(statement)
        elif not writes and self.fault == "unreadable" and statement.startswith("SELECT"):
            self.trouble_until_ns = self.scheduler.now_ns
            raise _error("disk I/O error", sqlite3.SQLITE_IOERR)
        if statement == "COMMIT" and file.pending:
            return self._commit(file, execute, statement)
        result = execute(statement, values)
        if statement.startswith(INSERT):
            position, kind, seq, found, part_id, _, _, _, chain, payload = values
            file.pending.append(Row(position, kind, seq, found, part_id, chain, payload))
        elif statement.startswith(("BEGIN", "ROLLBACK", "COMMIT")):
            file.pending.clear()
        return result

    def _refuse(self, statement: str) -> None:
        self.trouble_until_ns = self.scheduler.now_ns
        if self.fault == "full" and statement.startswith((INSERT, "COMMIT")):
            raise _error("database or disk is full", sqlite3.SQLITE_FULL)
        if self.fault == "failing" and statement == "COMMIT":
            raise _error("disk I/O error", sqlite3.SQLITE_IOERR)

    def _commit(self, file: "SimulatedFile", execute: Callable[..., Any], statement: str) -> Any:
        self.commits += 1
        if self.delay_ns:
            self.trouble_until_ns = self.scheduler.now_ns + self.delay_ns
            self.scheduler.sleep_ns(self.delay_ns // 2)
        self.before_commit(False)
        result = execute(statement)
        rows, file.pending = file.pending, []
        self.on_commit(rows)
        self.before_commit(True)
        if self.delay_ns:
            self.scheduler.sleep_ns(self.delay_ns // 2)
        return result


class SimulatedFile(sqlite3.Connection):
    """A connection whose statements pass the simulated disk."""

    def __init__(self, disk: Disk, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._disk = disk
        self.pending: list[Row] = []
        self.reads_only = False

    def execute(self, statement: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:  # type: ignore[override]
        return self._disk.run(self, super().execute, statement, values)

    def release(self) -> None:
        super().close()


def _error(message: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error
