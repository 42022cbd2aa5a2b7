"""A threshold set at the page counts for the recipe it was set for, and for no other."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge.bundle.loading import manifest_sha256
from edge.contract.verdict import Recipe
from edge.hmi.actions import (
    Actor,
    RollBack,
    RollbackBody,
    SetThreshold,
    StationAction,
    ThresholdBody,
)
from edge.hmi.station_end.actions import ActionServices, PageActions
from edge.recipes.content import RecipeContent, RecipeDecision
from edge.recipes.folder import RecipeVersion
from edge.settings.overrides import MAX_OVERRIDES, Override, Overrides, TooManyOverrides
from edge.station.monitoring.health import Health
from tests.support.page_drawer import OVER_DEFECT, Drawer
from tests.support.recipe_site import RecipeSite
from tests.support.recipes import add_recipe, copied_bundle


@pytest.fixture
def site(tmp_path: Path, bundle: Path) -> RecipeSite:
    """The station's own model, recipe ``nut`` and recipe ``cap`` have one bundle."""
    site = RecipeSite(tmp_path, bundle)
    add_recipe(site.folder, "cap", bundle)
    return site


def act(site: RecipeSite, action: StationAction) -> None:
    services = ActionServices(
        model=site.model,
        reread=site.model.reread,
        reload=site.model.reload,
        choose_recipe=site.model.choose_recipe,
        overrides=Overrides.beside(site.journal),
        snapshots=lambda: None,
        recent=lambda: None,
        health=Health(),
        record_event=site.events.append,
    )
    PageActions(services).do(action, Actor("Kim", "127.0.0.1"))


def set_at_the_page(site: RecipeSite, threshold: float | None) -> None:
    act(site, SetThreshold(body=ThresholdBody(image_threshold=threshold)))


def thresholds(site: RecipeSite) -> dict[str, float]:
    """Return by recipe what a part that names it is decided by."""
    assert site.model.recipes is not None
    found = {}
    for name in ("bottle", "nut", "cap"):
        model = site.model.recipes.load(site.layers.offered(name, None))
        found[name] = model.criteria.threshold
    return found


def test_a_candidate_is_tried_by_what_its_own_product_sets(site: RecipeSite) -> None:
    decision = RecipeDecision(guard_band=0.1)
    add_recipe(site.folder, "pin", site.other, decision=decision)
    site.model.choose_recipe("pin", None)
    live = site.model.store.current.criteria
    candidate = RecipeVersion(RecipeContent(name="cap", version=1), site.folder.load("cap").folder)
    tried = site.model.candidate(candidate).criteria
    assert (live.guard_band > 0.0, tried.guard_band) == (True, 0.0)

    content = candidate.content.model_copy(update={"decision": decision})
    site.model.choose_recipe("bottle", None)
    tried = site.model.candidate(replace(candidate, content=content)).criteria
    assert tried.guard_band == 0.1 * tried.image_scale.range


def test_recipes_of_one_bundle_have_each_its_own_threshold_of_the_page(site: RecipeSite) -> None:
    before = thresholds(site)
    site.model.choose_recipe("nut", None)
    set_at_the_page(site, 9.0)
    assert thresholds(site) == before | {"nut": 9.0}

    site.model.choose_recipe("cap", None)
    set_at_the_page(site, 7.0)
    assert thresholds(site) == before | {"nut": 9.0, "cap": 7.0}

    site.model.choose_recipe("bottle", None)
    set_at_the_page(site, 5.0)
    assert thresholds(site) == {"bottle": 5.0, "nut": 9.0, "cap": 7.0}

    site.start()
    assert thresholds(site) == {"bottle": 5.0, "nut": 9.0, "cap": 7.0}
    site.model.choose_recipe("nut", None)
    set_at_the_page(site, None)
    assert thresholds(site) == before | {"bottle": 5.0, "cap": 7.0}


