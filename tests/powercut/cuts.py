"""Cuts the power after every call of a day, and has the product open its journal each time.

As a program: ``python -m tests.powercut.cuts SEED VERDICTS [EVERY] [DAYS]``; the cut of every
EVERY-th call is tried, and always those around each sync and of each change of the database itself.
Several days, of SEED and the seeds after it, are cut side by side. Ends with 1 when a promise was
broken.

What a cut leaves is opened once for each different disk: the product finds the same in the same
bytes. Each cut is held to what had been promised by then.
"""

import hashlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from edge.journal.database import Synchronous
from edge.journal.entries import RecordKind, body
from edge.journal.ledger import Ledger
from edge.journal.open import Journal, open_journal
from edge.journal.outbox import Outbox
from edge.journal.query import Query, query
from edge.journal.verification import verify_chain
from edge.system.processor import usable_cores
from tests.powercut.day import digest, given_up
from tests.powercut.disk import Content, Disk
from tests.powercut.trace import MARKS, Call, build_tracer, calls, run_traced, traced
from tests.support.journaling import verdict

DATABASE = "journal.db"
# Rebuilt by SQLite at the first opening after a boot, whatever is in it.
SHARED_MEMORY = "journal.db-shm"
WRITE_AHEAD_LOG = "journal.db-wal"
VERDICTS_PER_PROCESS = 500
# Of what was found; only neighbouring cuts leave the same.
MAX_REMEMBERED = 2000
_CHUNK = 1 << 16

_OPENS_AGAIN = """
import sys
from pathlib import Path
from edge.journal.open import open_journal
for _ in sys.stdin:
    open_journal(Path(sys.argv[1])).close()
    print(flush=True)
"""


@dataclass(slots=True)
class Promised:
    """What the day had heard at a moment of it.

    Attributes:
        journals: UUIDs it was opened under.
        committed: digest of each payload, by kind and number.
        positions: of these.
        settled: positions that the broker had, so that retention may remove them.
        given_up: numbers of verdicts that events of these say were dropped from a full journal.
    """

    journals: list[str] = field(default_factory=list)
    committed: dict[tuple[str, int], str] = field(default_factory=dict)
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)

    def read(self, mark: str) -> None:
        words = mark.split()
        match words[0]:
            case "opened":
                self.journals.append(words[1])
            case "committed":
                key = words[1], int(words[2])
                assert key not in self.committed, f"{key}: a number was given twice"
                self.committed[key] = words[4]
                self.positions[key] = int(words[3])
            case "settled":
                self.settled.update(map(int, words[1:]))
            case "given_up":
                self.given_up.update(map(int, words[1:]))


class Recording:
    """A day that was really written, and the place where its cuts are opened.

    A journal knows its file by inode: what is played back goes into the file of the recording.
    """

    def __init__(
        self, folder: Path, seed: int, verdicts: int, synchronous: Synchronous = Synchronous.FULL
    ) -> None:
        self.root = folder / "journal"
        self.root.mkdir()
        self.trace = folder / "trace"
        self.library = build_tracer(folder)
        # Under second names, so that what is removed at the first keeps its memory.
        self._kept = {DATABASE: folder / "kept.db", WRITE_AHEAD_LOG: folder / "kept.wal"}
        for first in range(0, verdicts, VERDICTS_PER_PROCESS):
            wanted = min(VERDICTS_PER_PROCESS, verdicts - first)
            day = [self.root, seed, wanted, 1000 * first, synchronous.value]
            arguments = ["-m", "tests.powercut.day", *map(str, day)]
            status = run_traced(self.library, self.root, self.trace, arguments)
            assert status in (0, -9), f"the day ended with {status}"
        os.link(self.root / DATABASE, self._kept[DATABASE])

    def lay(self, content: Content, chance: random.Random) -> None:
        """Make the folder what a cut left."""
        for file in self.root.iterdir():
            file.unlink()
        for name, held in content.items():
            kept = self._kept.get(name)
            _overwrite(kept or self.root / name, held)
            if kept is not None:
                os.link(kept, self.root / name)
        if chance.random() < 0.5:
            noise = chance.randbytes(chance.choice((7, 32768)))
            (self.root / SHARED_MEMORY).write_bytes(noise)


def _overwrite(path: Path, content: bytes) -> None:
    """Give a file this content within the memory that it has."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        assert os.write(descriptor, content) == len(content)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


class OpensAgain:
    """A process of its own that opens the journal when asked, and whose calls are traced."""

    def __init__(self, recording: Recording) -> None:
        self._trace = recording.root.with_name("again")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _OPENS_AGAIN, str(recording.root)],
            env=traced(recording.library, recording.root, self._trace),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def opened(self) -> list[Call]:
        """Open and close the journal; return the calls of that."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._trace.write_bytes(b"")
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"\n", "the journal was not opened again"
        return list(calls(self._trace))


