"""The code on a part names its recipe: it is inspected by that one or by none."""

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from edge.cli.main import main as edge_run
from edge.contract.verdict import Recipe, Verdict
from edge.inspection.decision import Reason
from edge.journal.entries import RecordKind
from edge.journal.query import Query, query
from edge.recipes.content import RecipeContent, RecipeDecision
from edge.recipes.errors import CodeNamesNoRecipe
from edge.recipes.folder import RecipeFolder
from edge.recipes.part_codes import CodePattern
from tests.edge.station.test_codes import with_code
from tests.soak import times
from tests.support.broker import Broker
from tests.support.recipe_line import RecipeLine, recipe_line
from tests.support.recipes import add_recipe, copied_bundle
from tests.support.small_bundle import defective_image, write_bundle

# Each has a threshold that no other has; r0 is the station's own model.
THRESHOLDS = {"r0": 20.0, "r1": 10.5, "r2": 11.0, "r3": 11.5}
MODELS = {"r0": "part", "r1": "part", "r2": "other", "r3": "third"}
PATTERN = "(?P<recipe>[^/]+)/(?P<part>.+)"


def write_coded(folder: Path, *texts: str) -> None:
    """Write an image for each text, in this order; of an empty one without a code."""
    folder.mkdir()
    for number, text in enumerate(texts):
        pixels = with_code(text, "datamatrix") if text else defective_image(number, 360, 480)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)


@pytest.fixture
def recipes(tmp_path: Path, bundle: Path) -> RecipeFolder:
    """Three recipes, the first of the station's own bundle."""
    recipes = RecipeFolder(tmp_path / "recipes")
    for name in ("r1", "r2", "r3"):
        own = bundle if name == "r1" else write_bundle(tmp_path, MODELS[name])
        add_recipe(recipes, name, own, decision=RecipeDecision(image_threshold=THRESHOLDS[name]))
    return recipes


@pytest.fixture
def settings(
    tmp_path: Path, bundle: Path, recipes: RecipeFolder, running_broker: Broker
) -> dict[str, Any]:
    return {
        "camera": {
            "uri": str(tmp_path / "in"),
            "loop": True,
            "trigger": {"mode": "software", "frame_timeout_ms": 60_000},
        },
        "model": {"path": str(bundle)},
        "code": {
            "kinds": ["datamatrix"],
            "timeout_ms": 10_000,
            "recipe": {"pattern": PATTERN},
        },
        "recipe": {"id": "r0", "version": 1},
        "recipes": {"folder": str(recipes.path), "wait_ms": 9000},
        "mqtt": {"url": running_broker.url},
        "journal": {"folder": str(tmp_path / "journal")},
        "handshake": {"slots": 100},
    }


@pytest.fixture
def line(settings: dict[str, Any], tmp_path: Path) -> Iterator[RecipeLine]:
    """A station that sees these parts one after the other, again and again."""
    write_coded(tmp_path / "in", "r1/A-1", "r2/A-2", "r0/A-3", "nobody/A-4", "A-5", "")
    settings["recipes"]["resident"] = 2
    with recipe_line(settings, tmp_path / "tuning.json") as running:
        yield running


def asked(verdict: Verdict) -> tuple[str, int | str] | None:
    """Return what a verdict says that was inspected for."""
    recipe = verdict.asked_recipe(verdict.identity)
    return None if recipe is None else (recipe.id, recipe.version)


def judged_by(verdict: Verdict) -> str | None:
    """Return by whose model and threshold a part was judged; None of a part that nobody judged."""
    if verdict.inspection.score is None:
        return None
    assert verdict.identity is not None and verdict.identity.recipe is not None
    name = verdict.identity.recipe.id
    assert verdict.inspection.threshold == THRESHOLDS[name]
    assert verdict.identity.model_name == MODELS[name]
    return name


