"""A journal's files that are no longer at their place: told, and what is in memory is kept."""

from contextlib import closing
from pathlib import Path

import pytest

from edge.journal.entries import JournalUnavailable, RecordKind
from edge.journal.outbox import Outbox
from edge.journal.verification import verify_chain
from tests.support.journaling import (
    RunningWriter,
    numbers,
    remove_folder,
    running_writer,
    verdict,
    wait_until,
)


def submit(running: RunningWriter, first: int, count: int, reported: list[int]) -> None:
    for n in range(first, first + count):
        running.writer.submit(verdict(n), lambda committed: reported.append(committed.seq))


def test_nothing_is_announced_of_what_is_written_into_a_folder_that_was_renamed(
    tmp_path: Path,
) -> None:
    troubles: list[str | None] = []
    reported: list[int] = []
    folder, elsewhere = tmp_path / "journal", tmp_path / "elsewhere"
    with running_writer(folder, on_trouble=troubles.append) as running:
        submit(running, 1, 5, reported)
        running.flush()
        folder.rename(elsewhere)
        submit(running, 6, 5, reported)
        wait_until(lambda: bool(troubles), "trouble")
        assert not running.writer.flush(0.2)
        assert reported == [1, 2, 3, 4, 5]

        elsewhere.rename(folder)
        running.flush()

    assert reported == list(range(1, 11))
    assert numbers(folder / "journal.db") == reported
    assert troubles[-1] is None
    assert f"{folder} was renamed to {elsewhere}" in str(troubles[0])


@pytest.mark.parametrize("removed", ["*", "journal.db*", "journal.db"])
def test_files_that_were_removed_are_written_anew_and_readers_go_over(
    removed: str, tmp_path: Path
) -> None:
    reported: list[int] = []
    folder = tmp_path / "journal"
    with running_writer(folder) as running:
        submit(running, 1, 5, reported)
        running.flush()
        with closing(Outbox(running.path)) as outbox:
            for file in folder.glob(removed):
                file.unlink()
            submit(running, 6, 5, reported)
            running.flush()
            assert outbox.backlog().last_seq[RecordKind.VERDICT] == 10
            assert (
                [row.seq for row in outbox.pending(RecordKind.VERDICT, 0, 100)]
                == reported
                == list(range(1, 11))
            )

    assert numbers(folder / "journal.db") == reported
    assert verify_chain(folder / "journal.db").fault is None
    with running_writer(folder) as again:
        assert (again.journal.journal, again.journal.former) == (running.journal.journal, None)


def test_a_journal_that_cannot_be_written_anew_at_once_is_so_later(tmp_path: Path) -> None:
    troubles: list[str | None] = []
    reported: list[int] = []
    folder, outside = tmp_path / "journal", tmp_path / "made"
    with running_writer(folder, on_trouble=troubles.append) as running:
        submit(running, 1, 5, reported)
        running.flush()
        remove_folder(folder)
        (outside / "journal.witness").mkdir(parents=True)  # no place for the witness
        outside.rename(folder)
        submit(running, 6, 5, reported)
        wait_until(lambda: any("cannot be opened" in str(one) for one in troubles), "trouble")
        (folder / "journal.witness").rmdir()
        running.flush()

    assert reported == list(range(1, 11)) == numbers(folder / "journal.db")
    assert troubles[-1] is None


@pytest.mark.parametrize("waiting", [0, 5])
def test_a_writer_that_stops_without_its_folder_makes_it_again(
    waiting: int, tmp_path: Path
) -> None:
    troubles: list[str | None] = []
    reported: list[int] = []
    folder = tmp_path / "journal"
    with running_writer(folder, on_trouble=troubles.append) as running:
        submit(running, 1, 5, reported)
        running.flush()
        remove_folder(folder)
        wait_until(lambda: bool(troubles), "trouble")
        submit(running, 6, waiting, reported)

    assert reported == list(range(1, 6 + waiting))
    assert numbers(folder / "journal.db") == reported
    assert running.writer.unrecorded() == []


def test_another_journal_at_the_place_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.journal.writer.CLOSING_LIMIT_NS", 200_000_000)
    other, folder = tmp_path / "other", tmp_path / "journal"
    with running_writer(other) as older:
        older.write(verdict(0))
    troubles: list[str | None] = []
    running = RunningWriter(folder, on_trouble=troubles.append)
    running.write(verdict(1))
    remove_folder(folder)
    other.rename(folder)
    before = (folder / "journal.db").read_bytes()
    wait_until(lambda: bool(troubles), "trouble")
    running.writer.submit(verdict(2))

    running.end()

    assert (folder / "journal.db").read_bytes() == before
    assert len(troubles) == 1, "told once"
    assert [entry.content["n"] for entry in running.writer.unrecorded()] == [2]
    with pytest.raises(JournalUnavailable, match="a different journal is there now"):
        running.failures.raise_first()


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_removed_log_loses_no_record(suffix: str, tmp_path: Path) -> None:
    troubles: list[str | None] = []
    reported: list[int] = []
    with running_writer(tmp_path, on_trouble=troubles.append) as running:
        submit(running, 1, 5, reported)
        running.flush()
        (tmp_path / f"journal.db{suffix}").unlink()
        wait_until(lambda: bool(troubles), "trouble")
        submit(running, 6, 5, reported)
        running.flush()
        assert None not in troubles, "only a new start cures it"

    assert reported == list(range(1, 11))
    assert numbers(tmp_path / "journal.db") == reported
    assert verify_chain(tmp_path / "journal.db").fault is None
    assert f"journal.db{suffix} of the journal in {tmp_path}" in str(troubles[0])
