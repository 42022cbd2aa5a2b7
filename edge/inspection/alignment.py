"""Where the part lies in a frame: the first step of the one preparation, where a model asks for it.

The part is never guessed: unlike the reference, at two places at once, or loosely held by what the
reference shows (a round part says nothing about its angle), there is no pose and no inspection.
"""

import base64
import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.bounds import MAX_REFERENCE_PX, MIN_LIKENESS_SIZED, MIN_REFERENCE_PX
from edge.bundle.input_spec import AlignMode, Crop, Locator
from edge.errors import FrameUnsuitable, PartAmbiguous, PartNotFound
from edge.imaging.frame import Box
from edge.imaging.pose import PartPose, at_centres, warped
from edge.imaging.sampled_grey import can_sample, sampled_grey
from edge.imaging.template_search import Template

# Another place that fits nearly as well: within this of the best, or with a remainder (what is
# missing to 1) of less than so many times the best one's.
_MIN_LEAD = 0.03
_MIN_REMAINDER_RATIO = 1.25
# Expected error of a pose in percent of the longest side or the size, or degrees. Of two estimates
# one must be so small, and neither large.
_LOOSEST, _LOOSEST_OTHER = 0.25, 0.4
# Two ways that differ by more are told apart by their angle.
_SAME_TURN_DEG = 5.0
# Below this a share of an area is rounding.
_NO_SHARE = 1e-3


