"""Pictures from disk to prepared batches, with the runtime's own reader and preparation."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.errors import FrameUnsuitable, PictureUnreadable
from edge.frame import PixelFormat, Pixels, pixel_format
from edge.manifest import InputSpec
from edge.pictures import read_picture
from edge.preparation import prepare
from training.data.samples import Sample
from training.errors import DataError

_AHEAD = 8  # pictures decoded ahead of the network; bounds memory at any batch size


def permissive(spec: InputSpec) -> InputSpec:
    """Return a spec that takes every format its levels allow, for pictures seen the first time."""
    formats = [known for known in PixelFormat if spec.levels is not None or not known.is_16_bit]
    return spec.model_copy(update={"pixel_formats": tuple(formats)})


def read_sample(sample: Sample) -> Pixels:
    """Read the picture of a sample.

    Raises:
        DataError: names the file and what to do.
    """
    try:
        return read_picture(sample.path)
    except PictureUnreadable as error:
        raise DataError(str(error)) from error


def prepare_sample(sample: Sample, pixels: Pixels, spec: InputSpec) -> NDArray[np.uint8]:
    """Prepare a picture; the error names its file."""
    try:
        return prepare(pixels, spec)
    except FrameUnsuitable as error:
        hint = ""
        if spec.levels is None and pixels.dtype == np.uint16:
            hint = " 16-bit pictures need --levels BLACK WHITE."
        raise DataError(f"{sample.path}: {error}{hint}") from error


def prepared_batches(
    samples: Sequence[Sample], spec: InputSpec, batch_size: int, formats: set[PixelFormat]
) -> Iterator[Tensor]:
    """Yield ``(N, H, W, 3) uint8`` BGR batches in the order of the samples.

    Args:
        formats: pixel formats met on the way are added to it.
    """

    def load(sample: Sample) -> NDArray[np.uint8]:
        pixels = read_sample(sample)
        found = pixel_format(pixels)
        if found is not None:
            formats.add(found)
        return prepare_sample(sample, pixels, spec)

    batch: list[NDArray[np.uint8]] = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        waiting: deque[Future[NDArray[np.uint8]]] = deque()
        upcoming = iter(samples)
        try:
            while True:
                while len(waiting) < _AHEAD and (sample := next(upcoming, None)) is not None:
                    waiting.append(pool.submit(load, sample))
                if not waiting:
                    break
                batch.append(waiting.popleft().result())
                if len(batch) == batch_size:
                    yield torch.from_numpy(np.stack(batch))
                    batch = []
        finally:
            for future in waiting:
                future.cancel()
    if batch:
        yield torch.from_numpy(np.stack(batch))


def read_mask(sample: Sample, spec: InputSpec) -> NDArray[np.bool_]:
    """Read a sample's mask at model resolution, cropped as the picture is.

    Returns:
        ``(H, W) bool``; all False for a good picture.

    Raises:
        DataError: the mask cannot be read or has another size than its picture.
    """
    if sample.mask is None:
        return np.zeros((spec.height, spec.width), np.bool_)
    try:
        mask = read_picture(sample.mask)
    except PictureUnreadable as error:
        raise DataError(str(error)) from error
    if mask.ndim == 3:
        mask = mask[:, :, :3].max(2)
    if spec.crop is not None:
        crop = spec.crop
        mask = mask[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
    binary = (mask > 0).astype(np.uint8)
    resized = cv2.resize(binary, (spec.width, spec.height), interpolation=cv2.INTER_NEAREST)
    return resized > 0
