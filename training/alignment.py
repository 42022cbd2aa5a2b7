"""The reference by which parts are found, and where it finds them in the images of a data set."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge.bundle.bounds import MIN_LIKENESS_SIZED
from edge.bundle.input_spec import AlignMode, InputSpec, Levels, Locator
from edge.errors import FrameUnsuitable, ImageUnreadable
from edge.imaging.image_files import read_image
from edge.inspection.alignment import Located
from edge.inspection.frame_prediction import view_frame
from edge.inspection.preprocessing import to_samples
from edge.teaching.part_reference import (
    JUDGES,
    LocatorChoice,
    ReferenceRefused,
    SeenImage,
    most_typical,
    strangeness,
    tried_locator,
    with_agreed_likeness,
)
from edge.wording import counted
from training.config import FitConfig
from training.data.loading import first_sight, read_sample
from training.data.samples import Sample, Splits
from training.errors import DataError, SettingError

_MAX_NAMED = 5

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
        for name in ("reference", "roi", "likeness", "outside", "scale"):
            if getattr(config, name) is not None:
                raise SettingError(
                    f"--{name} is only used when parts are aligned. Add --align "
                    f"{', '.join(mode.value for mode in AlignMode)}."
                )
    if config.scale and config.likeness is not None and config.likeness < MIN_LIKENESS_SIZED:
        raise SettingError(
            f"--likeness {config.likeness:g}: with --scale parts must reach "
            f"{MIN_LIKENESS_SIZED:g}. Of those that are less alike the size is not certain."
        )


def find_locator(config: FitConfig, splits: Splits) -> Locator | None:
    """Return how the part is found, or None where it is not to be looked for.

    Raises:
        DataError: the reference cannot be read, or is found nowhere or everywhere.
    """
    if config.align is None:
        return None
    choice = LocatorChoice(
        mode=config.align,
        roi=config.roi,
        crop=config.crop,
        likeness=config.likeness,
        outside=config.outside or 0.0,
        scale=config.scale or 0.0,
    )
    try:
        if config.reference is None:
            return _most_typical(config, choice, splits.fit)
        samples = _samples(read_image(config.reference), config.levels, str(config.reference))
        return tried_locator(SeenImage(str(config.reference), samples), choice)
    except (ImageUnreadable, ReferenceRefused) as error:
        raise DataError(str(error)) from error


def _most_typical(config: FitConfig, choice: LocatorChoice, fit: Sequence[Sample]) -> Locator:
    """Return the good image as reference that is most like the others."""
    plain = [sample for sample in fit if sample.view is None]
    images = [
        SeenImage(one.label, _samples(read_sample(one), config.levels, one.label))
        for one in _spread(plain, JUDGES)
    ]
    locator, name = most_typical(images, choice)
    roi = locator.roi
    log.info(
        "parts are found by %s, region %d,%d,%d,%d; --reference and --roi choose others",
        *(name, roi.x, roi.y, roi.width, roi.height),
    )
    return locator


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
        return list(tqdm(looked, desc="locate", unit="image", total=len(samples)))


def demand_found(found: Sequence[LookedAt]) -> None:
    """Demand that the part was found in all images.

    Raises:
        DataError: names the images.
    """
    missing = [one for one in found if one.located is None]
    if missing:
        names = [f"{one.sample.label}: {one.fault}" for one in missing[:_MAX_NAMED]]
        raise DataError(
            f"the part was not found in {len(missing)} of {counted(len(found), 'image')}. Remove "
            "those that "
            "do not show it whole; or give --reference and --roi with another view of the part, a "
            "lower --likeness, or another mode to --align.",
            *names,
        )


def agreed_locator(locator: Locator, found: Sequence[LookedAt]) -> Locator:
    """Return a locator that demands nearly the likeness of the good parts it was tried on."""
    good = [one.located for one in found if one.located and not one.sample.is_defective]
    return with_agreed_likeness(locator, good)


def outliers_first(found: Sequence[LookedAt]) -> list[LookedAt]:
    """Return the images by how far their part lies from where most of them lie."""
    strange = strangeness([one.located for one in found])
    order = sorted(range(len(found)), key=lambda index: -strange[index])
    return [found[index] for index in order]


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
