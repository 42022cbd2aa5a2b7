"""Images from disk to prepared batches, with the runtime's own reader and preparation."""

import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from edge.bundle.input_spec import Areas, Crop, InputSpec, Levels, Locator, TileSpec
from edge.errors import FrameUnsuitable, ImageUnreadable
from edge.imaging.frame import PixelFormat, Pixels, pixel_format
from edge.imaging.image_files import read_image
from edge.imaging.pose import PartPose
from edge.inspection.alignment import aligned_mask, reference_box
from edge.inspection.frame_prediction import view_frame
from edge.inspection.plausibility import ImageStatistics, image_fault, image_statistics
from edge.inspection.preprocessing import accepts
from training.data.cifar10 import read_record
from training.data.kept_images import KeptImages
from training.data.masks import mask_area, reduced
from training.data.samples import Sample
from training.data.shanghaitech import read_array_mask
from training.data.synthetic_defects import paste_defect
from training.errors import DataError
from training.transforms import transform_image

# Of 14-bit images with the levels of 16 bits a quarter is filled; a dark scene may fill so much.
_MIN_LEVEL_SHARE = 0.2
_READERS = 2  # images decoded at one time
_AHEAD = 8  # images decoded ahead of the network; bounds memory at any batch size

log = logging.getLogger(__name__)


def first_sight(
    image: tuple[int, int],
    levels: Levels | None = None,
    crop: Crop | None = None,
    tile_plan: TileSpec | None = None,
    *,
    locator: Locator | None = None,
    areas: Areas | None = None,
) -> InputSpec:
    """Return a spec that takes every format its levels allow, for images seen the first time."""
    formats = tuple(known for known in PixelFormat if levels is not None or not known.is_16_bit)
    height, width = image
    return InputSpec(
        height=height,
        width=width,
        pixel_formats=formats,
        levels=levels,
        crop=crop,
        tile_plan=tile_plan,
        locator=locator,
        areas=areas,
    )


def read_sample(sample: Sample) -> Pixels:
    """Read the image of a sample, with its synthetic defect and through its view.

    Raises:
        DataError: names the file and what to do.
    """
    pixels = _read_plain(sample)
    if sample.view is None:
        return pixels
    return transform_image(pixels, sample.view, sample.identity)[0]


def _read_plain(sample: Sample) -> Pixels:
    """Read the image without its view: torch's one generator allows no views in threads."""
    if sample.index is not None:
        pixels: Pixels = read_record(sample.path, sample.index)
    else:
        try:
            pixels = read_image(sample.path)
        except ImageUnreadable as error:
            raise DataError(str(error)) from error
    return pixels if sample.flaw is None else paste_defect(pixels, sample.flaw)[0]


def prepare_sample(sample: Sample, pixels: Pixels, spec: InputSpec) -> NDArray[np.uint8]:
    """Prepare an image to learn from; it must be one that the line would inspect.

    Returns:
        ``(T, H, W, 3) uint8`` BGR: the whole image, or its T tiles.

    Raises:
        DataError: names the file and what to do.
    """
    demand_format(sample, pixels, spec)
    try:
        view = view_frame(pixels, spec)
    except FrameUnsuitable as error:
        raise DataError(f"{sample.label}: {error}") from error
    prepared = np.empty((len(view.pieces.boxes), spec.height, spec.width, 3), np.uint8)
    for index, out in enumerate(prepared):
        view.fill(index, out)
    demand_content(sample, image_statistics(prepared))
    return prepared


def demand_format(sample: Sample, pixels: Pixels, spec: InputSpec) -> None:
    """Demand an image of a format that the model takes.

    Raises:
        DataError: names the file and what to do.
    """
    if spec.levels is None and pixels.dtype == np.uint16:
        raise DataError(f"{sample.label}: a 16-bit image. Pass --levels BLACK WHITE.")
    found = pixel_format(pixels)
    if found is not None and not accepts(spec.pixel_formats, found):
        raise DataError(
            f"{sample.label}: a {found} image, but the model was fitted on "
            f"{' and '.join(spec.pixel_formats)}. Convert or remove it, or fit again with images "
            "of this format among the others."
        )


def demand_content(sample: Sample, statistics: ImageStatistics) -> None:
    """Demand an image that shows something.

    Args:
        statistics: of what the network sees of it.

    Raises:
        DataError: names the file and what to do.
    """
    fault = image_fault(statistics)
    if fault is not None:
        raise DataError(f"{sample.label}: {fault[1]} Remove the image from the data set.")


def check_samples(samples: Sequence[Sample], spec: InputSpec) -> set[PixelFormat]:
    """Read and prepare images and masks once, to find a bad one before the long fit.

    Returns:
        The pixel formats that were met.

    Raises:
        DataError: names the file and what to do.
    """
    formats = set()
    brightest = 0
    try:
        for sample in tqdm(samples, desc="check", unit="image", disable=not samples):
            pixels = read_sample(sample)
            if pixels.dtype == np.uint16:
                brightest = max(brightest, int(pixels.max()))
            found = pixel_format(pixels)
            if found is not None:
                formats.add(found)
            prepare_sample(sample, pixels, spec)
            read_mask(sample, spec, pixels.shape[:2], (spec.height, spec.width))
    finally:  # levels may be why an image shows nothing
        if brightest and spec.levels is not None:
            _warn_of_levels(brightest, spec.levels)
    return formats


