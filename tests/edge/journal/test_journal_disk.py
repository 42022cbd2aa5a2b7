"""A disk that refuses: accepted entries wait, and nothing is half-written."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import OutputNotWritable
from edge.journal.bounds import Bounds
from edge.journal.entries import JournalRefuses, JournalUnavailable, RecordKind, Refusal
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.journal.query import Query
from edge.journal.verification import verify_chain
from tests.support.journal_process import start
from tests.support.journaling import (
    PATIENCE_S,
    RunningWriter,
    numbers,
    rows,
    running_writer,
    verdict,
    wait_until,
)

SMALL_BYTES = 4 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def test_a_first_start_on_a_full_disk_names_cause_and_next_step(small_disk: Path) -> None:
    (small_disk / "journal").mkdir()
    (small_disk / "journal" / "journal.lock").touch()
    fill(small_disk)

    with pytest.raises(OutputNotWritable, match=r"No space left on device.*Make room"):
        open_journal(small_disk / "journal")


def test_a_full_disk_makes_entries_wait_and_loses_none(small_disk: Path) -> None:
    troubles: list[str | None] = []
    with running_writer(small_disk, on_trouble=troubles.append, queue_bound=2000) as running:
        running.write(*(verdict(n) for n in range(10)))
        ballast = fill(small_disk)
        reported: list[int] = []
        for n in range(10, 1010):
            running.writer.submit(verdict(n), lambda committed: reported.append(committed.seq))
        wait_until(lambda: bool(troubles), "trouble")
        assert troubles[0] is not None
        assert "full" in troubles[0]
        assert not running.writer.flush(0.2)

        ballast.unlink()
        running.flush()

        assert troubles[-1] is None
        assert reported == list(range(11, 1011))
        assert numbers(running.path) == list(range(1, 1011))
        assert verify_chain(running.path).fault is None


def test_a_full_disk_fills_the_queue_and_then_refuses(small_disk: Path) -> None:
    with running_writer(small_disk, queue_bound=500) as running:
        running.write(verdict(0))
        ballast = fill(small_disk)

        accepted = 0
        with pytest.raises(JournalRefuses) as refused:
            for accepted in range(10_000):
                running.writer.submit(verdict(accepted))

        assert refused.value.refusal is Refusal.QUEUE_FULL
        ballast.unlink()
        running.flush()
        assert len(numbers(running.path)) == accepted + 1


def test_the_backlog_is_readable_and_drains_again_after_a_full_disk(small_disk: Path) -> None:
    bounds = Bounds(max_rows=1000, retention_days=1e-12)
    with running_writer(small_disk, bounds=bounds) as running:
        running.write(*(verdict(n) for n in range(500)))
        ballast = fill(small_disk)
        outbox = Outbox(running.path)
        waiting = [row.position for row in outbox.pending(RecordKind.VERDICT, 0, 1000)]

        assert len(waiting) == 500
        assert running.writer.acknowledge(waiting)
        ballast.unlink()
        running.flush()

        assert outbox.backlog().count == 0
        outbox.close()


def test_a_station_that_stops_on_a_full_disk_says_how_much_was_not_recorded(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.journal.writer.CLOSING_LIMIT_NS", 200_000_000)
    troubles: list[str | None] = []
    running = RunningWriter(small_disk, on_trouble=troubles.append)
    running.write(verdict(0))
    fill(small_disk)
    for n in range(1000):
        running.writer.submit(verdict(n))
    wait_until(lambda: bool(troubles), "trouble")

    running.end()

    with pytest.raises(JournalUnavailable, match=r"entr(y was|ies were) not recorded"):
        running.failures.raise_first()
    assert verify_chain(running.path).fault is None
    recorded = rows(running.path, Query(kind=RecordKind.VERDICT))
    there = [json.loads(row.payload)["n"] for row in recorded]
    left = [entry.content["n"] for entry in running.writer.unrecorded()]
    assert there + left == [0, *range(1000)]
    assert left


def test_an_input_output_error_makes_entries_wait_and_loses_none(tmp_path: Path) -> None:
    """The kernel refuses to let the log grow: EFBIG, which SQLite reports as an I/O error."""
    process = start(tmp_path, 1, 150_000, 400)
    assert process.stdin is not None
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or not lines[-1].startswith("trouble:"):
        lines.append(process.stdout.readline())
    assert "disk I/O error" in lines[-1]

    process.stdin.write("\n")
    process.stdin.close()
    lines += process.stdout.readlines()

    assert process.wait(PATIENCE_S) == 0
    assert "trouble: None\n" in lines
    assert lines[-1] == "flushed: True\n"
    reported = [int(line.split()[2]) for line in lines if line.split()[0] in ("verdict", "event")]
    assert reported == list(range(1, 401))
    path = tmp_path / "journal.db"
    assert verify_chain(path).rows == 400
    assert verify_chain(path).fault is None
