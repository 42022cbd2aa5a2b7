"""A smooth anomaly map between its cells: the map at input size, of its samples at the cells.

Some networks enlarge their grid to the size of the image, blur it, and give the result at the
centres of the cells: ``map = (S A) grid (S A)ᵀ`` with ``A`` the enlargement and the blur of one
axis and ``S`` the sampling. So the whole of it is ``(A (S A)⁻¹) map (A (S A)⁻¹)ᵀ``; rows of that
matrix sum up to 2.3 at most, so nothing is lost but rounding.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Of the blur, in standard deviations.
_TRUNCATED_AT = 4.0


def between_cells(
    maps: NDArray[np.float32], size: tuple[int, int], sigma_px: float
) -> NDArray[np.float32]:
    """Return the smooth maps at input size.

    Args:
        maps: ``(N, h, w) float32``, samples at the centres of the cells.
        size: height and width of the input.
        sigma_px: of the blur, in pixels of the input.

    Returns:
        ``(N, H, W) float32``.
    """
    rows = _from_samples(maps.shape[1], size[0], sigma_px)
    columns = _from_samples(maps.shape[2], size[1], sigma_px)
    return (rows @ maps @ columns.T).astype(np.float32, copy=False)


def enlargement(size: int, target: int) -> NDArray[np.float64]:
    """Return the ``(target, size)`` matrix of linear interpolation, half-pixel centres."""
    at = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0.0, size - 1.0)
    lower = at.astype(int)
    upper = np.minimum(lower + 1, size - 1)
    matrix = np.zeros((target, size))
    places = np.arange(target)
    np.add.at(matrix, (places, lower), 1.0 - (at - lower))
    np.add.at(matrix, (places, upper), at - lower)
    return matrix


def blur(size: int, sigma_px: float) -> NDArray[np.float64]:
    """Return the ``(size, size)`` matrix of a Gaussian blur with reflected borders."""
    radius = min(int(_TRUNCATED_AT * sigma_px + 0.5), size - 1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((size, size))
    places = np.arange(size)
    for offset, weight in zip(range(-radius, radius + 1), kernel, strict=True):
        reflected = np.abs(places + offset)
        reflected = np.minimum(reflected, 2 * (size - 1) - reflected)
        np.add.at(matrix, (places, reflected), weight)
    return matrix


@lru_cache(maxsize=8)
def _from_samples(cells: int, size: int, sigma_px: float) -> NDArray[np.float32]:
    smooth = blur(size, sigma_px) @ enlargement(cells, size)
    at_centres = enlargement(size, cells) @ smooth
    return np.asarray(smooth @ np.linalg.pinv(at_centres), np.float32)
