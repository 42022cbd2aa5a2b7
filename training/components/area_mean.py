"""Averages over the cells of a coarser grid, to the last row and column."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AreaMean(nn.Module):
    """Reduce maps to cells of equal area that cover all of them.

    Where a cell's side does not go into the map's, there is one cell more and all are a little
    smaller: pooling would leave out the last rows and columns, and what happens there would be
    seen by nothing. A pixel on the line between two cells counts for both by its shares.

    Attributes:
        grid: rows and columns of the result.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size: tuple[int, int], cell: int) -> None:
        """Build the matrices.

        Args:
            size: rows and columns of the maps.
            cell: largest side of a cell.
        """
        super().__init__()
        self.cell = cell
        self.grid = (-(-size[0] // cell), -(-size[1] // cell))
        self.even = size[0] % cell == 0 and size[1] % cell == 0
        # Derived from the settings: not part of a checkpoint.
        self.register_buffer("rows", _shares(size[0], self.grid[0]), persistent=False)
        self.register_buffer("columns", _shares(size[1], self.grid[1]), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the means, ``(N, C, h, w)``, of ``(N, C, H, W)``."""
        if self.even:
            return F.avg_pool2d(maps, self.cell)
        return self.rows @ maps @ self.columns.T


def _shares(size: int, cells: int) -> Tensor:
    """Return the ``(cells, size)`` matrix of the pixels' shares; its rows add up to one."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * size / cells
    pixels = torch.arange(size, dtype=torch.float64)
    end = torch.minimum(edges[1:, None], pixels + 1.0)
    start = torch.maximum(edges[:-1, None], pixels)
    return ((end - start).clamp(min=0.0) * cells / size).float()
