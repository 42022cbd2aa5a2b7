"""Takes masks and zones over that were drawn at the page, between two parts."""

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pydantic import ValidationError

from edge.bundle.bounds import MAX_SIDE_PX
from edge.bundle.input_spec import Areas
from edge.bundle.mask_file import make_runs, painted_png
from edge.contract.encoding import bounded, utc_text
from edge.errors import ConfigurationError, FrameUnsuitable
from edge.hmi.actions import Actor, MaskBody, MaskChanged
from edge.hmi.masks import Drawing, MaskInForce
from edge.inspection.areas import (
    NO_MAP_SCORE,
    CountedAreas,
    counted_areas,
    ignored_pixels,
    scores_no_higher,
)
from edge.inspection.pieces import frame_pieces
from edge.settings.mask_overrides import FOLDER_NAME, MaskOverride, NeededThreshold
from edge.settings.overrides import Override, Overrides
from edge.settings.station import Settings
from edge.station.model.manager import ModelManager
from edge.station.model.store import LoadedModel
from edge.validation import in_words


class DrawingRefused(ConfigurationError):
    """What was drawn cannot be taken over; cause and next step."""


@dataclass(frozen=True, slots=True)
class AppliedMask:
    """What came of a drawing.

    Attributes:
        result: for who drew it.
        file: the mask file; None where the settings' own is in force again.
    """

    result: MaskChanged
    file: str | None


