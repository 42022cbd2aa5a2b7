"""Recipes and codes as the doctor sees them, and names that no PLC can call."""

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from edge.doctor.finding import Finding, Grade
from edge.doctor.recipes import code_findings, recipe_findings
from edge.imaging.frame import Frame
from edge.recipes.errors import RecipeNameInvalid
from edge.recipes.folder import RecipeFolder
from edge.settings.layers import SettingsLayers
from edge.settings.station import Settings
from edge.station.model.manager import ModelManager
from edge.station.model.recipe_limits import (
    RecipeTooLarge,
    demand_callable,
    demand_room,
    find_uncallable,
    recipe_number,
)
from edge.station.model.releases import Releases
from tests.edge.conftest import EdgeRun
from tests.support.recipes import add_recipe
from tests.support.small_bundle import write_images


def station(folder: Path, bundle: Path, modbus: bool = True, **recipes: Any) -> dict[str, Any]:
    """Return settings with a folder of recipes, triggered over Modbus."""
    settings: dict[str, Any] = {
        "camera": {"uri": str(folder / "frames"), "trigger": {"mode": "software"}},
        "model": {"path": str(bundle)},
        "journal": {"folder": str(folder / "journal")},
        "recipes": {"folder": str(folder / "recipes"), **recipes},
    }
    if modbus:
        settings["modbus"] = {"host": "127.0.0.1", "port": 0}
    else:
        settings["mqtt"] = {"url": "mqtt://127.0.0.1"}
    return settings


def grades(settings: dict[str, Any]) -> list[tuple[str, Grade]]:
    found = recipe_findings(Settings.model_validate(settings))
    return [(one.subject, one.grade) for one in found]


def test_recipes_in_force_are_read_and_have_room(tmp_path: Path, bundle: Path) -> None:
    assert grades(station(tmp_path, bundle)) == [("recipes", Grade.ADVICE)]  # there is none
    recipes = RecipeFolder(tmp_path / "recipes")
    add_recipe(recipes, "7", bundle)
    add_recipe(recipes, "bottle", bundle)
    good = [("recipes", Grade.GOOD), ("recipes' memory", Grade.GOOD)]
    assert grades(station(tmp_path, bundle, modbus=False)) == good
    # over Modbus nobody can call a word
    assert grades(station(tmp_path, bundle)) == [*good, ("recipes", Grade.ADVICE)]
    few = station(tmp_path, bundle, modbus=False, resident=2)
    assert grades(few)[1] == ("recipes' memory", Grade.ADVICE)

    with recipes.load("7").model.with_suffix(".bin").open("r+b") as file:
        file.truncate(2**20)
    assert grades(station(tmp_path, bundle)) == [("recipes", Grade.FAULT)]


