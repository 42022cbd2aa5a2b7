"""Products of a running station, as releases change them."""

import time
from collections.abc import Callable, Mapping

from edge.contract.event import Datum
from edge.contract.fleet import InForce
from edge.contract.verdict import Recipe
from edge.recipes.errors import RecipeNameInvalid
from edge.recipes.folder import RecipeFolder
from edge.settings.overrides import PageSettings
from edge.settings.released import ReleasedSettings
from edge.settings.released_archive import SettingsManifest
from edge.station.fleet.errors import ReleaseRefused
from edge.station.fleet.memory import Before
from edge.station.model.manager import ModelExchangeBusy, ModelManager
from edge.station.model.recipe_limits import demand_callable

# A model that takes longer to compile and test will not come.
BUSY_LIMIT_S, BUSY_PAUSE_S = 600.0, 1.0

Change = Callable[[], Mapping[str, Datum]]


class StationProducts:
    """Puts versions in force by the model manager, whose checks and self-test they pass."""

    def __init__(
        self,
        model: ModelManager,
        recipes: RecipeFolder,
        reload: Callable[[Change], Mapping[str, Datum]],
    ) -> None:
        """Take the models and recipes of a station.

        Args:
            reload: carries a change out as every other reload.
        """
        self._model = model
        self._recipes = recipes
        self._reload = reload

    def before(self, name: str, rollout: str) -> Before:
        chosen = self._model.chosen
        return Before(
            rollout=rollout, name=name, version=self._recipes.in_force(name), choice=chosen
        )

    def put_in_force(self, name: str, version: int, change_product: bool) -> None:
        own, live = self._model.of_settings, self._model.recipe
        if own is not None and own.id == name:
            raise ReleaseRefused(
                "name_of_settings",
                f"recipe.id {name!r} of the settings names model.path, so a recipe of this name "
                "would never inspect. Leave recipe out of the settings, or rename one of them.",
            )
        try:
            demand_callable(self._model.settings, name)
        except RecipeNameInvalid as error:
            raise ReleaseRefused("uncallable", str(error)) from error
        if change_product or live is None or live.id == name:
            self._patiently(
                lambda: self._reload(lambda: self._model.choose_recipe(name, version, release=True))
            )
        else:
            self._patiently(lambda: self._model.offer_recipe(name, version))

    def put_back(self, before: Before) -> None:
        self._patiently(
            lambda: self._reload(
                lambda: self._model.put_back(before.name, before.version, before.choice)
            )
        )

    def page_settings(self, name: str, version: int) -> PageSettings:
        return self._model.page_settings(Recipe(name, version))

    def page_settings_left(self, name: str, before: int, now: int) -> PageSettings:
        return self._model.page_settings_left(Recipe(name, before), Recipe(name, now))

    def page_settings_beside_release(self) -> tuple[PageSettings, PageSettings]:
        return self._model.page_settings_beside_release()

    def released(self) -> ReleasedSettings | None:
        return self._model.released

    def make_release(self, manifest: SettingsManifest, sha256: str) -> ReleasedSettings:
        return self._model.make_release(manifest.name, manifest.version, sha256, manifest.settings)

    def release_settings(self, released: ReleasedSettings | None) -> None:
        self._patiently(lambda: self._reload(lambda: self._model.release_settings(released)))

    def _patiently(self, change: Callable[[], object]) -> None:
        """Carry a change out; while another one is under way, try again."""
        until_s = time.monotonic() + BUSY_LIMIT_S
        while True:
            try:
                change()
                return
            except ModelExchangeBusy:
                if time.monotonic() > until_s:
                    raise
                time.sleep(BUSY_PAUSE_S)

    def in_force(self, name: str | None) -> InForce:
        live = self._model.recipe
        if name is None or (live is not None and live.id == name):
            return InForce(
                name=live.id if live is not None else None,
                version=live.version if live is not None else None,
                model_sha256=self._model.current_bundle().sha256,
                live=True,
            )
        return InForce(name=name, version=self._recipes.in_force(name), live=False)