def test_another_version_of_a_recipe_begins_with_its_own_threshold(
    site: RecipeSite, bundle: Path
) -> None:
    site.model.choose_recipe("cap", None)
    set_at_the_page(site, 7.0)
    site.folder.publish(RecipeContent(name="cap", version=1), copied_bundle(bundle))

    site.model.choose_recipe("cap", 2, release=True)
    assert site.layers.of(Recipe("cap", 2)).decision.image_threshold is None
    site.model.roll_back("Kim asked")
    assert thresholds(site)["cap"] == 7.0


def test_whoever_changes_to_another_version_reads_what_of_the_page_stays_with_the_one_before(
    site: RecipeSite, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.folder.publish(RecipeContent(name="cap", version=1), copied_bundle(bundle))
    drawer = Drawer(site)
    drawer.change_over("cap", 1)
    drawer.draw(7.0, ignore=[OVER_DEFECT])

    drawer.change_over("cap", 2)

    exchanged, asked = site.events[-2:]
    left = asked.data["left_behind"]
    assert isinstance(left, str) and left.startswith("the threshold 7 set by Kim at ")
    assert " and the mask and zones set by Kim at " in left and left.endswith(" for version 1")
    assert f"not used: {left}" in exchanged.detail and left in asked.detail
    assert "not used for version 2" in caplog.text
    drawer.change_over("cap", 1)  # where all of it counts again
    assert "left_behind" not in site.events[-1].data
    drawer.change_over("nut", 1)
    assert "left_behind" not in site.events[-1].data


def test_going_back_to_another_version_sets_no_threshold(site: RecipeSite, bundle: Path) -> None:
    stricter = RecipeDecision(image_threshold=7.0)
    content = RecipeContent(name="cap", version=1, decision=stricter)
    site.folder.publish(content, copied_bundle(bundle))
    site.model.choose_recipe("cap", 1)
    site.model.choose_recipe("cap", 2, release=True)

    act(site, RollBack(body=RollbackBody()))

    assert site.model.recipe == site.asked_for("cap") == Recipe("cap", 1)
    assert not (site.journal / "overrides.json").exists()
    rolled_back, asked = site.events[-2:]
    assert (rolled_back.kind, asked.kind) == ("model_rolled_back", "rollback_asked")
    assert "version 1 of 'cap' is in force again instead of 2" in rolled_back.detail


def test_a_file_from_before_there_were_recipes_counts_for_the_settings_model_alone(
    site: RecipeSite, bundle: Path
) -> None:
    before = thresholds(site)
    old = {"image_threshold": 9.0, "model_sha256": manifest_sha256(bundle), "instead_of": None}
    (site.journal / "overrides.json").write_text(
        json.dumps(old | {"by": "kim", "utc": "2026-11-23T00:00:00Z"})
    )
    site.start()
    assert thresholds(site) == before | {"bottle": 9.0}


def test_a_file_of_full_length_is_read_and_takes_no_more(tmp_path: Path) -> None:
    overrides = Overrides.beside(tmp_path)
    longest = Override(image_threshold=9.0, model_sha256="a" * 64, by="김" * 200, utc="x" * 40)
    recipes = [Recipe("너" * 33, number) for number in range(MAX_OVERRIDES)]
    kept = [longest.model_copy(update={"recipe": one}).model_dump(mode="json") for one in recipes]
    content = json.dumps({"overrides": kept}, ensure_ascii=False)
    overrides.path.write_text(content, "utf-8")

    assert overrides.read(recipes[-1]) is not None
    with pytest.raises(TooManyOverrides, match=str(MAX_OVERRIDES)):
        overrides.write(longest, Recipe("cap", 1))
    overrides.write(None, recipes[0])
    overrides.write(longest, Recipe("cap", 1))
    assert overrides.read(recipes[0]) is None
    assert overrides.read(recipes[1]) is not None and overrides.read(Recipe("cap", 1)) is not None
