"""Frames made small for people: in 8 bits, with the anomaly map as levels."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.contract.verdict import Verdict
from edge.hmi.contents import ImageLayout
from edge.imaging.frame import Pixels
from edge.inspection.normalization import ScoreScale, normalize

# Cells of the map along one side; more are joined, the highest of each group counts.
MAX_CELLS = 128
# An image of three channels fits into one message to the page, however long a line scan is.
MAX_PIXELS = 16 * 2**20


@dataclass(frozen=True, slots=True)
class PreviewImage:
    """An image and a map on their way to the page.

    Attributes:
        layout: sizes, and where map and regions lie in the frame.
        blobs: the image, ``(h, w, 3) uint8`` BGR or ``(h, w) uint8``, and the levels of the map,
            ``(h, w) uint8`` with the threshold at 128, empty without a map.
    """

    layout: ImageLayout
    blobs: tuple[bytes, bytes]


def make_preview(verdict: Verdict, width_px: int) -> PreviewImage | None:
    """Return the image of a verdict at most so wide; None for a part without one."""
    pixels, inspection = verdict.frame.pixels, verdict.inspection
    if pixels.ndim < 2 or pixels.size == 0:
        return None
    height, width = pixels.shape[:2]
    step = max(-(-width // width_px), math.ceil(math.sqrt(height * width / MAX_PIXELS)))
    small = _as_8_bit(pixels[::step, ::step])
    levels = np.zeros((0, 0), np.uint8)
    anomaly_map, scale = inspection.anomaly_map, inspection.map_scale
    if anomaly_map is not None and scale is not None:
        levels = _levels(anomaly_map, scale)
    place = inspection.placement
    layout = ImageLayout(
        width_px=width,
        height_px=height,
        shape=list(small.shape),
        map_shape=list(levels.shape),
        placement=None if place is None else (place.x, place.y, place.width, place.height),
        regions=[(one.x, one.y, one.width, one.height) for one in inspection.regions],
    )
    return PreviewImage(layout, (small.tobytes(), levels.tobytes()))


def _as_8_bit(pixels: Pixels) -> NDArray[np.uint8]:
    """Return 8 bits and one or three channels; 16 bits are stretched to what is there."""
    shown = pixels[:, :, :3] if pixels.ndim == 3 else pixels
    if shown.dtype != np.uint8:
        low, high = int(shown.min()), int(shown.max())
        scale = 255.0 / (high - low) if high > low else 0.0
        return np.asarray((shown - np.float32(low)) * scale, np.uint8)
    return np.ascontiguousarray(shown, np.uint8)


def _levels(anomaly_map: NDArray[np.float32], scale: ScoreScale) -> NDArray[np.uint8]:
    """Return the normalized map as levels; at the threshold 128, below it less."""
    step = -(-max(anomaly_map.shape) // MAX_CELLS)
    if step > 1:
        rows, columns = (-(-side // step) * step for side in anomaly_map.shape)
        padded = np.full((rows, columns), -np.inf, np.float32)
        padded[: anomaly_map.shape[0], : anomaly_map.shape[1]] = anomaly_map
        anomaly_map = padded.reshape(rows // step, step, columns // step, step).max(axis=(1, 3))
    # What is no number is shown as the worst.
    normalized = np.nan_to_num(normalize(anomaly_map, scale), nan=1.0)
    return np.minimum(normalized * 256.0, 255.0).astype(np.uint8)
