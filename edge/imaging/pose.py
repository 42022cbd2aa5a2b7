"""Where a part lies in a frame, and what the frame shows there, cut and turned in one resampling.

Points are continuous, the centre of the first pixel lies at (0.5, 0.5); angles turn x to y, which
is clockwise as seen.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.area_resize import resize_area
from edge.imaging.frame import Box

# Source pixels from one sample to the next, at most; bilinear samples lose nothing finer.
_SAMPLE_STEP_PX = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPose:
    """A turn about a point of the reference, and where that point lies in the frame.

    Attributes:
        x, y: of the point in the frame, in pixels.
        angle_deg: from the reference to the frame.
        pivot_x, pivot_y: of the point in the reference.
        scale: how many times as large as in the reference the frame shows it.
    """

    x: float
    y: float
    angle_deg: float
    pivot_x: float
    pivot_y: float
    scale: float = 1.0

    def matrix(self) -> NDArray[np.float64]:
        """Return ``(2, 3)`` from points of the reference to points of the frame."""
        angle = math.radians(self.angle_deg)
        cosine, sine = self.scale * math.cos(angle), self.scale * math.sin(angle)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        shift = np.array([self.x, self.y]) - turn @ (self.pivot_x, self.pivot_y)
        return np.column_stack([turn, shift])

    def in_whole_pixels(self) -> "PartPose":
        """Return the nearest shift by whole pixels, for which nothing is interpolated.

        Of a pose that neither turns nor resizes.
        """
        x = self.pivot_x + round(self.x - self.pivot_x)
        return replace(self, x=x, y=self.pivot_y + round(self.y - self.pivot_y))

    def shifted(self, box: Box, frame: tuple[int, ...]) -> Box | None:
        """Return where a box of the reference lies; None unless in whole pixels of the frame."""
        x, y = float(self.x - self.pivot_x), float(self.y - self.pivot_y)
        moved_alone = self.angle_deg == 0.0 and self.scale == 1.0
        if not moved_alone or not x.is_integer() or not y.is_integer():
            return None
        left, top = box.x + int(x), box.y + int(y)
        fits = left >= 0 and top >= 0
        fits = fits and left + box.width <= frame[1] and top + box.height <= frame[0]
        return Box(left, top, box.width, box.height) if fits else None

    def corners(self, box: Box) -> NDArray[np.float64]:
        """Return ``(4, 2)`` where the corners of a box of the reference lie in the frame."""
        right, bottom = box.x + box.width, box.y + box.height
        points = np.array([(box.x, box.y), (right, box.y), (right, bottom), (box.x, bottom)])
        matrix = self.matrix()
        return points @ matrix[:, :2].T + matrix[:, 2]

    def outside(self, box: Box, frame: tuple[int, int]) -> float:
        """Return which share of a box of the reference lies outside a frame of height and width."""
        height, width = frame
        corners = self.corners(box)
        if corners.min() >= 0.0 and (corners <= (width, height)).all():
            return 0.0
        edge = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
        inside, _ = cv2.intersectConvexConvex(corners.astype(np.float32), edge)
        shown = box.width * box.height * self.scale**2
        return min(max(1.0 - inside / shown, 0.0), 1.0)

    def enclosing(self, box: Box, frame: tuple[int, int]) -> Box:
        """Return the smallest box of the frame that holds a box of the reference, as far as it can.

        At least one pixel, whatever lies outside.
        """
        height, width = frame
        corners = self.corners(box)
        # A millionth of a pixel is rounding.
        low = np.floor(corners.min(axis=0) + 1e-6).astype(int)
        high = np.ceil(corners.max(axis=0) - 1e-6).astype(int)
        left, top = min(max(int(low[0]), 0), width - 1), min(max(int(low[1]), 0), height - 1)
        right, bottom = min(max(int(high[0]), left + 1), width), min(int(high[1]), height)
        return Box(left, top, right - left, max(bottom, top + 1) - top)


def warp_area(samples: NDArray[np.uint8], pose: PartPose, box: Box, out: NDArray[np.uint8]) -> None:
    """Show a box of the reference as the frame has it: cut, turned and resized in one pass.

    What shrinks is averaged over the area that it covers. Outside the frame its border goes on.

    Args:
        samples: ``(H, W)`` or ``(H, W, 3) uint8``, C-contiguous. Not changed.
        out: ``(h, w, 3) uint8``, C-contiguous; grey is written to all three channels.
    """
    height, width = out.shape[:2]
    plain = pose.shifted(box, samples.shape)
    if plain is not None:
        resize_area(samples, plain, out)
        return
    down = max(math.ceil(box.height * pose.scale / _SAMPLE_STEP_PX), height)
    across = max(math.ceil(box.width * pose.scale / _SAMPLE_STEP_PX), width)
    step_x, step_y = box.width / across, box.height / down
    to_box = np.array([[step_x, 0.0, box.x], [0.0, step_y, box.y], [0.0, 0.0, 1.0]])
    dense = warped(samples, pose.matrix() @ to_box, (across, down), cv2.INTER_LINEAR)
    resize_area(dense, Box(0, 0, across, down), out)


def warped(
    image: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    interpolation: int,
) -> NDArray[np.uint8]:
    """Return what an image shows at ``matrix @ point`` for the points of a new one.

    Args:
        size: width and height of the new one.
        interpolation: of OpenCV.
    """
    return cv2.warpAffine(
        image,
        at_centres(matrix),
        size,
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def at_centres(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a matrix of points as OpenCV takes it, which counts from the centres of pixels."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return moved
