"""Recipes in memory are decided by the settings in force, whenever they were loaded."""

import threading
from pathlib import Path

from edge.contract.verdict import Recipe
from edge.settings.recipes import RecipesSettings
from edge.settings.station import Settings
from edge.station.model.configured import ConfiguredModel, load_configured
from edge.station.model.releases import Releases
from edge.station.model.resident_recipes import ResidentRecipes
from edge.station.pipeline.work import InspectionSetup

GENEROUS_S = 60.0
NUT = Recipe("nut", 1)


def test_a_recipe_that_loads_during_a_reload_is_decided_by_the_new_settings(
    tmp_path: Path, bundle: Path
) -> None:
    before, after = (
        Settings.model_validate(
            {
                "camera": {"uri": "0"},
                "model": {"path": str(bundle)},
                "decision": {"image_threshold": threshold},
            }
        )
        for threshold in (11.0, 12.0)
    )
    network = load_configured(before, bundle, tmp_path / "tuning.json", Releases(None))
    accepted = [before]
    begun, go_on = threading.Event(), threading.Event()

    def load(_: Recipe | None) -> ConfiguredModel:
        model = network.deciding_by(accepted[-1])
        begun.set()
        assert go_on.wait(GENEROUS_S)
        return model

    recipes = ResidentRecipes(
        settings=RecipesSettings(folder=str(tmp_path)),
        size_bytes=lambda _: 1,
        load=load,
        setup=lambda model: InspectionSetup(model.inspectors),
    )
    loading = threading.Thread(target=recipes.load, args=(NUT,))
    loading.start()
    assert begun.wait(GENEROUS_S)
    reload = threading.Thread(
        target=recipes.renew,
        args=(lambda: accepted.append(after), lambda _, model: model.deciding_by(accepted[-1])),
    )
    reload.start()
    reload.join(0.1)  # where it does not wait for the recipe, it is through by now
    go_on.set()
    loading.join(GENEROUS_S)
    reload.join(GENEROUS_S)

    assert accepted[-1] is after
    assert recipes.load(NUT).settings is after
    assert recipes.setup(NUT).inspectors[0].criteria.threshold == 12.0


def test_what_becomes_live_while_another_recipe_loads_takes_no_more_room_than_there_is(
    tmp_path: Path, bundle: Path
) -> None:
    settings = Settings.model_validate({"camera": {"uri": "0"}, "model": {"path": str(bundle)}})
    network = load_configured(settings, bundle, tmp_path / "tuning.json", Releases(None))
    begun, go_on = threading.Event(), threading.Event()

    def load(recipe: Recipe | None) -> ConfiguredModel:
        if recipe == NUT:
            begun.set()
            assert go_on.wait(GENEROUS_S)
        return network

    recipes = ResidentRecipes(
        settings=RecipesSettings(folder=str(tmp_path), resident=2),
        size_bytes=lambda _: 1,
        load=load,
        setup=lambda model: InspectionSetup(model.inspectors),
    )
    recipes.load(Recipe("bolt", 1))
    loading = threading.Thread(target=recipes.load, args=(NUT,))
    loading.start()
    assert begun.wait(GENEROUS_S)
    recipes.on_activated(Recipe("washer", 1), network)
    go_on.set()
    loading.join(GENEROUS_S)
    assert recipes.names() == [Recipe("washer", 1), NUT]
