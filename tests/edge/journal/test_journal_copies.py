"""A journal that was put back from a backup, or cloned, gives no number a second time."""

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge.journal.entries import RecordKind
from edge.journal.high_water_mark import PUT_BACK_AFTER_S, HighWaterMark, read_high_water_mark
from edge.journal.identity import read_file_origin
from edge.journal.ledger import read_totals
from edge.journal.open import Journal, open_journal
from edge.journal.outbox import Outbox
from edge.journal.verification import verify_chain
from tests.support.journaling import numbers, rows, running_writer, verdict

BACKED_UP, SINCE, AFTER = 20, 10, 5


def record(folder: Path, count: int) -> Journal:
    with running_writer(folder) as running:
        running.write(*(verdict(n) for n in range(count)))
        return running.journal


def opened(folder: Path) -> Journal:
    journal = open_journal(folder)
    journal.close()
    return journal


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup of a journal that went on since."""
    folder = tmp_path / "journal"
    record(folder, BACKED_UP)
    shutil.copytree(folder, tmp_path / "backup")
    record(folder, SINCE)
    return tmp_path / "backup"


def put_back(backup: Path) -> Path:
    folder = backup.with_name("journal")
    shutil.rmtree(folder)  # the file system may give the new files the old inode numbers
    shutil.copytree(backup, folder)
    return folder


def put_back_without_witness(backup: Path) -> Path:
    folder = put_back(backup)
    (folder / "journal.witness").unlink()
    return folder


def put_back_over_the_database(backup: Path) -> Path:
    folder = backup.with_name("journal")
    (folder / "journal.db").write_bytes((backup / "journal.db").read_bytes())
    return folder


def put_back_over_all(backup: Path) -> Path:
    """The same files with content of long ago, which nothing but their time of change shows."""
    folder = backup.with_name("journal")
    seen = read_high_water_mark(backup)
    assert seen is not None
    with closing(sqlite3.connect(backup / "journal.db")) as connection:
        totals = read_totals(connection)
    (folder / "journal.db").write_bytes((backup / "journal.db").read_bytes())
    witness = HighWaterMark(folder, seen.journal, lambda: time.time() - 2 * PUT_BACK_AFTER_S)
    witness.record(totals)
    witness.close()
    return folder


def cloned(backup: Path) -> Path:
    return Path(shutil.copytree(backup, backup.with_name("clone")))


def database_alone(backup: Path) -> Path:
    folder = backup.with_name("alone")
    folder.mkdir()
    shutil.copy(backup / "journal.db", folder)
    return folder


def disk_of_another_machine(backup: Path) -> Path:
    folder = backup.with_name("journal")
    with closing(sqlite3.connect(folder / "journal.db")) as connection, connection:
        connection.execute("UPDATE origin SET machine = ?", ("0" * 32,))
    return folder


def disk_of_a_twin_with_the_same_machine_id(backup: Path) -> Path:
    folder = backup.with_name("journal")
    with closing(sqlite3.connect(folder / "journal.db")) as connection, connection:
        if not connection.execute("SELECT interfaces FROM origin").fetchone()[0]:
            pytest.skip("this machine has no network interface with a device")
        connection.execute("UPDATE origin SET interfaces = ?", ("0" * 16,))
    return folder


COPIES: list[Callable[[Path], Path]] = [
    put_back,
    put_back_without_witness,
    put_back_over_the_database,
    put_back_over_all,
    cloned,
    database_alone,
    disk_of_another_machine,
    disk_of_a_twin_with_the_same_machine_id,
]


@pytest.mark.parametrize("copy", COPIES, ids=lambda copy: copy.__name__)
def test_what_a_copy_records_has_an_identity_of_its_own(
    copy: Callable[[Path], Path], backup: Path
) -> None:
    original = opened(backup.with_name("journal"))
    given = {(original.journal, n) for n in numbers(backup.with_name("journal") / "journal.db")}
    folder = copy(backup)

    copied = record(folder, AFTER)

    assert copied.former == original.journal != copied.journal
    assert copied.copied
    new = rows(folder / "journal.db")[-AFTER:]
    assert not given & {(copied.journal, row.seq) for row in new}
    assert all(copied.journal.encode() in row.payload for row in new)
    with closing(Outbox(folder / "journal.db")) as outbox:
        backlog = outbox.backlog()
    assert (backlog.follows, backlog.first_seq) == (original.journal, new[0].seq)
    assert opened(folder).journal == copied.journal, "once is enough"


def test_a_copy_keeps_what_it_holds_and_its_chain_goes_on(backup: Path) -> None:
    before = rows(backup / "journal.db")
    folder = put_back(backup)

    record(folder, AFTER)

    path = folder / "journal.db"
    assert rows(path)[:BACKED_UP] == before
    assert numbers(path) == list(range(1, BACKED_UP + AFTER + 1))
    assert verify_chain(path).fault is None
    assert open_journal(folder, check_limit_s=0.0).damage is None  # nor do the newest rows tell


def test_numbers_that_the_witness_knows_of_are_reported_and_not_given_by_the_copy(
    backup: Path,
) -> None:
    copied = record(put_back_over_the_database(backup), 1)

    assert copied.lost == {RecordKind.VERDICT: (BACKED_UP + 1, BACKED_UP + SINCE)}
    assert numbers(copied.path)[-1] == BACKED_UP + SINCE + 1


def test_an_empty_journal_on_a_disk_image_gives_each_copy_its_own(tmp_path: Path) -> None:
    image = opened(tmp_path / "image")
    shutil.copytree(tmp_path / "image", tmp_path / "clone")

    copied = record(tmp_path / "clone", 2)

    assert copied.journal != image.journal
    assert numbers(copied.path) == [1, 2]
    assert verify_chain(copied.path).fault is None


def change_attributes(folder: Path) -> None:
    for file in folder.iterdir():
        file.chmod(0o600)


UNCHANGED: dict[str, Callable[[Path], object]] = {
    "left alone": lambda folder: None,
    "attributes changed": change_attributes,
    "folder renamed and back": lambda folder: (
        folder.rename(folder.with_name("other")),
        folder.with_name("other").rename(folder),
    ),
}


@pytest.mark.parametrize("change", UNCHANGED)
def test_a_journal_that_is_no_copy_keeps_its_identity(change: str, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    before = record(folder, 3)
    UNCHANGED[change](folder)

    after = record(folder, 3)

    assert after.journal == before.journal
    assert after.former is None
    assert numbers(after.path) == [1, 2, 3, 4, 5, 6]


def test_a_journal_moved_on_its_file_system_keeps_its_identity(tmp_path: Path) -> None:
    before = record(tmp_path / "journal", 3)
    (tmp_path / "journal").rename(tmp_path / "moved")

    assert opened(tmp_path / "moved").journal == before.journal


def test_the_machine_is_known_by_hashes_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    identity = "3d1219c7c4c5404aaa1f6d2a48adfda4"
    (root / "etc" / "machine-id").write_text(identity + "\n")
    for name, address, device in (
        ("eno1", "00:1b:21:0a:0b:0c", True),
        ("br0", "02:00:00:00:00:01", False),
    ):
        (root / "sys/class/net" / name).mkdir(parents=True)
        (root / "sys/class/net" / name / "address").write_text(address + "\n")
        if device:
            (root / "sys/class/net" / name / "device").mkdir()

    origin = read_file_origin(tmp_path / "file", root)
    bare = read_file_origin(tmp_path / "file", tmp_path / "nothing")

    assert len(origin.machine) == 32 and origin.machine != identity
    assert len(origin.interfaces) == 1 and "001b210a0b0c" not in origin.interfaces
    assert (bare.machine, bare.interfaces) == ("", frozenset())
    assert bare.inode == origin.inode


def test_another_machine_id_makes_a_clone(tmp_path: Path) -> None:
    """The journal's disk in a PC whose operating system was set up anew."""
    before = record(tmp_path / "journal", 3)
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    script = (
        f"mount --bind {tmp_path}/machine-id /etc/machine-id && exec {sys.executable} -c '"
        "import sys; from pathlib import Path; from edge.journal.open import open_journal;"
        f'one = open_journal(Path("{tmp_path}/journal")); print(one.journal, one.copied)\''
    )
    ran = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if "unshare" in ran.stderr or "mount" in ran.stderr:
        pytest.skip("this user may not mount")

    assert ran.returncode == 0, ran.stderr
    assert before.journal not in ran.stdout
    assert "another machine" in ran.stdout


def test_a_first_start_that_was_cut_short_leaves_no_copy(tmp_path: Path) -> None:
    begun = opened(tmp_path).journal
    (tmp_path / "journal.witness").unlink()  # the power went before it was made
    again = opened(tmp_path)
    assert (again.journal, again.copied) == (begun, None)
