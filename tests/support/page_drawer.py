"""Somebody at the page of a station: draws masks and zones, and sets thresholds."""

from functools import partial
from typing import Any

from edge.hmi.actions import (
    Actor,
    ChooseRecipe,
    MaskBody,
    MaskChanged,
    RecipeBody,
    SetMask,
    SetThreshold,
    ThresholdBody,
)
from edge.hmi.masks import Drawing, MaskInForce
from edge.hmi.station_end.actions import ActionServices, PageActions
from edge.imaging.frame import Frame, Pixels
from edge.inspection.criteria import Limits, decision_criteria
from edge.inspection.decision import Result
from edge.inspection.inspector import Inspection
from edge.settings.overrides import Overrides
from edge.station.monitoring.health import Health
from tests.support.recipe_site import RecipeSite
from tests.support.small_bundle import defective_image

KIM = Actor("Kim", "127.0.0.1")
# The defect of ``defective_image``, with room around it.
OVER_DEFECT = ((95.0, 5.0), (145.0, 5.0), (145.0, 55.0), (95.0, 55.0))
ELSEWHERE = ((5.0, 70.0), (60.0, 70.0), (60.0, 110.0))


class Drawer:
    """Somebody at the page of a station."""

    def __init__(self, site: RecipeSite) -> None:
        self.site = site
        self.actions = PageActions(
            ActionServices(
                model=site.model,
                reread=site.model.reread,
                reload=site.model.reload,
                choose_recipe=partial(site.model.choose_recipe, release=True),
                overrides=Overrides.beside(site.journal),
                snapshots=lambda: None,
                recent=lambda: None,
                health=Health(),
                record_event=site.events.append,
            )
        )

    @property
    def mask(self) -> MaskInForce:
        return self.actions.mask()

    def draw(self, threshold: float | None = None, **drawn: Any) -> MaskChanged:
        drawing = Drawing.model_validate({"width_px": 160, "height_px": 120, **drawn})
        body = MaskBody(before=self.mask.sha256, drawing=drawing, image_threshold=threshold)
        done = self.actions.do(SetMask(body=body), KIM)
        assert isinstance(done, MaskChanged)
        return done

    def undo(self) -> None:
        self.actions.do(SetMask(body=MaskBody(before=self.mask.sha256, drawing=None)), KIM)

    def result(self) -> Result:
        """Inspect the defective image."""
        return self.inspect(defective_image()).decision.result

    def inspect(self, pixels: Pixels, threshold: float | None = None) -> Inspection:
        """Inspect an image, perhaps by another threshold than the one in force."""
        model = self.site.model.store.current
        inspector = model.inspectors[0]
        if threshold is not None:
            limits = Limits(image_threshold=threshold, areas=model.criteria.input.areas)
            inspector = inspector.deciding_by(decision_criteria(model.bundle.manifest, limits))
        frame = Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)
        return inspector.inspect(frame)

    def set_threshold(self, threshold: float | None) -> None:
        self.actions.do(SetThreshold(body=ThresholdBody(image_threshold=threshold)), KIM)

    def change_over(self, name: str, version: int) -> None:
        """Choose a version of a recipe; one that is not in force is put in force."""
        self.actions.do(ChooseRecipe(body=RecipeBody(id=name, version=version)), KIM)
