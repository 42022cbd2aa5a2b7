"""Picture files: one reader for the runtime, training and export: all see the same pixels."""

import os
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from edge.errors import OutputNotWritable, PictureUnreadable
from edge.frame import Pixels, pixel_format

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
    try:
        whole = _has_its_end(encoded.tobytes())
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if whole else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise PictureUnreadable(
            f"{path}: not a complete picture ({encoded.size} bytes). Copy it again or remove it."
        )
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixel_format(pixels) is None:
        raise PictureUnreadable(
            f"{path}: {pixels.dtype} samples in {pixels.ndim} dimensions are not supported. "
            "Save it as 8- or 16-bit PNG."
        )
    return pixels


def _has_its_end(encoded: bytes) -> bool:
    """Tell a whole JPEG or PNG from a cut one, which decoders fill with grey and call a success."""
    if encoded.startswith(b"\xff\xd8"):
        # End of image after the last start of scan: an embedded thumbnail has an end of its own.
        return encoded.rfind(b"\xff\xd9") > encoded.rfind(b"\xff\xda")
    if encoded.startswith(b"\x89PNG"):
        return b"IEND" in encoded[-4096:]
    return len(encoded) > 0


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
