"""A folder into which another system writes images."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.factory import open_camera, supervised_camera
from edge.cameras.files import watched_folder
from edge.cameras.files.arrivals import Arrivals, Stamp
from edge.cameras.files.existing_images import Inventory
from edge.cameras.files.folder_notifications import FolderNotifications
from edge.cameras.files.not_inspected import NotInspected
from edge.cameras.files.watched_folder import FolderMemory, WatchedFolder
from edge.cameras.supervised.state_machine import CameraState
from edge.contract.image_source import image_name
from edge.errors import CameraLost, CameraNotOpened, CameraUriInvalid, StationError
from edge.imaging.frame import Frame, FrameStatus, Pixels
from edge.imaging.image_files import may_be_filled_yet, read_image
from edge.journal.entries import RecordKind
from edge.journal.judged_images import JudgedImages
from edge.journal.query import Query, query
from edge.settings.camera import CameraSettings, SupervisionSettings, WatchSettings
from tests.edge.conftest import edge_run_command
from tests.support.journaling import running_writer, verdict, wait_until
from tests.support.small_bundle import good_image, write_images
from tests.support.supervised_line import GENEROUS_S, SupervisedLine

WAITING, STREAMING, LOST = CameraState.WAITING_IMAGE, CameraState.STREAMING, CameraState.LOST


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three images that nobody watched."""
    return write_images(tmp_path / "in", good=3)


