"""Image files: one reader for the runtime, training and export: all see the same pixels."""

import os
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.atomic_files import open_regular, write_all
from edge.errors import ImageUnreadable, OutputNotWritable
from edge.imaging.frame import Pixels, pixel_format
from edge.imaging.image_file_integrity import image_file_fault
from edge.imaging.image_header import MAX_PIXELS, ImageHeader, image_header
from edge.imaging.jpeg_integrity import jpeg_fault
from edge.imaging.orientation import is_tiff, orientation, turned

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

MAX_PIXEL_BYTES = 8  # 16 bits of BGRA
# What a file may hold beside its pixels: profiles, thumbnails, further pages.
SURPLUS_BYTES = 32 * 2**20
HEADERLESS_BYTES = 2**20

# What is often renamed instead of converted.
_OTHER_TYPES = (
    (b"GIF8", "GIF"),
    (b"%PDF", "PDF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"PK\x03\x04", "ZIP"),
    (b"<svg", "SVG"),
    (b"<!DOCTYPE html", "HTML"),
)

# What says itself where it ends.
_MARK_THEIR_END = frozenset({".png", ".jpg", ".jpeg"})


def is_image(path: Path) -> bool:
    """Tell by its name whether a file is an image; hidden files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Read an image with the depth and channels it was stored with, turned as viewers turn it.

    Transparency that is opaque everywhere says nothing and is left out.

    Args:
        max_pixels: an image that says it has more, or whose file is larger than so many can be,
            is not decoded.

    Returns:
        ``(H, W)``, ``(H, W, 3)`` BGR or ``(H, W, 4)`` BGRA; uint8 or uint16.

    Raises:
        ImageUnreadable: missing, truncated, not an image, too large, or samples of another type.
    """
    try:
        return _read(path, max_pixels)
    except MemoryError:
        raise ImageUnreadable(
            f"{path}: more memory is needed to decode it than there is. Save it smaller, or give "
            "this program more memory."
        ) from None


def _read(path: Path, max_pixels: int) -> Pixels:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            header = image_header(file)
            if header is not None:
                _demand_bounds(path, header, size, max_pixels)
            file.seek(0)
            how_turned = orientation(file)
            file.seek(0)
            # Of what is no image the first bytes are enough to tell so.
            encoded = np.fromfile(file, np.uint8, size if header else min(size, HEADERLESS_BYTES))
    except OSError as error:
        raise ImageUnreadable(
            f"{path}: cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    fault = _fault(encoded)
    pixels = None if fault or header is None else _decoded(encoded, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        other = _other_type(encoded)
        if other:
            raise ImageUnreadable(
                f"{path}: a {other} file, whatever its name says; this format is not "
                "supported. Save it as PNG or JPEG."
            )
        what = f"{size} bytes{f'; {fault}' if fault else ''}"
        raise ImageUnreadable(f"{path}: not a complete image ({what}). Copy it again or remove it.")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3 and pixels.shape[2] == 4 and _is_opaque(pixels):
        pixels = np.ascontiguousarray(pixels[:, :, :3])
    if not is_tiff(encoded[:4].tobytes()):  # which OpenCV has turned
        pixels = turned(pixels, how_turned)
    if pixel_format(pixels) is None:
        raise ImageUnreadable(
            f"{path}: {pixels.dtype} samples in {pixels.ndim} dimensions are not supported. "
            "Save it as 8- or 16-bit PNG."
        )
    return pixels


def _demand_bounds(path: Path, header: ImageHeader, size: int, max_pixels: int) -> None:
    """Refuse what would take far more memory or time than an image of a camera."""
    shape = f"{header.width_px}×{header.height_px} pixels of {header.pixel_bytes} bytes"
    if (
        header.pixels > max_pixels
        or header.pixels * header.pixel_bytes > max_pixels * MAX_PIXEL_BYTES
    ):
        raise ImageUnreadable(
            f"{path}: {shape} according to its header; at most {max_pixels} pixels of "
            f"{MAX_PIXEL_BYTES} bytes are read. Save it smaller; a station that takes "
            "larger ones has camera.max_pixels."
        )
    max_bytes = SURPLUS_BYTES + header.pixels * max(header.pixel_bytes, MAX_PIXEL_BYTES)
    if size > max_bytes:
        raise ImageUnreadable(
            f"{path}: a file of {size} bytes for {shape}; at most {max_bytes} are read. Copy it "
            "again or remove it."
        )


def decode_jpeg(encoded: NDArray[np.uint8]) -> tuple[Pixels, str]:
    """Decode a JPEG of a camera, or say what is wrong with it.

    Args:
        encoded: ``(N,) uint8``, as it came.

    Returns:
        ``(H, W, 3) uint8`` BGR and nothing, or an empty array and the fault.
    """
    header = image_header(BytesIO(encoded.tobytes()))
    if header is not None and header.pixels > MAX_PIXELS:
        size = f"{header.width_px}×{header.height_px}"
        return np.empty((0, 0), np.uint8), f"the JPEG says that it has {size} pixels"
    fault = jpeg_fault(encoded)
    colours = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = None if fault else _decoded(encoded, colours)
    except MemoryError:
        pixels, fault = None, "more memory is needed to decode it than there is"
    if pixels is None:
        return np.empty((0, 0), np.uint8), f"the JPEG is damaged: {fault or 'it is not decoded'}"
    return pixels, ""


def _other_type(encoded: NDArray[np.uint8]) -> str:
    """Return what kind of file this is instead, as far as its first bytes tell; else nothing."""
    start = encoded[:64].tobytes()
    if start[4:8] == b"ftyp":
        brand = start[8:12].decode("ascii", "replace")
        known = {"heic": "HEIC", "heix": "HEIC", "mif1": "HEIF", "msf1": "HEIF", "avif": "AVIF"}
        return known.get(brand, "video")
    return next((name for magic, name in _OTHER_TYPES if start.startswith(magic)), "")


def _is_opaque(pixels: Pixels) -> bool:
    return pixels.dtype.kind == "u" and bool((pixels[:, :, 3] == np.iinfo(pixels.dtype).max).all())


def _decoded(encoded: NDArray[np.uint8], how: int) -> Pixels | None:
    try:
        return cv2.imdecode(encoded, how)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        return None


def _fault(encoded: NDArray[np.uint8]) -> str:
    """Return what is missing or damaged where a decoder would fill it; empty for nothing."""
    if encoded[:2].tobytes() == b"\xff\xd8":
        return jpeg_fault(encoded)
    return image_file_fault(encoded) if encoded.size else "empty"


def may_be_filled_yet(path: Path) -> bool:
    """Tell an image that is still being written although it can be read.

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


def write_image(path: Path, pixels: Pixels) -> None:
    """Write an image whole or not at all: to a temporary file, then renamed.

    Raises:
        OutputNotWritable: the folder or the disk refused it, or the suffix names no encoder.
    """
    try:
        done, encoded = cv2.imencode(path.suffix, pixels)
    except cv2.error:
        done = False
    if not done:
        raise OutputNotWritable(
            f"{path}: a {pixels.dtype} image of shape {pixels.shape} cannot be encoded as "
            f"{path.suffix or 'a file without suffix'}. Use .png or .jpg."
        )
    write_all([(path, encoded.tobytes())], durable=False)
