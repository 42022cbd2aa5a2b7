"""What was committed, or written whole, outlives a power cut at any moment; a few cuts of many."""

import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edge.journal.database import Synchronous
from edge.journal.high_water_mark import PUT_BACK_AFTER_S
from tests.powercut.cuts import Recording, try_cuts
from tests.powercut.disk import Disk
from tests.powercut.trace import build_tracer, calls, run_traced
from tests.soak import times


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that costs no disk."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_no_cut_of_the_power_loses_a_committed_verdict(memory: Path) -> None:
    recording = Recording(memory, seed=3, verdicts=times(20, 500))
    done = try_cuts(recording, seed=3, every=times(16, 5), again=times(14, 40))
    assert done.verdicts >= times(20, 500)
    assert min(done.opened.values()) >= 12 and len(done.opened) == 5


def test_a_journal_that_does_not_wait_for_the_disk_is_found_out(memory: Path) -> None:
    recording = Recording(memory, 4, 10, Synchronous.NORMAL)
    with pytest.raises(AssertionError, match="lost"):
        try_cuts(recording, seed=4, every=9)


WRITES_AT_ONCE = """
import sys
from pathlib import Path
from edge.atomic_files import write_whole
write_whole(Path(sys.argv[1]), b"old")
write_whole(Path(sys.argv[1]), b"new" * 10_000)
"""
# More than the buffer of a file: its first half is on its way to the disk before the second.
WRITES_STREAMED = """
import sys
from pathlib import Path
from edge.atomic_files import whole_file
for content, times in ((b"old", 1), (b"new" * 100, 100)):
    with whole_file(Path(sys.argv[1])) as file:
        for _ in range(times):
            file.write(content)
"""


@pytest.mark.parametrize("writes", [WRITES_AT_ONCE, WRITES_STREAMED])
def test_a_file_that_was_written_whole_has_its_name_on_the_disk(memory: Path, writes: str) -> None:
    root = memory / "root"
    root.mkdir()
    assert (
        run_traced(build_tracer(memory), root, memory / "trace", ["-c", writes, f"{root}/f"]) == 0
    )

    disk, whole = Disk(root), set()
    for number, call in enumerate(calls(memory / "trace")):
        if disk.follow(call):
            chance = random.Random(number)
            for content in (disk.confirmed(), disk.torn(chance), disk.reordered(chance)):
                whole.add(content.get("f"))

    assert whole <= {None, b"old", b"new" * 10_000}
    assert disk.confirmed() == {"f": b"new" * 10_000}


NOTES = """
import sys
from dataclasses import fields
from pathlib import Path
from edge.journal.high_water_mark import HighWaterMark
from edge.journal.ledger import JournalTotals
names = [field.name for field in fields(JournalTotals)]
for start_s in (0, 100, 5_000):  # the last after hours without power
    clock = iter(range(start_s, start_s + 4_000, 200))
    mark = HighWaterMark(Path(sys.argv[1]), "one", lambda: next(clock))
    for number in range(12 if start_s == 0 else 2):
        mark.record(JournalTotals(**dict.fromkeys(names, number)))
    mark.close()
"""


def test_no_cut_leaves_a_witness_that_looks_put_back(memory: Path) -> None:
    """The file system may bring the time of a change to the disk long before the content."""
    root = memory / "root"
    root.mkdir()
    assert run_traced(build_tracer(memory), root, memory / "trace", ["-c", NOTES, str(root)]) == 0

    disk, noted = Disk(root), 0
    for call in calls(memory / "trace"):
        if not disk.follow(call):
            continue
        for file in disk.names.values():
            if file.durable:
                changed_s, written_s = (
                    int(line.split()[4]) for line in (file.cached, file.durable)
                )
                noted += 1
                assert changed_s - written_s <= PUT_BACK_AFTER_S
    assert noted >= 16
