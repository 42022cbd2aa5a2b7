"""Picture files: one reader for the runtime, training and export: all see the same pixels."""

import os
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import OutputNotWritable, PictureUnreadable
from edge.frame import Pixels, pixel_format
from edge.image_file_integrity import image_file_fault
from edge.jpeg_integrity import jpeg_fault

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# What says itself where it ends.
_MARK_THEIR_END = frozenset({".png", ".jpg", ".jpeg"})


def is_picture(path: Path) -> bool:
    """Tell by its name whether a file is a picture; hidden files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_picture(path: Path) -> Pixels:
    """Read a picture with the depth and channels it was stored with.

    Returns:
        ``(H, W)``, ``(H, W, 3)`` BGR or ``(H, W, 4)`` BGRA; uint8 or uint16.

    Raises:
        PictureUnreadable: missing, truncated, not a picture, or samples of another type.
    """
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise PictureUnreadable(
            f"{path}: cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    fault = _fault(encoded)
    pixels = None if fault else _decoded(encoded, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        what = f"{encoded.size} bytes{f'; {fault}' if fault else ''}"
        raise PictureUnreadable(
            f"{path}: not a complete picture ({what}). Copy it again or remove it."
        )
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixel_format(pixels) is None:
        raise PictureUnreadable(
            f"{path}: {pixels.dtype} samples in {pixels.ndim} dimensions are not supported. "
            "Save it as 8- or 16-bit PNG."
        )
    return pixels


def decode_jpeg(encoded: NDArray[np.uint8]) -> tuple[Pixels, str]:
    """Decode a JPEG of a camera, or say what is wrong with it.

    Args:
        encoded: ``(N,) uint8``, as it came.

    Returns:
        ``(H, W, 3) uint8`` BGR and nothing, or an empty array and the fault.
    """
    fault = jpeg_fault(encoded)
    colours = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = None if fault else _decoded(encoded, colours)
    if pixels is None:
        return np.empty((0, 0), np.uint8), f"the JPEG is damaged: {fault or 'it is not decoded'}"
    return pixels, ""


def _decoded(encoded: NDArray[np.uint8], how: int) -> Pixels | None:
    try:
        return cv2.imdecode(encoded, how)
    except cv2.error:
        return None


def _fault(encoded: NDArray[np.uint8]) -> str:
    """Return what is missing or damaged where a decoder would fill it; empty for nothing."""
    if encoded[:2].tobytes() == b"\xff\xd8":
        return jpeg_fault(encoded)
    return image_file_fault(encoded) if encoded.size else "empty"


def may_be_filled_yet(path: Path) -> bool:
    """Tell a picture that is still being written although it can be read.

    Copying over a network often makes the file in its full size first. What has not come yet is a
    hole in the file, and reads as zeros, which a BMP shows as black.
    """
    if path.suffix.lower() in _MARK_THEIR_END:
        return False
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            # Where a file system knows nothing of holes, the only one is behind the end.
            return size > 0 and os.lseek(file.fileno(), 0, os.SEEK_HOLE) < size
    except OSError:
        return True


def write_picture(path: Path, pixels: Pixels) -> None:
    """Write a picture whole or not at all: to a temporary file, then renamed.

    Raises:
        OutputNotWritable: the folder or the disk refused it, or the suffix names no encoder.
    """
    try:
        done, encoded = cv2.imencode(path.suffix, pixels)
    except cv2.error:
        done = False
    if not done:
        raise OutputNotWritable(
            f"{path}: a {pixels.dtype} picture of shape {pixels.shape} cannot be encoded as "
            f"{path.suffix or 'a file without suffix'}. Use .png or .jpg."
        )
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(encoded.tobytes())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputNotWritable(
            f"{path}: cannot be written ({error.strerror}). Check space and permissions."
        ) from error