class Silent(FolderNotifications):
    """Of a network file system: the kernel does not know what other PCs write."""

    def __init__(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as elsewhere:
            super().__init__(Path(elsewhere))


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells of no file."""
    monkeypatch.setattr(watched_folder, "FolderNotifications", Silent)


@pytest.fixture
def line(folder: Path) -> Iterator[SupervisedLine]:
    """Watches the folder."""
    settings = CameraSettings(uri=f"watch://{folder}")
    with closing(SupervisedLine(lambda changed: supervised_camera(settings, changed))) as one:
        one.camera.start()
        yield one


def encoded(number: int, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, good_image(number))[1].tobytes()


def has_come(line: SupervisedLine, name: str) -> bool:
    return name in names(line.frames)


def names(frames: list[Frame]) -> list[str]:
    return [Path(frame.source or "").name for frame in frames]


def test_images_are_given_once_in_the_order_in_which_they_were_finished(
    folder: Path, line: SupervisedLine
) -> None:
    for number in (12, 11, 10):
        (folder / f"part_{number}.png").write_bytes(encoded(number))
        line.read_frames(1)
    (folder / "part_9.png").write_bytes(encoded(9))
    line.read_frames(1)

    assert names(line.frames) == ["part_12.png", "part_11.png", "part_10.png", "part_9.png"]
    assert [frame.number for frame in line.frames] == [1, 2, 3, 4]
    assert np.array_equal(line.frames[0].pixels, good_image(12))
    assert line.states == [WAITING, STREAMING]


@pytest.mark.parametrize("kernel", ["telling", "silent"])
def test_a_burst_is_given_in_its_order(
    kernel: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    if kernel == "silent":
        request.getfixturevalue("silent")
    line: SupervisedLine = request.getfixturevalue("line")
    content = encoded(1)
    written = [f"part_{number}.png" for number in range(1, 13)]  # "part_10" before "part_2"
    for number in range(1, 13):
        (folder / f"part_{number}.tmp").write_bytes(content)
    # As some copy programs do: all of one time, and in place at once.
    for number in range(1, 13):
        os.utime(folder / f"part_{number}.tmp", ns=(10**18, 10**18))
        (folder / f"part_{number}.tmp").rename(folder / f"part_{number}.png")
    line.read_frames(12)
    backwards = written[::-1]
    for number, name in enumerate(backwards):
        (folder / "next.tmp").write_bytes(encoded(number))
        os.utime(folder / "next.tmp", ns=(10**18 + number, 10**18 + number))
        (folder / "next.tmp").rename(folder / name)
    line.read_frames(12)

    assert names(line.frames) == written + backwards


def test_without_notifications_of_the_kernel_the_folder_is_listed(
    folder: Path, silent: None, line: SupervisedLine
) -> None:
    for number in (1, 2):
        (folder / "new.png").write_bytes(encoded(number))
        line.read_frames(1)  # the second one is the same file, written again
    (folder / "part.tmp").write_bytes(encoded(3))
    (folder / "part.tmp").rename(folder / "part.png")
    line.read_frames(1)

    assert names(line.frames) == ["new.png", "new.png", "part.png"]


def test_a_folder_of_the_same_name_is_watched_instead(folder: Path, line: SupervisedLine) -> None:
    folder.rename(folder.with_name("old"))
    write_images(folder, good=1)
    for number in (20, 21):
        (folder / f"new_{number}.png").write_bytes(encoded(number))
        line.read_until(partial(has_come, line, f"new_{number}.png"))

    assert names(line.frames)[-2:] == ["new_20.png", "new_21.png"]


class Counted:
    """Counts what is asked of the file system, by a clock that only waiting moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        self.stats = self.entries = 0
        stamp, scandir = watched_folder._stamp, os.scandir

        def counted_stamp(file: Path | os.DirEntry[str]) -> Stamp | None:
            self.stats += 1
            return stamp(file)

        def counted_scandir(path: Path) -> Any:
            return self._listing(scandir(path))

        monkeypatch.setattr(watched_folder, "_stamp", counted_stamp)
        monkeypatch.setattr(os, "scandir", counted_scandir)

    @contextmanager
    def _listing(self, entries: Any) -> Iterator[Iterator[os.DirEntry[str]]]:
        def counting() -> Iterator[os.DirEntry[str]]:
            for entry in entries:
                self.entries += 1
                yield entry

        with entries:
            yield counting()

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def read_for(self, camera: WatchedFolder, seconds: float) -> list[Frame]:
        self.stats = self.entries = 0
        until_ns = self.now_ns + round(seconds * 1e9)
        frames: list[Frame] = []
        while self.now_ns < until_ns:
            frame = camera.read(0.1)
            if frame is not None:
                frames.append(frame)
        return frames


def test_what_is_asked_of_a_full_folder_does_not_grow_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5000):
        (folder / f"part_{number}.png").touch()
    counted = Counted(monkeypatch)
    camera = WatchedFolder(
        uri=f"watch://{folder}",
        memory=FolderMemory(),
        clock_ns=lambda: counted.now_ns,
        wait=counted.wait,
    )
    with closing(camera):
        counted.read_for(camera, 0.2)
        assert counted.read_for(camera, 4.0) == []
        assert (counted.stats, counted.entries) == (0, 0)  # nothing happens, nothing is asked

        (folder / "new.png").write_bytes(encoded(1))
        assert names(counted.read_for(camera, 0.4)) == ["new.png"]
        assert counted.stats <= 8 and counted.entries == 0

        counted.read_for(camera, 12.0)  # a look at everything, 500 files for each second
        assert counted.entries == 5001


