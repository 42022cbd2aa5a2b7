"""Opening the journal: sound, or set aside and begun anew, and said so."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from edge.atomic_files import sync_folder
from edge.journal import database
from edge.journal.chain import first_link, link
from edge.journal.database import FolderLock, Synchronous
from edge.journal.entries import JournalUnavailable, RecordKind
from edge.journal.high_water_mark import (
    HighWaterMark,
    HighWaterRecord,
    high_water_mark_exists,
    read_high_water_mark,
)
from edge.journal.identity import (
    Origin,
    assign_new_identity,
    read_file_origin,
    read_formers,
    read_origin,
    why_copied,
    write_origin,
)
from edge.journal.ledger import read_totals
from edge.journal.open_files import OpenFiles
from edge.journal.sqlite_errors import is_damage

# A station must be back within seconds. What is larger than the disk reads in this time is checked
# as far as it reaches, and its newest rows always; damage met later is noted for the next start.
CHECK_LIMIT_S = 2.0
NEWEST_ROWS = 256
# Of a copy, between two signs of life.
_PAGES_AT_ONCE = 2048
# Left by a writer that met damage while running.
DAMAGE_MARK = "journal.damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """An open journal, the only one that writes it.

    Attributes:
        path: of the database.
        journal: its UUID, which consumers know the records by.
        files: what is open, as it was found at its place.
        synchronous: how it was opened.
        quarantined: where a damaged predecessor was put; None when there was none.
        damage: what was wrong with it.
        lost: numbers of records that were committed and are gone from a journal that is otherwise
            sound; they are not given again, so that consumers find the gap.
        former: the UUID of what was recorded before, where the file turned out to be a copy and
            got a new one; None where it is the one that was written here.
        copied: why it must be a copy.
    """

    path: Path
    journal: str
    connection: sqlite3.Connection
    lock: FolderLock
    witness: HighWaterMark
    files: OpenFiles
    synchronous: Synchronous
    quarantined: Path | None = None
    damage: str | None = None
    lost: Mapping[RecordKind, tuple[int, int]] = field(default_factory=dict)
    former: str | None = None
    copied: str | None = None

    def close(self) -> None:
        """Close the database and let others have the folder."""
        self.connection.close()
        self.witness.close()
        self.lock.release()


def open_journal(
    folder: Path,
    synchronous: Synchronous = Synchronous.FULL,
    utc_ns: Callable[[], int] = time.time_ns,
    check_limit_s: float = CHECK_LIMIT_S,
    *,
    lock: FolderLock | None = None,
) -> Journal:
    """Open the journal of a folder, or begin one.

    A file that is damaged is renamed to ``journal.corrupt-<utc>`` and never deleted; a new journal
    with a new UUID takes its place. One that is a copy, from a backup or of another machine, gets
    a new UUID for what is recorded from now on.

    Args:
        lock: of the folder, where this process has it already; it is released with the journal.

    Raises:
        OutputNotWritable: the folder cannot be written.
        JournalUnsuitable: another process has it, or it is another program's or a newer version's.
        JournalUnavailable: the disk refused; later it may not.
    """
    lock = lock or database.lock_folder(folder)
    path = folder / database.FILE_NAME
    connection: sqlite3.Connection | None = None
    try:
        damage = _damage(path, check_limit_s)
        quarantined = _set_aside(path, utc_ns()) if damage else None
        origin = _origin(path)
        connection = _connected(path, synchronous, utc_ns)
        journal, former, copied, lost = _identified(connection, folder, origin)
        new_witness = not high_water_mark_exists(folder)
        witness = HighWaterMark(folder, journal)
        witness.record(read_totals(connection))  # takes its room on the disk now
        if new_witness:
            sync_folder(folder)
    except BaseException as error:
        if connection is not None:
            connection.close()
        lock.release()
        if not isinstance(error, sqlite3.Error | OSError):
            raise
        raise JournalUnavailable(
            f"{path}: the journal cannot be opened ({error}). Check the disk and its free space."
        ) from error
    files = OpenFiles(path)
    return Journal(
        path=path,
        journal=journal,
        connection=connection,
        lock=lock,
        witness=witness,
        files=files,
        synchronous=synchronous,
        quarantined=quarantined,
        damage=damage,
        lost=lost,
        former=former,
        copied=copied,
    )


def write_anew(journal: Journal, beat: Callable[[], None]) -> Journal:
    """Write a journal whose files were removed to its place again, and open it there.

    Everything committed is in the new file, under the same UUID. The old one is closed.

    Args:
        beat: called while it is copied.

    Raises:
        StationError, sqlite3.Error, OSError: it cannot be done now; the old one is open still.
    """
    path = journal.path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    lock = journal.lock.shared(path.parent)
    try:
        with closing(sqlite3.connect(partial)) as copy:
            journal.connection.backup(copy, pages=_PAGES_AT_ONCE, progress=lambda *_: beat())
            with copy:
                copy.execute("DELETE FROM origin")  # this file is the original from here on
        for file in database.database_files(path)[1:]:
            file.unlink(missing_ok=True)  # left of the removed one; it would be read into the new
        # Not over a file that somebody put there meanwhile.
        os.link(partial, path)
        made = path.stat()
        sync_folder(path.parent)
    except BaseException:
        lock.release()
        raise
    finally:
        for file in database.database_files(partial):
            file.unlink(missing_ok=True)
    try:
        opened = open_journal(path.parent, journal.synchronous, lock=lock)
    except BaseException:
        with suppress(OSError):  # else the next attempt would take it for somebody else's
            if path.stat().st_ino == made.st_ino:
                path.unlink()
        raise
    journal.close()
    return opened


def mark_damaged(path: Path, what: str) -> None:
    """Have the next start set this database aside, even where its check does not reach."""
    with suppress(OSError):  # a full disk; then the check has to find it
        path.with_name(DAMAGE_MARK).write_text(what + "\n")


def _connected(
    path: Path, synchronous: Synchronous, utc_ns: Callable[[], int]
) -> sqlite3.Connection:
    connection = database.connect(path, synchronous)
    try:
        if database.is_new(connection):
            database.create_tables(connection, utc_ns())
            sync_folder(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def _origin(path: Path) -> Origin:
    """Make the file if there is none, and look at it while SQLite has not opened it."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640))
    return read_file_origin(path)