class ReferenceUnusable(FrameUnsuitable):
    """A reference image, or the region of the part in it, by which nothing could be found.

    Attributes:
        blank: it shows almost nothing; else the region is too small, or lies outside.
    """

    def __init__(self, sentence: str, *, blank: bool = False) -> None:
        super().__init__(sentence)
        self.blank = blank


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where a part was found.

    Attributes:
        pose: from the reference image to the frame.
        likeness: normalized cross-correlation with the reference, at most 1.
        outside: share of what is inspected that lies outside the frame.
    """

    pose: PartPose
    likeness: float
    outside: float


def make_locator(
    samples: NDArray[np.uint8],
    mode: AlignMode,
    roi: Crop,
    *,
    least_likeness: float,
    most_outside: float,
    most_scale: float = 0.0,
) -> Locator:
    """Describe a part as a reference image shows it.

    Args:
        samples: ``(H, W)`` or ``(H, W, 3) uint8``, as ``to_samples`` gives them.
        roi: where the part lies in it.
        least_likeness: that a part must reach; where sizes are searched, 0.85 at least.
        most_scale: share by which the part may be larger or smaller.

    Raises:
        ReferenceUnusable: the region does not lie inside, is too small, or shows nothing that
            could be found.
    """
    rows, columns = samples.shape[:2]
    if roi.x + roi.width > columns or roi.y + roi.height > rows:
        raise ReferenceUnusable(
            f"the region {roi.width}×{roi.height}+{roi.x}+{roi.y} does not fit the reference "
            f"image of {columns}×{rows}. Give one that lies inside."
        )
    scale = min(1.0, MAX_REFERENCE_PX / max(roi.width, roi.height))
    width, height = round(roi.width * scale), round(roi.height * scale)
    if min(width, height) < MIN_REFERENCE_PX:
        raise ReferenceUnusable(
            f"the region of {roi.width}×{roi.height} pixels is too small or too narrow to be "
            f"found again. Give one of {MIN_REFERENCE_PX} pixels at least, at most "
            f"{MAX_REFERENCE_PX // MIN_REFERENCE_PX} times as long as wide."
        )
    part = samples[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width]
    grey = _grey(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA))
    try:
        Template(grey, mode.most_turn_deg, most_scale)
    except ValueError as error:
        raise ReferenceUnusable(
            f"the reference cannot be found again: {error}. Give an image and a region that show "
            "the part with its outline.",
            blank=True,
        ) from error
    return Locator(
        mode=mode,
        roi=roi,
        frame_height=rows,
        frame_width=columns,
        reference=encoded_reference(grey),
        reference_height=height,
        reference_width=width,
        least_likeness=max(least_likeness, MIN_LIKENESS_SIZED) if most_scale else least_likeness,
        most_outside=most_outside,
        most_scale=most_scale,
    )


def reference_box(locator: Locator, crop: Crop | None) -> Box:
    """Return what is inspected, in pixels of the reference image.

    Raises:
        ReferenceUnusable: the crop does not lie inside the reference image.
    """
    region = crop or locator.roi
    if region.x + region.width > locator.frame_width or (
        region.y + region.height > locator.frame_height
    ):
        raise ReferenceUnusable(
            f"the crop {region.width}×{region.height}+{region.x}+{region.y} does not fit the "
            f"reference image of {locator.frame_width}×{locator.frame_height}, in which it lies "
            "where a model aligns parts. Change the crop."
        )
    return Box(region.x, region.y, region.width, region.height)


def locate(
    samples: NDArray[np.uint8], locator: Locator, box: Box, *, looser: float = 1.0
) -> Located:
    """Find the part.

    Args:
        samples: ``(H, W)`` or ``(H, W, 3) uint8``, as ``to_samples`` gives them.
        box: what is inspected, in the reference image.
        looser: so many times the expected error that is allowed for a part to be inspected.

    Raises:
        PartNotFound: nothing is like the reference, or too much of the box lies outside.
        PartAmbiguous: the part could as well lie otherwise.
    """
    rows, columns = samples.shape[:2]
    roi = locator.roi
    scale_x, scale_y = locator.reference_width / roi.width, locator.reference_height / roi.height
    size = max(round(columns * scale_x), 1), max(round(rows * scale_y), 1)
    found = _template(locator).search(_reduced(samples, size))
    best, other = found.best, found.other
    if best is None or best.score < locator.least_likeness:
        likeness = "nothing looks like it" if best is None else f"likeness {best.score:.2f}"
        remedy = "Check that it is in view as in the reference, and check lens, focus and light."
        if min(roi.width, roi.height) > min(rows, columns) or max(roi.width, roi.height) > max(
            rows, columns
        ):
            remedy = (
                f"Its region in the reference, {roi.width}×{roi.height} pixels, is larger than the "
                f"frame of {columns}×{rows}: the part must be as large as in the reference. Fit "
                "with one of this camera and resolution."
            )
        raise PartNotFound(
            f"the part was not found ({likeness}, {locator.least_likeness:.2f} are "
            f"required). {remedy}"
        )
    if other is not None and best.score - other.score < max(
        _MIN_LEAD, (_MIN_REMAINDER_RATIO - 1.0) * (1.0 - best.score)
    ):
        turn = abs((best.angle_deg - other.angle_deg + 180.0) % 360.0 - 180.0)
        apart = math.hypot(best.x - other.x, best.y - other.y) / scale_x
        remedy = "a reference and a region (--roi) with something in it that is there once"
        if turn > _SAME_TURN_DEG:
            remedy = "--align shift where it is symmetric, or a reference that tells its angle"
        raise PartAmbiguous(
            f"the part could lie in two ways, {apart:.0f} pixels and {turn:.0f}° apart (likeness "
            f"{best.score:.2f} and {other.score:.2f}). Show one part at a time; fit with {remedy}."
        )
    low, high = sorted(found.looseness)
    if low > looser * _LOOSEST or high > looser * _LOOSEST_OTHER:
        unsure, error, fit = "place", f"{high:.1f} %", ""
        if locator.mode is not AlignMode.SHIFT:
            unsure, error = "place or angle", f"{error} or degrees"
            fit = "for a round part with --align shift, else "
        if locator.most_scale:
            unsure += " or size"
            fit += "without --scale, or "
        raise PartAmbiguous(
            f"the part's {unsure} is not certain (likeness {best.score:.2f}): an error of {error} "
            "is to be expected. Check that it is in view as in the reference; where good parts "
            f"are refused so, fit {fit}with a region that shows more of the part's outline."
        )
    pose = PartPose(
        x=best.x * columns / size[0],
        y=best.y * rows / size[1],
        angle_deg=best.angle_deg,
        pivot_x=roi.x + roi.width / 2,
        pivot_y=roi.y + roi.height / 2,
        scale=best.scale,
    )
    if locator.mode is AlignMode.SHIFT and not locator.most_scale:
        pose = pose.in_whole_pixels()
    outside = pose.outside(box, (rows, columns))
    if outside < _NO_SHARE:
        outside = 0.0
    if outside > locator.most_outside:
        raise PartNotFound(
            f"{outside:.1%} of what is to be inspected lies outside the frame "
            f"({locator.most_outside:.1%} are allowed). Show the whole part, or fit with "
            "a smaller region or with --outside."
        )
    return Located(pose=pose, likeness=best.score, outside=outside)


def mapped_back(
    anomaly_map: NDArray[np.float32], pose: PartPose, box: Box, place: Box, *, fill: float
) -> NDArray[np.float32]:
    """Return a map of a box of the reference as it lies in the frame.

    Args:
        place: what of the frame the new map shows.
        fill: of the cells that lie outside the box.

    Returns:
        ``(h, w) float32`` with cells about as large as before.
    """
    cell_x, cell_y = box.width / anomaly_map.shape[1], box.height / anomaly_map.shape[0]
    cell = min(cell_x, cell_y)
    width, height = max(round(place.width / cell), 1), max(round(place.height / cell), 1)
    to_place = np.array(
        [[place.width / width, 0, place.x], [0, place.height / height, place.y], [0, 0, 1.0]]
    )
    to_box = np.linalg.inv(np.vstack([pose.matrix(), [0, 0, 1]]))
    to_cells = np.array([[1 / cell_x, 0, -box.x / cell_x], [0, 1 / cell_y, -box.y / cell_y]])
    matrix = to_cells @ to_box @ to_place
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    mapped = cv2.warpAffine(
        anomaly_map, at_centres(matrix), (width, height), None, flags, cv2.BORDER_REPLICATE
    )
    across, down = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    for (a, b, c), cells in zip(matrix, anomaly_map.shape[::-1], strict=True):
        at = a * across + b * down + c
        mapped[(at < 0) | (at > cells)] = fill
    return mapped


def aligned_mask(mask: NDArray[np.bool_], pose: PartPose, box: Box) -> NDArray[np.bool_]:
    """Return a mask of the frame as the box of the reference shows it, pixel by pixel."""
    to_box = np.array([[1.0, 0.0, box.x], [0.0, 1.0, box.y], [0.0, 0.0, 1.0]])
    matrix = pose.matrix() @ to_box
    size = (box.width, box.height)
    return warped(mask.astype(np.uint8), matrix, size, cv2.INTER_NEAREST) > 0


def encoded_reference(grey: NDArray[np.uint8]) -> str:
    """Return ``(h, w) uint8`` as a locator holds it."""
    return base64.b64encode(grey.tobytes()).decode()


def reference_image(locator: Locator) -> NDArray[np.uint8]:
    """Return ``(h, w) uint8``, the reference as it is searched."""
    content = np.frombuffer(base64.b64decode(locator.reference), np.uint8)
    return content.reshape(locator.reference_height, locator.reference_width)


@lru_cache(maxsize=8)
def _template(locator: Locator) -> Template:
    try:
        return Template(reference_image(locator), locator.mode.most_turn_deg, locator.most_scale)
    except ValueError as error:
        raise FrameUnsuitable(
            f"the model's reference cannot be found in any frame: {error}. Fit it again."
        ) from error


def _reduced(samples: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image in grey, ``size`` being its width and height."""
    if can_sample(samples, *size):
        return sampled_grey(samples, *size)
    return _grey(cv2.resize(samples, size, interpolation=cv2.INTER_AREA))


def _grey(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return samples if samples.ndim == 2 else cv2.cvtColor(samples, cv2.COLOR_BGR2GRAY)
