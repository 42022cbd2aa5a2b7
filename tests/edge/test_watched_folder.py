"""A folder into which another system writes pictures."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras import watched_folder
from edge.cameras.arrivals import Arrivals, Stamp
from edge.cameras.opening import open_camera, supervised_camera
from edge.cameras.supervision import CameraState
from edge.config import CameraSettings
from edge.errors import CameraLost, CameraNotOpened, CameraUriInvalid
from edge.frame import Frame, FrameStatus, Pixels
from edge.pictures import may_be_filled_yet, read_picture
from tests.edge.supervised_line import GENEROUS_S, SupervisedLine
from tests.small_bundle import good_picture, write_pictures

WAITING, STREAMING, LOST = CameraState.WAITING_TRIGGER, CameraState.STREAMING, CameraState.LOST


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three pictures that nobody watched."""
    return write_pictures(tmp_path / "in", good=3)


@pytest.fixture
def line(folder: Path) -> Iterator[SupervisedLine]:
    """Watches the folder."""
    settings = CameraSettings(uri=f"watch://{folder}")
    with closing(SupervisedLine(lambda changed: supervised_camera(settings, changed))) as one:
        one.camera.start()
        yield one


def encoded(number: int, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, good_picture(number))[1].tobytes()


def names(frames: list[Frame]) -> list[str]:
    return [Path(frame.source or "").name for frame in frames]


def test_pictures_are_given_once_in_the_order_in_which_they_were_finished(
    folder: Path, line: SupervisedLine
) -> None:
    for number in (12, 11, 10):
        (folder / f"part_{number}.png").write_bytes(encoded(number))
        line.read_frames(1)
    (folder / "part_9.png").write_bytes(encoded(9))
    line.read_frames(1)

    assert names(line.frames) == ["part_12.png", "part_11.png", "part_10.png", "part_9.png"]
    assert [frame.number for frame in line.frames] == [1, 2, 3, 4]
    assert np.array_equal(line.frames[0].pixels, good_picture(12))
    assert line.states == [WAITING, STREAMING]


def test_a_burst_larger_than_every_queue_is_given_whole(folder: Path, line: SupervisedLine) -> None:
    picture = {number: encoded(number) for number in range(60)}
    for number, content in picture.items():
        (folder / f"burst_{number:02}.png").write_bytes(content)

    line.read_frames(60)

    assert sorted(names(line.frames)) == [f"burst_{number:02}.png" for number in range(60)]
    assert line.camera.dropped == 0
    assert {frame.status for frame in line.frames} == {FrameStatus.COMPLETE}


def test_a_station_that_takes_its_time_loses_neither_pictures_nor_the_folder(
    folder: Path, line: SupervisedLine
) -> None:
    for number in range(30):
        (folder / f"part_{number:02}.png").write_bytes(encoded(number))
    line.read_frames(1)
    time.sleep(2.0)  # longer than the folder may be silent; its thread waits for room meanwhile
    line.read_frames(29)

    assert line.states == [WAITING, STREAMING] and line.camera.dropped == 0
    assert {frame.status for frame in line.frames} == {FrameStatus.COMPLETE}
    assert len(set(names(line.frames))) == 30


