"""The reference by which a product's part is found: chosen among images, tried, and agreed on.

``train-station fit --align`` and teaching choose by these same functions.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import AlignMode, Crop, Locator
from edge.errors import FrameUnsuitable, PartAmbiguous
from edge.imaging.frame import Box
from edge.imaging.pose import warp_area
from edge.inspection.alignment import (
    Located,
    ReferenceUnusable,
    encoded_reference,
    locate,
    make_locator,
    reference_box,
    reference_image,
)
from edge.teaching.refusals import RefusalKind, TeachingRefused

# Of the good images so many are tried as the reference, each on so many others.
_TRIED = 8
JUDGES = 12
# The mean of what is found is taken so often, of so many parts at least; it must lie in its
# reference as before, in shares of the longest side and degrees.
_AVERAGED, _MIN_AVERAGED = 2, 4
# Parts that one of them holds loosely count, too: their errors of about 1 % blur the mean alone.
_LOOSER = 4.0
_SAME_SHARE, _SAME_DEG = 0.01, 1.0
# Of the sides, where the part does not stand out from its background.
_MIDDLE_SHARE = 0.7
# A part stands out by so many grey levels, and by so many times the border's own spread.
_STANDS_OUT = 12.0
_SPREADS = 4.0
_MARGIN_SHARE = 0.03
# Defective parts, and good ones that are yet to come, are less like the reference by up to this.
_BELOW_GOOD = 0.2
# Beside these differences of x and y in pixels, cosine, sine, size and likeness none is strange.
_NO_SPREAD = np.array([1.0, 1.0, 0.02, 0.02, 0.01, 0.01])


class ReferenceRefused(TeachingRefused):
    """An image and region by which the part could not be found again; names the image."""


class SeenImage(NamedTuple):
    """An image of the product.

    Attributes:
        samples: ``(H, W)`` or ``(H, W, 3) uint8``, as ``to_samples`` gives them.
    """

    name: str
    samples: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatorChoice:
    """What somebody has chosen about finding the part.

    Attributes:
        roi: where the part lies in the reference; None takes what stands out there.
        crop: what is inspected, in the reference; None inspects the region.
        likeness: that a part must reach; None agrees on one by the good images.
        outside: this share of what is inspected may lie outside the frame.
        scale: by this share the part may be larger or smaller than in the reference.
    """

    mode: AlignMode
    roi: Crop | None = None
    crop: Crop | None = None
    likeness: float | None = None
    outside: float = 0.0
    scale: float = 0.0


def tried_locator(image: SeenImage, choice: LocatorChoice) -> Locator:
    """Return a locator that finds its own reference, at one place and angle.

    Raises:
        ReferenceRefused: the image shows nothing that could be found, or finds it twice.
    """
    least = Locator.model_fields["least_likeness"].default
    try:
        locator = make_locator(
            image.samples,
            choice.mode,
            choice.roi or part_region(image.samples),
            least_likeness=least if choice.likeness is None else choice.likeness,
            most_outside=choice.outside,
            most_scale=choice.scale,
        )
        locate(image.samples, locator, reference_box(locator, choice.crop))
    except FrameUnsuitable as error:
        raise ReferenceRefused(
            f"{image.name}: as a reference: {error}", kind=_kind(error), image=image.name
        ) from error
    return locator


def _kind(error: FrameUnsuitable) -> RefusalKind:
    if isinstance(error, ReferenceUnusable):
        return "reference_blank" if error.blank else "reference_region"
    return "reference_ambiguous" if isinstance(error, PartAmbiguous) else "reference_region"


def most_typical(images: Sequence[SeenImage], choice: LocatorChoice) -> tuple[Locator, str]:
    """Return the good image as reference that is most like the others, and its name.

    What is searched is what it and the others have in common, where enough show the part alike.

    Args:
        images: some good ones, spread over all; one at least.

    Raises:
        ReferenceRefused: none of them can be the reference.
    """
    best: tuple[list[Located | None], Locator, SeenImage] | None = None
    fault: ReferenceRefused | None = None
    for image in images[:_TRIED]:
        try:
            locator = tried_locator(image, choice)
        except ReferenceRefused as error:
            fault = error
            continue
        places = _places(images, locator, choice.crop)
        if best is None or _typical(places) > _typical(best[0]):
            best = places, locator, image
    if best is None:
        assert fault is not None
        raise fault
    places, locator, image = best
    for _ in range(_AVERAGED):
        common = _common(images, locator, choice.crop)
        if common is None or not _lies_alike(common, image, choice.crop):
            break
        found = _places(images, common, choice.crop)
        # A mean is more like each than each is like another, so it has to find as many first.
        if (_count(found), _typical(found)) <= (_count(places), _typical(places)):
            break
        places, locator = found, common
    return locator, image.name


def _places(
    images: Sequence[SeenImage], locator: Locator, crop: Crop | None, looser: float = 1.0
) -> list[Located | None]:
    """Return where the part lies in images; None where it is not found, as ``locate`` has it."""
    box = reference_box(locator, crop)
    found: list[Located | None] = []
    for image in images:
        try:
            found.append(locate(image.samples, locator, box, looser=looser))
        except FrameUnsuitable:
            found.append(None)
    return found


def _count(found: Sequence[Located | None]) -> int:
    return sum(one is not None for one in found)


def _typical(found: Sequence[Located | None]) -> float:
    return statistics.fmean(0.0 if one is None else one.likeness for one in found)


def _common(images: Sequence[SeenImage], locator: Locator, crop: Crop | None) -> Locator | None:
    """Return a locator that searches the mean of the parts that one finds; None of too few.

    Each part has a texture, dust and reflections of its own: of the mean their outline is left, by
    which all are found alike.
    """
    roi = locator.roi
    region, shape = Box(roi.x, roi.y, roi.width, roi.height), reference_image(locator).shape
    parts = []
    for image, located in zip(images, _places(images, locator, crop, _LOOSER), strict=True):
        if located is not None:
            part = np.empty((*shape, 3), np.uint8)
            warp_area(image.samples, located.pose, region, part)
            parts.append(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY))
    if len(parts) < _MIN_AVERAGED:
        return None
    mean = np.rint(np.mean(parts, axis=0)).astype(np.uint8)
    return locator.model_copy(update={"reference": encoded_reference(mean)})


def _lies_alike(common: Locator, reference: SeenImage, crop: Crop | None) -> bool:
    """Tell whether the mean is found in the image of the reference where that lies."""
    try:
        place = locate(reference.samples, common, reference_box(common, crop)).pose
    except FrameUnsuitable:  # flat, or two ways alike
        return False
    off = math.hypot(place.x - place.pivot_x, place.y - place.pivot_y)
    longest = max(common.roi.width, common.roi.height)
    return off <= _SAME_SHARE * longest and abs(place.angle_deg) <= _SAME_DEG


def part_region(samples: NDArray[np.uint8]) -> Crop:
    """Return where a part stands out from its background; the middle where it does not.

    Args:
        samples: ``(H, W)`` or ``(H, W, 3) uint8``.
    """
    rows, columns = samples.shape[:2]
    grey = samples if samples.ndim == 2 else cv2.cvtColor(samples, cv2.COLOR_BGR2GRAY)
    # Two grey levels of noise and single bright pixels are no part.
    grey = cv2.medianBlur(np.ascontiguousarray(grey), 5)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).astype(np.float32)
    level = float(np.median(border))
    spread = float(np.median(np.abs(border - level)))
    apart = np.abs(grey.astype(np.float32) - level) > max(_STANDS_OUT, _SPREADS * spread)
    count, _, found, _ = cv2.connectedComponentsWithStats(apart.astype(np.uint8))
    if count > 1:
        x, y, width, height, _ = (int(v) for v in max(found[1:], key=lambda one: one[4]))
        margin = round(_MARGIN_SHARE * max(width, height))
        left, top = x - margin, y - margin
        right, bottom = x + width + margin, y + height + margin
        large = width * height >= 0.01 * rows * columns
        if large and left >= 0 and top >= 0 and right <= columns and bottom <= rows:
            return Crop(x=left, y=top, width=right - left, height=bottom - top)
    width, height = (max(round(side * _MIDDLE_SHARE), 1) for side in (columns, rows))
    return Crop(x=(columns - width) // 2, y=(rows - height) // 2, width=width, height=height)


def with_agreed_likeness(locator: Locator, good: Iterable[Located]) -> Locator:
    """Return a locator that demands nearly the likeness of the good parts it was tried on."""
    lowest = min(located.likeness for located in good)
    agreed = math.floor(100.0 * (lowest - _BELOW_GOOD)) / 100.0
    return locator.model_copy(update={"least_likeness": max(agreed, locator.least_likeness)})


def strangeness(found: Sequence[Located | None]) -> list[float]:
    """Return how far each part lies from where most do; infinite where it was not found."""
    placed = [_figures(one) for one in found if one is not None]
    if not placed:
        return [math.inf] * len(found)
    rows = np.array(placed)
    middle = np.median(rows, axis=0)
    spread = np.median(np.abs(rows - middle), axis=0) + _NO_SPREAD
    return [
        math.inf
        if one is None
        else float((np.abs(np.array(_figures(one)) - middle) / spread).max())
        for one in found
    ]


def _figures(located: Located) -> tuple[float, ...]:
    pose, angle = located.pose, np.deg2rad(located.pose.angle_deg)
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    return pose.x, pose.y, cosine, sine, pose.scale, located.likeness
