"""Files are written whole, and never through what somebody else laid at their place."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.atomic_files import (
    LinkRefused,
    NoFileReplaced,
    check_writable,
    open_regular,
    whole_file,
    write_all,
    write_whole,
)
from edge.errors import OutputNotWritable


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that others may write to, as /tmp."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def test_a_link_at_the_target_is_replaced_and_not_followed(tmp_path: Path, victim: Path) -> None:
    target = tmp_path / "out.xml"
    target.symlink_to(victim)
    check_writable(target)
    write_whole(target, b"new")
    assert (target.is_symlink(), target.read_bytes()) == (False, b"new")
    assert victim.read_text() == "precious"


def test_a_link_at_the_place_of_the_temporary_file_is_not_followed(
    tmp_path: Path, victim: Path
) -> None:
    (tmp_path / ".out.xml.partial").symlink_to(victim)
    check_writable(tmp_path / "out.xml")
    assert victim.read_text() == "precious"
    (tmp_path / ".out.xml.partial").symlink_to(victim)
    write_whole(tmp_path / "out.xml", b"new")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "out.xml").is_symlink()


def write_streamed(path: Path) -> None:
    with whole_file(path) as file:
        for _ in range(3):
            file.write(b"new")


@pytest.mark.parametrize(
    "act", [check_writable, write_streamed, lambda path: write_whole(path, b"new")]
)
def test_a_link_in_a_folder_that_others_may_write_to_is_refused(
    shared: Path, victim: Path, act: Callable[[Path], object]
) -> None:
    (shared / "out.xml").symlink_to(victim)
    (shared / "folder").symlink_to(victim.parent)
    for path in (shared / "out.xml", shared / "folder" / "out.xml"):
        with pytest.raises(LinkRefused, match="symbolic link in a folder that others may write"):
            act(path)
    assert victim.read_text() == "precious"
    assert not (victim.parent / "out.xml").exists()


def test_a_plain_file_in_such_a_folder_is_written(shared: Path) -> None:
    write_whole(shared / "out.xml", b"new")
    assert (shared / "out.xml").read_bytes() == b"new"


def test_what_an_interrupted_writing_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".out.xml.partial").write_bytes(b"half")
    write_whole(tmp_path / "out.xml", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["out.xml"]


def test_a_large_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    (tmp_path / ".out.csv.partial").write_bytes(b"of an earlier writing")
    with whole_file(path, 0o600) as file:
        file.write(b"old")
        assert not path.exists()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"old", 0o600)

    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    with pytest.raises(OutputNotWritable, match="No space left"), whole_file(path) as file:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["n" * 251 + ".csv", "가" * 83 + ".csv"])
def test_a_name_may_be_as_long_as_the_file_system_allows(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    check_writable(path)
    write_streamed(path)
    write_all([(path, b"new"), (tmp_path / f"m{name[1:]}", b"other")])
    assert path.read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_at_the_place_of_the_temporary_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".out.xml.partial").mkdir()
    with pytest.raises(OutputNotWritable, match="cannot be written"):
        write_whole(tmp_path / "out.xml", b"new")


@pytest.mark.parametrize("way", ["it", "a link to it"])
def test_no_device_fifo_or_socket_is_replaced_by_a_file(tmp_path: Path, way: str) -> None:
    """As of ``--recipe export NAME /dev/null``, which root could do."""
    fifo, listening = tmp_path / "fifo", tmp_path / "socket"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
        for place in (fifo, listening, Path("/dev/zero")):
            path = place
            if way != "it":
                path = tmp_path / f"to-{place.name}"
                path.symlink_to(place)
            elif not place.is_relative_to(tmp_path):
                continue  # where it is replaced, the PC has none any more
            before = path.lstat()
            for write in (check_writable, write_streamed, lambda path: write_whole(path, b"new")):
                with pytest.raises(NoFileReplaced, match="Name a file"):
                    write(path)
            assert os.path.samestat(path.lstat(), before)


def test_only_regular_files_are_opened(tmp_path: Path, victim: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError):
            open_regular(path)
    with open_regular(victim) as file:
        assert file.read() == b"precious"


def test_who_writes_a_file_keeps_it_from_others_until_it_has_its_name(tmp_path: Path) -> None:
    """As of two exports to one place, of which the second would get the first one's half."""
    path = tmp_path / "out.recipe"
    second = threading.Thread(target=write_whole, args=(path, b"second"))
    with whole_file(path) as file:
        file.write(b"first ")
        second.start()
        check_writable(path)  # of a third one, which is at its beginning
        second.join(0.1)  # where it does not wait, it is through by now
        file.write(b"first " * 100_000)
    second.join(60.0)
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_belong_together_stay_together_where_several_write_them(tmp_path: Path) -> None:
    names = ("model.xml", "model.bin", "model.json")

    def write(letter: bytes) -> None:
        for _ in range(60):
            write_all([(tmp_path / name, letter * 50_000) for name in names], durable=False)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join(60.0)
    assert len({(tmp_path / name).read_bytes() for name in names}) == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(names)


def test_another_users_file_is_waited_for_while_he_writes_it(tmp_path: Path) -> None:
    path, begun = tmp_path / "out.xml", tmp_path / ".out.xml.partial"
    begun.write_bytes(b"first")
    try:
        os.chown(begun, os.geteuid() + 1, -1)
    except PermissionError:
        pytest.skip("this user may not give files away")
    second = threading.Thread(target=write_whole, args=(path, b"second"))
    with begun.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check_writable(path)
        second.start()
        second.join(0.1)  # where it does not wait, it is through by now
        assert begun.read_bytes() == b"first"
        begun.replace(path)
    second.join(60.0)
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_who_loses_his_temporary_file_gives_no_name_to_what_another_has_begun(
    tmp_path: Path,
) -> None:
    """As with another user, or on a file system without locks."""
    first, last = tmp_path / "model.bin", tmp_path / "model.xml"
    write_all([(first, b"old"), (last, b"old")])
    begun = tmp_path / ".model.bin.partial"

    with pytest.raises(OutputNotWritable, match="Another process"), whole_file(first) as file:
        file.write(b"new")
        begun.unlink()
        begun.write_bytes(b"ha")
    assert begun.read_bytes() == b"ha", "it is the other one's"

    refused: list[OutputNotWritable] = []

    def write_both() -> None:
        try:
            write_all([(first, b"new"), (last, b"new")])
        except OutputNotWritable as error:
            refused.append(error)

    both = threading.Thread(target=write_both)
    with whole_file(last) as file:
        both.start()
        while not begun.exists() or begun.read_bytes() != b"new":
            time.sleep(0.001)
        begun.unlink()
        begun.write_bytes(b"ha")
        file.write(b"old")
    both.join(60.0)
    assert len(refused) == 1
    assert (first.read_bytes(), last.read_bytes(), begun.read_bytes()) == (b"old", b"old", b"ha")


def test_a_file_that_was_killed_at_its_beginning_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "out.xml"
    writes = "import os, sys; from pathlib import Path; from edge.atomic_files import whole_file\n"
    writes += "with whole_file(Path(sys.argv[1])) as file:\n"
    writes += "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)\n"
    assert subprocess.run([sys.executable, "-c", writes, str(path)], check=False).returncode == -9
    assert [one.name for one in tmp_path.iterdir()] == [".out.xml.partial"]
    check_writable(path)
    write_whole(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
