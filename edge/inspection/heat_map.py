"""The heat map as one pass over the frame: enlarge, normalize, colour, blend and draw the contour.

A frame has thousands of times the pixels of its anomaly map, so the map is looked up once for a
block of two by two pixels (four by four where the map's cells are large), and all that is left per
pixel is one multiplication and one addition.
"""

from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Box
from edge.imaging.kernels import kernel
from edge.inspection.heat_colours import heat_colours
from edge.inspection.normalization import THRESHOLD, ScoreScale, normalize

# Normalized values from which the map is visible, and at which it is densest.
VISIBLE_FROM, DENSEST_AT, DENSITY = 0.35, 0.75, 0.55

_LEVELS = 256
_COARSE_CELL_PX = 32
_READ_MAP = numba.types.Array(numba.float32, 2, "C", readonly=True)
# White next to ink: seen on every background. In 1/256, two samples in a word.
_INSIDE_WORD, _OUTSIDE_WORD = 255 * 0x0100_0100, 24 * 0x0100_0100
_KEEP_WORD = 0x0100_0100


def blend_heat_map(
    canvas: NDArray[np.uint8], box: Box, anomaly_map: NDArray[np.float32], scale: ScoreScale
) -> None:
    """Blend a map into an image and draw its contour at the threshold.

    Args:
        canvas: ``(H, W, 3) uint8`` BGR, C-contiguous; changed in place inside ``box``.
        box: where the map lies in the image.
        anomaly_map: ``(h, w) float32`` raw map.
        scale: normalization of the map.

    Raises:
        ValueError: the box does not lie inside the canvas, or the canvas is not contiguous; the
            kernel does not check where it writes.
    """
    rows, columns = canvas.shape[:2]
    right, bottom = box.x + box.width, box.y + box.height
    inside = 0 <= box.x < right <= columns and 0 <= box.y < bottom <= rows
    if not inside or canvas.shape[2:] != (3,) or not canvas.flags.c_contiguous:
        raise ValueError(f"cannot blend into {box} of a canvas of {canvas.shape}")
    # What is no number is drawn as the worst.
    levels = np.nan_to_num(normalize(anomaly_map, scale), nan=1.0).astype(np.float32)
    levels *= np.float32(_LEVELS - 1)
    added, kept = _blending()
    cell_px = min(box.height // levels.shape[0], box.width // levels.shape[1])
    block_px = 4 if cell_px >= _COARSE_CELL_PX else 2
    _blend(
        canvas.reshape(canvas.shape[0], -1),
        box.x,
        box.y,
        box.width,
        box.height,
        block_px,
        np.ascontiguousarray(levels),
        np.float32(THRESHOLD * (_LEVELS - 1)),
        added,
        kept,
    )


@lru_cache(maxsize=1)
def _blending() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return what each level adds, ``(256, 3)``, and keeps of the image, ``(256,)``, in 1/256.

    Two 16-bit samples lie in each word, since two pixels at least are treated alike: blue and
    green, red and blue, green and red.
    """
    level = np.arange(_LEVELS)
    colours = heat_colours(level.astype(np.uint8)[None])[0]
    shown = (level / (_LEVELS - 1) - VISIBLE_FROM) / (DENSEST_AT - VISIBLE_FROM)
    density = np.rint(np.clip(shown, 0.0, 1.0) * DENSITY * 256)
    added = colours * density[:, None] + np.where(density > 0, 128, 0)[:, None]
    kept = np.repeat(256 - density, 2)
    two_pixels = np.tile(added, 2).astype(np.uint16)
    return two_pixels.view(np.uint32), kept.astype(np.uint16).view(np.uint32)


@kernel(
    (
        numba.uint8[:, ::1],
        *[numba.int64] * 5,
        _READ_MAP,
        numba.float32,
        numba.types.Array(numba.uint32, 2, "C", readonly=True),
        numba.types.Array(numba.uint32, 1, "C", readonly=True),
    )
)
def _blend(  # type: ignore[no-untyped-def]
    canvas, left, top, width, height, block, levels, threshold, added, kept
):
    rows, columns = levels.shape
    across, down = (width + block - 1) // block, (height + block - 1) // block
    wide = np.empty((rows, across), np.float32)
    for x in range(across):
        at = min(max((x + 0.5) * block * columns / width - 0.5, 0.0), columns - 1.0)
        i = int(at)
        j = min(i + 1, columns - 1)
        share = np.float32(at - i)
        for y in range(rows):
            wide[y, x] = levels[y, i] + (levels[y, j] - levels[y, i]) * share
    # Three block rows of the enlarged map roll along: the contour looks one row up and down.
    values = np.empty((3, across), np.float32)
    keep_words = np.empty(3 * block * across // 2, np.uint32)
    add_words = np.empty(3 * block * across // 2, np.uint32)
    keep, add = keep_words.view(np.uint16), add_words.view(np.uint16)
    for y in range(down + 1):
        at = min(max((y + 0.5) * block * rows / height - 0.5, 0.0), rows - 1.0)
        i = int(at)
        j = min(i + 1, rows - 1)
        share = np.float32(at - i)
        fresh = values[y % 3]
        upper, lower = wide[i], wide[j]
        for x in range(across):
            fresh[x] = upper[x] + (lower[x] - upper[x]) * share
        if y == 0:
            values[2, :] = fresh
            continue
        above, here, below = values[(y - 2) % 3], values[(y - 1) % 3], fresh
        if y == down:
            below = here
        visible = False
        for x in range(across):
            value = here[x]
            level = int(value)
            q = kept[level]
            bg, rb, gr = added[level, 0], added[level, 1], added[level, 2]
            inside = value >= threshold
            edge = (
                (above[x] >= threshold) != inside
                or (below[x] >= threshold) != inside
                or (x > 0 and (here[x - 1] >= threshold) != inside)
                or (x + 1 < across and (here[x + 1] >= threshold) != inside)
            )
            if edge:
                q = np.uint32(0)
                bg = np.uint32(_INSIDE_WORD if inside else _OUTSIDE_WORD)
                rb, gr = bg, bg
            visible = visible or q != _KEEP_WORD
            p = 3 * block * x // 2
            for _ in range(block // 2):
                keep_words[p], keep_words[p + 1], keep_words[p + 2] = q, q, q
                add_words[p], add_words[p + 1], add_words[p + 2] = bg, rb, gr
                p += 3
        if not visible:
            continue
        for row in range(block * (y - 1), min(block * y, height)):
            pixels = canvas[top + row, 3 * left : 3 * (left + width)]
            for k in range(3 * width):
                pixels[k] = (np.uint16(pixels[k]) * keep[k] + add[k]) >> 8
