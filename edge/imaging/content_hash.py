"""What tells an image from another, whatever its file is called and however it is packed."""

import hashlib

import numpy as np

from edge.imaging.frame import Pixels


def pixels_hash(pixels: Pixels) -> bytes:
    """Return the SHA-256 of pixels; opaque alpha does not count, nor colours that are all grey."""
    if (
        pixels.ndim == 3
        and pixels.shape[2] == 4
        and pixels[:, :, 3].min() == _highest_value(pixels)
    ):
        pixels = pixels[:, :, :3]
    if pixels.ndim == 3 and pixels.shape[2] == 3 and _is_grey(pixels):
        pixels = pixels[:, :, 0]
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _highest_value(pixels: Pixels) -> int:
    return int(np.iinfo(pixels.dtype).max)


def _is_grey(pixels: Pixels) -> bool:
    return all(np.array_equal(pixels[:, :, 0], pixels[:, :, plane]) for plane in (1, 2))
