"""Masks and zones: which cells of a map count, in which zone, and what they score.

The score of an area is that of the network, taken over the area alone: the mean of the highest
values of the map in it. Of all cells that is the network's own score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import Areas, InputSpec, Polygon, TileSpec, Zone
from edge.bundle.manifest import MapScore
from edge.errors import ConfigurationError, FrameUnsuitable
from edge.imaging.frame import Box
from edge.inspection.pieces import frame_pieces
from edge.inspection.smooth_map import between_cells
from edge.inspection.tiling import blended_shape, plan_tiles

_HALF = 0.5
NO_MAP_SCORE = (
    "masks and zones need a score that is computed from the anomaly map. The "
    "score of this model is not, or its bundle does not say so. Export it again "
    "with this version; if that is refused, fit an algorithm whose score comes "
    "from its map, such as patchcore or padim."
)

Cells = NDArray[np.bool_]


class AreasUnusable(ConfigurationError):
    """A mask or zone leaves nothing to inspect, or belongs to another image or model."""


class AreaScore(NamedTuple):
    """What one area scores.

    Attributes:
        zone: None for all that lies in no zone.
        score: raw.
        tile: that gave the score.
    """

    zone: Zone | None
    score: float
    tile: int


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """Where one area lies.

    Attributes:
        zone: None for all that lies in no zone.
        values: of each tile, which places of its flat map of values lie inside.
        pixels: ``(H, W) bool`` at the resolution in which regions are found.
    """

    zone: Zone | None
    values: tuple[NDArray[np.intp], ...]
    pixels: Cells


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CountedAreas:
    """What of an image counts.

    Attributes:
        areas: the zones in their order, then what lies in none of them, where something does.
        cells: ``(h, w) bool`` of the map of the image.
        pixels: ``(H, W) bool`` at the resolution in which regions are found.
        size: height and width of the network's input.
    """

    areas: tuple[Area, ...]
    cells: Cells
    pixels: Cells
    score: MapScore
    size: tuple[int, int]

    def scores(self, maps: NDArray[np.float32]) -> tuple[AreaScore, ...]:
        """Score each area.

        Args:
            maps: ``(T, h, w) float32`` raw and finite, of the tiles.
        """
        values = maps
        if self.score.sigma_px is not None:
            values = between_cells(maps, self.size, self.score.sigma_px)
        flat = values.reshape(len(values), -1)
        return tuple(self._scored(area, flat) for area in self.areas)

    def _scored(self, area: Area, values: NDArray[np.float32]) -> AreaScore:
        scores = np.full(len(values), -np.inf, np.float32)
        for tile, inside in enumerate(area.values):
            if len(inside):
                scores[tile] = highest_mean(values[tile].take(inside), self.score.cells)
        worst = int(scores.argmax())
        return AreaScore(area.zone, float(scores[worst]), worst)

    def only(self, anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a map of the image in which what does not count is as low as the lowest cell."""
        return np.where(self.cells, anomaly_map, anomaly_map[self.cells].min())


def highest_mean(values: NDArray[np.float32], count: int) -> np.float32:
    """Return the mean of the ``count`` highest values, or of all where there are fewer."""
    if count == 1:
        return np.float32(values.max())
    if count < len(values):
        values = np.partition(values, len(values) - count)[-count:]
    return np.float32(values.mean(dtype=np.float32))


def scores_no_higher(now: CountedAreas | None, new: CountedAreas) -> bool:
    """Tell whether no image can score higher than before by what the part's threshold is for.

    So where each area without a threshold of its own lies inside one of before and has enough
    values for the mean of the highest: of fewer the mean may rise.

    Args:
        now: None counts all of the image alike.
    """
    if now is None:
        return all(_enough(area, new.score.cells) for area in _common(new))
    before = _common(now)
    if not before:
        return not _common(new)
    if new.score.cells == 1:  # the highest of several areas is that of all of them together
        tiles = zip(*(area.values for area in before), strict=True)
        every = [np.unique(np.concatenate(values)) for values in tiles]
        return all(_inside(area, every) for area in _common(new))
    return all(
        any(_inside(area, one.values) for one in before) and _enough(area, new.score.cells)
        for area in _common(new)
    )


