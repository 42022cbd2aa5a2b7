"""How many images a file holds beside the one that is read: pages, and frames of an animation."""

import struct
from pathlib import Path
from typing import BinaryIO

_MAX_PAGES = 10_000
_SUBFILE_TYPE = 254
_REDUCED, _MASK = 1, 4  # thumbnails and masks are no images of their own


def further_images(path: Path) -> int:
    """Return how many images follow the first one; 0 where the file cannot be understood."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
            if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return max(0, _tiff_pages(file, start) - 1)
            if start.startswith(b"\x89PNG"):
                return max(0, _png_frames(file) - 1)
            if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
                return max(0, _webp_frames(file) - 1)
    except (OSError, struct.error, ValueError):
        return 0  # whoever reads the image says what is wrong with it
    return 0


def _tiff_pages(file: BinaryIO, start: bytes) -> int:
    """Follow the directories from one to the next (TIFF 6.0, BigTIFF)."""
    order = "<" if start.startswith(b"II") else ">"
    big = start[2:4] in (b"+\0", b"\0+")
    offset, count = struct.Struct(order + "IQ"[big]), struct.Struct(order + "HQ"[big])
    entry_bytes = 20 if big else 12
    place = offset.unpack_from(start, 8 if big else 4)[0]
    seen: set[int] = set()
    pages = 0
    while place and place not in seen and len(seen) < _MAX_PAGES:
        seen.add(place)
        file.seek(place)
        entries = count.unpack(file.read(count.size))[0]
        if entries > _MAX_PAGES:
            raise ValueError
        directory = file.read(entries * entry_bytes)
        kind = 0
        for at in range(0, len(directory), entry_bytes):
            if struct.unpack_from(order + "H", directory, at)[0] == _SUBFILE_TYPE:
                kind = struct.unpack_from(order + "I", directory, at + entry_bytes - offset.size)[0]
        pages += not kind & (_REDUCED | _MASK)
        place = offset.unpack(file.read(offset.size))[0]
    return pages


def _png_frames(file: BinaryIO) -> int:
    """Read the count of an animation, which stands before its pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"acTL":
            return int.from_bytes(file.read(4), "big")
        file.seek(length + 4, 1)
    return 1


def _webp_frames(file: BinaryIO) -> int:
    file.seek(12)
    frames = 0
    while len(head := file.read(8)) == 8:
        frames += head[:4] == b"ANMF"
        size = int.from_bytes(head[4:], "little")
        file.seek(size + size % 2, 1)
    return frames