@dataclass(frozen=True, slots=True)
class Found:
    """What a journal holds after a cut.

    Attributes:
        journal: its UUID.
        rows: digest of each payload, by kind and number.
        given_up: numbers of verdicts that events say were dropped from a full journal.
        waiting: positions that are to be sent.
        next_number: that the next verdict gets.
    """

    journal: str
    rows: dict[tuple[str, int], str]
    given_up: frozenset[int]
    waiting: frozenset[int]
    next_number: int


class Openings:
    """Has the product open what cuts left, and remembers what it found.

    The journal is opened for each different disk, by each byte of each file, and the noise in its
    shared memory is drawn from those bytes. It is read, written and followed through its chain for
    each different database that an opening came to, by each byte of each page.

    Attributes:
        disks: that were opened.
        databases: that were read.
        given_up: numbers of the verdicts that these say were dropped.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._digests = Digests()
        self._by_disk: dict[bytes, Found] = {}
        self._by_database: dict[bytes, Found] = {}
        self.disks = self.databases = 0
        self.given_up: set[int] = set()

    def find(self, content: Content) -> Found:
        """Return what the product finds on a disk.

        Raises:
            AssertionError: it is damaged, incomplete, or taken for a copy.
        """
        key = self._digests.digest(content)
        found = self._by_disk.get(key)
        if found is None:
            self._recording.lay(content, random.Random(key))
            found = self._opened()
            _remember(self._by_disk, key, found)
            self.disks += 1
        return found

    def _opened(self) -> Found:
        root = self._recording.root
        with closing(open_journal(root, check_limit_s=60.0)) as journal:
            assert journal.quarantined is None and journal.damage is None, journal.damage
            assert not journal.lost, f"numbers were lost: {journal.lost}"
            assert journal.copied is None, f"taken for a copy: {journal.copied}"
            key = hashlib.sha256(journal.connection.serialize()).digest()
            known = self._by_database.get(key)
            if known is not None:
                assert journal.journal == known.journal
                return known
            found = _read(journal)
        report = verify_chain(root / DATABASE)
        assert report.fault is None, report.fault
        _remember(self._by_database, key, found)
        self.databases += 1
        self.given_up |= found.given_up
        return found


def _remember(known: dict[bytes, Found], key: bytes, found: Found) -> None:
    known[key] = found
    if len(known) > MAX_REMEMBERED:
        del known[next(iter(known))]


class Digests:
    """Digests of files that differ little from those before them."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[bytes, list[bytes]]] = {}

    def digest(self, content: Content) -> bytes:
        """Return a SHA-256 of names, lengths and bytes."""
        whole = hashlib.sha256()
        for name in sorted(content):
            held = content[name]
            whole.update(f"{name} {len(held)}\n".encode())
            for one in self._chunks(name, held):
                whole.update(one)
        return whole.digest()

    def _chunks(self, name: str, held: bytes) -> list[bytes]:
        before, digests = self._before.get(name, (b"", []))
        if held is before:
            return digests
        found = []
        for number, begin in enumerate(range(0, len(held), _CHUNK)):
            chunk = held[begin : begin + _CHUNK]
            same = chunk == before[begin : begin + _CHUNK]
            found.append(digests[number] if same else hashlib.sha256(chunk).digest())
        self._before[name] = held, found
        return found


def _read(journal: Journal) -> Found:
    """Read a journal as those do who have it open, and write the next verdict."""
    rows = list(query(journal.path, Query()))
    with closing(Outbox(journal.path)) as outbox:
        waiting = [row.position for kind in RecordKind for row in outbox.pending(kind, 0, 10_000)]
    ledger = Ledger(journal.connection, journal.journal)
    ledger.begin(ledger.totals.station_ns)
    one = verdict(0)
    added = ledger.append(one, body(one), 0, kept_only=False)
    ledger.commit()
    return Found(
        journal=journal.journal,
        rows={(row.kind.value, row.seq): digest(row.payload) for row in rows},
        given_up=frozenset(number for row in rows for number in given_up(row.payload)),
        waiting=frozenset(waiting),
        next_number=added.seq,
    )


def check(found: Found, promised: Promised) -> None:
    """Hold what is there after a cut to what was promised.

    Raises:
        AssertionError: names what is lost, torn, or given twice.
    """
    if promised.committed:
        assert found.journal == promised.journals[-1]
    for key, expected in promised.committed.items():
        kept = found.rows.get(key)
        if kept is None:
            kind, number = key
            dropped = number in found.given_up or number in promised.given_up
            gone = promised.positions[key] in promised.settled or (kind == "verdict" and dropped)
            assert gone, f"{key} was committed and is lost"
        else:
            assert kept == expected, f"{key} is not what was committed"
    unsent = {
        promised.positions[key]
        for key in promised.committed.keys() & found.rows.keys()
        if promised.positions[key] not in promised.settled
    }
    assert unsent <= found.waiting, f"rows {sorted(unsent - found.waiting)} are not sent any more"
    newest = max((seq for kind, seq in promised.committed if kind == "verdict"), default=0)
    assert found.next_number > newest, f"{found.next_number} is given twice"


