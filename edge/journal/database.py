"""The journal's file: its tables, how it is opened, and what keeps a second writer out."""

import fcntl
import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from edge.errors import OutputNotWritable
from edge.journal.chain import first_link
from edge.journal.entries import JournalUnavailable, JournalUnsuitable

FILE_NAME = "journal.db"
LOCK_NAME = "journal.lock"
SCHEMA_VERSION = 1
# "edgj": another program's database is not taken for a journal.
APPLICATION_ID = 0x6564676A
BUSY_LIMIT_S = 1.0
# The write-ahead log is cut back to this after a burst; a checkpoint keeps it near 4 MiB.
WAL_LIMIT_BYTES = 16 * 2**20
# What a connection keeps of the file: the newest rows. What SQLite takes by itself, 2 MiB, fills up
# for a quarter of an hour, and makes nothing faster.
PAGE_CACHE_KIB = 256

# AUTOINCREMENT: a position is never used again, not even that of the last row once deleted.
# ``station_ns`` is running time of the station, the clock of retention; ``bridge`` holds the chain
# value of the last row of each run that was removed. ``tally`` is one row, kept with every change,
# so that nothing is ever counted by reading.
_SCHEMA = f"""
CREATE TABLE meta (journal TEXT NOT NULL, created_utc_ns INTEGER NOT NULL);
CREATE TABLE record (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    seq INTEGER NOT NULL,
    result TEXT,
    part_id TEXT,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    dead TEXT,
    created_utc_ns INTEGER NOT NULL,
    station_ns INTEGER NOT NULL,
    chain BLOB NOT NULL,
    payload BLOB NOT NULL
);
CREATE UNIQUE INDEX record_by_seq ON record (kind, seq);
CREATE INDEX record_waiting ON record (position) WHERE acknowledged = 0 AND dead IS NULL;
CREATE TABLE bridge (position INTEGER PRIMARY KEY, chain BLOB NOT NULL);
CREATE TABLE tally (
    position INTEGER NOT NULL,
    verdict_seq INTEGER NOT NULL,
    event_seq INTEGER NOT NULL,
    chain BLOB NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    waiting_rows INTEGER NOT NULL,
    waiting_bytes INTEGER NOT NULL,
    waiting_ok_rows INTEGER NOT NULL,
    waiting_ok_bytes INTEGER NOT NULL,
    station_ns INTEGER NOT NULL
);
CREATE TABLE origin (
    inode TEXT NOT NULL,
    generation INTEGER NOT NULL,
    machine TEXT NOT NULL,
    interfaces TEXT NOT NULL
);
CREATE TABLE former (
    journal TEXT NOT NULL,
    position INTEGER NOT NULL,
    verdict_seq INTEGER NOT NULL,
    event_seq INTEGER NOT NULL
);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


class Synchronous(StrEnum):
    """``FULL`` survives power loss; ``NORMAL`` the end of the process only."""

    FULL = "full"
    NORMAL = "normal"


@dataclass(frozen=True, slots=True)
class FolderLock:
    """The right to write in a folder; ends with ``release`` or with the process."""

    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)

    def shared(self, folder: Path) -> "FolderLock":
        """Return this right once more, to be released by itself, or a new one where it has gone.

        Raises:
            OutputNotWritable, JournalUnsuitable: as ``lock_folder``.
        """
        with suppress(FileNotFoundError):
            held, there = os.fstat(self.descriptor), (folder / LOCK_NAME).stat()
            if (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino):
                return FolderLock(os.dup(self.descriptor))
        return lock_folder(folder)


def lock_folder(folder: Path) -> FolderLock:
    """Make the folder and become its only writer.

    Raises:
        OutputNotWritable: the folder cannot be made, written or locked.
        JournalUnsuitable: another process has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise _not_writable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise JournalUnsuitable(
            f"{folder}: another station writes this journal (process {owner}). Stop it, or give "
            "each station a journal.folder of its own."
        ) from None
    except OSError as error:  # a full disk, or a network folder without locks
        os.close(descriptor)
        raise _not_writable(folder, error) from error
    return FolderLock(descriptor)


def connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Open the file for its one writer; transactions are begun by hand.

    Raises:
        sqlite3.Error: the file is no database, or cannot be opened.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_LIMIT_S, isolation_level=None, check_same_thread=False
    )
    try:
        if path.stat().st_size == 0:  # later it is too late for this
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _bound_memory(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous.value}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reading(path: Path) -> sqlite3.Connection:
    """Open the file read-only, also while its writer runs and where the folder is read-only.

    Raises:
        JournalUnavailable: there is no journal, or it cannot be read.
    """
    try:
        there = path.is_file()
    except OSError as error:
        raise JournalUnavailable(
            f"{path}: the journal cannot be read ({error.strerror}). Look at it with sudo, or as a "
            "member of the group that its folder belongs to."
        ) from error
    if not there:
        raise JournalUnavailable(f"{path}: no journal exists there. Check the folder.")
    # Without a log beside it nobody writes, and a folder that we may not write needs this word.
    left_in_order = not _beside(path, "-wal").exists() and not os.access(path.parent, os.W_OK)
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if left_in_order else ''}",
            uri=True,
            timeout=BUSY_LIMIT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _bound_memory(connection)
            check_origin(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise unreadable(path, error) from error
    return connection


def _bound_memory(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")


def create_tables(connection: sqlite3.Connection, created_utc_ns: int) -> None:
    """Make a new, empty database a journal, wholly or not at all."""
    journal = str(uuid4())
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES (?, ?)", (journal, created_utc_ns))
        connection.execute(
            "INSERT INTO tally VALUES (0, 0, 0, ?, 0, 0, 0, 0, 0, 0, 0)", (first_link(journal),)
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    # Out of the log, so that an empty file beside a log always means damage.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def is_new(connection: sqlite3.Connection) -> bool:
    """Tell whether the database has no tables yet."""
    return connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0


def check_origin(connection: sqlite3.Connection, path: Path) -> None:
    """Find out whether we may read this database.

    Raises:
        JournalUnsuitable: it is another program's, or of a newer version.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise JournalUnsuitable(
            f"{path}: belongs to another program. Set journal.folder to a folder of its own."
        )
    if version > SCHEMA_VERSION:
        raise JournalUnsuitable(
            f"{path}: was written by a newer version of this software (schema {version}, this "
            f"version knows {SCHEMA_VERSION}). Install that version again, or set journal.folder "
            "to a new folder."
        )


def unreadable(path: Path, error: sqlite3.Error) -> JournalUnavailable:
    """Return the error to raise when reading the journal failed."""
    return JournalUnavailable(
        f"{path}: the journal cannot be read ({error}). Check the disk and the file's permissions."
    )


def _not_writable(folder: Path, error: OSError) -> OutputNotWritable:
    return OutputNotWritable(
        f"{folder}: the journal cannot be stored there ({error.strerror}). Make room "
        "on that disk, or set journal.folder to a local folder that this user may "
        "write."
    )


def database_files(path: Path) -> list[Path]:
    """Return the names of a database and of what SQLite keeps beside it."""
    return [path, _beside(path, "-wal"), _beside(path, "-shm")]


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
