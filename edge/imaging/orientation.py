"""How an image file says that it is to be turned (EXIF tag 274), and turning it.

Viewers turn an image so, and whoever draws a mask sees it turned. OpenCV turns TIFF files and no
others when it keeps depth and channels, so the others are turned here: one rule for all files.

Sources: EXIF 2.32 (CIPA DC-008), PNG third edition (eXIf), RFC 9649 (WebP), TIFF 6.0.
"""

import io
import struct
from typing import BinaryIO

import numpy as np

from edge.imaging.frame import Pixels

UPRIGHT = 1
_TAG, _SHORT = 274, 3
_MAX_ENTRIES = 4096
_MAX_SEGMENTS = 1000
_MAX_EXIF_BYTES = 1 << 16


def orientation(file: BinaryIO) -> int:
    """Return how an image is to be turned, 1 to 8 as EXIF counts; 1, upright, where none is said.

    Args:
        file: a JPEG, PNG, TIFF or WebP file; any other is upright.
    """
    try:
        found = _orientation(file)
    except (struct.error, OSError, OverflowError, ValueError):  # it names what is not there
        return UPRIGHT
    return found if 1 <= found <= 8 else UPRIGHT


def is_tiff(start: bytes) -> bool:
    """Tell by its first four bytes whether a file is a TIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def turned(pixels: Pixels, how: int) -> Pixels:
    """Return an image turned as its orientation says; the image itself where that is upright."""
    if how == UPRIGHT:
        return pixels
    if how >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    # Which of the sides, as the transposed image has them, come out reversed.
    if how in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if how in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _orientation(file: BinaryIO) -> int:
    start = file.read(12)
    if start.startswith(b"\xff\xd8"):
        return _of_jpeg(file)
    if start.startswith(b"\x89PNG"):
        return _of_exif(_png_chunk(file))
    if start.startswith(b"RIFF") and start[8:] == b"WEBP":
        return _of_exif(_webp_chunk(file))
    if is_tiff(start):
        return _of_tiff(file)
    return UPRIGHT


def _of_jpeg(file: BinaryIO) -> int:
    file.seek(2)
    for _ in range(_MAX_SEGMENTS):
        marker, kind = file.read(1), file.read(1)
        while kind == b"\xff":  # any number of them may precede a marker
            kind = file.read(1)
        if marker != b"\xff" or kind in (b"", b"\xda", b"\xd9"):
            return UPRIGHT
        length = struct.unpack(">H", file.read(2))[0] - 2
        if kind == b"\xe1":
            body = file.read(max(length, 0))
            if body.startswith(b"Exif\0\0"):
                return _of_exif(body)
        else:
            file.seek(max(length, 0), 1)
    return UPRIGHT


def _png_chunk(file: BinaryIO) -> bytes:
    """Return what the chunk eXIf holds; it may stand behind the pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return file.read(min(length, _MAX_EXIF_BYTES))
        file.seek(length + 4, 1)
    return b""


def _webp_chunk(file: BinaryIO) -> bytes:
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF":
            return file.read(min(size, _MAX_EXIF_BYTES))
        file.seek(size + size % 2, 1)
    return b""


def _of_exif(body: bytes) -> int:
    body = body.removeprefix(b"Exif\0\0")
    return _of_tiff(io.BytesIO(body)) if is_tiff(body) else UPRIGHT


def _of_tiff(file: BinaryIO) -> int:
    """Look the tag up in the first directory."""
    file.seek(0)
    start = file.read(16)
    order = "<" if start.startswith(b"II") else ">"
    big = start[2:4] in (b"+\0", b"\0+")
    place = struct.unpack_from(order + "IQ"[big], start, 8 if big else 4)[0]
    file.seek(place)
    count = struct.Struct(order + "HQ"[big])
    entries = count.unpack(file.read(count.size))[0]
    size = 20 if big else 12
    directory = file.read(min(entries, _MAX_ENTRIES) * size)
    for entry in range(0, len(directory) - size + 1, size):
        tag, kind = struct.unpack_from(order + "HH", directory, entry)
        if tag == _TAG and kind == _SHORT:
            return int(struct.unpack_from(order + "H", directory, entry + (12 if big else 8))[0])
    return UPRIGHT
