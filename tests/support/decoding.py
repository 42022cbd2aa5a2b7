"""Image files as OpenCV reads them, to compare with what the product makes of them."""

from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray


def decode_file(path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[Any]:
    """Return the pixels of an image file; fail the test where there is none."""
    pixels = cv2.imread(str(path), flags)
    assert pixels is not None, f"{path} is no image"
    return pixels
