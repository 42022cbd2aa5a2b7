"""The one pre-processing: a frame in, the model's uint8 input out.

Training's data loader, the export gate and the runtime all call ``prepare`` or, piece by piece and
for parts that are to be found first, ``view_frame``, which rests on the same functions; nothing
else in the project resizes an image for a model. Everything after it (layout, float, mean, std) is
inside the exported graph.
"""

from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import Crop, InputSpec, Levels
from edge.errors import FrameUnsuitable
from edge.imaging.area_resize import resize_area
from edge.imaging.frame import Box, PixelFormat, Pixels, pixel_format

# A smaller frame is a broken frame: nothing a part could be seen in.
MIN_SIDE_PX = 16


def prepare(
    pixels: Pixels, spec: InputSpec, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Crop, map to 8 bits, resize once and give three channels.

    Args:
        pixels: ``(H, W)``, ``(H, W, 3)`` BGR or ``(H, W, 4)`` BGRA; uint8 or uint16. Not changed.
        spec: without a locator; ``view_frame`` is for parts that are to be found.
        out: where to write, for example the network's own input; a new array if None.

    Returns:
        ``(spec.height, spec.width, 3) uint8`` BGR, C-contiguous, never a view of ``pixels``.

    Raises:
        FrameUnsuitable: the format is none the model was trained on, the crop does not lie inside
            the frame, or what is left is too small.
    """
    if spec.locator is not None:
        raise ValueError("prepare inspects frames as they lie")
    samples = to_samples(pixels, spec)
    prepared = np.empty((spec.height, spec.width, 3), np.uint8) if out is None else out
    resize_area(samples, inspected_box(pixels.shape, spec.crop), prepared)
    return prepared


def to_samples(pixels: Pixels, spec: InputSpec) -> NDArray[np.uint8]:
    """Bring a frame to 8 bits and to the model's channels; at best nothing is copied.

    Returns:
        ``(H, W)`` for a model of grey images, else ``(H, W)`` or ``(H, W, 3)``; C-contiguous.

    Raises:
        FrameUnsuitable: the format is none the model was trained on, or there is nothing to
            inspect.
    """
    _check_format(pixels, spec)  # what has no rows and columns has no box either
    # OpenCV converts no empty image.
    inspected_box(pixels.shape, None if spec.locator is not None else spec.crop)
    return converted(pixels, spec)


def converted(pixels: Pixels, spec: InputSpec) -> NDArray[np.uint8]:
    """Do the same for a part of a frame that is not empty, wherever the crop lies.

    Raises:
        FrameUnsuitable: the format is none the model was trained on.
    """
    _check_format(pixels, spec)
    samples = pixels
    if samples.ndim == 3 and samples.shape[2] == 4:
        samples = cv2.cvtColor(samples, cv2.COLOR_BGRA2BGR)
    if samples.dtype == np.uint16:
        assert spec.levels is not None  # the manifest guarantees it for 16-bit formats
        samples = to_8_bit(samples, spec.levels)
    if samples.ndim == 3 and not any(accepted.is_colour for accepted in spec.pixel_formats):
        samples = cv2.cvtColor(samples, cv2.COLOR_BGR2GRAY)
    return np.ascontiguousarray(samples, np.uint8)


def to_8_bit(pixels: Pixels, levels: Levels) -> NDArray[np.uint8]:
    """Map ``levels.black`` to 0 and ``levels.white`` to 255, linearly, clipped and rounded."""
    scale = 255.0 / (levels.white - levels.black)
    return cv2.convertScaleAbs(
        np.maximum(pixels, np.uint16(levels.black)), alpha=scale, beta=-levels.black * scale
    ).reshape(pixels.shape)


def accepts(accepted: Collection[PixelFormat], found: PixelFormat) -> bool:
    """Tell whether a model of some formats takes a frame of another one."""
    # Colour to grey is a fixed formula; the way back would be a guess.
    colour_as_grey = found is PixelFormat.BGR8 and PixelFormat.GREY8 in accepted
    # Transparency is dropped: what a model of such images saw are the colours alone.
    without_alpha = {PixelFormat.BGR8: PixelFormat.BGRA8, PixelFormat.BGR16: PixelFormat.BGRA16}
    return found in accepted or colour_as_grey or without_alpha.get(found) in accepted


def _check_format(pixels: Pixels, spec: InputSpec) -> None:
    found = pixel_format(pixels)
    accepted = spec.pixel_formats
    if found is None or not accepts(accepted, found):
        raise FrameUnsuitable(
            f"the frame is {found or f'{pixels.dtype} of shape {pixels.shape}'}, the model was "
            f"trained on {' and '.join(accepted)}. Set the camera to that format, "
            "or train with images of this one."
        )


def inspected_box(frame: tuple[int, ...], crop: Crop | None) -> Box:
    """Return the part of a frame of a shape that is inspected: the crop, or all of it.

    Raises:
        FrameUnsuitable: the crop does not lie inside the frame, or what is left is too small.
    """
    rows, columns = frame[:2]
    box = Box(crop.x, crop.y, crop.width, crop.height) if crop else Box(0, 0, columns, rows)
    if box.x + box.width > columns or box.y + box.height > rows:
        raise FrameUnsuitable(
            f"the crop {box.width}×{box.height}+{box.x}+{box.y} does not fit the "
            f"{columns}×{rows} frame. Change the crop or the camera's resolution."
        )
    if min(box.width, box.height) < MIN_SIDE_PX:
        raise FrameUnsuitable(
            f"{box.width}×{box.height} pixels are left to inspect, at least {MIN_SIDE_PX} on "
            "each side are needed. Check the crop and the camera's region of interest."
        )
    return box
