"""The one pre-processing: a frame in, the model's uint8 input out.

Training's data loader, the export gate and the runtime all call ``prepare``; nothing else in the
project resizes a picture for a model. Everything after it (layout, float, mean, std) is inside the
exported graph.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import FrameUnsuitable
from edge.frame import PixelFormat, Pixels, pixel_format
from edge.manifest import Crop, InputSpec, Levels

# A smaller frame is a broken frame: nothing a part could be seen in.
SMALLEST_SIDE_PX = 16


def prepare(pixels: Pixels, spec: InputSpec) -> NDArray[np.uint8]:
    """Crop, map to 8 bits, resize once and give three channels.

    Args:
        pixels: ``(H, W)``, ``(H, W, 3)`` BGR or ``(H, W, 4)`` BGRA; uint8 or uint16. Not changed.
        spec: from the manifest; the crop may come from the station.

    Returns:
        ``(spec.height, spec.width, 3) uint8`` BGR, C-contiguous, never a view of ``pixels``.

    Raises:
        FrameUnsuitable: the format is none the model was trained on, the crop does not lie inside
            the frame, or what is left is too small.
    """
    _check_format(pixels, spec)
    region = _cropped(pixels, spec.crop)
    _check_size(region)
    if region.ndim == 3 and region.shape[2] == 4:
        region = cv2.cvtColor(region, cv2.COLOR_BGRA2BGR)
    if region.dtype == np.uint16:
        assert spec.levels is not None  # the manifest guarantees it for 16-bit formats
        region = to_8_bit(region, spec.levels)
    resized = resize_area(region, spec.height, spec.width)
    if resized.ndim == 2:
        return cv2.cvtColor(resized, cv2.COLOR_GRAY2BGR)
    if not any(accepted.is_colour for accepted in spec.pixel_formats):
        return cv2.cvtColor(cv2.cvtColor(resized, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if np.may_share_memory(resized, pixels):  # nothing to do: hand out a copy, not the frame
        return resized.copy()
    return resized


def to_8_bit(pixels: Pixels, levels: Levels) -> NDArray[np.uint8]:
    """Map ``levels.black`` to 0 and ``levels.white`` to 255, linearly, clipped and rounded."""
    scale = 255.0 / (levels.white - levels.black)
    return cv2.convertScaleAbs(
        np.maximum(pixels, np.uint16(levels.black)), alpha=scale, beta=-levels.black * scale
    ).reshape(pixels.shape)


def resize_area(pixels: Pixels, height: int, width: int) -> NDArray[np.uint8]:
    """Resize by area-averaging along the sides that shrink, then bilinearly along those that grow.

    Averaging keeps texture that is finer than the model's input from aliasing into it, which would
    raise every anomaly score.

    Returns:
        ``(height, width)`` or ``(height, width, 3)``; ``pixels`` itself when nothing is to be done.
    """
    rows, columns = pixels.shape[:2]
    shrunk = (min(width, columns), min(height, rows))
    resized = np.asarray(pixels, np.uint8)
    if shrunk != (columns, rows):
        resized = cv2.resize(resized, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (width, height):
        resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized


def _check_format(pixels: Pixels, spec: InputSpec) -> None:
    found = pixel_format(pixels)
    accepted = spec.pixel_formats
    # Colour to grey is a fixed formula; the way back would be a guess.
    colour_as_grey = found is PixelFormat.BGR8 and PixelFormat.GREY8 in accepted
    if found not in accepted and not colour_as_grey:
        raise FrameUnsuitable(
            f"the frame is {found or f'{pixels.dtype} of shape {pixels.shape}'}, the model was "
            f"trained on {' and '.join(accepted)}. Set the camera to that format, "
            "or train with pictures of this one."
        )


def _check_size(region: Pixels) -> None:
    rows, columns = region.shape[:2]
    if min(rows, columns) < SMALLEST_SIDE_PX:
        raise FrameUnsuitable(
            f"{columns}×{rows} pixels are left to inspect, at least {SMALLEST_SIDE_PX} on each "
            "side are needed. Check the crop and the camera's region of interest."
        )


def _cropped(pixels: Pixels, crop: Crop | None) -> Pixels:
    if crop is None:
        return pixels
    rows, columns = pixels.shape[:2]
    if crop.x + crop.width > columns or crop.y + crop.height > rows:
        raise FrameUnsuitable(
            f"the crop {crop.width}×{crop.height}+{crop.x}+{crop.y} does not fit the "
            f"{columns}×{rows} frame. Change the crop or the camera's resolution."
        )
    return pixels[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
