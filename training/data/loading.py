"""Pictures from disk to prepared batches, with the runtime's own reader and preparation."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from edge.errors import FrameUnsuitable, PictureUnreadable
from edge.frame import PixelFormat, Pixels, pixel_format
from edge.inspection.frame_prediction import frame_pieces
from edge.inspection.plausibility import picture_fault, picture_statistics
from edge.manifest import Crop, InputSpec, Levels, TileSpec
from edge.pictures import read_picture
from edge.preparation import to_samples
from edge.resizing import resize_area
from training.data.cifar10 import read_record
from training.data.samples import Sample
from training.data.shanghaitech import read_array_mask
from training.data.synthetic_defects import paste_defect
from training.errors import DataError
from training.transforms import transform_picture

_AHEAD = 8  # pictures decoded ahead of the network; bounds memory at any batch size


def first_sight(
    picture: tuple[int, int],
    levels: Levels | None = None,
    crop: Crop | None = None,
    tile_plan: TileSpec | None = None,
) -> InputSpec:
    """Return a spec that takes every format its levels allow, for pictures seen the first time."""
    formats = tuple(known for known in PixelFormat if levels is not None or not known.is_16_bit)
    height, width = picture
    return InputSpec(
        height=height,
        width=width,
        pixel_formats=formats,
        levels=levels,
        crop=crop,
        tile_plan=tile_plan,
    )


def read_sample(sample: Sample) -> Pixels:
    """Read the picture of a sample, with its synthetic defect and through its view.

    Raises:
        DataError: names the file and what to do.
    """
    pixels = _read_plain(sample)
    if sample.view is None:
        return pixels
    return transform_picture(pixels, sample.view, sample.identity)[0]


def _read_plain(sample: Sample) -> Pixels:
    """Read the picture without its view: torch's one generator allows no views in threads."""
    if sample.index is not None:
        pixels: Pixels = read_record(sample.path, sample.index)
    else:
        try:
            pixels = read_picture(sample.path)
        except PictureUnreadable as error:
            raise DataError(str(error)) from error
    return pixels if sample.flaw is None else paste_defect(pixels, sample.flaw)[0]


def prepare_sample(sample: Sample, pixels: Pixels, spec: InputSpec) -> NDArray[np.uint8]:
    """Prepare a picture to learn from; it must be one that the line would inspect.

    Returns:
        ``(T, H, W, 3) uint8`` BGR: the whole picture, or its T tiles.

    Raises:
        DataError: names the file and what to do.
    """
    if spec.levels is None and pixels.dtype == np.uint16:
        raise DataError(f"{sample.label}: a 16-bit picture. Pass --levels BLACK WHITE.")
    try:
        samples = to_samples(pixels, spec)
        boxes = frame_pieces(pixels, spec).boxes
    except FrameUnsuitable as error:
        raise DataError(f"{sample.label}: {error}") from error
    prepared = np.empty((len(boxes), spec.height, spec.width, 3), np.uint8)
    for box, out in zip(boxes, prepared, strict=True):
        resize_area(samples, box, out)
    fault = picture_fault(picture_statistics(prepared))
    if fault is not None:
        raise DataError(f"{sample.label}: {fault[1]} Remove the picture from the data set.")
    return prepared


def check_samples(samples: Sequence[Sample], spec: InputSpec) -> None:
    """Read and prepare pictures and masks once, to find a bad one before the long fit.

    Raises:
        DataError: names the file and what to do.
    """
    for sample in tqdm(samples, desc="check", unit="pic", disable=not samples):
        pixels = read_sample(sample)
        prepare_sample(sample, pixels, spec)
        read_mask(sample, spec, pixels.shape[:2], (spec.height, spec.width))


def check_readable(samples: Sequence[Sample]) -> dict[Sample, str]:
    """Read pictures and masks once, and return what is wrong with those that cannot be used."""
    faults = {}
    for sample in tqdm(samples, desc="read", unit="pic", disable=not samples):
        try:
            read_frame_mask(sample, _read_plain(sample).shape[:2])
        except DataError as error:
            faults[sample] = str(error)
    return faults


def prepared_batches(
    samples: Sequence[Sample], spec: InputSpec, batch_size: int, formats: set[PixelFormat]
) -> Iterator[Tensor]:
    """Yield ``(N, H, W, 3) uint8`` BGR batches of pictures or tiles, in the order of the samples.

    Args:
        batch_size: N, at most.
        formats: pixel formats met on the way are added to it.
    """

    def load(sample: Sample) -> tuple[Sample, NDArray[Any]]:
        pixels = _read_plain(sample)
        found = pixel_format(pixels)
        if found is not None:
            formats.add(found)
        return sample, pixels if sample.view else prepare_sample(sample, pixels, spec)

    def viewed(sample: Sample, loaded: NDArray[Any]) -> NDArray[np.uint8]:
        if sample.view is None:
            return loaded
        pixels, _ = transform_picture(loaded, sample.view, sample.identity)
        return prepare_sample(sample, pixels, spec)

    batch: list[NDArray[np.uint8]] = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        waiting: deque[Future[tuple[Sample, NDArray[Any]]]] = deque()
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
    sample: Sample, spec: InputSpec, frame: tuple[int, ...], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Read a sample's mask, cropped as the picture is.

    Args:
        frame: height and width of the sample's picture.
        size: height and width at which pixels are compared.

    Returns:
        ``size`` bool; all False for a good picture.

    Raises:
        DataError: the mask cannot be read or has another size than its picture.
    """
    mask = read_frame_mask(sample, frame)
    if mask is None:
        return np.zeros(size, np.bool_)
    if spec.crop is not None:
        crop = spec.crop
        mask = mask[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
    # The plain INTER_NEAREST takes each cell's corner and shifts the mask.
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0


def read_frame_mask(sample: Sample, frame: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Read a sample's mask as large as its picture, 0 or 1; None where it has none.

    Raises:
        DataError: the mask cannot be read or has another size than its picture.
    """
    if sample.flaw is not None:
        return (paste_defect(_read_plain(replace(sample, flaw=None)), sample.flaw)[1] > 0).astype(
            np.uint8
        )
    if sample.mask is None:
        return None
    if sample.mask.suffix.lower() == ".npy":
        mask: NDArray[Any] = read_array_mask(sample.mask, sample.mask_index)
    else:
        try:
            mask = read_picture(sample.mask)
        except PictureUnreadable as error:
            raise DataError(str(error)) from error
    if mask.shape[:2] != tuple(frame):
        raise DataError(
            f"{sample.mask}: {mask.shape[1]}×{mask.shape[0]} pixels, but its picture "
            f"{sample.label} has {frame[1]}×{frame[0]}. Save the mask at the picture's size."
        )
    if mask.ndim == 3:
        mask = mask[:, :, :3].max(2)
    return (mask > 0).astype(np.uint8)
