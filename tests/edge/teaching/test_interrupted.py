"""What a kill or a full disk leaves of teaching: the old version, and nothing half-made."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.loading import load_bundle
from edge.cli.main import main as edge_run
from edge.imaging.image_files import read_image
from edge.recipes.folder import CURRENT, IMAGES, VERSIONS, RecipeFolder
from edge.teaching.refusals import TeachingNotPossible
from tests.edge.conftest import edge_run_command
from tests.support.page_station import GENEROUS_S, wait_until
from tests.support.recipes import add_recipe, missing_images
from tests.support.small_teacher import write_small_teacher
from tests.support.teaching_bench import TeachingBench

FRAMES = Path("configs/demo/frames")
GOOD = ("00", "01", "03", "05")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_teacher(tmp_path_factory.mktemp("teacher"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold up whoever is to change something in a folder of a recipe."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Killed:
    """``edge-run --teach`` for the next version of a recipe, to be killed at a moment."""

    def __init__(self, recipe: Path, teacher: Path, images: Path, log: Path) -> None:
        self._recipe, self._log = recipe, log
        self._left = set(recipe.rglob("*"))  # by those that were killed before it
        arguments = ["--teach", recipe.name, "--from", images, "--teacher", teacher]
        with log.open("wb") as written:
            self.process = subprocess.Popen(
                edge_run_command(*arguments, "--recipes", recipe.parent, "--threads", 1),
                stdout=written,
                stderr=written,
            )

    def until_printed(self, words: str) -> None:
        """Wait for a step of the build."""
        self._until(lambda: words in self._log.read_text(), words)

    def until_there(self, pattern: str) -> None:
        """Wait until it has made something that is not published yet."""
        self._until(lambda: bool(set(self._recipe.glob(pattern)) - self._left), pattern)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(lambda: condition() or self.process.poll() is not None, what)
        assert self.process.poll() is None, self._log.read_text()

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait(GENEROUS_S) == -9


def test_kills_at_several_moments_leave_the_old_version_in_force_and_nothing_half_made(
    tmp_path: Path, teacher: Path, bundle: Path
) -> None:
    recipes, images = RecipeFolder(tmp_path / "recipes"), tmp_path / "good"
    add_recipe(recipes, "nut", bundle)
    recipe, images_folder = recipes.path / "nut", recipes.images("nut")
    images_folder.mkdir()
    images.mkdir()
    for number in GOOD:
        shutil.copy(FRAMES / f"{number}_good.jpg", images)
    before = load_bundle(recipes.load("nut").model).sha256

    def teaching() -> Killed:
        return Killed(recipe, teacher, images, tmp_path / "log")

    def old_version_alone() -> None:
        assert (recipes.versions("nut"), recipes.in_force("nut")) == ((1,), 1)
        assert load_bundle(recipes.load("nut").model).sha256 == before
        (listed,) = recipes.listing()
        assert listed.versions == (1,)
        assert not list(images_folder.glob("*.jpg"))  # of a version that is not there

    for step in ("cross-validation, fold 1", "bank of"):
        killed = teaching()
        killed.until_printed(step)
        killed.kill()
        old_version_alone()

    with locked(images_folder):  # there is a place for the version, and nothing in it
        killed = teaching()
        killed.until_there(f"{VERSIONS}/.new-*")
        killed.kill()
        old_version_alone()

    with ExitStack() as first:  # the version is whole, but for its name
        first.enter_context(locked(images_folder))
        killed = teaching()
        killed.until_there(f"{VERSIONS}/.new-*")
        with locked(recipe / VERSIONS):
            first.close()
            killed.until_there(f"{VERSIONS}/.new-*/model.json")
            killed.until_there(f"{IMAGES}/.new-*/*.jpg")
            killed.kill()
            old_version_alone()

    last = teaching()
    assert last.process.wait(GENEROUS_S) == 0
    assert (recipes.versions("nut"), recipes.in_force("nut")) == ((1, 2), 1)
    assert missing_images(recipes, "nut", 2) == 0
    assert load_bundle(recipes.load("nut", 2).model)
    assert not [path for path in recipe.rglob(".*") if path.name != f".{CURRENT}.new"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path, but_bytes: int = 0) -> Iterator[None]:
    """Take all the room that is left, or all but some."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(ballast, ballast.stat().st_size - but_bytes)
    yield
    ballast.unlink()


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_full_disk_ends_each_step_of_teaching_with_its_cause_and_each_goes_on_with_room(
    disk: Path, tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = TeachingBench(disk, teacher, 4)
    bench.begin()
    good = [read_image(FRAMES / f"{number}_good.jpg") for number in GOOD]
    assert bench.capture(good[0]) == ""
    before = files_below(bench.folder)
    with filled(disk, 8192):  # a small image has room, the whole one has none
        assert "No space left on device" in bench.capture(good[1])
        assert files_below(bench.folder) == before
    for pixels in good[1:]:
        assert bench.capture(np.ascontiguousarray(pixels)) == ""

    for but_bytes in (0, 800_000):  # no map, and maps but no model
        with filled(disk, but_bytes):
            status = bench.build()
        assert (status.phase, status.refused_kind) == ("collecting", "disk"), status.refused
        assert "No space left on device" in status.refused[0]
        assert not list(bench.folder.glob("teaching/candidate-*"))
    assert bench.build().result is not None

    with filled(disk, 100_000):
        with pytest.raises(TeachingNotPossible, match="No space left on device") as refused:
            bench.release()
        assert refused.value.kind == "disk"  # in the language of the page
        assert bench.recipes.versions("nut") == ()
        assert files_below(bench.recipes.path) == []
    obstacle = bench.recipes.path / "nut" / f".{CURRENT}.new"
    obstacle.mkdir()
    with pytest.raises(TeachingNotPossible, match="cannot be written"):
        bench.release()
    assert (bench.recipes.versions("nut"), bench.recipes.in_force("nut")) == ((1,), None)
    obstacle.rmdir()
    bench.release()  # the same version, not another one like it
    assert (bench.recipes.versions("nut"), bench.recipes.in_force("nut")) == ((1,), 1)
    assert missing_images(bench.recipes, "nut", 1) == 0

    carried, there = tmp_path / "nut.recipe", disk / "there"
    export = ["--recipe", "export", "nut", str(carried), "--images"]
    assert edge_run([*export, "--recipes", str(bench.recipes.path)]) == 0
    taken_in = ["--recipe", "import", str(carried), "--recipes", str(there)]
    capsys.readouterr()
    with filled(disk, 300_000):
        assert edge_run(taken_in) == 78
        assert "No space left on device" in capsys.readouterr().err
        assert files_below(there) == []
    assert edge_run(taken_in) == 0
    assert missing_images(RecipeFolder(there), "nut", 1) == 0