def test_each_part_is_judged_by_the_recipe_that_its_code_names_or_is_an_error(
    line: RecipeLine,
) -> None:
    parts = times(24, 1200)
    for number in range(parts):
        line.wait(max(number - 4, min(number, 1)))  # five in flight, once frames count
        if number % 7 == 5:
            line.set_recipe(f"r{number % 3}", 1)  # parts with a code follow it all the same
        line.trigger()
    verdicts = line.wait(parts)

    shown = list(zip(verdicts, range(parts), strict=True))
    for verdict, number in shown:
        decision, detail = verdict.inspection.decision, verdict.inspection.detail
        match number % 6:
            case 0 | 1 | 2 as which:
                name = ("r1", "r2", "r0")[which]
                assert (judged_by(verdict), asked(verdict)) == (name, (name, 1)), detail
                assert verdict.part_id == f"A-{which + 1}"
            case 3:
                assert (judged_by(verdict), decision.reason) == (None, Reason.RECIPE_MISMATCH)
                assert (asked(verdict), verdict.part_id) == (("nobody", 0), "A-4")
                assert "names recipe nobody, but it is not in force" in detail
            case 4:
                assert (judged_by(verdict), decision.reason) == (None, Reason.RECIPE_MISMATCH)
                assert "does not fit code.recipe.pattern" in detail
                assert verdict.part_id == "A-5"
            case _:
                assert (judged_by(verdict), decision.reason) == (None, Reason.CODE_UNREADABLE)
    assert line.line.model.recipes is not None
    assert len(line.line.model.recipes.names()) <= 2  # as many as may be resident


def test_the_version_in_force_counts_and_a_recipe_that_cannot_be_loaded_is_an_error(
    settings: dict[str, Any], tmp_path: Path, recipes: RecipeFolder, bundle: Path
) -> None:
    write_coded(tmp_path / "in", "r1/A-1", "r3/A-2")
    weights = recipes.load("r3").model.with_suffix(".bin")
    weights.write_bytes(bytes(weights.stat().st_size))
    with recipe_line(settings, tmp_path / "tuning.json") as line:
        line.trigger()
        line.wait(1)
        decision = RecipeDecision(image_threshold=THRESHOLDS["r1"])
        content = RecipeContent(name="r1", version=1, decision=decision)
        recipes.put_in_force("r1", recipes.publish(content, copied_bundle(bundle)).version)
        line.trigger()
        line.wait(2)
        line.trigger()
        first, damaged, second = line.wait(3)

    assert (judged_by(first), asked(first)) == ("r1", ("r1", 1))
    assert damaged.inspection.decision.reason is Reason.RECIPE_UNAVAILABLE
    assert (judged_by(damaged), asked(damaged)) == (None, ("r3", 1))
    assert (judged_by(second), asked(second)) == ("r1", ("r1", 2))
    assert second.identity is not None and second.identity.recipe == Recipe("r1", 2)


