"""The models of a station with recipes, without a line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.contract.event import Event
from edge.contract.verdict import Recipe
from edge.imaging.frame import Frame
from edge.inspection.decision import Decision, Reason, Result
from edge.recipes.content import RecipeContent
from edge.recipes.folder import RecipeFolder
from edge.settings.layers import SettingsLayers
from edge.settings.station import Settings
from edge.station.model.manager import ModelManager
from edge.station.model.releases import Releases
from tests.support.recipes import add_recipe, copied_bundle
from tests.support.sample_verdict import GOOD, sample_verdict
from tests.support.small_bundle import write_bundle


class RecipeSite:
    """A station with a recipe of two versions, of which the first has the station's own bundle.

    Attributes:
        trial_frame: of its camera; None where it has given none.
    """

    trial_frame: Frame | None = None

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder = RecipeFolder(folder / "recipes")
        self.written: dict[str, Any] = {
            "camera": {"uri": "0"},
            "model": {"path": str(bundle)},
            "recipe": {"id": "bottle", "version": 1},
            "recipes": {"folder": str(self.folder.path)},
            "journal": {"folder": str(folder / "journal")},
        }
        self.journal = folder / "journal"
        self.journal.mkdir()
        self.other = write_bundle(folder, "other")
        add_recipe(self.folder, "nut", bundle)
        self.folder.publish(RecipeContent(name="nut", version=1), copied_bundle(self.other))
        self._tuning = folder / "tuning.json"
        self.start()

    def start(self) -> None:
        """Begin with what is on disk."""
        self.layers = SettingsLayers(self.read(), self.read, self.journal)
        self.events: list[Event] = []
        self.model = ModelManager(
            settings=self.layers.first(),
            tuning=self._tuning,
            simulated=True,
            trial=lambda: self.trial_frame,
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
