"""The images that quantization takes its ranges from: good ones, never those that judge it."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.wording import agreeing, counted
from export.errors import CalibrationUnusable
from export.parity_gate import Images
from training.data.data_notices import report_unused_in
from training.data.loading import prepare_sample, read_sample
from training.data.samples import GOOD, Sample, images_below
from training.errors import DataError
from training.seen_images import Role, SeenImages, phrase, seen, sift

# Fewer tell nothing about the range of a layer's values.
MIN_IMAGES = 8
_ADVISED = 32
_MAX_IMAGES = 128

# Of good images a few score above any threshold; more than this share is something else.
_MAX_DEFECTIVE = 0.2
_MAX_NAMED = 5

# A patch has this part of an image's side, and about so many images have one.
_PATCH = 6
_PATCHED = 16
_EXTREMES: tuple[tuple[int, int, int], ...] = ((0, 0, 0), (255, 255, 255))
_EXTREMES += ((0, 0, 255), (0, 255, 0), (255, 0, 0))
_EXTREMES += ((0, 255, 255), (255, 0, 255), (255, 255, 0))

_NONE = np.zeros(0)

log = logging.getLogger(__name__)


def usable_images(
    images: Images,
    names: list[str],
    scores: NDArray[np.floating],
    threshold: float,
    *,
    judged_good: NDArray[np.floating] = _NONE,
) -> Images:
    """Return the images that look good to the floating-point model.

    A defect among them would widen ranges, and make every step of the integers coarser.

    Args:
        names: of the images, for messages.
        scores: of the images, by the model in floating point.
        judged_good: its scores of good validation images: where many of these are rejected, too,
            the threshold is at fault and no image.

    Raises:
        CalibrationUnusable: too few, or too many look defective.
    """
    doubtful = [names[index] for index in np.flatnonzero(~(scores < threshold))]
    good = images[scores < threshold]
    rejected = int((judged_good >= threshold).sum())
    if len(doubtful) > _MAX_DEFECTIVE * len(images):
        what = (
            f"the threshold {threshold:.4g} rejects {len(doubtful)} of "
            f"{counted(len(images), 'good image')} to quantize with"
        )
        named = ", ".join(doubtful[:_MAX_NAMED])
        if rejected > _MAX_DEFECTIVE * len(judged_good):
            raise CalibrationUnusable(
                f"{what} and {rejected} of {counted(len(judged_good), 'good validation image')}: "
                "the images "
                "are not to blame, this model would reject as many good parts. Choose another "
                "threshold with train-station calibrate, or fit on other images."
            )
        if not len(judged_good):
            raise CalibrationUnusable(
                f"{what} ({named}), and no good validation image tells whether it is too low or "
                "they show defects. Give images of good parts to judge by with --judge-on."
            )
        raise CalibrationUnusable(
            f"{len(doubtful)} of {counted(len(images), 'calibration image')} "
            f"{agreeing(len(doubtful), 'looks', 'look')} defective: {named}; "
            f"of the good validation images {rejected} of {len(judged_good)} do. Give images of "
            "good parts with --calibrate-on."
        )
    if doubtful:
        log.warning(
            "left out %s that the model rejects: %s",
            counted(len(doubtful), "calibration image"),
            ", ".join(doubtful[:_MAX_NAMED]),
        )
    require_enough(len(good))
    if len(good) < _ADVISED:
        log.warning("quantization rests on %s only", counted(len(good), "calibration image"))
    return good


def require_enough(count: int) -> None:
    """Refuse a number of good images that tells nothing about ranges.

    Raises:
        CalibrationUnusable: too few.
    """
    if count < MIN_IMAGES:
        raise CalibrationUnusable(
            f"{counted(count, 'good calibration image')}, at least {MIN_IMAGES} are needed and "
            f"{_ADVISED} "
            "or more are usual. Give a folder of good images with --calibrate-on."
        )


def with_patches(images: Images, spec: InputSpec) -> Images:
    """Return the images, some with a patch of black, white or, in colour, a pure colour.

    Ranges taken from good images alone cut off what a defect does to the values, the very thing
    that is to be seen: a red spot on a grey part is no red any more. Patches of every extreme
    keep the ranges open for any contrast, while most of the images stay what they are.
    """
    random = np.random.default_rng(0)
    patched = images.copy()
    rows, columns = images.shape[1:3]
    height, width = max(rows // _PATCH, 1), max(columns // _PATCH, 1)
    colours = _EXTREMES if any(f.is_colour for f in spec.pixel_formats) else _EXTREMES[:2]
    for number, image in enumerate(patched[:: max(len(images) // _PATCHED, 1)]):
        row = int(random.integers(0, rows - height + 1))
        column = int(random.integers(0, columns - width + 1))
        image[row : row + height, column : column + width] = colours[number % len(colours)]
    return patched


@dataclass(frozen=True, slots=True, eq=False)
class ToQuantize:
    """Images that INT8 may take its ranges from.

    Attributes:
        images: ``(N, H, W, 3) uint8``; of tiled ones one tile each.
        names: of each, for messages.
        hashes: what they are known by.
    """

    images: Images
    names: list[str]
    hashes: frozenset[bytes]


def read_calibration_folder(
    folder: Path, spec: InputSpec, known: SeenImages | None = None
) -> ToQuantize:
    """Read a folder of good images through the shared preparation; of many, 128 spread evenly.

    Sub-folders are read, too; what is not used is said. Those that the threshold rests on judge
    INT8 and are left out, unless they were fitted on, too.

    Args:
        known: what the model has seen; None where nobody knows.

    Raises:
        CalibrationUnusable: no images there, or one cannot be read or does not suit the model.
    """
    paths = images_below(folder)
    report_unused_in(folder, paths)
    if not paths:
        raise CalibrationUnusable(
            f"{folder}: no images. Give a folder of good images with --calibrate-on."
        )
    samples = [Sample(path=path, kind=GOOD) for path in paths]
    if known is not None:
        judging = SeenImages(calibrated=known.calibrated - known.fitted)
        sifted = sift(samples, judging, (Role.CALIBRATED,))
        reasons = phrase(sifted.left_out)
        if not sifted.unseen:
            raise CalibrationUnusable(
                f"{folder}: no images are left to quantize with: {reasons} and judge INT8. Give "
                "other good images with --calibrate-on."
            )
        if reasons:
            log.info("%s: left out %s, because these judge INT8", folder, reasons)
        samples = list(sifted.unseen)
    if len(samples) > _MAX_IMAGES:
        samples = [samples[index * len(samples) // _MAX_IMAGES] for index in range(_MAX_IMAGES)]
    prepared = []
    for number, sample in enumerate(samples):
        try:
            pieces = prepare_sample(sample, read_sample(sample), spec)
        except DataError as error:
            raise CalibrationUnusable(str(error)) from error
        prepared.append(pieces[number % len(pieces)])
    return ToQuantize(np.stack(prepared), [sample.path.name for sample in samples], seen(samples))
