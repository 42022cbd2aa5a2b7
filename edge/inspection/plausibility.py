"""Whether a prepared image can show a part at all: lens cap, lamp off, all white."""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from edge.imaging.kernels import kernel
from edge.inspection.thresholding import Reason

# Below these grey-level limits there is no part to be seen.
LEAST_CONTRAST = 8
DARKEST_MEAN = 4.0
BRIGHTEST_MEAN = 251.0
# In a dark field nearly all is black and only what scatters is light: more of it than a few hot
# pixels show with the cap on.
LIGHT = 32
LEAST_LIGHT_SHARE = 0.0005
COUNTED_BELOW = 64.0


class ImageStatistics(NamedTuple):
    """Grey levels of one image, or of all tiles of a frame.

    Attributes:
        light: share of the samples that are light; counted where the mean is low, else 1.
    """

    lowest: int
    highest: int
    mean: float
    light: float = 0.0

    def joined(self, other: "ImageStatistics", weight: float) -> "ImageStatistics":
        """Return the statistics of both; ``weight`` is the share of the other in means."""
        return ImageStatistics(
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            self.mean + (other.mean - self.mean) * weight,
            self.light + (other.light - self.light) * weight,
        )


def image_statistics(prepared: NDArray[np.uint8]) -> ImageStatistics:
    """Return the statistics of a prepared ``(H, W, 3) uint8`` image."""
    samples = np.ascontiguousarray(prepared).reshape(-1)
    lowest, highest, total = _extremes_and_sum(samples)
    mean = total / prepared.size
    # Counting takes a third as long again, and only of dark images does it matter.
    light = np.count_nonzero(samples >= LIGHT) / prepared.size if mean < COUNTED_BELOW else 1.0
    return ImageStatistics(lowest, highest, mean, light)


def image_fault(statistics: ImageStatistics) -> tuple[Reason, str] | None:
    """Tell why an image cannot show a part, or None if it may."""
    dark_field = statistics.mean < DARKEST_MEAN and statistics.light >= LEAST_LIGHT_SHARE
    if not DARKEST_MEAN <= statistics.mean <= BRIGHTEST_MEAN and not dark_field:
        what = "dark" if statistics.mean < DARKEST_MEAN else "white"
        return Reason.EXPOSURE_OUT_OF_RANGE, (
            f"the image is all {what} (mean grey level {statistics.mean:.1f}). "
            "Check lamp, lens cap and exposure."
        )
    contrast = statistics.highest - statistics.lowest
    if contrast < LEAST_CONTRAST:
        return Reason.BLUR_OR_DARK, (
            f"the image has no contrast ({contrast} grey levels). Check lamp, focus and lens cap."
        )
    return None


@kernel((numba.types.Array(numba.uint8, 1, "C", readonly=True),))
def _extremes_and_sum(samples):  # type: ignore[no-untyped-def]
    lowest, highest = np.uint8(255), np.uint8(0)
    total = 0
    for first in range(0, samples.shape[0], 65536):
        part = np.uint32(0)  # 65,536 samples of 255 fit
        for k in range(first, min(first + 65536, samples.shape[0])):
            sample = samples[k]
            lowest = min(lowest, sample)
            highest = max(highest, sample)
            part += np.uint32(sample)
        total += part
    return np.int64(lowest), np.int64(highest), total
