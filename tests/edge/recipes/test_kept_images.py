"""A recipe keeps as many images as it may: a version's all, or none that only it needs."""

import hashlib
from pathlib import Path

import pytest

from edge.cli.main import main
from edge.recipes.archive import export_recipe, import_recipe
from edge.recipes.content import RecipeContent
from edge.recipes.errors import RecipeError
from edge.recipes.folder import RecipeFolder, RecipeVersion, taught_place
from edge.recipes.kept_images import images_to_remove
from edge.recipes.taught import read_taught
from tests.support.recipes import missing_images, taught_bundle


@pytest.mark.parametrize(
    ("taught", "present", "always", "most", "removed"),
    [
        ({1: "ab", 2: "cd"}, "abcd", {2}, 4, ""),
        ({1: "ab", 2: "cd"}, "abcd", {2}, 3, "ab"),
        ({1: "ab", 2: "bc", 3: "cd"}, "abcd", {3}, 3, "a"),  # 2 shares with 3, and stays
        ({1: "ab", 2: "cd", 3: "ef"}, "abcdef", {1, 3}, 4, "cd"),  # 1 is in force
        ({1: "ab", 2: "cdef"}, "abcdef", {1, 2}, 2, ""),  # both have to stay
        ({1: "ab", 2: "cd"}, "abcdxy", {2}, 4, "xy"),  # of no version, by a disk that was full
        ({1: "abc", 2: "de", 3: "fg"}, "bcdefg", {3}, 5, "bc"),  # what a kill left of 1
        ({1: "abc", 2: "ab", 3: "de"}, "abcde", {3}, 4, "c"),
    ],
)
def test_the_oldest_versions_make_room_whole(
    taught: dict[int, str], present: str, always: set[int], most: int, removed: str
) -> None:
    images = {version: frozenset(names) for version, names in taught.items()}
    found = images_to_remove(images, set(present), always=always, max_images=most)
    assert found == set(removed)


class Shelf:
    """A recipe taught with files that stand for images."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.recipes = RecipeFolder(folder / "recipes")
        self._images, self._bundle = folder / "images", bundle
        self._images.mkdir()

    def teach(self, *numbers: int, max_images: int | None) -> RecipeVersion:
        contents = {}
        for number in numbers:
            path = self._images / f"{number}.png"
            path.write_bytes(bytes([number]))
            contents[hashlib.sha256(path.read_bytes()).digest()] = path
        places = {taught_place(content, path): path for content, path in contents.items()}
        content = RecipeContent(name="nut", version=1)
        return self.recipes.publish(
            content,
            taught_bundle(self._bundle, contents),
            images=places,
            max_images=max_images,
        )

    def missing(self) -> list[int]:
        """Return of each version how many of its images are no longer kept."""
        numbers = self.recipes.versions("nut")
        return [missing_images(self.recipes, "nut", number) for number in numbers]


@pytest.fixture
def shelf(tmp_path: Path, bundle: Path) -> Shelf:
    return Shelf(tmp_path, bundle)


def test_a_version_makes_room_for_its_images_and_says_which_can_no_longer_be_built(
    shelf: Shelf, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    shelf.teach(1, 2, 3, max_images=6)
    shelf.recipes.put_in_force("nut", 1)
    shelf.teach(4, 5, max_images=6)
    foreign = shelf.recipes.images("nut") / "from a colleague.png"
    foreign.write_bytes(b"mine")
    assert shelf.missing() == [0, 0]

    shelf.teach(6, 7, max_images=6)
    assert shelf.missing() == [0, 2, 0]  # 1 is in force
    assert "no longer to be built again: version 2" in caplog.text
    shelf.recipes.put_in_force("nut", 3)
    shelf.teach(7, 8, 9, 10, max_images=6)
    assert shelf.missing() == [3, 2, 0, 0]
    assert foreign.exists()

    show = ["--recipe", "show", "--recipes", str(shelf.recipes.path)]
    assert main([*show[:2], "nut@1", *show[2:]]) == 0
    sentence = "taught with 3, 3 no longer kept: this version cannot be built again"
    assert sentence in capsys.readouterr().out
    assert main([*show[:2], "nut@4", *show[2:]]) == 0
    assert "taught with 4, all kept" in capsys.readouterr().out
    assert shelf.recipes.put_in_force("nut", 1).version == 1  # it inspects as ever


def test_what_a_kill_left_of_a_version_goes_first(shelf: Shelf) -> None:
    first = shelf.teach(1, 2, 3, max_images=9)
    shelf.teach(4, 5, max_images=9)
    order = read_taught(first.folder)
    assert order is not None
    (shelf.recipes.images("nut") / f"{order.images[0]}.png").unlink()
    shelf.teach(6, 7, max_images=4)
    assert shelf.missing() == [3, 0, 0]


def test_what_cannot_be_published_removes_nothing(shelf: Shelf) -> None:
    shelf.teach(1, 2, max_images=2)

    def fails(_folder: Path) -> None:
        raise RecipeError("as of a bundle that is not whole")

    content = RecipeContent(name="nut", version=1)
    with pytest.raises(RecipeError, match="not whole"):
        shelf.recipes.publish(content, fails, images={}, max_images=1)
    assert shelf.missing() == [0]
    shelf.teach(3, max_images=None)  # nobody says how many
    assert shelf.missing() == [0, 0]


def test_a_file_has_the_images_of_its_version_alone(shelf: Shelf, tmp_path: Path) -> None:
    first = shelf.teach(1, 2, max_images=None)
    second = shelf.teach(2, 3, 4, max_images=None)
    foreign = shelf.recipes.images("nut") / "from a colleague.png"
    foreign.write_bytes(b"mine")
    for version, count in ((first, 2), (second, 3)):
        file = tmp_path / f"{version.version}.recipe"
        manifest = export_recipe(shelf.recipes, version, file, images=True)
        order = read_taught(version.folder)
        assert order is not None
        brought = {Path(place).stem for place in manifest.files if place.startswith("images/")}
        assert brought == set(order.contents)
        elsewhere = RecipeFolder(tmp_path / file.stem)
        elsewhere.path.mkdir()
        taken_in = import_recipe(elsewhere, file)
        assert len(list(elsewhere.images("nut").iterdir())) == count
        assert missing_images(elsewhere, "nut", taken_in.version) == 0


def test_images_of_a_version_that_is_there_come_back_within_the_bound(
    shelf: Shelf, tmp_path: Path
) -> None:
    file = tmp_path / "1.recipe"
    export_recipe(shelf.recipes, shelf.teach(1, 2, 3, max_images=5), file, images=True)
    shelf.teach(4, 5, max_images=5)
    shelf.teach(6, 7, max_images=5)
    assert shelf.missing() == [3, 0, 0]

    assert import_recipe(shelf.recipes, file, max_images=5).version == 1
    assert shelf.missing() == [0, 2, 0]  # they were asked for, and the oldest other makes room
    assert len(list(shelf.recipes.images("nut").iterdir())) == 5
    shelf.recipes.put_in_force("nut", 3)
    import_recipe(shelf.recipes, file, max_images=4)
    assert shelf.missing() == [0, 2, 0]  # neither those brought nor those of the one in force
