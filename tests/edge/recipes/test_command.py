"""edge-run --recipe and --check: what cannot inspect is not put in force, nor said to be well."""

import os
from pathlib import Path

import pytest
import yaml

from edge.bundle.mask_file import read_mask_file
from edge.cli.main import main
from edge.recipes.folder import MASK_FILE, MODEL, RecipeFolder
from tests.support.recipes import add_recipe

CROSSING = "size: [640, 480]\nignore: [[[0, 0], [9, 9], [9, 0], [0, 9]]]\n"


@pytest.fixture
def recipes(tmp_path: Path, bundle: Path) -> RecipeFolder:
    """One recipe with two versions, the first of them in force."""
    recipes = RecipeFolder(tmp_path / "recipes")
    for _ in range(2):
        add_recipe(recipes, "nut", bundle)
    recipes.put_in_force("nut", 1)
    return recipes


def settings(folder: Path, bundle: Path, **sections: object) -> Path:
    path = folder / "station.yaml"
    whole = {
        "camera": {"uri": str(folder)},
        "model": {"path": str(bundle)},
        "journal": {"folder": str(folder / "journal")},
        **sections,
    }
    path.write_text(yaml.safe_dump(whole))
    return path


def truncate_weights(version: Path) -> None:
    weights = version / f"{MODEL}.bin"
    weights.write_bytes(weights.read_bytes()[:-4])


def cross_lines(version: Path) -> None:
    (version / MASK_FILE).write_text(CROSSING)


@pytest.mark.parametrize("damage", [truncate_weights, cross_lines])
def test_a_version_that_cannot_inspect_is_neither_put_in_force_nor_exported(
    damage: object, recipes: RecipeFolder, tmp_path: Path
) -> None:
    assert callable(damage)
    damage(recipes.load("nut", 2).folder)
    file = tmp_path / "nut.recipe"

    for words in (("use", "nut@2"), ("export", "nut@2", str(file))):
        assert main(["--recipe", *words, "--recipes", str(recipes.path)]) in (65, 78)

    assert recipes.in_force("nut") == 1
    assert not file.exists()


def test_a_recipe_is_added_with_what_its_product_changes(
    recipes: RecipeFolder, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, mask = tmp_path / "nut.yaml", tmp_path / "mask.yaml"
    changes.write_text("camera: {sensor: {exposure_us: 900, gain_db: 3}}\nnote: bright\n")
    mask.write_text("size: [640, 480]\nignore: [[[0, 0], [9, 0], [9, 9]]]\n")
    add = ["--recipe", "add", "nut", str(bundle), "--recipes", str(recipes.path)]
    assert main([*add, "--settings", str(changes), "--mask", str(mask)]) == 0
    added = recipes.load("nut", 3)
    assert (added.content.camera.sensor.exposure_us, added.content.note) == (900, "bright")
    assert added.mask is not None
    assert read_mask_file(added.mask) == read_mask_file(mask)

    changes.write_text("camera: {uri: elsewhere}\n")
    assert main([*add, "--settings", str(changes)]) == 78
    assert "A recipe sets camera.crop" in capsys.readouterr().err
    assert recipes.versions("nut") == (1, 2, 3)


def test_check_reads_the_masks_of_station_and_recipes(
    recipes: RecipeFolder, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = tmp_path / "mask.yaml"
    station = settings(tmp_path, bundle, decision={"mask": str(mask)})
    assert main(["--check", "--config", str(station)]) == 78
    assert f"{mask}" in capsys.readouterr().err
    mask.write_text(CROSSING)
    assert main(["--check", "--config", str(station)]) == 78
    assert "cross" in capsys.readouterr().err

    cross_lines(recipes.load("nut").folder)
    station = settings(tmp_path, bundle, recipes={"folder": str(recipes.path)})
    assert main(["--check", "--config", str(station)]) == 78
    assert "cross" in capsys.readouterr().err


def test_a_recipe_that_could_never_be_used_is_a_fault(
    recipes: RecipeFolder, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = {"recipes": {"folder": str(recipes.path)}, "recipe": {"id": "nut", "version": 1}}
    station = settings(tmp_path, bundle, **sections)
    assert main(["--check", "--config", str(station)]) == 78
    assert "has the same name" in capsys.readouterr().err
    for words in (["add", "nut", str(bundle)], ["use", "nut@2"]):
        assert main(["--recipe", *words, "--config", str(station)]) == 78
        assert "gives this name to the model at model.path" in capsys.readouterr().err
    assert (recipes.versions("nut"), recipes.in_force("nut")) == ((1, 2), 1)


@pytest.mark.parametrize("action", ["add", "import"])
def test_a_folder_that_cannot_be_made_is_named(
    recipes: RecipeFolder,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    action: str,
) -> None:
    file = tmp_path / "nut.recipe"
    assert main(["--recipe", "export", "nut", str(file), "--recipes", str(recipes.path)]) == 0
    words = ["add", "nut", str(bundle)] if action == "add" else ["import", str(file)]

    assert main(["--recipe", *words, "--recipes", "/proc/none"]) == 78
    assert "/proc/none: cannot be written" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes into another user's folder")
def test_root_changes_no_recipe_of_the_stations_user(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = tmp_path / "recipes", tmp_path / "nut.recipe"
    add_recipe(RecipeFolder(folder), "nut", bundle)
    os.chown(folder, 12345, -1)
    command = ["--recipes", str(folder), "--recipe"]
    assert main([*command, "export", "nut", str(file)]) == 0  # reading is root's, too
    capsys.readouterr()

    for words in (["import", file], ["use", "nut@1"], ["add", "bolt", bundle]):
        assert main([*command, *map(str, words)]) == 78
        assert "runuser -u 12345" in capsys.readouterr().err
    teach = ["--teach", "nut", "--from", str(tmp_path), "--teacher", "none.xml"]
    assert main([*teach, "--recipes", str(folder)]) == 78
    assert "runuser -u 12345" in capsys.readouterr().err

    assert [path.name for path in folder.iterdir()] == ["nut"]
    assert RecipeFolder(folder).versions("nut") == (1,)