@pytest.mark.parametrize("unreadable", ["error", "empty"])
def test_trigger_and_code_agree_or_the_part_is_an_error(
    unreadable: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Nobody knows which of the two is wrong about the part."""
    write_coded(tmp_path / "in", "r1/A-1", "")
    settings["code"]["unreadable"] = unreadable
    triggers = ["r1", "r1", "r2", None, None, "nobody"]
    with recipe_line(settings, tmp_path / "tuning.json") as line:
        for number, recipe in enumerate(triggers):
            line.trigger(recipe)
            line.wait(number + 1)
        agreed, without, differs, chosen, by_code, refused = line.wait(6)

    assert (judged_by(agreed), asked(agreed), agreed.part_id) == ("r1", ("r1", 1), "A-1")
    assert (judged_by(differs), asked(differs)) == (None, ("r2", 1))
    assert differs.inspection.decision.reason is Reason.RECIPE_MISMATCH
    assert "asks for recipe r2 version 1, but the code" in differs.inspection.detail
    assert "names recipe r1 version 1" in differs.inspection.detail
    assert (judged_by(by_code), asked(by_code)) == ("r1", ("r1", 1))
    assert refused.inspection.decision.reason is Reason.RECIPE_MISMATCH
    if unreadable == "error":
        for verdict in (without, chosen):
            assert verdict.inspection.decision.reason is Reason.CODE_UNREADABLE
    else:  # the site says that there may be parts without a code: for them trigger and choice count
        assert [judged_by(without), judged_by(chosen)] == ["r1", "r0"]
        assert without.part_id is None


def test_verdict_and_journal_of_a_station_without_triggers_have_recipe_and_part_of_the_code(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coded(tmp_path / "in", "A17/S-1", "A18/S-2", "A19/S-3")
    del settings["mqtt"]
    settings["camera"] = {"uri": str(tmp_path / "in")}
    settings["code"]["recipe"]["names"] = {"A17": "r2", "A18": "r0"}
    config = tmp_path / "station.yaml"
    config.write_text(yaml.safe_dump(settings))
    assert edge_run(["--config", str(config), "--once"]) == 0
    verdicts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["part_id"], one["recipe"], one["reason_code"] == 52) for one in verdicts] == [
        ("S-1", {"id": "r2", "version": 1}, False),
        ("S-2", {"id": "r0", "version": 1}, False),
        ("A19/S-3", {"id": "r0", "version": 1}, True),
    ]
    assert [one["raw_threshold"] for one in verdicts[:2]] == [11.0, 20.0]
    assert "'A19' is not among code.recipe.names" in verdicts[2]["detail"]
    rows = query(tmp_path / "journal" / "journal.db", Query(kind=RecordKind.VERDICT))
    kept = [json.loads(row.payload) for row in rows]
    assert [(one["part_id"], one["recipe"]) for one in kept] == [
        (one["part_id"], one["recipe"]) for one in verdicts
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "{pattern: '(?P<recipe>'}",
            "code.recipe.pattern.*is not a regular expression of RE2",
        ),
        ("{pattern: '(?P<recipe>.+)(?=x)'}", r"not a regular expression of RE2: .*\(\?="),
        ("{pattern: '(?P<part>.+)'}", r"has no group \(\?P<recipe>"),
        ("{names: {A17: ../r1}}", "code.recipe.names: recipe name '../r1'"),
        ("{names: {}}", "code.recipe.names"),
        ("{names: {A17: r1, A18: r9}}", "recipe r9 is not in force"),
    ],
)
def test_check_names_a_pattern_or_a_name_that_is_wrong(
    code: str,
    expected: str,
    settings: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_coded(tmp_path / "in", "")
    settings["code"]["recipe"] = yaml.safe_load(code)
    config = tmp_path / "station.yaml"
    config.write_text(yaml.safe_dump(settings))
    ended = edge_run(["--config", str(config), "--check"])
    printed = capsys.readouterr()
    assert re.search(expected, printed.err + caplog.text), printed.err
    assert ended == (0 if "r9" in code else 78)
    assert ("codes    datamatrix: id and recipe of the part" in printed.out) == (ended == 0)
    if ended == 0:
        del settings["recipes"], settings["recipe"]
        config.write_text(yaml.safe_dump(settings))
        assert edge_run(["--config", str(config), "--check"]) == 78
        assert "code.recipe chooses among recipes. Set recipes.folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pattern", "names", "text", "found"),
    [
        ("(?P<recipe>.+)", {}, "너트 M8", ("너트 M8", "너트 M8")),
        (PATTERN, {}, "nut M8/0417", ("nut M8", "0417")),
        (r"\(01\)(?P<recipe>\d{14})\(21\)(?P<part>.+)", {"04012345678901": "nut"},
         "(01)04012345678901(21)AB/7", ("nut", "AB/7")),
        ("(?P<recipe>[A-Z]+)(?P<part>[0-9]+)?", {}, "NUT", ("NUT", "NUT")),
        (PATTERN, {}, "nut/", None),
        (PATTERN, {}, "x nut", None),
        ("(?P<recipe>[a-z]*)", {}, "", None),
        ("(?P<recipe>[a-z]+)|.*", {}, "0417", None),
        (PATTERN, {"A17": "nut"}, "nut/0417", None),
        (PATTERN, {"너트": "nut"}, unicodedata.normalize("NFD", "너트") + "/0417", ("nut", "0417")),
    ],
)  # fmt: skip
def test_the_whole_text_of_a_code_names_recipe_and_part(
    pattern: str, names: dict[str, str], text: str, found: tuple[str, str] | None
) -> None:
    reader = CodePattern(pattern, names)
    if found is None:
        with pytest.raises(CodeNamesNoRecipe):
            reader.read(text)
    else:
        content = reader.read(text)
        assert (content.recipe, content.part_id) == found


@pytest.mark.parametrize(
    "pattern", [r"(?:(?:\w+ ?)+;)?(?P<recipe>.+)", r"(?:.*.*.*.*.*.*.*;)?(?P<recipe>.+)"]
)
def test_a_pattern_that_backtracks_does_not_hold_up_the_line(pattern: str) -> None:
    """Python's engine would try up to 2⁹⁰ ways, and nothing else would run meanwhile."""
    assert CodePattern(pattern, {}).read("a" * 90).recipe == "a" * 90