def _common(counted: CountedAreas) -> list[Area]:
    return [area for area in counted.areas if area.zone is None or area.zone.threshold is None]


def _enough(area: Area, cells: int) -> bool:
    return all(len(inside) == 0 or len(inside) >= cells for inside in area.values)


def _inside(area: Area, tiles: Sequence[NDArray[np.intp]]) -> bool:
    return all(
        bool(np.isin(inside, values).all())
        for inside, values in zip(area.values, tiles, strict=True)
    )


def common_score(scores: tuple[AreaScore, ...]) -> AreaScore:
    """Return the highest score of the areas without a threshold of their own, which it is for.

    Where all have their own, of all areas.
    """
    common = [one for one in scores if one.zone is None or one.zone.threshold is None]
    return max(common or scores, key=lambda one: one.score)


def demand_areas(spec: InputSpec, score: MapScore | None, map_shape: tuple[int, int]) -> None:
    """Demand that mask and zones fit a model and leave something to inspect.

    Args:
        score: of the model.
        map_shape: height and width of its map.

    Raises:
        AreasUnusable: they do not.
    """
    areas = spec.areas
    if areas is None:
        return
    drawn_on = (areas.height, areas.width)
    try:
        demand_size(drawn_on, spec)
    except FrameUnsuitable as error:
        raise AreasUnusable(str(error)) from error
    try:
        whole = frame_pieces(drawn_on, spec).whole
        counted_areas(spec, drawn_on, whole, score=score, map_shape=map_shape)
    except FrameUnsuitable as error:
        raise AreasUnusable(
            f"the image of {areas.width}×{areas.height} that the mask was drawn on: {error}"
        ) from error


def demand_size(frame: tuple[int, ...], spec: InputSpec) -> None:
    """Demand that a mask was drawn on an image as large as a frame, or as the reference image.

    Raises:
        FrameUnsuitable: it was drawn on another one.
    """
    areas, locator = spec.areas, spec.locator
    if areas is None:
        return
    height, width = frame[:2]
    shown, remedy = "frame", "Draw it on one of that size, or change the camera's resolution."
    if locator is not None:
        height, width = locator.frame_height, locator.frame_width
        shown, remedy = "reference image", "Draw it on the reference image."
    if (areas.height, areas.width) != (height, width):
        raise FrameUnsuitable(
            f"the mask was drawn on an image of {areas.width}×{areas.height}, the "
            f"{shown} has {width}×{height}. {remedy}"
        )


def counted_areas(
    spec: InputSpec,
    frame: tuple[int, ...],
    whole: Box,
    *,
    score: MapScore | None,
    map_shape: tuple[int, ...],
) -> CountedAreas:
    """Return what of a frame counts; made once for each size of frames.

    Args:
        frame: its shape.
        whole: what of it is inspected.
        score: how the network's score follows from the map.
        map_shape: of the map of one tile.

    Raises:
        AreasUnusable: the score does not follow from the map, or nothing is left to inspect.
        FrameUnsuitable: the frame has another size than the image that the mask was drawn on.
    """
    areas = spec.areas
    assert areas is not None
    if score is None:
        raise AreasUnusable(NO_MAP_SCORE)
    demand_size(frame, spec)
    layout = _Layout(
        whole, spec.tile_plan, (spec.height, spec.width), score, (map_shape[0], map_shape[1])
    )
    return _counted(areas, layout)


class _Layout(NamedTuple):
    """Where the maps of a frame lie and how they are scored; few numbers, looked up per frame."""

    whole: Box
    tiles: TileSpec | None
    size: tuple[int, int]
    score: MapScore
    map_shape: tuple[int, int]