def _warn_of_levels(brightest: int, levels: Levels) -> None:
    """Say where 16-bit images fill so little of their levels that few grey levels are left."""
    used = (brightest - levels.black) / (levels.white - levels.black)
    if used < _MIN_LEVEL_SHARE:
        bits = max(brightest.bit_length(), 8)
        log.warning(
            "the brightest pixel is %d, of levels from %d to %d: at most %d of 256 grey levels are "
            "left. For a camera of %d bits give --levels %d %d",
            *(brightest, levels.black, levels.white, max(0, math.ceil(256 * used)), bits),
            *(levels.black if levels.black < brightest else 0, 2**bits - 1),
        )


def check_readable(samples: Sequence[Sample]) -> dict[Sample, str]:
    """Read images and masks once, and return what is wrong with those that cannot be used."""

    def fault(sample: Sample) -> str | None:
        try:
            read_frame_mask(sample, _read_plain(sample).shape[:2])
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(_READERS) as pool:
        read = pool.map(fault, samples)
        bar = tqdm(read, total=len(samples), desc="read", unit="image", disable=not samples)
        faults = zip(samples, bar, strict=True)
        return {sample: found for sample, found in faults if found is not None}


def prepared_batches(
    samples: Sequence[Sample],
    spec: InputSpec,
    batch_size: int,
    formats: set[PixelFormat],
    *,
    kept: KeptImages | None = None,
) -> Iterator[Tensor]:
    """Yield ``(N, H, W, 3) uint8`` BGR batches of images or tiles, in the order of the samples.

    Args:
        batch_size: N, at most.
        formats: pixel formats met on the way are added to it.
        kept: images without a view are taken from here, and kept.
    """

    def load(sample: Sample) -> tuple[Sample, PixelFormat | None, NDArray[Any]]:
        known = kept.get(sample, spec) if kept is not None else None
        if known is not None:
            return sample, *known
        pixels = _read_plain(sample)
        found = pixel_format(pixels)
        return sample, found, pixels if sample.view else prepare_sample(sample, pixels, spec)

    def viewed(
        sample: Sample, found: PixelFormat | None, loaded: NDArray[Any]
    ) -> NDArray[np.uint8]:
        if found is not None:
            formats.add(found)
        if sample.view is None:
            if kept is not None:
                kept.keep(sample, spec, found, loaded)
            return loaded
        pixels, _ = transform_image(loaded, sample.view, sample.identity)
        return prepare_sample(sample, pixels, spec)

    batch: list[NDArray[np.uint8]] = []
    with ThreadPoolExecutor(_READERS) as pool:
        waiting: deque[Future[tuple[Sample, PixelFormat | None, NDArray[Any]]]] = deque()
        upcoming = iter(samples)
        try:
            while True:
                while len(waiting) < _AHEAD and (sample := next(upcoming, None)) is not None:
                    waiting.append(pool.submit(load, sample))
                if not waiting:
                    break
                batch.extend(viewed(*waiting.popleft().result()))
                while len(batch) >= batch_size:
                    yield torch.from_numpy(np.stack(batch[:batch_size]))
                    batch = batch[batch_size:]
        finally:
            for future in waiting:
                future.cancel()
    if batch:
        yield torch.from_numpy(np.stack(batch))


def read_mask(
    sample: Sample,
    spec: InputSpec,
    frame: tuple[int, ...],
    size: tuple[int, int],
    *,
    pose: PartPose | None = None,
) -> NDArray[np.bool_] | None:
    """Read where a sample is defective, cropped and turned as the image is.

    Args:
        frame: height and width of the sample's image.
        size: height and width at which pixels are compared.
        pose: of the part, where the model looks for it; None only asks whether there is a mask.

    Returns:
        ``size`` bool, all False for a good image; None of a defective one whose mask is missing
        or empty.

    Raises:
        DataError: the mask cannot be read or has another size than its image.
    """
    mask = read_frame_mask(sample, frame)
    if mask is None:
        return None if sample.is_defective else np.zeros(size, np.bool_)
    if spec.locator is not None:
        if pose is not None:
            mask = aligned_mask(mask, pose, reference_box(spec.locator, spec.crop))
    elif spec.crop is not None:
        crop = spec.crop
        mask = mask[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
    return reduced(mask, size)


def read_frame_mask(sample: Sample, frame: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Read a sample's mask as large as its image; None where it has none, or an empty one.

    Raises:
        DataError: the mask cannot be read or has another size than its image.
    """
    if sample.flaw is not None:
        return paste_defect(_read_plain(replace(sample, flaw=None)), sample.flaw)[1] > 0
    if sample.mask is None:
        return None
    if sample.mask.suffix.lower() == ".npy":
        mask: NDArray[Any] = read_array_mask(sample.mask, sample.mask_index)
    else:
        try:
            mask = read_image(sample.mask)
        except ImageUnreadable as error:
            raise DataError(str(error)) from error
    if mask.shape[:2] != tuple(frame):
        raise DataError(
            f"{sample.mask}: {mask.shape[1]}×{mask.shape[0]} pixels, but its image "
            f"{sample.label} has {frame[1]}×{frame[0]}. Save the mask at the image's size."
        )
    area = mask_area(mask)
    return area if area.any() else None