@dataclass(slots=True)
class Tried:
    """What was done.

    Attributes:
        points: calls after which another disk may be left than before them.
        opened: cuts whose disk was opened, or was the same as one that had been, by kind.
        disks: that were opened, each different from the others.
        databases: that were found on them and read, each different from the others.
        verdicts: promised at the end.
        given_up: of these, dropped from a full journal and named in an event.
    """

    points: int = 0
    opened: Counter[str] = field(default_factory=Counter)
    disks: int = 0
    databases: int = 0
    verdicts: int = 0
    given_up: int = 0

    def add(self, other: "Tried") -> None:
        self.points += other.points
        self.opened.update(other.opened)
        self.disks += other.disks
        self.databases += other.databases
        self.verdicts += other.verdicts
        self.given_up += other.given_up

    def __str__(self) -> str:
        return (
            f"{self.verdicts} verdicts committed, {self.given_up} of them given up, "
            f"{self.points} cut points, {self.opened.total()} cuts, "
            f"{self.disks} different disks opened, {self.databases} different databases read"
        )


def try_cuts(recording: Recording, seed: int, every: int = 1, again: int = 40) -> Tried:
    """Cut after the calls of a recording.

    After each sync, whatever ``every`` is: nothing kept but what is confirmed. After each
    ``every``-th call, and each that changes the database itself: all kept, the newest write torn,
    any sectors of what is not confirmed; and after each ``again``-th of these a second time, while
    the journal is opened.

    Raises:
        AssertionError: with the call and the kind of cut.
    """
    disk = Disk(recording.root, ignored=(SHARED_MEMORY, MARKS))
    promised, done, openings = Promised(), Tried(), Openings(recording)
    names: dict[int, str] = {}
    text, thorough = b"", 0
    with OpensAgain(recording) as opens_again:
        for number, call in enumerate(calls(recording.trace)):
            if call.what in "Oo":
                names[call.descriptor] = Path(call.content.decode()).name
            name = names.get(call.descriptor) if call.what in "wts" else None
            if call.what == "w" and name == MARKS:
                *lines, text = (text + call.content).split(b"\n")
                for line in lines:
                    promised.read(line.decode())
            if not disk.follow(call):
                continue
            done.points += 1
            chance = random.Random(f"{seed} {number}")
            kinds: dict[str, Callable[[], Content]] = (
                {"confirmed": disk.confirmed} if call.what == "s" else {}
            )
            if done.points % every == 0 or (name == DATABASE and call.what in "wt"):
                thorough += 1
                kinds |= {
                    "all kept": disk.all_kept,
                    "torn": partial(disk.torn, chance),
                    "reordered": partial(disk.reordered, chance),
                }
            for kind, make in kinds.items():
                try:
                    left = make()
                    check(openings.find(left), promised)
                    done.opened[kind] += 1
                    if kind == "reordered" and thorough % again == 0:
                        recording.lay(left, chance)
                        opening = Disk(recording.root, (SHARED_MEMORY,), left)
                        for second in opens_again.opened():
                            if opening.follow(second):
                                for twice in (opening.confirmed(), opening.reordered(chance)):
                                    check(openings.find(twice), promised)
                                    done.opened["twice"] += 1
                except BaseException as error:
                    error.add_note(f"seed {seed}, cut after call {number} ({call.what}), {kind}")
                    raise
    done.disks, done.databases = openings.disks, openings.databases
    done.verdicts = sum(kind == "verdict" for kind, _ in promised.committed)
    done.given_up = len(openings.given_up)
    return done


def cut_day(seed: int, verdicts: int, every: int) -> Tried:
    """Record the day of a seed, and cut it."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        return try_cuts(Recording(Path(folder), seed, verdicts), seed, every)


def main(seed: str, verdicts: str, every: str = "1", days: str = "1") -> int:
    began = time.monotonic()
    seeds = range(int(seed), int(seed) + int(days))
    whole = Tried()
    with ProcessPoolExecutor(usable_cores(), get_context("fork")) as pool:
        one_day = partial(cut_day, verdicts=int(verdicts), every=int(every))
        for number, done in zip(seeds, pool.map(one_day, seeds), strict=True):
            whole.add(done)
            print(f"seed {number}: {done}, nothing lost", flush=True)
    kinds = ", ".join(f"{count} {kind}" for kind, count in whole.opened.items())
    print(
        f"{len(seeds)} days: {whole} ({kinds}): 0 lost, 0 numbers twice, chain whole; "
        f"{time.monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
