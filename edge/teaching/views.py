"""Further views of the few images there are: turned, flipped and shifted."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Of more there are enough as they are.
MAX_FEW_IMAGES = 8
# Of a side.
_SHIFT = 0.04


def views(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield other views of a prepared ``(H, W, 3)`` image, each of the same size.

    Turned by 180°, where it is square also by 90° and 270°, mirrored both ways, and shifted by
    4 % of a side in each direction, what is uncovered mirrored.
    """
    turns = (1, 2, 3) if image.shape[0] == image.shape[1] else (2,)
    for turn in turns:
        yield np.ascontiguousarray(np.rot90(image, turn))
    yield np.ascontiguousarray(image[::-1])
    yield np.ascontiguousarray(image[:, ::-1])
    rows, columns = (max(round(_SHIFT * side), 1) for side in image.shape[:2])
    for down, right in ((rows, 0), (-rows, 0), (0, columns), (0, -columns)):
        padded = np.pad(image, ((rows, rows), (columns, columns), (0, 0)), "reflect")
        top, left = rows - down, columns - right
        yield np.ascontiguousarray(padded[top : top + image.shape[0], left : left + image.shape[1]])