@pytest.mark.parametrize("kernel", ["telling", "silent"])
def test_what_comes_and_is_no_image_is_named_once_and_pages_are_counted(
    kernel: str, folder: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    if kernel == "silent":
        request.getfixturevalue("silent")
    counted = NotInspected("line 3")
    memory = FolderMemory(not_inspected=counted)
    with closing(WatchedFolder(uri=f"watch://{folder}", memory=memory)) as camera:
        for name in ("a.gif", "b.GIF", "c.tmp", ".d.dat", "e.jp2"):
            (folder / name).write_bytes(b"no image")
        assert cv2.imwritemulti(str(folder / "f.tif"), [good_image(n) for n in range(3)])
        deadline = time.monotonic() + GENEROUS_S
        while camera.read(0.1) is None:
            assert time.monotonic() < deadline

    named = sorted(str(counted).removeprefix("not inspected: files of the types ").split(", "))
    assert named == [".gif", ".jp2", "2 further pages or frames in 1 file"]
    logged = sorted(one.getMessage()[:14] for one in caplog.records if "type" in one.getMessage())
    assert logged in (["line 3: a.gif ", "line 3: e.jp2 "], ["line 3: b.GIF ", "line 3: e.jp2 "])


def existing(folder: Path, *, take: bool, recorded: JudgedImages | None = None) -> list[Inventory]:
    """Watch a folder until it is known what it held, and read what is given of it."""
    found: list[Inventory] = []
    memory = FolderMemory(inspect_existing=take, judged=recorded, on_inventory=found.append)
    with closing(WatchedFolder(uri=f"watch://{folder}", memory=memory)) as camera:
        deadline = time.monotonic() + GENEROUS_S
        while not found:
            assert time.monotonic() < deadline
            camera.read(0.1)
    return found


def test_images_that_were_there_are_counted_or_taken_in_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (10, 9, 1):
        (folder / f"part_{number}.png").write_bytes(encoded(number))
        os.utime(folder / f"part_{number}.png", ns=(10**18, 10**18))

    (found,) = existing(folder, take=False)
    settings = CameraSettings(uri=f"watch://{folder}", watch=WatchSettings(existing="take"))
    with closing(SupervisedLine(lambda changed: supervised_camera(settings, changed))) as line:
        line.camera.start()
        line.read_frames(3)

    assert sorted(found.unjudged) == ["part_1.png", "part_10.png", "part_9.png"]
    assert names(line.frames) == ["part_1.png", "part_9.png", "part_10.png"]
    assert line.states == [WAITING, STREAMING]


def test_what_is_older_than_the_journal_is_not_taken_for_new(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", good=2)
    os.utime(folder / "good_1.png", ns=(10**18, 10**18))
    with running_writer(tmp_path / "journal", utc_ns=lambda: 11 * 10**17) as running:
        running.write(verdict(1), verdict(2))
    with closing(sqlite3.connect(running.path)) as connection, connection:
        connection.execute("DELETE FROM record WHERE seq = 1")  # as retention does

    (found,) = existing(folder, take=True, recorded=JudgedImages(running.path))

    assert (found.unjudged, found.forgotten) == (("good_2.png",), 1)


class Run:
    """``edge-run`` at a watched folder, with a journal and without a broker."""

    def __init__(self, folder: Path, bundle: Path, existing: str) -> None:
        self._journal = folder / "journal"
        settings = {
            "camera": {"uri": f"watch://{folder}/in", "watch": {"existing": existing}},
            "model": {"path": str(bundle)},
            "journal": {"folder": str(self._journal)},
        }
        (folder / "station.yaml").write_text(yaml.safe_dump(settings))
        self._log = folder / "edge-run.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                edge_run_command("--config", folder / "station.yaml"), stderr=log
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def records(self, kind: RecordKind) -> list[dict[str, Any]]:
        try:
            rows = list(query(self._journal / "journal.db", Query(kind=kind)))
        except StationError:  # it is just being made
            return []
        return [json.loads(row.payload) for row in rows]

    def judged(self, count: int) -> list[str]:
        """Return the names of all files with a verdict, once there are so many."""
        wait_until(lambda: len(self.records(RecordKind.VERDICT)) >= count, f"{count} verdicts")
        return [image_name(one) or "" for one in self.records(RecordKind.VERDICT)]

    def reported(self, kind: str) -> dict[str, Any]:
        """Return what the event of a kind says, once it is there."""

        def found() -> list[dict[str, Any]]:
            return [one for one in self.records(RecordKind.EVENT) if one["kind"] == kind]

        wait_until(lambda: bool(found()), kind)
        return dict(found()[-1]["data"])

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        self._process.send_signal(number)
        self._process.wait(GENEROUS_S)


def test_what_came_while_the_station_was_down_is_inspected_once_or_reported(
    tmp_path: Path, bundle: Path
) -> None:
    folder = write_images(tmp_path / "in", good=2)
    run = Run(tmp_path, bundle, "take")
    try:
        assert run.judged(2) == ["good_1.png", "good_2.png"]
        run.end(signal.SIGKILL)
        (folder / "down.png").write_bytes(encoded(7))
        (folder / "good_2.png").write_bytes(encoded(8))  # another image of the same name
        run = Run(tmp_path, bundle, "take")
        assert run.judged(4) == ["good_1.png", "good_2.png", "down.png", "good_2.png"]
        taken = run.reported("images_taken")
        run.end(signal.SIGTERM)
        (folder / "skipped.png").write_bytes(encoded(9))
        run = Run(tmp_path, bundle, "skip")
        skipped = run.reported("images_skipped")
        assert (
            run.log.count("1 image arrived while the station was not running: not inspected.") == 1
        )
        (folder / "new.png").write_bytes(encoded(10))
        assert run.judged(5)[4:] == ["new.png"]
    finally:
        run.end()

    assert (taken["unjudged"], taken["judged"]) == (2, 1)
    assert (skipped["unjudged"], skipped["judged"]) == (1, 3)


def test_a_burst_larger_than_every_queue_is_given_whole(folder: Path, line: SupervisedLine) -> None:
    image = {number: encoded(number) for number in range(60)}
    for number, content in image.items():
        (folder / f"burst_{number:02}.png").write_bytes(content)

    line.read_frames(60)

    assert sorted(names(line.frames)) == [f"burst_{number:02}.png" for number in range(60)]
    assert line.camera.dropped == 0
    assert {frame.status for frame in line.frames} == {FrameStatus.COMPLETE}


def test_a_station_that_takes_its_time_loses_neither_images_nor_the_folder(
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


def test_an_image_that_is_copied_in_slowly_is_read_when_it_is_whole(
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
    assert np.array_equal(line.frames[1].pixels, good_image(7))


def test_an_image_that_has_its_size_before_its_pixels_is_read_when_it_is_whole(
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
    assert np.array_equal(line.frames[1].pixels, good_image(7))


def test_an_image_with_a_black_border_is_not_taken_for_one_that_is_being_filled(
    tmp_path: Path,
) -> None:
    content = cv2.imencode(".bmp", np.zeros((100, 100, 3), np.uint8))[1].tobytes()
    whole, begun = tmp_path / "whole.bmp", tmp_path / "begun.bmp"
    whole.write_bytes(content)
    with begun.open("wb") as file:
        file.truncate(len(content))
        file.write(content[: len(content) // 2])

    assert not may_be_filled_yet(whole) and may_be_filled_yet(begun)


def test_an_image_that_is_renamed_in_is_read_and_what_is_no_image_is_not(
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


def test_a_name_that_is_written_again_is_a_new_image(folder: Path, line: SupervisedLine) -> None:
    for number in (21, 22):
        (folder / "latest.png").write_bytes(encoded(number))
        line.read_frames(1)

    assert names(line.frames) == ["latest.png", "latest.png"]
    assert np.array_equal(line.frames[1].pixels, good_image(22))


def test_the_same_image_again_is_frozen(folder: Path, line: SupervisedLine) -> None:
    (folder / "a.png").write_bytes(encoded(1))
    line.read_frames(1)
    (folder / "b.png").write_bytes(encoded(1))
    line.read_frames(1)

    assert [f.status for f in line.frames] == [FrameStatus.COMPLETE, FrameStatus.FROZEN]


def test_an_image_that_never_becomes_whole_is_incomplete(
    folder: Path, line: SupervisedLine
) -> None:
    (folder / "cut.png").write_bytes(encoded(1)[:500])
    frame = line.read_frames(1)[0]

    assert frame.status is FrameStatus.INCOMPLETE and frame.pixels.size == 0
    assert "not a complete image" in frame.detail


def test_an_image_that_takes_longer_to_read_than_the_folder_may_be_silent_is_no_loss(
    folder: Path, line: SupervisedLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def over_a_slow_network(path: Path, max_pixels: int) -> Pixels:
        if path.name == "slow.png":
            time.sleep(2 * SupervisionSettings().lost_after_s)  # the subject of this test
        return read_image(path, max_pixels)

    monkeypatch.setattr(watched_folder, "read_image", over_a_slow_network)
    (folder / "slow.png").write_bytes(encoded(1))
    line.read_frames(1)
    (folder / "next.png").write_bytes(encoded(2))
    line.read_frames(1)

    assert names(line.frames) == ["slow.png", "next.png"]
    assert line.states == [WAITING, STREAMING]


def test_a_folder_that_vanishes_is_lost_and_its_images_are_read_when_it_is_back(
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

    assert "the folder is not there" in lost.detail
    assert names(line.frames) == ["before.png", "meanwhile.png"]
    assert [frame.number for frame in line.frames] == [1, 2]


@pytest.fixture
def network_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = write_images(Path(name) / "in", good=3)
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
            line.read_until(partial(has_come, line, f"new_{number}.png"))
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

    with pytest.raises(CameraLost, match="is not there"):
        camera.read(1.0)


def test_a_folder_that_is_not_there_is_not_opened_and_a_file_never_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CameraNotOpened) as absent:
        open_camera(f"watch://{tmp_path}/none", CameraSettings(uri="x"))
    with pytest.raises(CameraUriInvalid) as no_folder:
        open_camera(f"watch://{tmp_path}/file", CameraSettings(uri="x"))
    with pytest.raises(CameraUriInvalid, match="does not name a folder"):
        open_camera("watch://", CameraSettings(uri="x"))

    assert (absent.value.exit_code, no_folder.value.exit_code) == (69, 78)


REST_NS, PATIENCE_NS = 100, 5000


def test_triggers_of_which_no_image_comes_are_forgotten(folder: Path) -> None:
    now_ns = 0
    camera = WatchedFolder(
        uri=f"watch://{folder}",
        memory=FolderMemory(),
        trigger_limit_ms=1000.0,
        clock_ns=lambda: now_ns,
    )
    with closing(camera):
        tracemalloc.start()
        for _ in range(5000):
            now_ns += 2_000_000_000
            camera.trigger()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert held < 50_000


def looked_at(arrivals: Arrivals, files: dict[str, Stamp], now_ns: int) -> list[str]:
    """Take a listing of a whole folder, and return what is due."""
    arrivals.listed(files, now_ns)
    for name in arrivals.missing(files.keys()):
        arrivals.changed(name, None, now_ns)
    return arrivals.due(now_ns)


def test_what_is_known_of_a_file_is_forgotten_with_it() -> None:
    arrivals = Arrivals(REST_NS, PATIENCE_NS)
    for number in range(1000):
        name, stamp = f"{number}.png", Stamp(number, 10, number)
        looked_at(arrivals, {name: stamp}, number * 1000)
        assert looked_at(arrivals, {name: stamp}, number * 1000 + REST_NS) == [name]
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
def test_every_state_that_stays_is_reported_exactly_once_and_none_that_is_still_written(
    steps: list[Listing],
) -> None:
    arrivals = Arrivals(REST_NS, PATIENCE_NS)
    reported: list[tuple[str, int]] = []
    for number, files in enumerate(steps):
        now_ns = number * REST_NS
        listing = {name: Stamp(serial, progress, 1) for name, (progress, serial) in files.items()}
        for name in looked_at(arrivals, listing, now_ns):
            progress, serial = files[name]
            assert steps[number - 1].get(name) == files[name], "it was still written"
            whole = progress >= 3 and arrivals.whole(name, listing[name])
            if whole or arrivals.not_whole(name, now_ns):
                reported.append((name, serial))

    assert len(reported) == len(set(reported))
    assert {(name, serial) for name, (_, serial) in steps[-1].items()} <= set(reported)


def test_a_writer_that_stalls_and_goes_on_is_waited_for() -> None:
    arrivals = Arrivals(REST_NS, PATIENCE_NS)
    half, whole = Stamp(1, 500, 1), Stamp(2, 900, 1)
    looked_at(arrivals, {"a": half}, 10)
    assert looked_at(arrivals, {"a": half}, 10 + REST_NS) == ["a"]
    assert not arrivals.not_whole("a", 10 + REST_NS)
    assert looked_at(arrivals, {"a": half}, PATIENCE_NS) == []

    looked_at(arrivals, {"a": whole}, PATIENCE_NS + 1)

    assert looked_at(arrivals, {"a": whole}, PATIENCE_NS + 1 + REST_NS) == ["a"]
