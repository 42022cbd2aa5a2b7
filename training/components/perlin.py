"""Perlin noise: smooth random fields.

Source: Perlin, An image synthesizer, SIGGRAPH 1985.
"""

import math

import torch
from torch import Generator, Tensor


def perlin_noise(size: tuple[int, int], cells: tuple[int, int], random: Generator) -> Tensor:
    """Return an ``(H, W) float32`` field, between -1 and 1 and zero on average.

    Args:
        size: rows and columns of the field.
        cells: rows and columns of the lattice of random gradients; more are finer.
        random: the only source of chance.
    """
    angles = 2 * math.pi * torch.rand(cells[0] + 1, cells[1] + 1, generator=random)
    gradients = torch.stack([angles.sin(), angles.cos()], 2)
    rows, columns = (
        (torch.arange(pixels) + 0.5) * (count / pixels)
        for pixels, count in zip(size, cells, strict=True)
    )
    row, column = rows.long(), columns.long()
    down, right = rows - row, columns - column

    def corner(below: int, beside: int) -> Tensor:
        """Return the ramps that rise along the gradients of one corner of each cell."""
        gradient = gradients[row + below][:, column + beside]
        return gradient[..., 0] * (down - below)[:, None] + gradient[..., 1] * (right - beside)

    fade_down, fade_right = _fade(down)[:, None], _fade(right)
    top = torch.lerp(corner(0, 0), corner(0, 1), fade_right)
    bottom = torch.lerp(corner(1, 0), corner(1, 1), fade_right)
    return math.sqrt(2.0) * torch.lerp(top, bottom, fade_down)


def _fade(share: Tensor) -> Tensor:
    return share**3 * (share * (6 * share - 15) + 10)
