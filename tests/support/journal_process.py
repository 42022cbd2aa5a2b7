"""A process that writes a journal and says what is committed; and what is to hold when it dies.

As a program: ``journal_process FOLDER FIRST`` submits numbered entries without end;
``journal_process FOLDER FIRST LIMIT COUNT`` submits so many while no file may grow beyond LIMIT
bytes, until a line on its standard input lifts that limit.
"""

import json
import random
import resource
import subprocess
import sys
import threading
from pathlib import Path

from edge.journal.entries import Committed, JournalRefuses, RecordKind
from edge.journal.open import open_journal
from edge.journal.verification import verify_chain
from edge.journal.writer import JournalWriter
from tests.support.journaling import PATIENCE_S, event, rows, verdict

KILLS_PER_SEED = 3
EVERY_NTH_AN_EVENT = 7


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start the program; its output is a line for each thing that happened."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.journal_process", str(folder), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def check_kills(folder: Path, seed: int) -> int:
    """Kill a writing process at random moments; everything it told of must be there, once.

    Returns:
        How many rows survived.
    """
    chance = random.Random(seed)
    reported: dict[tuple[str, int], int] = {}
    for _ in range(KILLS_PER_SEED):
        first = 1 + max(reported.values(), default=0) + 1_000_000
        process = start(folder, first)
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        killer = threading.Timer(chance.uniform(0.0, 0.3), process.kill)
        killer.start()
        lines += process.stdout.readlines()
        process.wait()
        killer.join()
        for line in lines:
            if line.endswith("\n"):  # the last may have been cut
                kind, seq, n = line.split()
                assert (kind, int(seq)) not in reported, "a number was given twice"
                reported[kind, int(seq)] = int(n)
    _check_file(folder, reported)
    return len(reported)


def _check_file(folder: Path, reported: dict[tuple[str, int], int]) -> None:
    journal = open_journal(folder)
    journal.close()
    assert journal.quarantined is None
    assert not journal.lost
    recorded = rows(journal.path)
    there = {(row.kind.value, row.seq): json.loads(row.payload)["n"] for row in recorded}
    assert reported.items() <= there.items()
    assert len(set(there.values())) == len(recorded)
    for kind in RecordKind:
        seqs = [row.seq for row in recorded if row.kind is kind]
        assert seqs == list(range(1, len(seqs) + 1))
    assert verify_chain(journal.path).fault is None


def main(folder: str, first: str, limit: str = "0", count: str = "0") -> None:
    say = sys.stdout

    def report(committed: Committed) -> None:
        n = committed.entry.content["n"]
        say.write(f"{committed.kind.value} {committed.seq} {n}\n")
        say.flush()

    def report_trouble(trouble: str | None) -> None:
        say.write(f"trouble: {trouble}\n")
        say.flush()

    writer = JournalWriter(journal=open_journal(Path(folder)), on_trouble=report_trouble)
    threading.Thread(target=writer.run, daemon=True).start()
    max_bytes = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), max_bytes))
    n = int(first)
    end = n + int(count) if int(count) else sys.maxsize
    while n < end:
        try:
            writer.submit(event(n) if n % EVERY_NTH_AN_EVENT == 0 else verdict(n), report)
            n += 1
        except JournalRefuses:
            writer.flush(0.01)
    sys.stdin.readline()
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    say.write(f"flushed: {writer.flush(PATIENCE_S)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
