"""How far a journal has come: kept in a backup of the station, and gone on from elsewhere.

The place that goes on is a copy without its rows. As every copy it gets a UUID of its own when it
is opened, and goes on behind the numbers that it knows, so that no number is given twice.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from edge.atomic_files import sync_folder
from edge.errors import OutputNotWritable
from edge.journal import database
from edge.journal.identity import Origin, read_formers, write_origin
from edge.journal.ledger import read_totals
from edge.section import Section

_Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")]
_Number = Annotated[int, Field(ge=0, lt=2**62)]
# Of no file: what is opened with it is a copy.
_NOWHERE = Origin(inode=0, generation=0, machine="", interfaces=frozenset())


class FormerNumbers(Section):
    """A UUID that records had up to a row."""

    journal: _Uuid
    position: _Number
    verdict_seq: _Number
    event_seq: _Number


class JournalNumbers(Section):
    """The newest numbers of a journal, and the end of its hash chain."""

    journal: _Uuid
    position: _Number
    verdict_seq: _Number
    event_seq: _Number
    station_ns: _Number
    chain: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    former: tuple[FormerNumbers, ...] = Field(default=(), max_length=10_000)


def read_numbers(folder: Path) -> JournalNumbers | None:
    """Return how far the journal of a folder has come, also while it is written; None without one.

    Raises:
        JournalUnavailable, JournalUnsuitable: it cannot be read, or is none.
    """
    path = folder / database.FILE_NAME
    if not path.exists():
        return None
    with closing(database.connect_reading(path)) as connection:
        try:
            connection.execute("BEGIN")
            (journal,) = connection.execute("SELECT journal FROM meta").fetchone()
            totals = read_totals(connection)
            former = read_formers(connection)
        except sqlite3.Error as error:
            raise database.unreadable(path, error) from error
    return JournalNumbers(
        journal=journal,
        position=totals.position,
        verdict_seq=totals.verdict_seq,
        event_seq=totals.event_seq,
        station_ns=totals.station_ns,
        chain=bytes(totals.chain).hex(),
        former=tuple(
            FormerNumbers(
                journal=one.journal,
                position=one.position,
                verdict_seq=one.verdict_seq,
                event_seq=one.event_seq,
            )
            for one in former
        ),
    )


def begin_behind(folder: Path, numbers: JournalNumbers, created_utc_ns: int) -> None:
    """Make a journal without records that goes on behind these numbers when it is opened.

    Raises:
        OutputNotWritable: the folder cannot be written, or holds a journal.
        JournalUnsuitable: a station has it.
    """
    lock = database.lock_folder(folder)
    path = folder / database.FILE_NAME
    try:
        if path.exists():
            raise OutputNotWritable(
                f"{path}: a journal is there already. Move its folder away, or set journal.folder "
                "to a new one."
            )
        path.touch(mode=0o640)
        with closing(database.connect(path, database.Synchronous.FULL)) as connection:
            database.create_tables(connection, created_utc_ns)
            connection.execute("BEGIN IMMEDIATE")
            _write(connection, numbers)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sync_folder(folder)
    except (OSError, sqlite3.Error) as error:
        for file in database.database_files(path):
            file.unlink(missing_ok=True)
        raise OutputNotWritable(
            f"{path}: cannot be written ({error}). Check the folder, free space and permissions."
        ) from error
    finally:
        lock.release()


def _write(connection: sqlite3.Connection, numbers: JournalNumbers) -> None:
    chain = bytes.fromhex(numbers.chain)
    connection.execute("UPDATE meta SET journal = ?", (numbers.journal,))
    connection.execute(
        "UPDATE tally SET position = ?, verdict_seq = ?, event_seq = ?, chain = ?, station_ns = ?",
        (numbers.position, numbers.verdict_seq, numbers.event_seq, chain, numbers.station_ns),
    )
    connection.executemany(
        "INSERT INTO former VALUES (?, ?, ?, ?)",
        [(one.journal, one.position, one.verdict_seq, one.event_seq) for one in numbers.former],
    )
    if numbers.position:  # the rows up to it are as if retention had removed them
        connection.execute("INSERT INTO bridge VALUES (?, ?)", (numbers.position, chain))
    write_origin(connection, _NOWHERE)