def _identified(
    connection: sqlite3.Connection, folder: Path, origin: Origin
) -> tuple[str, str | None, str | None, dict[RecordKind, tuple[int, int]]]:
    """Find out whether the journal is a copy; return its UUID, a former one, why, what is lost."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (journal,) = connection.execute("SELECT journal FROM meta").fetchone()
        seen, written = read_high_water_mark(folder), read_origin(connection)
        totals = read_totals(connection)
        copied = why_copied(
            written, origin, seen, high_water_mark_exists(folder), journal=journal, totals=totals
        )
        lost = _skip_lost(connection, journal, seen)
        former = None
        if copied is not None:
            former = journal
            journal = assign_new_identity(connection, former, read_totals(connection))
        if written != origin:
            write_origin(connection, origin)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return journal, former, copied, lost


def _skip_lost(
    connection: sqlite3.Connection, journal: str, seen: HighWaterRecord | None
) -> dict[RecordKind, tuple[int, int]]:
    """Go on behind the numbers that were given, where the rows of the last ones are gone."""
    totals = read_totals(connection)
    if seen is None or seen.journal != journal or seen.position <= totals.position:
        return {}
    given = {RecordKind.VERDICT: seen.verdict_seq, RecordKind.EVENT: seen.event_seq}
    connection.execute(
        "UPDATE tally SET position = ?, verdict_seq = ?, event_seq = ?",
        (seen.position, seen.verdict_seq, seen.event_seq),
    )
    return {
        kind: (totals.seq(kind) + 1, last)
        for kind, last in given.items()
        if last > totals.seq(kind)
    }


def _damage(path: Path, check_limit_s: float) -> str | None:
    """Tell what is wrong with the file, or None when it is sound or not there."""
    mark = path.with_name(DAMAGE_MARK)
    if mark.exists():
        return mark.read_text(errors="replace").strip() or "damage met while running"
    if not path.exists() or path.stat().st_size == 0:
        return _absence(path)
    try:
        with closing(sqlite3.connect(path, timeout=database.BUSY_LIMIT_S)) as connection:
            if database.is_new(connection):  # a start ended before there were tables
                return None
            database.check_origin(connection, path)
            return _first_fault(connection, check_limit_s)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return str(error)


def _absence(path: Path) -> str | None:
    """Tell why there should be a database, where there is none or an empty one."""
    log = database.database_files(path)[1]
    if read_high_water_mark(path.parent) is None and not (log.exists() and log.stat().st_size):
        return None
    return "the database is empty" if path.exists() else "the database is gone"


def _first_fault(connection: sqlite3.Connection, limit_s: float) -> str | None:
    # A progress handler is not asked inside this check; an interrupt is heard.
    alarm = threading.Timer(limit_s, connection.interrupt)
    alarm.start()
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        found = "ok"
    finally:
        alarm.cancel()
        alarm.join()
    return found if found != "ok" else _newest_fault(connection)


def _newest_fault(connection: sqlite3.Connection) -> str | None:
    """Follow the chain through the newest rows, where an unclean end leaves its marks."""
    (journal,) = connection.execute("SELECT journal FROM meta").fetchone()
    formers = read_formers(connection)
    first = formers[0].journal if formers else journal
    (head,) = connection.execute("SELECT chain FROM tally").fetchone()
    newest = connection.execute(
        "SELECT position, CAST(payload AS BLOB), CAST(chain AS BLOB) FROM record"
        " ORDER BY position DESC LIMIT ?",
        (NEWEST_ROWS,),
    ).fetchall()
    if newest and newest[0][2] != head:
        return "the newest row is not the one that was written last"
    for (position, payload, chain), (before, _, previous) in pairwise(newest):
        if before == position - 1 and link(previous, payload) != chain:
            return f"row {position} does not follow from the one before it"
    if newest and newest[-1][0] == 1 and link(first_link(first), newest[-1][1]) != newest[-1][2]:
        return "row 1 was altered"
    return None


def _set_aside(path: Path, utc_ns: int) -> Path | None:
    """Rename the database and what lies beside it; return its new name, where it was there."""
    moment = datetime.fromtimestamp(utc_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = [
        f"journal.corrupt-{moment}",
        *(f"journal.corrupt-{moment}-{n}" for n in range(2, 1000)),
    ]
    target = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    was_there = path.exists()
    for file in database.database_files(path):
        if file.exists():
            file.rename(target.with_name(target.name + file.name.removeprefix(path.name)))
    path.with_name(DAMAGE_MARK).unlink(missing_ok=True)
    sync_folder(path.parent)
    return target if was_there else None
