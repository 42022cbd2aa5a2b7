"""The reference by which parts are found, and where it finds them in the images of a data set."""

import logging
import math
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge.bundle.manifest import AlignMode, Crop, InputSpec, Levels, Locator
from edge.errors import FrameUnsuitable, ImageUnreadable
from edge.imaging.image_files import read_image
from edge.inspection.alignment import Located, locate, make_locator, reference_box
from edge.inspection.frame_prediction import view_frame
from edge.inspection.preprocessing import to_samples
from training.config import FitConfig
from training.data.loading import first_sight, read_sample
from training.data.samples import Sample, Splits
from training.errors import DataError, SettingError

# Of the good images so many are tried as the reference, each on so many others.
_TRIED = 8
_JUDGES = 12
# Of the sides, where the part does not stand out from its background.
_MIDDLE_SHARE = 0.7
# A part stands out by so many grey levels, and by so many times the border's own spread.
_STANDS_OUT = 12.0
_SPREADS = 4.0
_MARGIN_SHARE = 0.03
_MAX_NAMED = 5
# Defective parts, and good ones that are yet to come, are less like the reference by up to this.
_BELOW_GOOD = 0.2
# Beside these differences of x and y in pixels, cosine, sine and likeness none is strange.
_NO_SPREAD = np.array([1.0, 1.0, 0.02, 0.02, 0.01])

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LookedAt:
    """Where the part lies in one image.

    Attributes:
        located: None where it was not found.
        fault: why not; else empty.
    """

    sample: Sample
    located: Located | None
    fault: str = ""


def check_alignment(config: FitConfig) -> None:
    """Refuse settings of an alignment that is not asked for.

    Raises:
        SettingError: names the option.
    """
    if config.align is None:
        for name in ("reference", "roi", "likeness", "outside"):
            if getattr(config, name) is not None:
                raise SettingError(
                    f"--{name} is only used when parts are aligned. Add --align "
                    f"{', '.join(mode.value for mode in AlignMode)}."
                )


def find_locator(config: FitConfig, splits: Splits) -> Locator | None:
    """Return how the part is found, or None where it is not to be looked for.

    Raises:
        DataError: the reference cannot be read, or is found nowhere or everywhere.
    """
    if config.align is None:
        return None
    if config.reference is not None:
        try:
            pixels = read_image(config.reference)
        except ImageUnreadable as error:
            raise DataError(str(error)) from error
        samples = _samples(pixels, config.levels, str(config.reference))
        return _tested(config, config.align, samples, str(config.reference))
    return _most_typical(config, config.align, splits.fit)


def _most_typical(config: FitConfig, mode: AlignMode, fit: Sequence[Sample]) -> Locator:
    """Return the good image as reference that is most like the others."""
    plain = [sample for sample in fit if sample.view is None]
    judges = _spread(plain, _JUDGES)
    images = [_samples(read_sample(one), config.levels, one.label) for one in judges]
    best: tuple[float, Locator, Sample] | None = None
    fault: DataError | None = None
    for sample, samples in list(zip(judges, images, strict=True))[:_TRIED]:
        try:
            locator = _tested(config, mode, samples, sample.label)
        except DataError as error:
            fault = error
            continue
        box = reference_box(locator, config.crop)
        likenesses = []
        for other in images:
            try:
                likenesses.append(locate(other, locator, box).likeness)
            except FrameUnsuitable:
                likenesses.append(0.0)
        typical = statistics.fmean(likenesses)
        if best is None or typical > best[0]:
            best = typical, locator, sample
    if best is None:
        assert fault is not None
        raise fault
    _, locator, sample = best
    roi = locator.roi
    log.info(
        "parts are found by %s, region %d,%d,%d,%d; --reference and --roi choose others",
        *(sample.label, roi.x, roi.y, roi.width, roi.height),
    )
    return locator


def _tested(config: FitConfig, mode: AlignMode, samples: NDArray[np.uint8], name: str) -> Locator:
    """Return a locator that finds its own reference, at one place and angle."""
    try:
        locator = make_locator(
            samples,
            mode,
            config.roi or part_region(samples),
            least_likeness=Locator.model_fields["least_likeness"].default
            if config.likeness is None
            else config.likeness,
            most_outside=config.outside or 0.0,
        )
        locate(samples, locator, reference_box(locator, config.crop))
    except FrameUnsuitable as error:
        raise DataError(f"{name}: as a reference: {error}") from error
    return locator


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


def found_parts(samples: Sequence[Sample], spec: InputSpec) -> list[LookedAt]:
    """Look for the part in images, as the line does.

    Raises:
        DataError: an image cannot be read; names the file.
    """

    def look(sample: Sample) -> LookedAt:
        try:
            return LookedAt(sample, view_frame(read_sample(sample), spec).located)
        except FrameUnsuitable as error:
            return LookedAt(sample, None, str(error))

    with ThreadPoolExecutor(2) as pool:
        looked: Iterator[LookedAt] = pool.map(look, samples)
        return list(tqdm(looked, desc="locate", unit="pic", total=len(samples)))


def demand_found(found: Sequence[LookedAt]) -> None:
    """Demand that the part was found in all images.

    Raises:
        DataError: names the images.
    """
    missing = [one for one in found if one.located is None]
    if missing:
        names = [f"{one.sample.label}: {one.fault}" for one in missing[:_MAX_NAMED]]
        raise DataError(
            f"the part was not found in {len(missing)} of {len(found)} images. Remove those that "
            "do not show it whole; or give --reference and --roi with another view of the part, a "
            "lower --likeness, or another mode to --align.",
            *names,
        )


def with_agreed_likeness(locator: Locator, found: Sequence[LookedAt]) -> Locator:
    """Return a locator that demands nearly the likeness of the good parts it was tried on."""
    lowest = min(
        one.located.likeness for one in found if one.located and not one.sample.is_defective
    )
    agreed = math.floor(100.0 * (lowest - _BELOW_GOOD)) / 100.0
    return locator.model_copy(update={"least_likeness": max(agreed, locator.least_likeness)})


def outliers_first(found: Sequence[LookedAt]) -> list[LookedAt]:
    """Return the images by how far their part lies from where most of them lie."""
    placed = [one.located for one in found if one.located is not None]
    if not placed:
        return list(found)
    rows = np.array([_figures(one) for one in placed])
    middle = np.median(rows, axis=0)
    spread = np.median(np.abs(rows - middle), axis=0) + _NO_SPREAD

    def strangeness(one: LookedAt) -> float:
        if one.located is None:
            return float("inf")
        return float((np.abs(np.array(_figures(one.located)) - middle) / spread).max())

    return sorted(found, key=strangeness, reverse=True)


def _figures(located: Located) -> tuple[float, ...]:
    pose, angle = located.pose, np.deg2rad(located.pose.angle_deg)
    return pose.x, pose.y, float(np.cos(angle)), float(np.sin(angle)), located.likeness


def _samples(pixels: NDArray[np.integer], levels: Levels | None, name: str) -> NDArray[np.uint8]:
    if levels is None and pixels.dtype == np.uint16:
        raise DataError(f"{name}: a 16-bit image. Pass --levels BLACK WHITE.")
    try:
        return to_samples(pixels, first_sight((32, 32), levels))
    except FrameUnsuitable as error:
        raise DataError(f"{name}: {error}") from error


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    few = min(count, len(samples))
    return [samples[index * len(samples) // few] for index in range(few)]