@lru_cache(maxsize=16)
def _counted(areas: Areas, layout: _Layout) -> CountedAreas:
    """Bring an outline to the cells of the map, a cell being in where half of it is."""
    whole, tiles, size, score, map_shape = layout
    plan = None if tiles is None else plan_tiles(whole, tiles)
    boxes = [whole] if plan is None else [plan.tile(index) for index in range(len(plan))]
    scored_shape = map_shape if score.sigma_px is None else size
    joined = map_shape if plan is None else blended_shape(plan, *map_shape)
    region_shape = size if plan is None else joined
    counts = ~ignored_pixels(areas)
    drawn = [(zone, filled(zone.polygon, areas.height, areas.width)) for zone in areas.zones]
    rest = counts.copy()
    for _, inside in drawn:
        rest &= ~inside
    found = []
    for zone, inside in [*drawn, (None, rest)]:
        inside = inside & counts
        values = tuple(np.flatnonzero(_reduced(inside, b, scored_shape)) for b in boxes)
        if any(len(one) for one in values):
            found.append(Area(zone, values, _reduced(inside, whole, region_shape)))
        elif zone is not None:
            raise AreasUnusable(
                f"zone {zone.name}: nothing of it is inspected. It lies under the mask or outside "
                "of the crop, or is smaller than half a cell of the model's map, which is "
                f"{boxes[0].width / scored_shape[1]:.0f}×"
                f"{boxes[0].height / scored_shape[0]:.0f} pixels. Draw it larger."
            )
    cells = _reduced(counts, whole, joined)
    if not found or not cells.any():
        raise AreasUnusable(
            "the mask covers everything: nothing is left to inspect. Check that the "
            "areas to inspect are black (everything else is ignored), and that the crop "
            "is not under the mask."
        )
    return CountedAreas(
        areas=tuple(found),
        cells=cells,
        pixels=_reduced(counts, whole, region_shape),
        score=score,
        size=size,
    )


def counted_tiles(spec: InputSpec, map_shape: tuple[int, int]) -> Cells:
    """Return ``(T, h, w) bool``, the cells of the maps of an image's tiles that count."""
    areas = spec.areas
    assert areas is not None
    counts = ~ignored_pixels(areas)
    boxes = frame_pieces((areas.height, areas.width), spec).boxes
    return np.stack([_reduced(counts, box, map_shape) for box in boxes])


def counted_pixels(
    spec: InputSpec, frame: tuple[int, ...], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return ``size`` bool, what of the inspected box of a frame counts at a resolution."""
    assert spec.areas is not None
    counts = ~ignored_pixels(spec.areas)
    return _reduced(counts, frame_pieces(frame, spec).whole, size)


def ignored_pixels(areas: Areas) -> Cells:
    """Return ``(height, width) bool``, what does not count of the image it was drawn on."""
    ignored = np.zeros((areas.height, areas.width), np.bool_)
    if areas.ignored_runs:
        turns = np.arange(len(areas.ignored_runs)) % 2 == 1
        ignored |= np.repeat(turns, areas.ignored_runs).reshape(ignored.shape)
    for polygon in areas.ignore:
        ignored |= filled(polygon, areas.height, areas.width)
    return ignored


def filled(polygon: Polygon, height: int, width: int) -> Cells:
    """Return ``(height, width) bool``, the pixels whose centre lies in a polygon.

    Each side flips all that lies to the right of it, so what is flipped an odd number of times is
    inside.
    """
    flips = np.zeros((height, width + 1), np.bool_)
    for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        low, high = min(y0, y1), max(y0, y1)
        rows = np.arange(max(int(np.ceil(low - _HALF)), 0), min(int(np.ceil(high - _HALF)), height))
        if len(rows):
            at = x0 + (rows + _HALF - y0) * (x1 - x0) / (y1 - y0)
            flips[rows, np.clip(np.ceil(at - _HALF), 0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(flips, axis=1)[:, :width]


def _reduced(inside: Cells, box: Box, size: tuple[int, int]) -> Cells:
    """Return a box of ``(H, W) bool`` in cells; one is in where half of it is."""
    part = inside[box.y : box.y + box.height, box.x : box.x + box.width].astype(np.float32)
    return cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA) >= _HALF