class MaskDrawing:
    """The mask in force, and its exchange."""

    def __init__(self, model: ModelManager, reload: Callable[[], object]) -> None:
        self._model = model
        self._reload = reload
        self._shown: tuple[LoadedModel, MaskInForce] | None = None

    def in_force(self) -> MaskInForce:
        """Return what counts now; the same object as long as nothing has changed."""
        current = self._model.store.current
        if self._shown is None or self._shown[0] is not current:
            self._shown = current, self._described(current)
        return self._shown[1]

    def apply(
        self,
        body: MaskBody,
        actor: Actor,
        overrides: Overrides,
        *,
        settings: Settings,
        made_threshold: Callable[[float], Override],
    ) -> AppliedMask:
        """Save a drawing and let it count from the next part on, or the settings' own again.

        Args:
            overrides: where it is saved.
            settings: as they are written, with what was set at the page.
            made_threshold: makes the record of the threshold that the drawing needs.

        Raises:
            StationError: nothing was changed; cause and next step.
        """
        model, recipe = self._model, self._model.folder_recipe
        before = self.in_force()
        if body.before != before.sha256:
            raise DrawingRefused(
                "mask or zones have been changed since they were loaded here. Load them "
                "again, and repeat your drawing."
            )
        former, threshold = overrides.masks.read(recipe), overrides.read(recipe)
        current = model.store.current
        drawn = None
        if body.drawing is not None:
            areas = self._areas(body.drawing, current)
            value = self._threshold(areas, current, settings, body.image_threshold)
            needed = None if value is None else made_threshold(value)
            utc_ns = time.time_ns()
            name = utc_text(utc_ns).replace(":", "").replace(".", "-")
            drawn = overrides.masks.draw(areas, f"mask-{name}")
            laid_over = former is not None and settings.decision.mask == str(
                overrides.masks.folder / former.file
            )
            kept = MaskOverride(
                file=drawn,
                model_sha256=current.bundle.sha256,
                needs=None
                if needed is None
                else NeededThreshold(
                    image_threshold=needed.image_threshold, instead_of=needed.instead_of
                ),
                instead_of=former.instead_of if former and laid_over else settings.decision.mask,
                by=bounded(actor.name, 200),
                utc=utc_text(utc_ns),
            )
        elif former is None:
            raise DrawingRefused("no mask drawn at the page is in force; nothing was changed.")
        with overrides.changing():
            if former is not None and former.needs is not None:
                overrides.write(threshold, recipe)  # it must outlive the drawing that brought it
            try:
                if drawn is not None:
                    overrides.masks.write(kept, recipe)
                    if needed is not None:
                        overrides.write(needed, recipe)
                else:
                    overrides.masks.write(None, recipe)
                self._reload()
            except Exception:  # whatever it was: what is not in force is not saved either
                overrides.masks.write(former, recipe)
                overrides.write(threshold, recipe)
                raise
        now = self.in_force()
        result = MaskChanged(
            ignored_before=self._ignored(current),
            ignored_now=self._ignored(model.store.current),
            zones=[zone.name for zone in now.zones],
            threshold_before=before.threshold,
            threshold=now.threshold,
        )
        return AppliedMask(result, drawn)

    def _areas(self, drawing: Drawing, current: LoadedModel) -> Areas:
        own = current.criteria.input.areas
        size = drawing.height_px, drawing.width_px
        painted = np.zeros(size, np.uint8)
        if drawing.keep_painted and own is not None and own.ignored_runs:
            if (own.height, own.width) != size:
                raise DrawingRefused(
                    f"the painted areas belong to an image of {own.width}×{own.height}, this one "
                    f"has {drawing.width_px}×{drawing.height_px}. Start with an empty mask."
                )
            only = own.model_copy(update={"ignore": ()})
            painted[ignored_pixels(only)] = 255
        for stroke in drawing.strokes:
            places = np.rint(np.clip(np.asarray(stroke.points), -MAX_SIDE_PX, 2 * MAX_SIDE_PX))
            points = places.astype(np.int32).reshape(-1, 1, 2)
            colour, width = 0 if stroke.erase else 255, max(round(stroke.width_px), 1)
            cv2.polylines(painted, [points], False, colour, width)
        try:
            areas = Areas(
                width=drawing.width_px,
                height=drawing.height_px,
                ignore=drawing.ignore,
                ignored_runs=make_runs(painted > 0),
                zones=drawing.zones,
            )
        except ValidationError as error:
            raise DrawingRefused(f"{in_words(error.errors()[0])}. Draw it anew.") from error
        if not (areas.ignore or areas.ignored_runs or areas.zones):
            raise DrawingRefused(
                "nothing is drawn. Draw a polygon, a zone or with the brush, or restore the "
                "mask of the settings."
            )
        return areas

    def _threshold(
        self, areas: Areas, current: LoadedModel, settings: Settings, asked: float | None
    ) -> float | None:
        """Return the threshold to save with a drawing; None where none needs to be.

        Raises:
            DrawingRefused: what good parts score outside of the drawing is not known.
        """
        if asked is not None:
            return asked
        bundles = current.bundle.manifest.input.areas
        in_force = current.criteria.input.areas
        if bundles is not None and areas.scores_like(bundles):
            return None  # the bundle's threshold was computed for it
        now = None if in_force is None else _counted(in_force, current)
        same = in_force is not None and areas.scores_like(in_force)
        if same or scores_no_higher(now, _counted(areas, current)):
            kept = settings.decision.image_threshold is not None
            return None if kept else current.criteria.threshold
        raise DrawingRefused(
            "places are inspected that were not before, or an area has fewer cells than "
            "the score averages over. The scores of good parts there are not known, so "
            "the threshold cannot be kept. Enter a threshold with the drawing, or run "
            "train-station calibrate --mask on the workstation and export."
        )

    def _described(self, current: LoadedModel) -> MaskInForce:
        spec, manifest = current.criteria.input, current.bundle.manifest
        areas, locator = spec.areas, spec.locator
        reference, pivot = None, None
        if locator is not None:
            roi = locator.roi
            reference = locator.frame_width, locator.frame_height
            pivot = roi.x + roi.width / 2, roi.y + roi.height / 2
        return MaskInForce(
            sha256="" if areas is None else hashlib.sha256(_text(areas)).hexdigest(),
            origin=self._origin(areas),
            refused="" if manifest.map_score is not None else NO_MAP_SCORE,
            reference=reference,
            pivot=pivot,
            width_px=None if areas is None else areas.width,
            height_px=None if areas is None else areas.height,
            ignore=[] if areas is None else list(areas.ignore),
            zones=[] if areas is None else list(areas.zones),
            painted=None if areas is None or not areas.ignored_runs else _data_url(areas),
            threshold=current.criteria.threshold,
        )

    def _origin(self, areas: Areas | None) -> str:
        mask = self._model.settings.decision.mask
        if areas is None:
            return "none"
        if mask is None:
            return "bundle"
        return "page" if Path(mask).parent.name == FOLDER_NAME else "settings"

    @staticmethod
    def _ignored(model: LoadedModel) -> float:
        areas = model.criteria.input.areas
        return 0.0 if areas is None else round(float(ignored_pixels(areas).mean()), 6)


def _counted(areas: Areas, model: LoadedModel) -> CountedAreas:
    manifest = model.bundle.manifest
    spec = model.criteria.input.model_copy(update={"areas": areas})
    drawn_on = areas.height, areas.width
    try:
        whole = frame_pieces(drawn_on, spec).whole
        return counted_areas(
            spec, drawn_on, whole, score=manifest.map_score, map_shape=manifest.map_shape
        )
    except FrameUnsuitable as error:
        raise DrawingRefused(str(error)) from error


def _text(areas: Areas) -> bytes:
    return areas.model_dump_json().encode()


def _data_url(areas: Areas) -> str:
    return f"data:image/png;base64,{base64.b64encode(painted_png(areas)).decode()}"
