"""Whether a camera shows another scene than before: a coarse look that noise does not change."""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Pixels

# Of the look; each cell is the mean of hundreds of samples.
_ROWS, _COLUMNS = 18, 24
# Grey levels of 8 bits, beyond what the light of all cells changes by.
_CHANGE = 6.0

Look = NDArray[np.float32]


def look_at(pixels: Pixels) -> Look:
    """Return the ``(18, 24) float32`` mean grey levels of a frame, in levels of 8 bits."""
    grey = pixels if pixels.ndim == 2 else pixels[:, :, :3].mean(axis=2)
    levels = grey.astype(np.float32)
    if pixels.dtype == np.uint16:
        levels /= 257.0
    found = cv2.resize(levels, (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
    return np.asarray(found, np.float32)


def scene_changed(before: Look, now: Look) -> bool:
    """Tell whether something lies otherwise; light that changes everywhere alike is no change."""
    difference = now - before
    return float(np.abs(difference - np.median(difference)).max()) > _CHANGE
