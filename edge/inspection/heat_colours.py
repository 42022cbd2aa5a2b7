"""The colours of the heat map, the same on overlays and at the page."""

import cv2
import numpy as np
from numpy.typing import NDArray


def heat_colours(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``(H, W, 3)`` BGR of ``(H, W)`` levels; 128 lies at the threshold."""
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), np.uint8)
