"""Area-averaging resize in whole numbers: the one resize of the project.

Each output pixel is the average of the input area it covers. Both axes are weighted with 11-bit
integers that sum to exactly 2048, so every processor gives the same bytes and a constant image
stays constant. One pass reads the frame once, row by row; it never exists as floats.

All sums fit 32 bits, whatever the sizes: 255 × 2048 × 2048 + 2^21 is below 2^31. The result lies
within a grey level of exact averaging up to some hundred input pixels per output pixel and axis.
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Box
from edge.imaging.kernels import READ_BYTES_2D, kernel, part_of_kernel

_BITS = 11
_HALF = 1 << (2 * _BITS - 1)

# Of indices without a sign, which are not asked each time whether they count from the end.
_NEXT, _GREEN, _RED, _PIXEL = (np.uintp(step) for step in (1, 1, 2, 3))


class AxisWeights(NamedTuple):
    """Which input pixels an axis' output pixels cover, and how much of each.

    Attributes:
        first: ``(target,)`` first covered input pixel.
        covered: ``(target,)`` number of covered input pixels.
        weight: ``(target, most) int32``, each row sums to 2048.
    """

    first: NDArray[np.int64]
    covered: NDArray[np.int64]
    weight: NDArray[np.int32]


def resize_area(samples: NDArray[np.uint8], box: Box, out: NDArray[np.uint8]) -> None:
    """Resize a part of an image into a three-channel image.

    Sides that shrink are averaged, sides that grow are interpolated bilinearly afterwards.
    Averaging keeps texture finer than the model's input from aliasing into it, which would raise
    every anomaly score.

    Args:
        samples: ``(H, W)`` or ``(H, W, 3) uint8``, C-contiguous. Not changed.
        box: the part to take; lies inside the image.
        out: ``(h, w, 3) uint8``, C-contiguous; grey is written to all three channels.

    Raises:
        ValueError: the box does not lie inside the image, or ``out`` has not three channels;
            the kernels do not check where they read and write.
    """
    _check(samples, box, out)
    height, width = out.shape[:2]
    shrunk_height, shrunk_width = min(height, box.height), min(width, box.width)
    if (shrunk_height, shrunk_width) == (height, width):
        _shrink(samples, box, out)
        return
    shrunk = np.empty((shrunk_height, shrunk_width, 3), np.uint8)
    _shrink(samples, box, shrunk)
    cv2.resize(shrunk, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=64)
def axis_weights(size: int, target: int) -> AxisWeights:
    """Return the weights of an axis of ``size`` pixels that shrinks to ``target``."""
    # Whole numbers: lengths are counted in shares of 1 / target of an input pixel.
    bounds = np.arange(target + 1, dtype=np.int64) * size
    first = bounds[:-1] // target
    covered = -(-bounds[1:] // target) - first
    ends = (first[:, None] + np.arange(1, int(covered.max()) + 1)) * target - bounds[:-1, None]
    # The running sums are rounded, not the weights: each row sums to 2048, and no run of pixels
    # weighs more than one step too much, however many there are.
    sums = (np.clip(ends, 0, size) * (2 << _BITS) + size) // (2 * size)
    return AxisWeights(first, covered, np.diff(sums, axis=1, prepend=0).astype(np.int32))


def _check(samples: NDArray[np.uint8], box: Box, out: NDArray[np.uint8]) -> None:
    rows, columns = samples.shape[:2]
    inside = 0 <= box.x < box.x + box.width <= columns and 0 <= box.y < box.y + box.height <= rows
    if not inside or samples.shape[2:] not in ((), (3,)) or out.shape[2:] != (3,) or not out.size:
        raise ValueError(f"cannot resize {box} of {samples.shape} to {out.shape}")


def _shrink(samples: NDArray[np.uint8], box: Box, out: NDArray[np.uint8]) -> None:
    height, width = out.shape[:2]
    rows, columns = axis_weights(box.height, height), axis_weights(box.width, width)
    if samples.ndim == 2:
        _average_grey(samples, box.y, box.x, box.width, *rows, *columns, out)
    elif (box.height, box.width) == (height, width):
        out[:] = samples[box.y : box.y + height, box.x : box.x + width]
    else:
        flat = samples.reshape(samples.shape[0], -1)
        _average_bgr(flat, box.y, 3 * box.x, 3 * box.width, *rows, *columns, out)


@part_of_kernel
def _weighted_rows(samples, top, left, count, first, weight, sums):  # type: ignore[no-untyped-def]
    """Write the weighted sum of ``count`` rows; two rows a pass halve the traffic of the sums."""
    size = sums.shape[0]
    row = samples[top + first, left : left + size]
    w = weight[0]
    taken = 1
    if count % 2 == 1:
        for j in range(size):
            sums[j] = w * np.int32(row[j])
    else:
        following = samples[top + first + 1, left : left + size]
        v = weight[1]
        taken = 2
        for j in range(size):
            sums[j] = w * np.int32(row[j]) + v * np.int32(following[j])
    while taken < count:
        row = samples[top + first + taken, left : left + size]
        following = samples[top + first + taken + 1, left : left + size]
        w, v = weight[taken], weight[taken + 1]
        for j in range(size):
            sums[j] += w * np.int32(row[j]) + v * np.int32(following[j])
        taken += 2


_INDICES = numba.int64[::1]
_AXIS = (_INDICES, _INDICES, numba.int32[:, ::1])
_SIGNATURE = (READ_BYTES_2D, *[numba.int64] * 3, *_AXIS, *_AXIS, numba.uint8[:, :, ::1])


@kernel(_SIGNATURE)
def _average_bgr(  # type: ignore[no-untyped-def]
    samples, top, left, size, y_first, y_count, y_weight, x_first, x_count, x_weight, out
):
    sums = np.empty(size, np.int32)
    for y in range(out.shape[0]):
        _weighted_rows(samples, top, left, y_count[y], y_first[y], y_weight[y], sums)
        for x in range(out.shape[1]):
            blue = green = red = np.int32(_HALF)
            at = np.uintp(3 * x_first[x])
            for k in range(x_count[x]):
                w = x_weight[x, k]
                blue += w * sums[at]
                green += w * sums[at + _GREEN]
                red += w * sums[at + _RED]
                at += _PIXEL
            out[y, x, 0] = blue >> (2 * _BITS)
            out[y, x, 1] = green >> (2 * _BITS)
            out[y, x, 2] = red >> (2 * _BITS)


@kernel(_SIGNATURE)
def _average_grey(  # type: ignore[no-untyped-def]
    samples, top, left, size, y_first, y_count, y_weight, x_first, x_count, x_weight, out
):
    sums = np.empty(size, np.int32)
    for y in range(out.shape[0]):
        _weighted_rows(samples, top, left, y_count[y], y_first[y], y_weight[y], sums)
        for x in range(out.shape[1]):
            grey = np.int32(_HALF)
            at = np.uintp(x_first[x])
            for k in range(x_count[x]):
                grey += x_weight[x, k] * sums[at]
                at += _NEXT
            value = grey >> (2 * _BITS)
            out[y, x, 0] = value
            out[y, x, 1] = value
            out[y, x, 2] = value
