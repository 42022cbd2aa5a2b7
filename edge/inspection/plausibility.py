"""Whether an image can show a part at all: lens cap, lamp off or failing, all white."""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.errors import FrameUnsuitable
from edge.imaging.frame import Pixels
from edge.imaging.kernels import kernel
from edge.inspection.decision import Reason
from edge.inspection.image_limits import ImageLimits, ReferenceRegion
from edge.inspection.preprocessing import converted

# Light samples are counted in images that are no brighter: a third of the time for the others.
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


def image_statistics(
    prepared: NDArray[np.uint8], limits: ImageLimits = ImageLimits()
) -> ImageStatistics:
    """Return the statistics of a prepared ``(H, W, 3) uint8`` image."""
    samples = np.ascontiguousarray(prepared).reshape(-1)
    lowest, highest, total = _extremes_and_sum(samples)
    mean = total / prepared.size
    # Counting takes a third as long again, and only of dark images does it matter.
    light = 1.0
    if mean < max(COUNTED_BELOW, limits.min_mean):
        light = np.count_nonzero(samples >= limits.light_level) / prepared.size
    return ImageStatistics(lowest, highest, mean, light)


def image_fault(
    statistics: ImageStatistics, limits: ImageLimits = ImageLimits()
) -> tuple[Reason, str] | None:
    """Tell why an image cannot show a part, or None if it may."""
    dark = statistics.mean < limits.min_mean
    dark_field = dark and statistics.light >= limits.min_light_share < 1.0
    if not limits.min_mean <= statistics.mean <= limits.max_mean and not dark_field:
        what = "dark" if dark else "white"
        return Reason.EXPOSURE_OUT_OF_RANGE, (
            f"the image is all {what} (mean grey level {statistics.mean:.1f}). "
            "Check lamp, lens cap and exposure."
        )
    contrast = statistics.highest - statistics.lowest
    if contrast < limits.min_contrast:
        return Reason.BLUR_OR_DARK, (
            f"the image has no contrast ({contrast} grey levels). Check lamp, focus and lens cap."
        )
    return None


def reference_fault(
    pixels: Pixels, spec: InputSpec, reference: ReferenceRegion
) -> tuple[Reason, str] | None:
    """Tell that a frame's reference region has left its limits, or None.

    Args:
        pixels: the frame, of the formats that ``spec`` allows.
        spec: maps 16 bits to 8; its crop does not apply.

    Raises:
        FrameUnsuitable: the region does not lie inside the frame, or the format is none of the
            model's.
    """
    box = reference.box
    check_reference(pixels, reference)
    cut = pixels[box.y : box.y + box.height, box.x : box.x + box.width]
    mean = float(converted(cut, spec).mean())
    if reference.min_mean <= mean <= reference.max_mean:
        return None
    return Reason.EXPOSURE_OUT_OF_RANGE, (
        f"the reference region has a mean grey level of {mean:.1f}, not within "
        f"{reference.min_mean:g} to {reference.max_mean:g}. Check lamp, exposure and lens."
    )


def check_reference(pixels: Pixels, reference: ReferenceRegion) -> None:
    """Demand that a reference region lies inside a frame.

    Raises:
        FrameUnsuitable: it does not.
    """
    box, (rows, columns) = reference.box, pixels.shape[:2]
    if box.x + box.width > columns or box.y + box.height > rows:
        raise FrameUnsuitable(
            f"the reference region {box.width}×{box.height}+{box.x}+{box.y} does not fit the "
            f"{columns}×{rows} frame. Change image.reference or the camera's resolution."
        )


@kernel((numba.types.Array(numba.uint8, 1, "C", readonly=True),))
def _extremes_and_sum(samples):  # type: ignore[no-untyped-def]
    lowest, highest = np.uint8(255), np.uint8(0)
    total = 0
    for first in range(0, samples.shape[0], 65536):
        part = np.uint32(0)  # 65,536 samples of 255 fit
        # By a slice of its own, whose indices start at 0: so many samples are read at once.
        piece = samples[first : first + 65536]
        for k in range(piece.shape[0]):
            sample = piece[k]
            lowest = min(lowest, sample)
            highest = max(highest, sample)
            part += np.uint32(sample)
        total += part  # type: ignore[assignment]  # numba adds them as int64
    return np.int64(lowest), np.int64(highest), total
