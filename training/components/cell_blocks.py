"""The cells of a feature grid by the squares that they lie in."""

from torch import Tensor, cat
from torch.nn import functional as F


def to_blocks(grid: Tensor, side: int) -> Tensor:
    """Return the cells of ``(N, C, h, w)`` by square: ``(N, B, S, C)`` for S cells of each.

    Beyond the edge the last cells go on.
    """
    for axis in (2, 3):
        if missing := -grid.shape[axis] % side:
            last = grid.narrow(axis, grid.shape[axis] - 1, 1)
            grid = cat([grid, *[last] * missing], axis)
    # Channels last before all else: so convolutions leave them, and whole vectors are moved.
    squares = grid.permute(0, 2, 3, 1).unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return squares.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_blocks(values: Tensor, side: int, height: int, width: int) -> Tensor:
    """Return one number for each cell of ``to_blocks``, ``(N, B, S)``, by cell: ``(N, h, w)``."""
    down, across = (-(-length // side) for length in (height, width))
    squares = values.unflatten(2, (side, side)).unflatten(1, (down, across))
    cells = squares.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return cells[:, :height, :width]


def block_means(grid: Tensor, side: int) -> Tensor:
    """Return the mean of each square of ``(N, C, h, w)`` cells, of those that the grid has."""
    if side == 1:
        return grid
    return F.avg_pool2d(grid, side, ceil_mode=True, count_include_pad=False)
