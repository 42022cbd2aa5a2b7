"""A large frame in grey and reduced, from few of its pixels: all that a search needs.

Averaging every pixel of a frame takes longer than the search itself. Each pixel of the result is
the mean of two rows and up to four columns of those that it covers, spread over them: of noise and
fine texture little is left, and no place is shifted.
"""

from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from edge.imaging.kernels import READ_BYTES_2D, kernel

_MIN_SAMPLES = 2  # samples of a pixel, along each axis
_COLUMNS = 4  # where there are so many
# Weights of blue, green and red as OpenCV has them; they sum to 2^14.
_BITS, _BLUE, _GREEN, _RED = 14, 1868, 9617, 4899


def can_sample(samples: NDArray[np.uint8], width: int, height: int) -> bool:
    """Tell whether an image is so much larger than a result of this size."""
    return samples.shape[0] >= _MIN_SAMPLES * height and samples.shape[1] >= _MIN_SAMPLES * width


def sampled_grey(samples: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return ``(height, width) uint8``.

    Args:
        samples: ``(H, W)`` or ``(H, W, 3) uint8`` BGR, C-contiguous. Not changed.

    Raises:
        ValueError: it is not large enough, or has other channels; the kernel does not check where
            it reads.
    """
    if not can_sample(samples, width, height) or samples.shape[2:] not in ((), (3,)):
        raise ValueError(f"cannot sample {samples.shape} for {width}×{height}")
    rows, columns = samples.shape[:2]
    colour = samples.ndim == 3
    per_pixel = _COLUMNS if columns >= _COLUMNS * width else _MIN_SAMPLES
    at_rows = _middles(rows, _MIN_SAMPLES * height, 1)
    at_columns = _middles(columns, per_pixel * width, 3 if colour else 1)
    out = np.empty((height, width), np.uint8)
    _sample(samples.reshape(rows, -1), colour, per_pixel, at_rows, at_columns, out)
    return out


@lru_cache(maxsize=32)
def _middles(size: int, count: int, step: int) -> NDArray[np.int64]:
    """Return where the middles of ``count`` equal parts of an axis lie in memory.

    Of those that lie between two pixels, by turns the one before and the one behind.
    """
    parts = np.arange(count, dtype=np.int64)
    middles = (2 * parts + 1) * size
    between = middles % (2 * count) == 0
    return (middles // (2 * count) - (between & (parts % 2 == 0))) * step


_INDICES = numba.int64[::1]


@kernel((READ_BYTES_2D, numba.boolean, numba.int64, _INDICES, _INDICES, numba.uint8[:, ::1]))
def _sample(flat, colour, per_pixel, at_rows, at_columns, out):  # type: ignore[no-untyped-def]
    size = flat.shape[1]
    sums = np.empty(size, np.int32)
    shift = 3 if per_pixel == _COLUMNS else 2  # of eight samples, or of four
    for y in range(out.shape[0]):
        upper, lower = flat[at_rows[2 * y]], flat[at_rows[2 * y + 1]]
        for j in range(size):
            sums[j] = np.int32(upper[j]) + np.int32(lower[j])
        for x in range(out.shape[1]):
            blue = green = red = np.int32(0)
            for k in range(per_pixel):
                at = numba.uint64(at_columns[per_pixel * x + k])
                blue += sums[at]
                if colour:
                    green += sums[at + 1]
                    red += sums[at + 2]
            grey = blue << _BITS
            if colour:
                grey = _BLUE * blue + _GREEN * green + _RED * red
            out[y, x] = (grey + (1 << (_BITS + shift - 1))) >> (_BITS + shift)
