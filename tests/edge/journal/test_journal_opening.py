"""Opening a journal: sound, or set aside and said so; one writer; no number given twice."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge.errors import ConfigurationError, OutputNotWritable
from edge.journal import database
from edge.journal import open as opening
from edge.journal.entries import JournalDamaged, JournalUnavailable, JournalUnsuitable, RecordKind
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.journal.verification import verify_chain
from tests.support.journaling import RunningWriter, event, numbers, running_writer, verdict

UTC_NS = 1_700_000_000_000_000_000
PAGE_BYTES = 4096


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of 200 verdicts, closed in order."""
    folder = tmp_path_factory.mktemp("sound")
    with running_writer(folder) as running:
        running.write(*(verdict(n) for n in range(200)))
    return folder


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal whose newest rows are in its log only, as a killed process leaves it."""
    folder = tmp_path_factory.mktemp("left")
    copy = tmp_path_factory.mktemp("copy")
    with running_writer(folder) as running:
        running.write(*(verdict(n) for n in range(20)), event(20))
        for file in folder.iterdir():
            shutil.copy(file, copy)
    return copy


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "journal"))


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def zero_pages(path: Path) -> None:
    pages = path.stat().st_size // PAGE_BYTES
    overwrite(path, pages // 4 * PAGE_BYTES, bytes(pages // 2 * PAGE_BYTES))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut to half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut to one page": lambda path: os.truncate(path, PAGE_BYTES),
    "cut within a page": lambda path: os.truncate(path, path.stat().st_size - 1000),
    "emptied": lambda path: os.truncate(path, 0),
    "garbage header": lambda path: overwrite(path, 0, bytes(range(100))),
    "zeroed header": lambda path: overwrite(path, 0, bytes(100)),
    "zeroed pages": zero_pages,
    "garbage in the middle": lambda path: overwrite(path, 40 * PAGE_BYTES, os.urandom(8192)),
    "text": lambda path: path.write_text("no database\n" * 1000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside_and_a_new_journal_begins(
    damage: str, sound: Path, tmp_path: Path
) -> None:
    folder = copied(sound, tmp_path)
    path = folder / "journal.db"
    with closing(Outbox(path)) as outbox:
        before = outbox.pending(RecordKind.VERDICT, 0, 1)[0].payload
    DAMAGES[damage](path)
    damaged = path.read_bytes()

    with running_writer(folder) as running:
        journal = running.journal
        running.write(verdict(0))

    assert journal.quarantined is not None
    assert journal.quarantined.name.startswith("journal.corrupt-")
    assert journal.quarantined.read_bytes() == damaged
    assert journal.damage
    assert journal.journal.encode() not in before
    assert numbers(path) == [1]


def test_a_damaged_log_is_set_aside_with_its_database(left_behind: Path, tmp_path: Path) -> None:
    folder = copied(left_behind, tmp_path)
    path = folder / "journal.db"
    os.truncate(path, 0)

    journal = open_journal(folder, utc_ns=lambda: UTC_NS)
    journal.close()

    assert journal.quarantined == folder / "journal.corrupt-20231114T221320Z"
    assert (folder / "journal.corrupt-20231114T221320Z-wal").stat().st_size > 0


LOG_DAMAGES: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: path.unlink(),
    "garbage header": lambda path: overwrite(path, 0, bytes(range(32))),
    "garbage frame": lambda path: overwrite(path, 32, os.urandom(200)),
    "emptied": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("damage", LOG_DAMAGES)
def test_rows_lost_with_the_log_leave_a_gap_and_no_number_is_given_twice(
    damage: str, left_behind: Path, tmp_path: Path
) -> None:
    folder = copied(left_behind, tmp_path)
    LOG_DAMAGES[damage](folder / "journal.db-wal")
    (folder / "journal.db-shm").unlink()

    with running_writer(folder) as running:
        lost = running.journal.lost
        running.write(verdict(21))

    assert lost == {RecordKind.VERDICT: (1, 20), RecordKind.EVENT: (1, 1)}
    assert numbers(folder / "journal.db") == [21]
    report = verify_chain(folder / "journal.db")
    assert report.fault is not None
    assert "rows 1 to 21 are missing" in report.fault.what


def test_a_database_without_its_log_is_not_taken_for_whole(
    left_behind: Path, tmp_path: Path
) -> None:
    folder = copied(left_behind, tmp_path)
    assert verify_chain(folder / "journal.db").fault is None
    (folder / "journal.db-wal").unlink()
    (folder / "journal.db-shm").unlink()

    report = verify_chain(folder / "journal.db")

    assert report.fault is not None
    assert "rows 1 to 21 are missing, up to verdict 20" in report.fault.what


def test_a_killed_process_leaves_nothing_lost(left_behind: Path, tmp_path: Path) -> None:
    folder = copied(left_behind, tmp_path)

    with running_writer(folder) as running:
        assert running.journal.quarantined is None
        assert not running.journal.lost
        running.write(verdict(21))

    assert numbers(folder / "journal.db") == list(range(1, 22))


def test_a_torn_witness_is_no_witness(left_behind: Path, tmp_path: Path) -> None:
    folder = copied(left_behind, tmp_path)
    overwrite(folder / "journal.witness", 38, b"99")

    journal = open_journal(folder)
    journal.close()

    assert not journal.lost


def test_a_journal_that_was_deleted_is_reported(sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path)
    (folder / "journal.db").unlink()

    journal = open_journal(folder)
    journal.close()

    assert journal.damage == "the database is gone"
    assert journal.quarantined is None


def test_damage_that_the_check_does_not_reach_is_set_aside_at_the_next_start(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(sound, tmp_path)
    path = folder / "journal.db"
    monkeypatch.setattr(opening, "_first_fault", lambda connection, limit_s: None)
    zero_pages(path)
    running = RunningWriter(folder)
    running.writer.acknowledge(range(1, 201))

    running.end()

    with pytest.raises(JournalDamaged, match="sets the file aside"):
        running.failures.raise_first()
    journal = open_journal(folder)
    journal.close()
    assert journal.quarantined is not None
    again = open_journal(folder)
    again.close()
    assert again.quarantined is None


def test_a_check_that_takes_too_long_is_ended_and_the_newest_rows_are_looked_at(
    sound: Path, tmp_path: Path
) -> None:
    folder = copied(sound, tmp_path)
    with closing(sqlite3.connect(folder / "journal.db")) as connection, connection:
        connection.execute("UPDATE record SET payload = '{}' WHERE position = 150")

    journal = open_journal(folder, check_limit_s=0.0)
    journal.close()

    assert journal.damage == "row 150 does not follow from the one before it"


def test_a_newer_journal_is_refused_and_left_alone(sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path)
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        connection.execute("PRAGMA user_version = 2")

    with pytest.raises(ConfigurationError, match="newer version"):
        open_journal(folder)

    assert not list(folder.glob("journal.corrupt*"))


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        connection.execute("CREATE TABLE tools (name TEXT)")

    with pytest.raises(JournalUnsuitable, match="another program"):
        open_journal(tmp_path)

    assert not list(tmp_path.glob("journal.corrupt*"))


def test_a_start_that_ended_before_there_were_tables_goes_on(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")

    journal = open_journal(tmp_path)
    journal.close()

    assert journal.quarantined is None
    assert journal.damage is None


def test_a_second_process_is_refused_with_the_folder_and_the_first_ones_number(
    tmp_path: Path,
) -> None:
    with running_writer(tmp_path):
        script = (
            "import sys; from pathlib import Path; from edge.journal.open import open_journal\n"
            "open_journal(Path(sys.argv[1]))"
        )
        second = subprocess.run(
            [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False
        )

    assert second.returncode != 0
    assert f"{tmp_path}: another station writes this journal (process {os.getpid()})" in (
        second.stderr
    )
    open_journal(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputNotWritable, match=r"journal\.folder"):
        open_journal(tmp_path / "file" / "journal")


def test_reading_needs_a_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable, match="no journal exists"):
        Outbox(tmp_path / "journal.db")


def test_no_connection_keeps_more_of_the_file_than_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with (
        closing(open_journal(tmp_path)) as journal,
        closing(database.connect_reading(path)) as reading,
    ):
        for connection in (journal.connection, reading):
            (kept,) = connection.execute("PRAGMA cache_size").fetchone()
            assert kept == -database.PAGE_CACHE_KIB
