"""The area of a defect, from whatever a mask was drawn and saved with."""

from collections.abc import Iterator
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Pixels

# Below it the numbers are those of kinds of defects, 1, 2, 3, and every one counts.
_MIN_WHITE = 128
# An area that holds nearly the whole border and most of the image is the part around a defect.
_MAX_IMAGE_SHARE, _MAX_BORDER_SHARE = 0.5, 0.9
_MAX_GREY_SHARE = 0.5

Area = NDArray[np.bool_]


class Oddity(StrEnum):
    """What somebody should look at; the text follows the number of masks."""

    EMPTY = "empty: where the defect is counts as unknown"
    INVERTED = "perhaps inverted: most of the image is marked, up to its border"
    ALPHA = "drawn in transparency alone, which was taken for the area"
    GREY = "mostly darker than half of their brightest value, which does not count"


def mask_area(stored: Pixels) -> Area:
    """Return where a mask marks a defect, ``(H, W) bool``.

    That is all from half of its brightest value on: what compression leaves around an edge does not
    count. Of a mask of small numbers every one but 0 counts. Where only the transparency differs
    from pixel to pixel, it is the mask.
    """
    marks = _marks(stored)
    white = int(marks.max(initial=0))
    area: Area = marks > (white / 2 if white >= _MIN_WHITE else 0)
    if stored.ndim == 3 and stored.shape[2] == 4 and not _is_alpha_only(stored):
        area &= stored[:, :, 3] > np.iinfo(stored.dtype).max // 2
    return area


def oddities(stored: Pixels) -> Iterator[Oddity]:
    """Yield what is odd about a mask of a defect."""
    if stored.ndim == 3 and stored.shape[2] == 4 and _is_alpha_only(stored):
        yield Oddity.ALPHA
    area = mask_area(stored)
    if not area.any():
        yield Oddity.EMPTY
        return
    border = np.concatenate([area[0], area[-1], area[:, 0], area[:, -1]])
    if area.mean() > _MAX_IMAGE_SHARE and border.mean() > _MAX_BORDER_SHARE:
        yield Oddity.INVERTED
    marks = _marks(stored)
    if 1.0 - area.sum() / np.count_nonzero(marks) > _MAX_GREY_SHARE:
        yield Oddity.GREY


def reduced(area: Area, size: tuple[int, int]) -> Area:
    """Bring an area to another size; no connected part of it vanishes.

    Args:
        area: ``(H, W) bool``.
        size: height and width to bring it to.

    Returns:
        ``size`` bool: what is covered by half or more, and of each part that covers half of nothing
        the pixel that it covers most of.
    """
    (rows, columns), (height, width) = area.shape, size
    values = area.astype(np.uint8)
    if height >= rows and width >= columns:
        # The plain INTER_NEAREST takes each cell's corner and shifts the mask.
        enlarged = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return enlarged.astype(np.bool_)
    cover = cv2.resize(values.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    result: Area = cover >= 0.5 - 1e-4
    count, parts = cv2.connectedComponents(values, connectivity=8)
    y, x = np.nonzero(area)
    cells = y * height // rows * width + x * width // columns
    part = parts[y, x]
    kept = np.zeros(count, np.bool_)
    kept[part[result.ravel()[cells]]] = True
    lost = ~kept[part]
    places, amounts = np.unique(part[lost] * (height * width) + cells[lost], return_counts=True)
    order = np.argsort(amounts)
    best = dict(
        zip(places[order] // (height * width), places[order] % (height * width), strict=True)
    )
    result.ravel()[list(best.values())] = True
    return result


def _marks(stored: Pixels) -> Pixels:
    if stored.ndim == 2:
        return stored
    if stored.shape[2] == 4 and _is_alpha_only(stored):
        return stored[:, :, 3]
    return stored[:, :, :3].max(2)


def _is_alpha_only(stored: Pixels) -> bool:
    colours, alpha = stored[:, :, :3], stored[:, :, 3]
    return bool((colours == colours[:1, :1]).all() and (alpha != alpha[0, 0]).any())
