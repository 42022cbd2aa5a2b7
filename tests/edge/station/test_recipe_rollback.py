"""A version that is given up judges no part any more, whoever names the recipe."""

import shutil
from pathlib import Path

import pytest

from edge.contract.verdict import Recipe
from edge.station.model.store import Change
from tests.support.recipe_site import RecipeSite
from tests.support.recipes import add_recipe


@pytest.fixture
def site(tmp_path: Path, bundle: Path) -> RecipeSite:
    return RecipeSite(tmp_path, bundle)


def test_going_back_puts_the_version_before_in_force(site: RecipeSite) -> None:
    site.change_over()

    outcome = site.model.roll_back("Kim asked")

    assert outcome.change is Change.ROLLED_BACK
    assert "version 1 of 'nut' is in force again instead of 2" in outcome.detail
    assert site.model.recipe == site.asked_for("nut") == Recipe("nut", 1)
    site.model.reload()
    assert site.model.recipe == Recipe("nut", 1)


def test_a_version_without_numbers_is_given_up_for_parts_that_name_it_too(site: RecipeSite) -> None:
    site.change_over()

    site.three_parts_without_a_number()

    assert site.model.recipe == site.asked_for("nut") == Recipe("nut", 1)
    assert site.events[-1].kind == "model_rolled_back"
    assert "version 1 of 'nut' is in force again instead of 2" in site.events[-1].detail


def test_a_version_that_was_put_in_force_since_stays(site: RecipeSite, bundle: Path) -> None:
    site.change_over()
    add_recipe(site.folder, "nut", bundle)

    outcome = site.model.roll_back("Kim asked")

    assert (outcome.change, site.model.recipe) == (Change.ROLLED_BACK, Recipe("nut", 1))
    assert "parts that name 'nut' are judged by recipe nut version 3" in outcome.detail
    assert site.asked_for("nut") == Recipe("nut", 3)


def test_where_parts_would_go_on_with_the_version_given_up_nobody_goes_back(
    site: RecipeSite,
) -> None:
    site.change_over()
    shutil.rmtree(site.folder.load("nut", 1).folder)

    outcome = site.model.roll_back("Kim asked")

    assert (outcome.change, site.model.recipe) == (Change.REFUSED, Recipe("nut", 2))
    assert "are still judged by its version 2" in outcome.detail
    assert "edge-run --recipe use" in outcome.detail
    site.three_parts_without_a_number()
    assert site.model.recipe == Recipe("nut", 1)
    assert "are still judged by its version 2" in site.events[-1].detail


def test_a_version_that_the_settings_name_is_put_back_in_the_settings(site: RecipeSite) -> None:
    site.written["recipe"] = {"id": "bottle", "version": 2}
    site.written["model"] = {"path": str(site.other)}
    site.model.reload()

    outcome = site.model.roll_back("Kim asked")

    assert (outcome.change, site.asked_for("bottle")) == (Change.REFUSED, Recipe("bottle", 2))
    assert site.model.recipe == Recipe("bottle", 2)
    assert "Put the sections model and recipe back and reload" in outcome.detail