def test_a_picture_that_is_copied_in_slowly_is_read_when_it_is_whole(
    folder: Path, line: SupervisedLine
) -> None:
    content = encoded(7)
    with (folder / "slow.png").open("wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        (folder / "quick.png").write_bytes(encoded(8))
        line.read_frames(1)
        file.write(content[len(content) // 2 :])
    line.read_frames(1)

    assert names(line.frames) == ["quick.png", "slow.png"]
    assert np.array_equal(line.frames[1].pixels, good_picture(7))


def test_a_picture_that_has_its_size_before_its_pixels_is_read_when_it_is_whole(
    folder: Path, line: SupervisedLine
) -> None:
    content = encoded(7, ".bmp")
    with (folder / "slow.bmp").open("wb") as file:
        file.truncate(len(content))  # as copying over a network does
        file.write(content[: len(content) // 2])
        file.flush()
        time.sleep(0.3)  # the network stalls: the subject of this test
        (folder / "quick.bmp").write_bytes(encoded(8, ".bmp"))
        line.read_frames(1)
        file.write(content[len(content) // 2 :])
    line.read_frames(1)

    assert names(line.frames) == ["quick.bmp", "slow.bmp"]
    assert np.array_equal(line.frames[1].pixels, good_picture(7))


def test_a_picture_with_a_black_border_is_not_taken_for_one_that_is_being_filled(
    tmp_path: Path,
) -> None:
    content = cv2.imencode(".bmp", np.zeros((100, 100, 3), np.uint8))[1].tobytes()
    whole, begun = tmp_path / "whole.bmp", tmp_path / "begun.bmp"
    whole.write_bytes(content)
    with begun.open("wb") as file:
        file.truncate(len(content))
        file.write(content[: len(content) // 2])

    assert not may_be_filled_yet(whole) and may_be_filled_yet(begun)


def test_a_picture_that_is_renamed_in_is_read_and_what_is_no_picture_is_not(
    folder: Path, line: SupervisedLine
) -> None:
    (folder / ".part.png").write_bytes(encoded(4))
    (folder / "part.tmp").write_bytes(encoded(5))
    (folder / "folder.png").mkdir()
    (folder / "notes.txt").write_text("hello")
    (folder / "part.tmp").rename(folder / "part.png")

    line.read_frames(1)
    (folder / "last.png").write_bytes(encoded(6))
    line.read_frames(1)

    assert names(line.frames) == ["part.png", "last.png"]


def test_a_name_that_is_written_again_is_a_new_picture(folder: Path, line: SupervisedLine) -> None:
    for number in (21, 22):
        (folder / "latest.png").write_bytes(encoded(number))
        line.read_frames(1)

    assert names(line.frames) == ["latest.png", "latest.png"]
    assert np.array_equal(line.frames[1].pixels, good_picture(22))


def test_the_same_picture_again_is_frozen(folder: Path, line: SupervisedLine) -> None:
    (folder / "a.png").write_bytes(encoded(1))
    line.read_frames(1)
    (folder / "b.png").write_bytes(encoded(1))
    line.read_frames(1)

    assert [f.status for f in line.frames] == [FrameStatus.COMPLETE, FrameStatus.FROZEN]


def test_a_picture_that_never_becomes_whole_is_incomplete(
    folder: Path, line: SupervisedLine
) -> None:
    (folder / "cut.png").write_bytes(encoded(1)[:500])
    frame = line.read_frames(1)[0]

    assert frame.status is FrameStatus.INCOMPLETE and frame.pixels.size == 0
    assert "not a complete picture" in frame.detail


def test_a_picture_that_takes_longer_to_read_than_the_folder_may_be_silent_is_given_all_the_same(
    folder: Path, line: SupervisedLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = threading.Event()

    def over_a_slow_network(path: Path) -> Pixels:
        if path.name == "slow.png":
            lost.wait(GENEROUS_S)
        return read_picture(path)

    monkeypatch.setattr(watched_folder, "read_picture", over_a_slow_network)
    (folder / "slow.png").write_bytes(encoded(1))
    line.read_until_state(LOST)
    lost.set()
    line.read_frames(1)
    (folder / "next.png").write_bytes(encoded(2))
    line.read_frames(1)

    assert names(line.frames) == ["slow.png", "next.png"]


def test_a_folder_that_vanishes_is_lost_and_its_pictures_are_read_when_it_is_back(
    folder: Path, line: SupervisedLine
) -> None:
    (folder / "before.png").write_bytes(encoded(1))
    line.read_frames(1)
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    lost = line.read_until_state(LOST)
    (elsewhere / "meanwhile.png").write_bytes(encoded(2))
    elsewhere.rename(folder)
    line.read_until_state(WAITING)
    line.read_until(lambda: len(line.frames) > 1)

    assert "the folder is gone" in lost.detail
    assert names(line.frames) == ["before.png", "meanwhile.png"]
    assert [frame.number for frame in line.frames] == [1, 2]


@pytest.fixture
def network_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = write_pictures(Path(name) / "in", good=3)
        if folder.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("this machine has one file system")
        yield folder


def switched(mount_point: Path, to: Path) -> None:
    """Let the place show another folder, as mounting and unmounting do."""
    link = mount_point.with_name("next")
    link.symlink_to(to)
    link.replace(mount_point)


def test_what_a_network_folder_holds_is_not_new_when_it_is_mounted_again(
    tmp_path: Path, network_folder: Path
) -> None:
    empty, mount_point = tmp_path / "empty", tmp_path / "mount point"
    empty.mkdir()
    mount_point.symlink_to(empty)  # the station is started first
    settings = CameraSettings(uri=f"watch://{mount_point}")
    with closing(SupervisedLine(lambda changed: supervised_camera(settings, changed))) as line:
        line.camera.start()
        for number in range(2):
            switched(mount_point, to=network_folder)
            lost = line.read_until_state(LOST)
            line.read_until_state(WAITING)
            (network_folder / f"new_{number}.png").write_bytes(encoded(number + 10))
            line.read_until(lambda new=f"new_{number}.png": new in names(line.frames))
            switched(mount_point, to=empty)
            line.read_until_state(LOST)
            line.read_until_state(WAITING)
            (network_folder / f"meanwhile_{number}.png").write_bytes(encoded(number + 20))
        switched(mount_point, to=network_folder)
        line.read_until_state(WAITING)
        line.read_until(lambda: "meanwhile_1.png" in names(line.frames))

    assert names(line.frames) == ["new_0.png", "meanwhile_0.png", "new_1.png", "meanwhile_1.png"]
    assert "mounted or unmounted" in lost.detail


def test_a_folder_that_is_replaced_by_a_file_has_failed_until_it_is_back(
    folder: Path, line: SupervisedLine
) -> None:
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    folder.touch()
    failed = line.read_until_state(CameraState.FAILED)
    folder.unlink()
    elsewhere.rename(folder)
    line.read_until_state(WAITING)

    assert "is not a folder" in failed.detail and failed.losses == 1


def test_a_watched_folder_that_is_removed_says_so_to_a_plain_reader(folder: Path) -> None:
    camera = open_camera(f"watch://{folder}", CameraSettings(uri=f"watch://{folder}"))
    camera.close()
    shutil.rmtree(folder)

    with pytest.raises(CameraLost, match="is gone"):
        camera.read(1.0)


def test_a_folder_that_is_not_there_is_not_opened_and_a_file_never_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CameraNotOpened) as absent:
        open_camera(f"watch://{tmp_path}/none", CameraSettings(uri="x"))
    with pytest.raises(CameraUriInvalid) as no_folder:
        open_camera(f"watch://{tmp_path}/file", CameraSettings(uri="x"))
    with pytest.raises(CameraUriInvalid, match="names no folder"):
        open_camera("watch://", CameraSettings(uri="x"))

    assert (absent.value.exit_code, no_folder.value.exit_code) == (69, 78)


REST_NS, PATIENCE_NS = 100, 5000


def test_what_is_known_of_a_file_is_forgotten_with_it() -> None:
    arrivals = Arrivals(REST_NS, PATIENCE_NS)
    arrivals.listed({}, 0)
    for number in range(1000):
        name, stamp = f"{number}.png", Stamp(number, 10, number)
        arrivals.listed({name: stamp}, number * 1000)
        assert arrivals.listed({name: stamp}, number * 1000 + REST_NS) == [name]
        assert arrivals.whole(name, stamp)

    assert len(arrivals) == 1


Listing = dict[str, tuple[int, int]]  # name → how far its writer has come, a number of its own


@st.composite
def writers(draw: st.DrawFn) -> list[Listing]:
    """Listings of a folder whose files are whole at 3; at the end everybody rests."""
    steps: list[Listing] = [{}]
    for serial in range(draw(st.integers(1, 30))):
        files = dict(steps[-1])
        name = draw(st.sampled_from("abc"))
        action = draw(st.sampled_from(["write", "write", "write", "nothing", "remove"]))
        if action == "remove":
            files.pop(name, None)
        elif action == "write":
            files[name] = (files.get(name, (0, 0))[0] + 1, serial)
        steps.append(files)
    return [*steps, *[steps[-1]] * (PATIENCE_NS // REST_NS + 3)]


@given(writers())
def test_every_state_that_stays_is_told_exactly_once_and_none_that_is_still_written(
    steps: list[Listing],
) -> None:
    arrivals = Arrivals(REST_NS, PATIENCE_NS)
    told: list[tuple[str, int]] = []
    for number, files in enumerate(steps):
        now_ns = number * REST_NS
        listing = {name: Stamp(serial, progress, 1) for name, (progress, serial) in files.items()}
        for name in arrivals.listed(listing, now_ns):
            progress, serial = files[name]
            assert steps[number - 1].get(name) == files[name], "it was still written"
            whole = progress >= 3 and arrivals.whole(name, listing[name])
            if whole or arrivals.not_whole(name, now_ns):
                told.append((name, serial))

    assert len(told) == len(set(told))
    assert {(name, serial) for name, (_, serial) in steps[-1].items()} <= set(told)


def test_a_writer_that_stalls_and_goes_on_is_waited_for() -> None:
    arrivals = Arrivals(REST_NS, PATIENCE_NS)
    half, whole = Stamp(1, 500, 1), Stamp(2, 900, 1)
    arrivals.listed({}, 0)
    arrivals.listed({"a": half}, 10)
    assert arrivals.listed({"a": half}, 10 + REST_NS) == ["a"]
    assert not arrivals.not_whole("a", 10 + REST_NS)
    assert arrivals.listed({"a": half}, PATIENCE_NS) == []

    arrivals.listed({"a": whole}, PATIENCE_NS + 1)

    assert arrivals.listed({"a": whole}, PATIENCE_NS + 1 + REST_NS) == ["a"]
