"""A day of a journal, as a process that writes it: ``python -m tests.powercut.day``.

Every kind of change is in it: bursts of verdicts and events, acknowledgements that come soon, late
or not at all, dead letters, a journal that gets full and gives up OK verdicts, retention, ends in
order and kills. What is committed is written down in ``marks``, by the writer's own callback, and
so has its place among the calls of the trace.

Arguments: folder, seed, verdicts, first number, full or normal. The process ends, in order or by a
kill, once so many verdicts are committed.
"""

import ctypes
import hashlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from edge.journal.bounds import Bounds, Overflow
from edge.journal.database import Synchronous
from edge.journal.entries import Committed, JournalRefuses, RecordKind
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.journal.writer import JournalWriter
from tests.powercut.trace import MARKS
from tests.support.journaling import event, verdict

# Small, so that it gets full, and is checked in milliseconds.
BOUNDS = Bounds(max_rows=60, retention_days=0.02, overflow=Overflow.DROP_OLDEST_OK)
# An hour of the day lasts a hundredth of a second of ours.
SPEED = 360_000


def digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()[:16]


def given_up(payload: bytes) -> Iterator[int]:
    """Return the numbers of the verdicts that an event says were dropped from a full journal."""
    if b"verdicts_dropped" in payload:
        for part in json.loads(payload)["data"]["ranges"].split():
            first, last = map(int, part.split("-"))
            yield from range(first, last + 1)


class Day:
    """The journal, a broker that acknowledges when it likes, and the marks."""

    def __init__(self, folder: Path, chance: random.Random, synchronous: Synchronous) -> None:
        self._marks = os.open(folder / MARKS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._chance = chance
        journal = open_journal(folder, synchronous)
        self.mark(f"opened {journal.journal}")
        self.writer = JournalWriter(
            journal=journal, bounds=BOUNDS, clock_ns=lambda: time.monotonic_ns() * SPEED
        )
        self.committed = 0
        self._outbox = Outbox(journal.path)
        self._thread = threading.Thread(target=self.writer.run)
        self._thread.start()

    def mark(self, line: str) -> None:
        os.write(self._marks, f"{line}\n".encode())

    def burst(self, first: int, count: int) -> None:
        """Submit so many entries; each is marked once it is committed."""
        for n in range(first, first + count):
            result = self._chance.choices(("OK", "NOK", "ERROR"), (8, 1, 1))[0]
            entry = event(n) if self._chance.random() < 0.1 else verdict(n, result)
            while True:
                try:
                    self.writer.submit(entry, self._on_committed)
                    break
                except JournalRefuses:
                    self.writer.flush(60.0)
                    self.settle(1.0)
            if self._chance.random() < 0.3:
                self.writer.flush(60.0)

    def settle(self, share: float) -> None:
        """Acknowledge some of what waits, as a broker does; few are refused for good."""
        rows = [
            row
            for kind in RecordKind
            for row in self._outbox.pending(kind, 0, 500)
            if self._chance.random() < share
        ]
        waiting = [row.position for row in rows]
        refused = [one for one in waiting if self._chance.random() < 0.01]
        self.mark("settled " + " ".join(map(str, waiting)))
        # What says so may be removed from now on.
        if dropped := [number for row in rows for number in given_up(row.payload)]:
            self.mark("given_up " + " ".join(map(str, dropped)))
        for one in refused:
            self.writer.mark_dead_letter(one, "refused")
        self.writer.acknowledge(set(waiting) - set(refused))

    def end(self) -> None:
        self.writer.close()
        self._thread.join()
        self._outbox.close()

    def _on_committed(self, one: Committed) -> None:
        self.committed += one.kind is RecordKind.VERDICT
        self.mark(f"committed {one.kind.value} {one.seq} {one.position} {digest(one.payload)}")


def main(folder: str, seed: str, verdicts: str, first: str, synchronous: str) -> None:
    chance = random.Random(f"{seed} {first}")
    day = Day(Path(folder), chance, Synchronous(synchronous))
    n, wanted = int(first), int(verdicts)
    share = 0.9
    while day.committed < wanted:
        count = min(chance.choice((1, 2, 5, 12)), wanted - day.committed)
        day.burst(n, count)
        n += count
        if chance.random() < 0.05:
            share = chance.choice((0.0, 0.5, 0.9, 1.0))  # the broker is away, slow, or well
        if chance.random() < 0.2:
            day.writer.flush(60.0)
            day.settle(share)
    if chance.random() < 0.5:
        day.end()
    else:
        ctypes.CDLL(None).disk_trace_kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
