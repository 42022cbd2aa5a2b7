"""Whether a journal is the one that was written here, or a copy that was put back or cloned.

Numbers are given once for each journal's UUID. A copy does not know which numbers were given after
it was made, and of a clone both go on; so a copy gets a UUID of its own and goes on behind the
numbers it knows. What was recorded before keeps its UUID and its numbers.
"""

import fcntl
import hashlib
import hmac
import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from edge.journal.high_water_mark import HighWaterRecord
from edge.journal.ledger import JournalTotals

# Our application's, for hashing machine ids as machine-id(5) asks for.
_APPLICATION = UUID("4b1d7c5e-3a0f-4f0e-9d6c-2f6f1a1f8c57").bytes
# FS_IOC_GETVERSION: tells two files apart that had the same inode number one after the other.
_GET_GENERATION = 0x80087601
_NO_ADDRESS = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Origin:
    """Which file on which machine a database is.

    Attributes:
        inode, generation: of the file; generation 0 where the file system tells none.
        machine: systemd's machine id, hashed; empty where there is none.
        interfaces: hardware addresses of the network interfaces, hashed; empty where none is seen.
    """

    inode: int
    generation: int
    machine: str
    interfaces: frozenset[str]


@dataclass(frozen=True, slots=True)
class FormerJournal:
    """A UUID that the records of a journal had up to a row.

    Attributes:
        position: of the last row that was written under it.
        verdict_seq, event_seq: the highest numbers given under it.
    """

    journal: str
    position: int
    verdict_seq: int
    event_seq: int


def read_file_origin(path: Path, root: Path = Path("/")) -> Origin:
    """Look at a database's file and at this machine.

    SQLite must not have the file open in this process: closing it here would end SQLite's locks.

    Args:
        root: of the file system in which the machine is looked at.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        generation = 0
        with suppress(OSError):  # a file system that has none
            answer = fcntl.ioctl(descriptor, _GET_GENERATION, bytes(8))
            generation = int.from_bytes(answer[:4], "little")
        inode = os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
    return Origin(inode, generation, _machine(root), _interfaces(root))


def why_copied(
    written: Origin | None,
    now: Origin,
    seen: HighWaterRecord | None,
    high_water_mark_exists: bool,
    *,
    journal: str,
    totals: JournalTotals,
) -> str | None:
    """Tell why a database must be a copy; None when it is the one that was written here.

    Args:
        written: what was noted when it was opened last; None for a new one, and for one of a
            version that noted nothing.
        seen: what the witness says, where it can be read.
    """
    if written is None:
        return None
    generations = {written.generation, now.generation}
    if written.inode != now.inode or (0 not in generations and len(generations) > 1):
        return "its file is not the original file"
    if written.machine and now.machine and written.machine != now.machine:
        return "it was written on another machine"
    if written.interfaces and now.interfaces and not written.interfaces & now.interfaces:
        return "it was written on a machine with other network interfaces"
    # A first start that was cut short left none; what holds no row has given no number.
    if not high_water_mark_exists and totals.position:
        return "the witness file beside it is missing"
    if seen is None:
        return None
    if seen.journal != journal:
        return f"the witness file beside it belongs to journal {seen.journal}"
    if seen.position > totals.position:
        return f"it ends at row {totals.position}, but row {seen.position} had been written"
    if seen.put_back:
        return "the witness file beside it was restored from a copy"
    return None


def read_origin(connection: sqlite3.Connection) -> Origin | None:
    """Return what the database holds of its own origin."""
    found = connection.execute(
        "SELECT inode, generation, machine, interfaces FROM origin"
    ).fetchone()
    if found is None:
        return None
    inode, generation, machine, interfaces = found
    return Origin(int(inode), generation, machine, frozenset(interfaces.split()))


def write_origin(connection: sqlite3.Connection, origin: Origin) -> None:
    """Write down where the database is; within the caller's transaction."""
    connection.execute("DELETE FROM origin")
    connection.execute(
        "INSERT INTO origin VALUES (?, ?, ?, ?)",
        # As text: a number of the file system may be larger than SQLite's.
        (
            str(origin.inode),
            origin.generation,
            origin.machine,
            " ".join(sorted(origin.interfaces)),
        ),
    )


def assign_new_identity(connection: sqlite3.Connection, former: str, totals: JournalTotals) -> str:
    """Give what is recorded from now on a UUID of its own; within the caller's transaction."""
    journal = str(uuid4())
    connection.execute(
        "INSERT INTO former VALUES (?, ?, ?, ?)",
        (former, totals.position, totals.verdict_seq, totals.event_seq),
    )
    connection.execute("UPDATE meta SET journal = ?", (journal,))
    return journal


def read_formers(connection: sqlite3.Connection) -> list[FormerJournal]:
    """Return the UUIDs that the journal had before, oldest first."""
    return [
        FormerJournal(*found)
        for found in connection.execute(
            "SELECT journal, position, verdict_seq, event_seq FROM former ORDER BY rowid"
        )
    ]


def _machine(root: Path) -> str:
    try:
        identity = bytes.fromhex((root / "etc/machine-id").read_text().strip())
    except (OSError, ValueError):  # a container without one, or one that is being set up
        return ""
    return _hashed(identity) if len(identity) == 16 else ""


def _interfaces(root: Path) -> frozenset[str]:
    """Return what tells machines apart that were cloned with their machine id.

    Interfaces of containers and bridges have no device; wireless ones may change their address.
    """
    found = set()
    with suppress(OSError):
        for interface in (root / "sys/class/net").iterdir():
            if not (interface / "device").exists() or (interface / "wireless").exists():
                continue
            with suppress(OSError):
                address = (interface / "address").read_text().strip()
                if address and address != _NO_ADDRESS:
                    found.add(_hashed(address.encode())[:16])
    return frozenset(found)


def _hashed(what: bytes) -> str:
    return hmac.new(what, _APPLICATION, hashlib.sha256).hexdigest()[:32]
