"""The folder of recipes: names, versions, and what is on offer after a kill."""

import random
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest

from edge.bundle.input_spec import Crop
from edge.bundle.loading import load_bundle
from edge.errors import BundleMissing
from edge.recipes.content import RecipeCamera, RecipeContent, RecipeDecision
from edge.recipes.errors import RecipeDamaged, RecipeNameInvalid, RecipeNotInForce, RecipeUnknown
from edge.recipes.folder import RecipeFolder, RecipeListing
from edge.recipes.names import recipe_name
from tests.support.recipes import add_recipe, copied_bundle, missing_images


@pytest.fixture
def recipes(tmp_path: Path) -> RecipeFolder:
    return RecipeFolder(tmp_path / "recipes")


def test_a_version_is_published_put_in_force_and_rolled_back(
    recipes: RecipeFolder, bundle: Path
) -> None:
    decision = RecipeDecision(image_threshold=12.5, guard_band=0.1)
    crop = Crop(x=1, y=2, width=30, height=40)
    add_recipe(recipes, "병 뚜껑", bundle)
    second = recipes.publish(
        RecipeContent(name="병 뚜껑", version=1, camera=RecipeCamera(crop=crop), decision=decision),
        copied_bundle(bundle),
    )

    assert recipes.listing() == [RecipeListing("병 뚜껑", (1, 2), 1)]
    assert recipes.load("병 뚜껑").version == 1

    recipes.put_in_force("병 뚜껑", second.version)
    found = recipes.load("병 뚜껑")
    assert (found.version, found.content.decision, found.content.camera.crop) == (2, decision, crop)
    assert load_bundle(found.model).sha256 == load_bundle(bundle).sha256
    assert recipes.roll_back("병 뚜껑").version == 1
    assert recipes.listing() == [RecipeListing("병 뚜껑", (1, 2), 1)]
    with pytest.raises(RecipeNotInForce, match="there is no version before 1"):
        recipes.roll_back("병 뚜껑")


@pytest.mark.parametrize(
    "name", ["bottle", "M8x40 v2.1", "병 뚜껑", "छोटा", "7", "a" * 64, "너트" * 16, "Ü_ü-1"]
)
def test_names_of_any_script_are_taken_composed(name: str) -> None:
    assert recipe_name(unicodedata.normalize("NFD", name)) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", ".hidden", "a/b", "../a", "a\\b", "a\0b", "a\nb", " a", "a ", "a.", "-a"),
        *("_a", "a" * 65, "너트" * 17, "a\u202eb", "a\ud800", "a:b", "*"),
    ],
)
def test_other_names_are_refused(name: str, recipes: RecipeFolder) -> None:
    with pytest.raises(RecipeNameInvalid):
        recipes.load(name)


def test_what_is_not_there_is_named(recipes: RecipeFolder, bundle: Path) -> None:
    assert recipes.listing() == []
    with pytest.raises(RecipeUnknown, match="there: none"):
        recipes.load("nut")
    add_recipe(recipes, "bolt", bundle)
    with pytest.raises(RecipeUnknown, match="there: bolt"):
        recipes.load("nut")
    with pytest.raises(RecipeUnknown, match="no version 2; there: 1"):
        recipes.put_in_force("bolt", 2)
    recipes.publish(RecipeContent(name="nut", version=1), copied_bundle(bundle))
    with pytest.raises(RecipeNotInForce, match="Put one of 1 in force"):
        recipes.load("nut")


def test_a_build_that_fails_leaves_nothing(recipes: RecipeFolder, bundle: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "model.xml").write_bytes(bundle.read_bytes())

    def linked(folder: Path) -> None:
        copied_bundle(bundle)(folder)
        (folder / "more").symlink_to("/etc/passwd")

    content = RecipeContent(name="nut", version=1)
    with pytest.raises(BundleMissing):
        recipes.publish(content, half)
    with pytest.raises(RecipeDamaged, match="not a regular file"):
        recipes.publish(content, linked)
    assert recipes.listing() == []
    assert list((recipes.path / "nut" / "versions").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("schema_version: recipe/3\nname: nut\nversion: 1\n", "schema 'recipe/3'"),
        ("name: nut\nversion: 1\n", "schema"),
        ("schema_version: recipe/1\nname: nut\nversion: '1'\n", "version: must be"),
        ("schema_version: recipe/1\nname: nut\nversion: 1\nmodel: {}\n", "model: is unknown"),
        ("schema_version: recipe/1\nname: bolt\nversion: 1\n", "is of recipe 'bolt'"),
        ("{", "not valid YAML"),
    ],
)
def test_a_recipe_file_of_no_use_is_refused(
    recipes: RecipeFolder, bundle: Path, text: str, says: str
) -> None:
    made = add_recipe(recipes, "nut", bundle)
    (made.folder / "recipe.yaml").write_text(text)
    with pytest.raises(RecipeDamaged, match=says):
        recipes.load("nut")


def test_after_kills_at_random_moments_only_whole_versions_are_on_offer(
    recipes: RecipeFolder, bundle: Path, tmp_path: Path
) -> None:
    moments, imported = random.Random(17), RecipeFolder(tmp_path / "imported")
    for _ in range(3):
        command = [
            sys.executable,
            "-m",
            "tests.support.recipe_process",
            str(recipes.path),
            str(bundle),
            str(imported.path),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0.0, 0.15))
            process.kill()
        for folder in (recipes, imported):
            versions = folder.versions("part")
            for version in versions:
                assert load_bundle(folder.load("part", version).model)
            assert [missing_images(folder, "part", version) for version in versions[-1:]] in (
                [],
                [0],
            )
        if (recipes.path / "part" / "current").is_symlink():
            live = recipes.load("part")
            assert load_bundle(live.model)
            assert missing_images(recipes, "part", live.version) == 0
            # Those of two versions, and of one that was about to be published or had just been.
            assert len(list(recipes.images("part").glob("*.png"))) <= 3 * 3
    made = add_recipe(recipes, "part", bundle)
    assert recipes.load("part").version == made.version == max(recipes.versions("part"))
    hidden = [e for e in (recipes.path / "part").rglob(".*") if e.name != ".current.new"]
    assert hidden == []
