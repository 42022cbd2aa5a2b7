"""From a frame to raw numbers: prepare, infer, join the tiles.

Calibration, tests and the line all take their scores from here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.imaging.area_resize import resize_area
from edge.imaging.frame import Box, Pixels
from edge.imaging.pose import warp_area
from edge.inspection.alignment import Located, locate
from edge.inspection.areas import AreaScore, CountedAreas, common_score, counted_areas
from edge.inspection.image_limits import ImageLimits
from edge.inspection.pieces import Pieces, frame_pieces
from edge.inspection.plausibility import ImageStatistics, image_statistics
from edge.inspection.predictor import Predictor, RawPrediction
from edge.inspection.preprocessing import to_samples
from edge.inspection.tiling import blend


class FramePrediction(NamedTuple):
    """Raw numbers of one frame.

    Attributes:
        prediction: image score (the highest of the tiles) and map of the inspected box; with masks
            or zones the highest score of those that have no threshold of their own.
        worst: the tile that gave the score.
        box: what was inspected, in frame pixels; of an aligned part in those of the reference.
        located: where the part was found; None of a model that does not look for it.
        statistics: grey levels of what the network saw.
        preprocess_ns, inference_ns: monotonic time of both stages.
        areas: scores of all that counts, area by area; empty where all of the image does.
        counted: where the areas lie; None where all of the image counts.
    """

    prediction: RawPrediction
    worst: int
    box: Box
    statistics: ImageStatistics
    preprocess_ns: int
    inference_ns: int
    located: Located | None = None
    areas: tuple[AreaScore, ...] = ()
    counted: CountedAreas | None = None


def predict_frame(
    predictor: Predictor,
    pixels: Pixels,
    spec: InputSpec,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    *,
    limits: ImageLimits = ImageLimits(),
) -> FramePrediction:
    """Prepare a frame, whole or in tiles, straight into the network's input and infer.

    Args:
        limits: that its statistics are for.

    Raises:
        FrameUnsuitable: the frame has a size or format that the model was not made for.
        PartNotFound, PartAmbiguous: the model looks for the part, and it is not to be found.
        ModelError: inference failed.
    """
    started = clock_ns()
    view = view_frame(pixels, spec)
    pieces = view.pieces
    preparation = _Preparation(view=view, clock_ns=clock_ns, limits=limits)
    preparation.spent_ns = clock_ns() - started
    scores, maps = predictor.predict_all(len(pieces.boxes), preparation.fill)
    joined = maps[0] if pieces.plan is None else blend(maps, pieces.plan)
    total_ns = clock_ns() - started
    assert preparation.statistics is not None
    worst = worst_tile(scores)
    whole = FramePrediction(
        RawPrediction(float(scores[worst]), joined),
        worst,
        pieces.whole,
        preparation.statistics,
        preparation.spent_ns,
        total_ns - preparation.spent_ns,
        view.located,
    )
    if spec.areas is None or not whole.prediction.is_finite():
        return whole
    counted = counted_areas(
        spec, pixels.shape, pieces.whole, score=predictor.map_score, map_shape=maps.shape[1:]
    )
    by_area = counted.scores(maps)
    common = common_score(by_area)
    return whole._replace(
        prediction=RawPrediction(common.score, joined),
        worst=common.tile,
        areas=by_area,
        counted=counted,
    )


def worst_tile(scores: NDArray[np.floating]) -> int:
    """Return which tile decides a frame: one whose score is not finite hides behind no other."""
    return int(np.where(np.isfinite(scores), scores, np.inf).argmax())


@dataclass(frozen=True, slots=True, eq=False)
class FrameView:
    """What the network sees of a frame, before it is resized.

    Attributes:
        samples: ``(H, W)`` or ``(H, W, 3) uint8``, the whole frame.
        located: where the part was found; None of a model that does not look for it.
    """

    samples: NDArray[np.uint8]
    pieces: Pieces
    located: Located | None

    def fill(self, index: int, out: NDArray[np.uint8]) -> None:
        """Write a piece into ``(h, w, 3) uint8`` BGR, in one resampling."""
        box = self.pieces.boxes[index]
        if self.located is None:
            resize_area(self.samples, box, out)
        else:
            warp_area(self.samples, self.located.pose, box, out)


def view_frame(pixels: Pixels, spec: InputSpec) -> FrameView:
    """Bring a frame to the model's samples and find the part, where the model asks for it.

    Raises:
        FrameUnsuitable: the frame has a size or format that the model was not made for.
        PartNotFound, PartAmbiguous: the part is not to be found.
    """
    samples = to_samples(pixels, spec)
    pieces = frame_pieces(pixels.shape, spec)
    located = None
    if spec.locator is not None:
        located = locate(samples, spec.locator, pieces.whole)
    return FrameView(samples, pieces, located)


@dataclass(slots=True, kw_only=True)
class _Preparation:
    """Fills the network's inputs and adds up what that took and showed."""

    view: FrameView
    clock_ns: Callable[[], int]
    limits: ImageLimits
    spent_ns: int = 0
    statistics: ImageStatistics | None = None

    def fill(self, index: int, out: NDArray[np.uint8]) -> None:
        started = self.clock_ns()
        self.view.fill(index, out)
        found = image_statistics(out, self.limits)
        before = self.statistics
        self.statistics = found if before is None else before.joined(found, 1.0 / (index + 1))
        self.spent_ns += self.clock_ns() - started
