"""Recipes on a running line: each part is judged by the recipe it asked for, or by none."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.contract.verdict import Recipe, Verdict
from edge.inspection.decision import Reason, Result
from edge.recipes.content import RecipeDecision
from edge.recipes.folder import RecipeFolder
from tests.soak import times
from tests.support.broker import Broker
from tests.support.recipe_line import RecipeLine, recipe_line
from tests.support.recipes import add_recipe
from tests.support.small_bundle import write_bundle, write_images

# Recipe 0 is the station's own model; each has a threshold that no other has.
THRESHOLDS = {f"r{n}": 10.0 + n / 2 for n in range(1, times(5, 16))}
BUNDLES = 2


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> RecipeFolder:
    """Recipes of two bundles, whose networks they share."""
    folder = tmp_path_factory.mktemp("recipes")
    recipes = RecipeFolder(folder / "recipes")
    for number, (name, threshold) in enumerate(THRESHOLDS.items()):
        model = f"model{number % BUNDLES}"
        path = folder / f"{model}.xml"
        bundle = path if path.exists() else write_bundle(folder, model)
        add_recipe(recipes, name, bundle, decision=RecipeDecision(image_threshold=threshold))
    return recipes


@pytest.fixture
def settings(
    tmp_path: Path, bundle: Path, recipes: RecipeFolder, running_broker: Broker
) -> dict[str, Any]:
    frames = write_images(tmp_path / "in", good=2, defective=1)
    return {
        "camera": {
            "uri": str(frames),
            "loop": True,
            "trigger": {"mode": "software", "frame_timeout_ms": 60_000},
        },
        "model": {"path": str(bundle)},
        "recipe": {"id": "r0", "version": 1},
        "recipes": {"folder": str(recipes.path), "resident": 16, "wait_ms": 9000},
        "mqtt": {"url": running_broker.url},
        "journal": {"folder": str(tmp_path / "journal")},
        "handshake": {"slots": 1000},
    }


@pytest.fixture
def line(settings: dict[str, Any], tmp_path: Path) -> Iterator[RecipeLine]:
    with recipe_line(settings, tmp_path / "tuning.json") as running:
        yield running


def judged_by_its_own(verdict: Verdict) -> bool:
    """Tell whether model and threshold are those of the recipe that the part asked for."""
    part, identity = verdict.part, verdict.identity
    assert part is not None and identity is not None and part.recipe is not None
    name = part.recipe.id
    number = int(name[1:])
    model = "part" if number == 0 else f"model{(number - 1) % BUNDLES}"
    return (
        identity.recipe == part.recipe
        and identity.model_name == model
        and verdict.inspection.threshold == THRESHOLDS.get(name, 20.0)
        and verdict.inspection.decision.result in (Result.OK, Result.NOK)
    )


def wrong(verdicts: list[Verdict]) -> list[str]:
    """Return in words the verdicts that another recipe gave, or none."""
    return [
        f"{one.part} by {one.identity}: {one.inspection.decision} {one.inspection.detail}"
        for one in verdicts
        if not judged_by_its_own(one)
    ]


def test_each_part_is_judged_by_the_recipe_it_asks_for_while_others_are_in_flight(
    line: RecipeLine,
) -> None:
    line.until_resident(1 + len(THRESHOLDS))
    choice, parts = random.Random(17), times(300, 10_000)
    asked: dict[str, str] = {}
    waits: dict[bool, list[float]] = {True: [], False: []}
    for number in range(parts):
        line.wait(max(number - 6, min(number, 1)))  # seven in flight, once frames count
        recipe_id = choice.choice(["r0", *THRESHOLDS])
        asked[line.trigger(recipe_id)] = recipe_id
    verdicts = line.wait(parts)

    assert wrong(verdicts) == []
    assert [v.part.trigger_id for v in verdicts if v.part] == list(asked)
    assert [v.part.recipe.id for v in verdicts if v.part and v.part.recipe] == list(asked.values())
    before = None
    for verdict in verdicts:
        assert verdict.identity is not None
        changed = verdict.identity.recipe != before
        before = verdict.identity.recipe
        waits[changed].append((verdict.decided_ns - verdict.inspection_started_ns) / 1e6)
    for changed, found in waits.items():
        print(f"changed={changed}: {len(found)} parts, p99 {np.percentile(found, 99):.2f} ms")


def test_a_recipe_that_is_set_counts_from_the_next_part(line: RecipeLine) -> None:
    choice = random.Random(3)
    for number in range(times(40, 1000)):
        line.wait(max(number - 5, min(number, 1)))
        line.trigger()
        if number % 10 == 9:
            line.set_recipe(choice.choice(list(THRESHOLDS)), 1)
    verdicts = line.wait(times(40, 1000))
    assert wrong(verdicts) == []
    line.set_recipe("r3", 1)
    line.until_live(Recipe("r3", 1))
    line.trigger()
    last = line.wait(len(verdicts) + 1)[-1]
    assert last.identity is not None
    assert (last.identity.recipe, last.inspection.threshold) == (Recipe("r3", 1), 11.5)


def test_a_thousand_parts_of_unknown_recipes_are_errors_or_counted_and_harm_no_other(
    line: RecipeLine,
) -> None:
    line.until_resident(1 + len(THRESHOLDS))
    line.trigger("r1")
    line.wait(1)
    good = 1
    for number in range(1000):
        line.trigger(choice := ("nobody", "../r1", "r1")[number % 3], 7 if choice == "r1" else None)
        if number % 50 == 0:
            line.trigger("r2", 1)
            good += 1
    end = time.monotonic() + 60.0
    while sum(one.inspection.threshold == 11.0 for one in line.verdicts) < good - 1:
        assert time.monotonic() < end
        time.sleep(0.02)

    found = list(line.verdicts)
    judged = [v for v in found if v.inspection.decision.result is not Result.ERROR]
    assert len(judged) == good
    assert wrong(judged) == []
    refused = [v for v in found if v.inspection.decision.result is Result.ERROR]
    assert {v.inspection.decision.reason for v in refused} == {Reason.RECIPE_MISMATCH}
    assert "is not in force at this station" in refused[0].inspection.detail
    assert 250 < len(refused) < 1000  # the others are counted in one event
    recipes = line.line.model.recipes
    assert recipes is not None
    assert len(recipes.names()) == 1 + len(THRESHOLDS)


def test_a_recipe_that_cannot_be_loaded_is_an_error_and_the_one_used_longest_ago_makes_room(
    settings: dict[str, Any], tmp_path: Path, bundle: Path
) -> None:
    recipes = RecipeFolder(tmp_path / "own")
    for name, threshold in THRESHOLDS.items():
        other = RecipeDecision(image_threshold=threshold)
        add_recipe(recipes, name, write_bundle(tmp_path, f"m{name}"), decision=other)
    damaged = recipes.load("r4").model.with_suffix(".bin")
    damaged.write_bytes(bytes(damaged.stat().st_size))
    settings["recipes"] = {"folder": str(recipes.path), "resident": 2, "wait_ms": 9000}
    with recipe_line(settings, tmp_path / "tuning.json") as line:
        for number, name in enumerate(["r1", "r4", "r2", "r0", "r3", "r1"]):
            line.trigger(name)
            line.wait(number + 1)
        verdicts = line.wait(6)
        assert line.line.model.recipes is not None
        in_memory = line.line.model.recipes.names()

    assert set(in_memory) == {Recipe("r0", 1), Recipe("r1", 1)}
    thresholds = [v.inspection.threshold for v in verdicts if v.inspection.score is not None]
    assert thresholds == [10.5, 11.0, 20.0, 11.5, 10.5]
    failed = verdicts[1].inspection
    assert (failed.decision.reason, failed.score) == (Reason.RECIPE_UNAVAILABLE, None)
    assert "does not match" in failed.detail
