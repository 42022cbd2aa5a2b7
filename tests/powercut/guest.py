"""Inside the virtual machine: opens the journal as the product does, and writes until the end.

Python's first program there; its standard output is the serial line. Lines:
``opening``, ``have KIND COUNT DIGEST``, ``fault TEXT``, ``ready``, ``committed KIND SEQ DIGEST``.
"""

import hashlib
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.journal.database import Synchronous
from edge.journal.entries import Committed, Entry, JournalRow, RecordKind
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.journal.query import Query, query
from edge.journal.verification import verify_chain
from edge.journal.writer import JournalWriter

FOLDER = Path("/data/journal")
QUEUE = 32


@dataclass(frozen=True)
class BootOptions:
    """What the host gives a boot on the kernel's command line.

    Attributes:
        named: how many records of each kind it was given.
        boot: number of this boot.
        synchronous: of the journal; ``normal`` is a journal that must be found out.
    """

    named: dict[str, int]
    boot: int
    synchronous: str

    @classmethod
    def parse(cls, line: str) -> "BootOptions":
        values = dict(word.partition("=")[::2] for word in line.split())
        named = (one.split(":") for one in values["named"].split(","))
        return cls(
            {kind: int(count) for kind, count in named}, int(values["boot"]), values["synchronous"]
        )


def print_line(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()[:16]


def committed_line(row: JournalRow | Committed) -> str:
    return f"committed {row.kind.value} {row.seq} {digest(row.payload)}"


def report_journal(
    path: Path, named: dict[str, int], line: Callable[[JournalRow], str] = committed_line
) -> None:
    """Report what is there of what the host was given, and name what it was not."""
    whole = {kind: hashlib.sha256() for kind in named}
    count = dict.fromkeys(named, 0)
    unnamed = []
    for row in query(path, Query()):
        kind = row.kind.value
        if row.seq <= named[kind]:
            count[kind] += 1
            whole[kind].update(digest(row.payload).encode())
        else:  # it was committed, and the power went before the line was out
            unnamed.append(line(row))
    for kind, seen in count.items():
        print_line(f"have {kind} {seen} {whole[kind].hexdigest()}")
    for one in unnamed:
        print_line(one)
    report = verify_chain(path)
    if report.fault is not None:
        print_line(f"fault chain: {report.fault.what}")


def open_checked(options: BootOptions) -> JournalWriter:
    """Open the journal, and report what is there of what the host was given."""
    journal = open_journal(FOLDER, Synchronous(options.synchronous))
    if journal.quarantined or journal.lost or journal.copied:
        print_line(f"fault {journal.damage} {journal.lost} {journal.copied}")
    report_journal(journal.path, options.named)
    return JournalWriter(journal=journal)


def committed(one: Committed) -> None:
    print_line(committed_line(one))


def write(writer: JournalWriter) -> None:
    """Record at an uneven pace, and acknowledge some of what waits, for ever."""
    chance = random.Random()
    threading.Thread(target=writer.run, daemon=True).start()
    outbox = Outbox(FOLDER / "journal.db")
    while True:
        for _ in range(chance.choice((1, 1, 3, 10))):
            kind = RecordKind.EVENT if chance.random() < 0.1 else RecordKind.VERDICT
            content = {
                "schema": f"{kind.value}/1",
                "n": chance.getrandbits(60),
                "filling": "x" * 1200,
            }
            if writer.waiting < QUEUE:
                writer.submit(Entry(kind, content, "OK", None), committed)
        if chance.random() < 0.3:
            rows = outbox.pending(RecordKind.VERDICT, 0, 64)
            writer.acknowledge(row.position for row in rows if chance.random() < 0.8)
        time.sleep(chance.choice((0.0, 0.02, 0.1)))


def main() -> None:
    options = BootOptions.parse(Path("/proc/cmdline").read_text())
    try:
        print_line("opening")
        writer = open_checked(options)
        print_line("ready")
        write(writer)
    except BaseException:
        print_line("fault " + traceback.format_exc().replace("\n", " | "))
        sys.exit(1)


if __name__ == "__main__":
    main()
