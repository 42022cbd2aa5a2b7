"""Tiling: a frame larger than the model's input, inspected piece by piece.

The last row and column are aligned to the edge of the frame, so nothing is padded and every tile
shows only what the camera saw. Overlapping maps are blended with a separable raised-cosine window
whose weights sum to one along each axis, so blending needs no division and a round trip is exact.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import TileSpec
from edge.errors import FrameUnsuitable
from edge.imaging.frame import Box
from edge.wording import counted

# A frame of more tiles than this is not from the camera that the model was made for.
MAX_TILES = 4096

# Shares of a tile are exact to far more than this, and off by one without it: 640 × (1 − 0.9) < 64.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePlan:
    """Where the tiles of one frame size lie.

    Attributes:
        box: the part of the frame that is tiled, in frame pixels.
        tops, lefts: first row and column of the tile rows and columns, relative to the box.
        height, width: size of a tile in pixels.
    """

    box: Box
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def tile(self, index: int) -> Box:
        """Return a tile in frame pixels; tiles run row by row."""
        row, column = divmod(index, len(self.lefts))
        return Box(
            self.box.x + self.lefts[column],
            self.box.y + self.tops[row],
            self.width,
            self.height,
        )


@lru_cache(maxsize=16)
def plan_tiles(box: Box, spec: TileSpec) -> TilePlan:
    """Plan the tiles of a frame.

    Args:
        box: what is inspected of the frame.
        spec: size and overlap of the tiles.

    Raises:
        FrameUnsuitable: the box is smaller than a tile, or larger than 4096 tiles.
    """
    if box.height < spec.height or box.width < spec.width:
        raise FrameUnsuitable(
            f"{box.width}×{box.height} pixels are left to inspect, smaller than one "
            f"{spec.width}×{spec.height} tile of the model. Use the camera's full resolution, "
            "or a model that was trained without tiles."
        )
    plan = TilePlan(
        box=box,
        tops=starts(box.height, spec.height, spec.overlap),
        lefts=starts(box.width, spec.width, spec.overlap),
        height=spec.height,
        width=spec.width,
    )
    if len(plan) > MAX_TILES:
        raise FrameUnsuitable(
            f"{box.width}×{box.height} pixels are {counted(len(plan), 'tile')} of "
            f"{spec.width}×{spec.height}, "
            f"more than {MAX_TILES}. Set a crop, or train with larger tiles."
        )
    return plan


def starts(size: int, tile: int, overlap: float) -> tuple[int, ...]:
    """Return the fewest tile starts that cover an axis with at least this overlap, evenly spread.

    Args:
        size: of the axis, at least ``tile``.
        tile: size of a tile.
        overlap: share of a tile that neighbours have in common at least, below 1.
    """
    if size == tile:
        return (0,)
    stride = max(math.floor(tile * (1.0 - overlap) + _ROUNDING), 1)
    last = size - tile
    count = -(-last // stride) + 1
    return tuple(round(index * last / (count - 1)) for index in range(count))


def blend(tiles: NDArray[np.float32], plan: TilePlan) -> NDArray[np.float32]:
    """Blend the maps of a frame's tiles into one map of the frame.

    Args:
        tiles: ``(len(plan), h, w) float32``, in the order of the plan.
        plan: of the frame.

    Returns:
        ``(H, W) float32`` at the resolution of the tiles' maps. At a resolution of one cell per
        pixel, blending what was cut out gives back the frame.
    """
    cells = _cells(plan, tiles.shape[1], tiles.shape[2])
    canvas = np.zeros((cells.height, cells.width), np.float32)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, len(plan.lefts))
        top, left = cells.tops[row], cells.lefts[column]
        weights = cells.row_weights[row][:, None] * cells.column_weights[column]
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] += weights * tile
    return canvas


def blended_shape(plan: TilePlan, rows: int, columns: int) -> tuple[int, int]:
    """Return height and width of the blended map of tiles whose maps have so many cells."""
    cells = _cells(plan, rows, columns)
    return cells.height, cells.width


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Cells:
    """A plan at the resolution of the maps, with the blending weights of both axes."""

    height: int
    width: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    row_weights: NDArray[np.float32]
    column_weights: NDArray[np.float32]


@lru_cache(maxsize=16)
def _cells(plan: TilePlan, rows: int, columns: int) -> _Cells:
    tops, height = _to_cells(plan.tops, plan.height, plan.box.height, rows)
    lefts, width = _to_cells(plan.lefts, plan.width, plan.box.width, columns)
    return _Cells(
        height=height,
        width=width,
        tops=tops,
        lefts=lefts,
        row_weights=_weights(tops, rows, height),
        column_weights=_weights(lefts, columns, width),
    )


def _to_cells(
    positions: tuple[int, ...], tile: int, size: int, cells: int
) -> tuple[tuple[int, ...], int]:
    """Round positions to whole cells: at most half a cell of displacement in the blended map.

    Always half up: neighbours at most a tile apart stay at most ``cells`` apart, without a gap.
    """
    return tuple((2 * p * cells + tile) // (2 * tile) for p in positions), (
        2 * size * cells + tile
    ) // (2 * tile)


def _weights(positions: tuple[int, ...], tile: int, total: int) -> NDArray[np.float32]:
    """Return ``(tiles, tile)`` weights that sum to one at every cell of the axis."""
    phase = (np.arange(tile) + 0.5) / tile
    window = np.sin(np.pi * phase) ** 2
    sums = np.zeros(total)
    for position in positions:
        sums[position : position + tile] += window
    return np.stack([window / sums[p : p + tile] for p in positions]).astype(np.float32)
