"""What a station makes of the tiles of an image: one score, over mask and zones, and one map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.inspection.criteria import Calibrated
from edge.inspection.frame_prediction import worst_tile
from edge.inspection.pieces import Pieces, frame_pieces
from edge.inspection.predictor import RawPrediction
from edge.inspection.tiling import blend
from export.engines import DecidingAreas, make_deciding_areas

Frame = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Stitching:
    """How pieces become the images that a station decides on.

    Attributes:
        frames: height and width of each image whose pieces follow each other; None of one that is a
            single piece: an image that is inspected whole, or of whose tiles one alone was kept.
    """

    description: Calibrated
    frames: tuple[Frame | None, ...]

    @property
    def single_tiles(self) -> int:
        """Of how many images one tile stands for all of them."""
        return self.frames.count(None) if self.description.input.tile_plan is not None else 0

    def joined(self, pieces: Sequence[RawPrediction]) -> list[RawPrediction]:
        """Return the prediction of each image, and those of the pieces that are left over."""
        found, start = [], 0
        for frame in self.frames:
            if frame is None:
                found.append(pieces[start])
                start += 1
                continue
            layout = frame_pieces(frame, self.description.input)
            end = start + len(layout.boxes)
            found.append(self._stitched(pieces[start:end], layout))
            start = end
        return [*found, *pieces[start:]]

    def of_pieces(self, images: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return for each piece what holds for its image."""
        return np.repeat(images, self._counts())

    def of_whole(self, pieces: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return for each image what holds for its only piece; False of one in several.

        One tile says nothing of an image: many parts have the same empty corner.
        """
        counts = np.array(self._counts(), np.intp)
        found = np.zeros(len(counts), np.bool_)
        alone = counts == 1
        found[alone] = pieces[(np.cumsum(counts) - counts)[alone]]
        return found

    def of(self, images: NDArray[np.bool_]) -> "Stitching":
        """Return the stitching of some of the images."""
        kept = tuple(frame for frame, keep in zip(self.frames, images, strict=True) if keep)
        return Stitching(self.description, kept)

    def _counts(self) -> list[int]:
        spec = self.description.input
        return [1 if one is None else len(frame_pieces(one, spec).boxes) for one in self.frames]

    def _stitched(self, tiles: Sequence[RawPrediction], layout: Pieces) -> RawPrediction:
        scores = np.array([tile.score for tile in tiles])
        maps = np.stack([tile.anomaly_map for tile in tiles])
        whole = maps[0] if layout.plan is None else blend(maps, layout.plan)
        score = float(scores[worst_tile(scores)])
        areas = make_deciding_areas(self.description)
        if areas is not None and all(tile.is_finite() for tile in tiles):
            score = areas.score(maps)
        return RawPrediction(score, whole)


def scores_to_quantize(
    found: Sequence[RawPrediction], areas: DecidingAreas | None
) -> NDArray[np.float64]:
    """Return what images to quantize with score, each over what counts of it.

    Args:
        found: of the images; where they are tiles, each of another place, one after the other.
        areas: of the images that tiles are of.
    """
    if areas is None or areas.tiles == 1:
        return np.array([one.score for one in found])
    return np.array(
        [
            areas.of_tile(number % areas.tiles).score(one.anomaly_map[None])
            for number, one in enumerate(found)
        ]
    )
