"""A version that is given up judges no part any more, whoever names the recipe."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.contract.event import Event
from edge.contract.verdict import Recipe
from edge.inspection.thresholding import Decision, Reason, Result
from edge.recipes.content import RecipeContent
from edge.recipes.folder import RecipeFolder
from edge.settings.layers import SettingsLayers
from edge.settings.station import Settings
from edge.station.model.manager import ModelManager
from edge.station.model.releases import Releases
from edge.station.model.store import Change
from tests.support.recipes import add_recipe, copied_bundle
from tests.support.sample_verdict import GOOD, sample_verdict
from tests.support.small_bundle import write_bundle


class Site:
    """A station that was changed over to version 1 of a recipe, and from there to version 2."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder = RecipeFolder(folder / "recipes")
        self.written: dict[str, Any] = {
            "camera": {"uri": "0"},
            "model": {"path": str(bundle)},
            "recipe": {"id": "bottle", "version": 1},
            "recipes": {"folder": str(self.folder.path)},
        }
        self.other = write_bundle(folder, "other")
        add_recipe(self.folder, "nut", bundle)
        self.folder.publish(RecipeContent(name="nut", version=1), copied_bundle(self.other))
        self.layers = SettingsLayers(self.read(), self.read, None)
        self.events: list[Event] = []
        self.model = ModelManager(
            settings=self.layers.first(),
            tuning=folder / "tuning.json",
            simulated=True,
            trial=lambda: None,
            reread=self.layers.reread,
            record_event=self.events.append,
            releases=Releases(None),
            layers=self.layers,
        )

    def read(self) -> Settings:
        return Settings.model_validate(self.written)

    def change_over(self) -> None:
        self.model.choose_recipe("nut", 1)
        self.model.choose_recipe("nut", 2, release=True)
        assert self.model.recipe == self.asked_for("nut") == Recipe("nut", 2)

    def asked_for(self, name: str) -> Recipe | None:
        """Return what judges a part that names the recipe."""
        assert self.model.recipes is not None
        offered = self.layers.offered(name, None)
        self.model.recipes.load(offered)
        return self.model.recipes.setup(offered).recipe

    def three_parts_without_a_number(self) -> None:
        identity = self.model.line().identity
        no_number = replace(GOOD, decision=Decision(Result.ERROR, Reason.MODEL_ERROR))
        for _ in range(3):
            self.model.on_verdict(replace(sample_verdict(no_number), identity=identity))


@pytest.fixture
def site(tmp_path: Path, bundle: Path) -> Site:
    return Site(tmp_path, bundle)


def test_going_back_puts_the_version_before_in_force(site: Site) -> None:
    site.change_over()

    outcome = site.model.roll_back("Kim asked")

    assert outcome.change is Change.ROLLED_BACK
    assert "version 1 of 'nut' is in force again instead of 2" in outcome.detail
    assert site.model.recipe == site.asked_for("nut") == Recipe("nut", 1)
    site.model.reload()
    assert site.model.recipe == Recipe("nut", 1)


def test_a_version_without_numbers_is_given_up_for_parts_that_name_it_too(site: Site) -> None:
    site.change_over()

    site.three_parts_without_a_number()

    assert site.model.recipe == site.asked_for("nut") == Recipe("nut", 1)
    assert site.events[-1].kind == "model_rolled_back"
    assert "version 1 of 'nut' is in force again instead of 2" in site.events[-1].detail


def test_a_version_that_was_put_in_force_since_stays(site: Site, bundle: Path) -> None:
    site.change_over()
    add_recipe(site.folder, "nut", bundle)

    outcome = site.model.roll_back("Kim asked")

    assert (outcome.change, site.model.recipe) == (Change.ROLLED_BACK, Recipe("nut", 1))
    assert "parts that name 'nut' are judged by recipe nut version 3" in outcome.detail
    assert site.asked_for("nut") == Recipe("nut", 3)


def test_where_parts_would_go_on_with_the_version_given_up_nobody_goes_back(site: Site) -> None:
    site.change_over()
    shutil.rmtree(site.folder.load("nut", 1).folder)

    outcome = site.model.roll_back("Kim asked")

    assert (outcome.change, site.model.recipe) == (Change.REFUSED, Recipe("nut", 2))
    assert "go on being judged by its version 2" in outcome.detail
    assert "edge-run --recipe use" in outcome.detail
    site.three_parts_without_a_number()
    assert site.model.recipe == Recipe("nut", 1)
    assert "go on being judged by its version 2" in site.events[-1].detail


def test_a_version_that_the_settings_name_is_put_back_in_the_settings(site: Site) -> None:
    site.written["recipe"] = {"id": "bottle", "version": 2}
    site.written["model"] = {"path": str(site.other)}
    site.model.reload()

    outcome = site.model.roll_back("Kim asked")

    assert (outcome.change, site.asked_for("bottle")) == (Change.REFUSED, Recipe("bottle", 2))
    assert site.model.recipe == Recipe("bottle", 2)
    assert "Put the sections model and recipe back and reload" in outcome.detail
