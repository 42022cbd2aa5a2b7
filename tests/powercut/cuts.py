"""Cuts the power after every call of a day, and has the product open its journal each time.

As a program: ``python -m tests.powercut.cuts SEED VERDICTS [EVERY] [DAYS]``; the cut of every
EVERY-th call is tried, and always those around each sync. Several days, of SEED and the seeds after
it, are cut side by side. Ends with 1 when a promise was broken.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from edge.journal.database import Synchronous
from edge.journal.entries import RecordKind, body
from edge.journal.ledger import Ledger
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.journal.query import Query, query
from edge.journal.verification import verify_chain
from edge.system.processor import usable_cores
from tests.powercut.day import digest
from tests.powercut.disk import Content, Disk
from tests.powercut.trace import MARKS, build_tracer, calls, run_traced
from tests.support.journaling import verdict

DATABASE = "journal.db"
# Rebuilt by SQLite at the first opening after a boot, whatever is in it.
SHARED_MEMORY = "journal.db-shm"
VERDICTS_PER_PROCESS = 500


_OPENING = """
import sys
from pathlib import Path
from edge.journal.open import open_journal
open_journal(Path(sys.argv[1])).close()
"""


@dataclass(slots=True)
class Promised:
    """What the day had heard at a moment of it.

    Attributes:
        journals: UUIDs it was opened under.
        committed: digest of each payload, by kind and number.
        positions: of these.
        settled: positions that the broker had, so that retention may remove them.
    """

    journals: list[str] = field(default_factory=list)
    committed: dict[tuple[str, int], str] = field(default_factory=dict)
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)

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
        self._kept = folder / "kept.db"
        self._again = folder / "again"
        self._library = library = build_tracer(folder)
        for first in range(0, verdicts, VERDICTS_PER_PROCESS):
            wanted = min(VERDICTS_PER_PROCESS, verdicts - first)
            day = [self.root, seed, wanted, 1000 * first, synchronous.value]
            arguments = ["-m", "tests.powercut.day", *map(str, day)]
            status = run_traced(library, self.root, self.trace, arguments)
            assert status in (0, -9), f"the day ended with {status}"
        os.link(self.root / DATABASE, self._kept)

    def opened_again(self, content: Content, chance: random.Random) -> Path:
        """Have a process open what a cut left; return the trace of that."""
        self.lay(content, chance)
        self._again.unlink(missing_ok=True)
        arguments = ["-c", _OPENING, str(self.root)]
        assert run_traced(self._library, self.root, self._again, arguments) == 0
        return self._again

    def lay(self, content: Content, chance: random.Random) -> None:
        """Make the folder what a cut left."""
        for file in self.root.iterdir():
            file.unlink()
        for name, held in content.items():
            if name == DATABASE:
                self._kept.write_bytes(held)
                os.link(self._kept, self.root / name)
            else:
                (self.root / name).write_bytes(held)
        if chance.random() < 0.5:
            (self.root / SHARED_MEMORY).write_bytes(chance.randbytes(chance.choice((7, 32768))))


def check(root: Path, promised: Promised) -> None:
    """Open what a cut left, as a station does, and hold it to what was promised.

    Raises:
        AssertionError: names what is lost, torn, or given twice.
    """
    with closing(open_journal(root, check_limit_s=60.0)) as journal:
        assert journal.quarantined is None and journal.damage is None, journal.damage
        assert not journal.lost, f"numbers were lost: {journal.lost}"
        assert journal.copied is None, f"taken for a copy: {journal.copied}"
        if promised.committed:
            assert journal.journal == promised.journals[-1]
        rows = {(row.kind.value, row.seq): row for row in query(journal.path, Query())}
        given_up = set(_given_up(row.payload for row in rows.values()))
        for key, expected in promised.committed.items():
            row = rows.get(key)
            if row is None:
                gone = promised.positions[key] in promised.settled or key in given_up
                assert gone, f"{key} was committed and is lost"
            else:
                assert digest(row.payload) == expected, f"{key} is not what was committed"
        with closing(Outbox(journal.path)) as outbox:
            waiting = {
                row.position for kind in RecordKind for row in outbox.pending(kind, 0, 10_000)
            }
        unsent = {
            promised.positions[key]
            for key in promised.committed.keys() & rows.keys()
            if promised.positions[key] not in promised.settled
        }
        assert unsent <= waiting, f"rows {sorted(unsent - waiting)} are not sent any more"
        _check_next_numbers(Ledger(journal.connection, journal.journal), promised)
    report = verify_chain(root / DATABASE)
    assert report.fault is None, report.fault


def _check_next_numbers(ledger: Ledger, promised: Promised) -> None:
    ledger.begin(ledger.totals.station_ns)
    one = verdict(0)
    added = ledger.append(one, body(one), 0, kept_only=False)
    ledger.commit()
    assert (added.kind.value, added.seq) not in promised.committed, f"{added.seq} is given twice"
    newest = max((seq for kind, seq in promised.committed if kind == "verdict"), default=0)
    assert added.seq > newest


def _given_up(payloads: Iterator[bytes]) -> Iterator[tuple[str, int]]:
    """Return the verdicts that events say were dropped from a full journal."""
    for payload in payloads:
        if b"verdicts_dropped" not in payload:
            continue
        for part in json.loads(payload)["data"]["ranges"].split():
            first, last = map(int, part.split("-"))
            yield from (("verdict", seq) for seq in range(first, last + 1))


@dataclass(slots=True)
class Tried:
    """What was done: cuts by kind, and what was promised at the end."""

    points: int = 0
    opened: dict[str, int] = field(default_factory=dict)
    verdicts: int = 0


def try_cuts(recording: Recording, seed: int, every: int = 1, again: int = 40) -> Tried:
    """Cut after the calls of a recording.

    After each sync, whatever ``every`` is: nothing kept but what is confirmed. After each
    ``every``-th call: all kept, the newest write torn, any sectors of what is not confirmed; and
    after each ``again``-th of these a second time, while the journal is opened.

    Raises:
        AssertionError: with the call and the kind of cut.
    """
    disk = Disk(recording.root, ignored=(SHARED_MEMORY, MARKS))
    promised, done = Promised(), Tried()
    marks, text = -1, b""
    for number, call in enumerate(calls(recording.trace)):
        if call.what in "Oo" and call.content.endswith(f"/{MARKS}".encode()):
            marks = call.descriptor
        if call.what == "w" and call.descriptor == marks:
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
        if done.points % every == 0:
            kinds |= {
                "all kept": disk.all_kept,
                "torn": partial(disk.torn, chance),
                "reordered": partial(disk.reordered, chance),
            }
        for kind, make in kinds.items():
            try:
                left = make()
                recording.lay(left, chance)
                check(recording.root, promised)
                if kind == "reordered" and done.points % (every * again) == 0:
                    cut_twice = _cut_again(recording, left, promised, chance)
                    done.opened["twice"] = done.opened.get("twice", 0) + cut_twice
            except BaseException as error:
                error.add_note(f"seed {seed}, cut after call {number} ({call.what}), {kind}")
                raise
            done.opened[kind] = done.opened.get(kind, 0) + 1
    done.verdicts = sum(kind == "verdict" for kind, _ in promised.committed)
    return done


def _cut_again(
    recording: Recording, content: Content, promised: Promised, chance: random.Random
) -> int:
    """Cut the power a second time, after each call of the opening after the first cut."""
    disk = Disk(recording.root, (SHARED_MEMORY,), content)
    done = 0
    for call in list(calls(recording.opened_again(content, chance))):
        if disk.follow(call):
            for left in (disk.confirmed(), disk.reordered(chance)):
                recording.lay(left, chance)
                check(recording.root, promised)
                done += 1
    return done


def cut_day(seed: int, verdicts: int, every: int) -> Tried:
    """Record the day of a seed, and cut it."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        return try_cuts(Recording(Path(folder), seed, verdicts), seed, every)


def main(seed: str, verdicts: str, every: str = "1", days: str = "1") -> int:
    began = time.monotonic()
    seeds = range(int(seed), int(seed) + int(days))
    opened: Counter[str] = Counter()
    committed = points = 0
    with ProcessPoolExecutor(usable_cores(), get_context("fork")) as pool:
        one_day = partial(cut_day, verdicts=int(verdicts), every=int(every))
        for number, done in zip(seeds, pool.map(one_day, seeds), strict=True):
            opened.update(done.opened)
            committed, points = committed + done.verdicts, points + done.points
            print(
                f"seed {number}: {done.verdicts} verdicts committed, {done.points} cut points, "
                f"{sum(done.opened.values())} cuts, nothing lost",
                flush=True,
            )
    kinds = ", ".join(f"{count} {kind}" for kind, count in opened.items())
    print(
        f"{len(seeds)} days: {committed} verdicts committed, {points} cut points, opened after "
        f"{opened.total()} cuts ({kinds}): 0 lost, 0 numbers twice, chain whole; "
        f"{time.monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