def test_a_recipe_that_is_larger_than_the_memory_is_at_fault(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_recipe(RecipeFolder(tmp_path / "recipes"), "7", bundle)
    settings = station(tmp_path, bundle, memory_mb=2)
    assert grades(settings)[1] == ("recipes' memory", Grade.GOOD)
    monkeypatch.setattr("edge.doctor.recipes.model_bytes", lambda _path: 3 * 2**20)
    assert grades(settings)[1] == ("recipes' memory", Grade.FAULT)
    section = Settings.model_validate(settings).recipes
    assert section is not None
    demand_room(section, "recipe 7", 2 * 2**20)
    with pytest.raises(RecipeTooLarge, match=r"takes 3 MB, but recipes\.memory_mb is 2"):
        demand_room(section, "recipe 7", 3 * 2**20)


@pytest.mark.parametrize(
    ("name", "number"),
    [("7", 7), ("65535", 65535), ("65536", None), ("007", None), ("0", None), ("٧", None)],
)
def test_a_plc_calls_recipes_by_numbers_that_fit_its_register(
    name: str, number: int | None
) -> None:
    assert recipe_number(name) == number


def test_a_number_that_no_register_holds_is_refused_where_a_plc_triggers_and_never_stops_a_start(
    tmp_path: Path, bundle: Path, edge_run: EdgeRun
) -> None:
    led = Settings.model_validate(station(tmp_path, bundle))
    assert find_uncallable(led, ["7", "007", "bottle"]) == ["007", "bottle"]
    demand_callable(led, "bottle")  # for those who choose
    with pytest.raises(RecipeNameInvalid):
        demand_callable(led, "007")
    other = Settings.model_validate(station(tmp_path, bundle, modbus=False))
    assert find_uncallable(other, ["007", "bottle"]) == []
    demand_callable(other, "007")

    write_images(tmp_path / "frames", good=1)
    config, recipes = tmp_path / "station.yaml", tmp_path / "recipes"
    config.write_text(yaml.safe_dump(station(tmp_path, bundle)))
    for action in ("add", "import", "use"):
        add_recipe(RecipeFolder(tmp_path / "workshop"), "70000", bundle)
        file = tmp_path / "70000.recipe"
        if action == "import":
            of_workshop = ("--recipes", tmp_path / "workshop")
            assert edge_run("--recipe", "export", "70000", file, *of_workshop).returncode == 0
        if action == "use":
            add_recipe(RecipeFolder(recipes), "70000", bundle)  # as before a PLC was there
        words = {"add": ("70000", bundle), "import": (file,), "use": ("70000@1",)}[action]
        refused = edge_run("--config", config, "--recipe", action, *words)
        assert refused.returncode == 78, refused.stderr
        assert "recipe 70000: no PLC can select it" in refused.stderr

    checked = edge_run("--config", config, "--check")
    assert checked.returncode == 0, checked.stderr
    assert "recipe 70000: the PLC cannot select it" in checked.stderr
    assert grades(station(tmp_path, bundle))[-1] == ("recipes", Grade.ADVICE)
    layers = SettingsLayers(led, lambda: led, tmp_path)
    model = ModelManager(
        settings=led,
        tuning=tmp_path / "tuning.json",
        simulated=True,
        trial=lambda: None,
        reread=layers.reread,
        record_event=lambda _: None,
        releases=Releases(None),
        layers=layers,
    )
    for change in (
        lambda: model.choose_recipe("70000", 2, release=True),
        lambda: model.offer_recipe("70000", 2),
    ):
        with pytest.raises(RecipeNameInvalid):
            change()


def test_the_code_of_an_image_of_the_camera_is_read(tmp_path: Path, bundle: Path) -> None:
    raw = station(tmp_path, bundle, modbus=False) | {"code": {"timeout_ms": 10_000}}
    raw["camera"] = {"uri": "0"}
    add_recipe(RecipeFolder(tmp_path / "recipes"), "part", bundle)
    pattern = cv2.QRCodeEncoder.create().encode("part 7")
    large = cv2.resize(pattern, None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST)
    pixels = cv2.copyMakeBorder(large, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=255)

    def frame(pixels: Any) -> Frame:
        now_ns = time.monotonic_ns()
        return Frame(pixels=pixels, number=1, captured_ns=now_ns, captured_utc_ns=time.time_ns())

    def findings(seen: Frame | None, **recipe: Any) -> list[Finding]:
        named = {"recipe": recipe} if recipe else {}
        settings = Settings.model_validate(raw | {"code": raw["code"] | named})
        return list(code_findings(settings, seen))

    shown, blank = frame(np.asarray(pixels, np.uint8)), frame(np.full((200, 200), 127, np.uint8))
    (read,) = findings(shown)
    assert (read.grade, "'part 7'" in read.found) == (Grade.GOOD, True), read
    (none,) = findings(blank)
    assert none.grade is Grade.ADVICE and "no readable code" in none.found
    assert [one.grade for one in findings(None)] == [Grade.GOOD]

    _, named = findings(shown, pattern="(?P<recipe>.+) .+")
    assert (named.grade, "names recipe part version 1" in named.found) == (Grade.GOOD, True)
    _, unknown = findings(shown, pattern="(?P<recipe>.+)")
    assert (unknown.grade, "'part 7', which is not in force" in unknown.found) == (
        Grade.ADVICE,
        True,
    )
    _, missing, other = findings(shown, names={"part 8": "nut", "part 9": "part"})
    assert "not in force: nut" in missing.found
    assert "'part 7' is not among code.recipe.names" in other.found
