"""From a frame to raw numbers: prepare, infer, join the tiles.

Calibration, tests and the line all take their scores from here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import InputSpec
from edge.imaging.area_resize import resize_area
from edge.imaging.frame import Box, Pixels
from edge.imaging.pose import warp_area
from edge.inspection.alignment import Located, locate, reference_box
from edge.inspection.image_limits import ImageLimits
from edge.inspection.plausibility import ImageStatistics, image_statistics
from edge.inspection.predictor import Predictor, RawPrediction
from edge.inspection.preprocessing import inspected_box, to_samples
from edge.inspection.tiling import TilePlan, blend, plan_tiles


class FramePrediction(NamedTuple):
    """Raw numbers of one frame.

    Attributes:
        prediction: image score (the highest of the tiles) and map of the inspected box.
        worst: the tile that gave the score.
        box: what was inspected, in frame pixels; of an aligned part in those of the reference.
        located: where the part was found; None of a model that does not look for it.
        statistics: grey levels of what the network saw.
        preprocess_ns, inference_ns: monotonic time of both stages.
    """

    prediction: RawPrediction
    worst: int
    box: Box
    statistics: ImageStatistics
    preprocess_ns: int
    inference_ns: int
    located: Located | None = None


class Pieces(NamedTuple):
    """The inspected part of a frame, the boxes the network sees, and their plan if tiled.

    Where the part is to be found first, all in pixels of the reference image.
    """

    whole: Box
    boxes: tuple[Box, ...]
    plan: TilePlan | None


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
    # A tile whose score is not finite, −inf too, must not hide behind the others.
    worst = int(np.where(np.isfinite(scores), scores, np.inf).argmax())
    return FramePrediction(
        RawPrediction(float(scores[worst]), joined),
        worst,
        pieces.whole,
        preparation.statistics,
        preparation.spent_ns,
        total_ns - preparation.spent_ns,
        view.located,
    )


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
    pieces = frame_pieces(pixels, spec)
    located = None
    if spec.locator is not None:
        located = locate(samples, spec.locator, pieces.whole)
    return FrameView(samples, pieces, located)


def frame_pieces(pixels: Pixels, spec: InputSpec) -> Pieces:
    """Return what of a frame the network sees, piece by piece.

    Raises:
        FrameUnsuitable: the crop does not lie inside the frame, or what is left is too small.
    """
    if spec.locator is None:
        box = inspected_box(pixels, spec.crop)
    else:
        box = reference_box(spec.locator, spec.crop)
    if spec.tile_plan is None:
        return Pieces(box, (box,), None)
    plan = plan_tiles(box, spec.tile_plan)
    return Pieces(box, tuple(plan.tile(index) for index in range(len(plan))), plan)


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
