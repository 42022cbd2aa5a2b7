"""How large an image says it is, read from its header before anything is decoded.

A file of a few kilobytes can ask for gigabytes. Sources: PNG (ISO/IEC 15948), JPEG (ISO/IEC
10918-1), BITMAPINFOHEADER, TIFF 6.0 and BigTIFF, WebP (RFC 9649, RFC 6386).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

# Of one image, where nobody sets a lower bound. OpenCV itself ends at four times as many.
MAX_PIXELS = 2**28

_START_BYTES = 32
_MAX_JPEG_SEGMENTS = 10_000
_MAX_TIFF_FIELDS = 4096
_JPEG_SIZE = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 4, 6: 4}
# Width, height, bits, samples, width and height of a tile.
_TIFF_TAGS = (256, 257, 258, 277, 322, 323)
_TIFF_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a header says.

    Attributes:
        width_px, height_px: of the image; of a TIFF whose tiles are larger, of a tile.
        pixel_bytes: of a decoded pixel.
    """

    width_px: int
    height_px: int
    pixel_bytes: int

    @property
    def pixels(self) -> int:
        return self.width_px * self.height_px


def image_header(file: BinaryIO) -> ImageHeader | None:
    """Read the header of a BMP, JPEG, PNG, TIFF or WebP; None of another or a damaged file.

    Args:
        file: at any position; left at another.

    Raises:
        OSError: it cannot be read.
    """
    file.seek(0)
    start = file.read(_START_BYTES)
    read: Callable[[BinaryIO, bytes], ImageHeader | None] | None = None
    if start.startswith(b"\xff\xd8"):
        read = _jpeg
    elif start.startswith(b"\x89PNG\r\n\x1a\n"):
        read = _png
    elif start.startswith(b"BM"):
        read = _bmp
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        read = _tiff
    elif start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        read = _webp
    try:
        header = read(file, start) if read else None
    except (struct.error, ValueError, OverflowError):  # it ends early, or points beyond all files
        return None
    return header if header is not None and header.pixels > 0 else None


def _png(_: BinaryIO, start: bytes) -> ImageHeader | None:
    if start[12:16] != b"IHDR":
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", start, 16)
    return ImageHeader(width, height, _PNG_CHANNELS.get(colour, 4) * (2 if depth == 16 else 1))


def _bmp(_: BinaryIO, start: bytes) -> ImageHeader:
    if struct.unpack_from("<I", start, 14)[0] == 12:  # of OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", start, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", start, 18)
    return ImageHeader(abs(width), abs(height), 4 if bits == 32 else 3)


def _jpeg(file: BinaryIO, _: bytes) -> ImageHeader | None:
    place = 2
    for _segment in range(_MAX_JPEG_SEGMENTS):
        file.seek(place)
        head = file.read(10)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker = head[1]
        if marker == 0xFF or marker in _JPEG_ALONE:  # fill bytes, and markers without a length
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_SIZE:
            height, width, components = struct.unpack_from(">HHB", head, 5)
            return ImageHeader(width, height, components)
        if marker in (_JPEG_SCAN, _JPEG_END):
            return None
        place += 2 + struct.unpack_from(">H", head, 2)[0]
    return None


def _webp(_: BinaryIO, start: bytes) -> ImageHeader | None:
    name, data = start[12:16], start[20:]
    if name == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (4, 7))
        return ImageHeader(width, height, 4)
    return ImageHeader(*_webp_size(name, data), 4) if name in (b"VP8 ", b"VP8L") else None


def _webp_size(name: bytes, data: bytes) -> tuple[int, int]:
    """Return width and height of a coded image, the content of its part ``VP8 `` or ``VP8L``."""
    if name == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 6)
        return width & 0x3FFF, height & 0x3FFF
    packed = struct.unpack_from("<I", data, 1)[0]
    return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1


def _tiff(file: BinaryIO, start: bytes) -> ImageHeader | None:
    order = "<" if start.startswith(b"II") else ">"
    big = start[2:4] in (b"+\0", b"\0+")
    offset = "Q" if big else "I"
    file.seek(struct.unpack_from(order + offset, start, 8 if big else 4)[0])
    counting = struct.Struct(order + ("Q" if big else "H"))
    (count,) = counting.unpack(file.read(counting.size))
    if count > _MAX_TIFF_FIELDS:
        return None
    inline = struct.calcsize(order + offset)
    entry = struct.Struct(f"{order}HH{offset}{inline}s")
    listed = file.read(count * entry.size)
    # Of a tag that stands there twice, whichever a decoder takes: the largest.
    found: dict[int, int] = {}
    for at in range(0, count * entry.size, entry.size):
        tag, kind, values, content = entry.unpack_from(listed, at)
        if tag not in _TIFF_TAGS:
            continue
        if kind not in _TIFF_FORMATS or values < 1:
            return None
        one = struct.Struct(order + _TIFF_FORMATS[kind])
        if values * one.size > inline:  # bits of many samples lie elsewhere
            file.seek(struct.unpack_from(order + offset, content)[0])
            content = file.read(one.size)
        found[tag] = max(found.get(tag, 0), one.unpack_from(content)[0])
    width, height, bits, samples, tile_width, tile_height = map(found.get, _TIFF_TAGS)
    if width is None or height is None:
        return None
    pixel_bytes = (samples or 1) * max(1, -(-(bits or 1) // 8))
    if tile_width and tile_height and tile_width * tile_height > width * height:
        return ImageHeader(tile_width, tile_height, pixel_bytes)
    return ImageHeader(width, height, pixel_bytes)
