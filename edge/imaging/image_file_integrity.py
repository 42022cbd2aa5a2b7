"""Whether a BMP, PNG, TIFF or WebP file is whole. Decoders show what never came as black.

PNG has checksums. The others say in their headers how long they are; and of a file that was made in
its full length before its content came, the rest reads as zeros: compressed data cannot end so, and
pixels that are stored plainly do not turn black from one to the next.

Sources: PNG (ISO/IEC 15948); BITMAPINFOHEADER and its successors; TIFF 6.0 and BigTIFF; RFC 9649
(WebP), RFC 6386 (VP8).
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CUT = "its end is missing"
ZEROS = "its end is zeros, as of data that never came"
# A compressed stream may end in a few zeros by chance, never in so many.
MAX_ZERO_BYTES = 32
# In place of zeros: one alone may change nothing, as what is white already gets no whiter.
_OTHER_BYTES = (0xFF, 0x55, 0x80)
# Plainly stored pixels: black from here on may be true, unless the row before was bright there.
MIN_BLANK_BYTES = 256
MIN_ROW_END_BYTES = 32
MIN_MEAN = 16
MIN_NONZERO_SHARE = 0.4
# Labels and other drawn images have few values, and edges as sharp as damage.
MIN_VALUES = 8

_BMP_PLAIN = frozenset({0, 3, 6})
_TIFF_PLAIN = 1
_MAX_FIELDS = 4096
_FIELD_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_WIDTH, _BITS, _COMPRESSION, _SAMPLES, _PLANAR, _TILE_WIDTH = 256, 258, 259, 277, 284, 322
_PLACES_AND_SIZES = ((273, 279), (324, 325))


def image_file_fault(encoded: NDArray[np.uint8]) -> str:
    """Return what is missing or damaged in a BMP, PNG, TIFF or WebP; empty if nothing is found.

    Args:
        encoded: ``(N,) uint8``, the file.
    """
    start = encoded[:16].tobytes()
    check: Callable[[bytes], str] | None = None
    if start.startswith(b"\x89PNG"):
        check = _png_fault
    elif start.startswith(b"BM"):
        check = _bmp_fault
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        check = _tiff_fault
    elif start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        check = _webp_fault
    try:
        return check(encoded.tobytes()) if check else ""
    except (struct.error, OverflowError, ValueError):  # a header that names what is not there
        return CUT


def _png_fault(raw: bytes) -> str:
    """Walk the chunks up to the last one; each has a checksum."""
    place = 8
    while place < len(raw):
        length = int.from_bytes(raw[place : place + 4], "big")
        name, end = raw[place + 4 : place + 8], place + 8 + length
        checksum = raw[end : end + 4]
        if len(checksum) < 4:
            return CUT
        if zlib.crc32(raw[place + 4 : end]) != int.from_bytes(checksum, "big"):
            return f"its part {name.decode('ascii', 'replace')} is damaged"
        if name == b"IEND":
            return ""
        place = end + 4
    return CUT


def _bmp_fault(raw: bytes) -> str:
    (pixels_at, header_size) = struct.unpack_from("<II", raw, 10)
    if header_size == 12:  # of OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", raw, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", raw, 18)
    if compression not in _BMP_PLAIN:
        return ZEROS if raw[pixels_at:].endswith(bytes(MAX_ZERO_BYTES)) else ""
    row = (abs(width) * bits + 31) // 32 * 4
    end = pixels_at + row * abs(height)
    if end > len(raw):
        return CUT
    return ZEROS if _turns_black(raw, [_Stored(pixels_at, end, row)]) else ""


@dataclass(frozen=True, slots=True)
class _Stored:
    """Rows that lie behind each other in a file, from ``start`` up to ``end``."""

    start: int
    end: int
    row: int


def _turns_black(raw: bytes, stored: list[_Stored]) -> bool:
    """Tell whether zeros begin amid a bright row and last to the end of the file's pixels."""
    end = max(one.end for one in stored)
    if any(raw[end - MIN_BLANK_BYTES : end]):
        return False
    first_zero = len(raw[:end].rstrip(b"\0"))
    holder = next((one for one in stored if one.start < first_zero <= one.end), None)
    if holder is None or first_zero - holder.row - MIN_ROW_END_BYTES < holder.start:
        return False
    to_row_end = -(first_zero - holder.start) % holder.row
    values, at = np.frombuffer(raw, np.uint8), first_zero - holder.row
    # One row: what the row before holds from here on, and this one up to here.
    before = values[at:first_zero]
    # Along the edge of a part that lies nearly level, a row fades; data that is cut does not.
    above_seam = values[at - MIN_ROW_END_BYTES : at]
    fades = before[-MIN_ROW_END_BYTES:].mean() < max(MIN_MEAN, above_seam.mean() / 2)
    return (
        not fades
        and to_row_end >= MIN_ROW_END_BYTES
        and _is_bright(before)
        and _is_bright(before[:to_row_end])
    )


def _is_bright(values: NDArray[np.uint8]) -> bool:
    return bool(
        values.mean() >= MIN_MEAN
        and np.count_nonzero(values) >= MIN_NONZERO_SHARE * values.size
        and np.unique(values).size >= MIN_VALUES
    )


def _tiff_fault(raw: bytes) -> str:
    fields = _tiff_fields(raw)

    def first(tag: int, default: int) -> int:
        return fields.get(tag, [default])[0]

    samples = first(_SAMPLES, 1) if first(_PLANAR, 1) == 1 else 1
    row = (first(_TILE_WIDTH, first(_WIDTH, 0)) * first(_BITS, 1) * samples + 7) // 8
    stored: list[_Stored] = []
    for places, sizes in _PLACES_AND_SIZES:
        if places not in fields or sizes not in fields:
            continue  # some programs leave the sizes out: the decoder sees how far it comes
        for start, size in zip(fields[places], fields[sizes], strict=True):
            if start == 0 or size == 0:
                return "its list of pixel data is empty"
            if start + size > len(raw):
                return CUT
            stored.append(_Stored(start, start + size, max(1, row)))
    if not stored:
        return ""
    if first(_COMPRESSION, _TIFF_PLAIN) == _TIFF_PLAIN:
        return ZEROS if _turns_black(raw, stored) else ""
    zeros = bytes(MAX_ZERO_BYTES)
    return ZEROS if any(raw[: one.end].endswith(zeros) for one in stored) else ""


def _tiff_fields(raw: bytes) -> dict[int, list[int]]:
    """Read the numbers of the first directory."""
    order = "<" if raw.startswith(b"II") else ">"
    big = raw[2:4] in (b"+\0", b"\0+")
    place = struct.unpack_from(order + ("Q" if big else "I"), raw, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), raw, place)[0]
    head = struct.Struct(order + ("HHQ" if big else "HHI"))
    inline = 8 if big else 4
    place += 8 if big else 2
    if count > _MAX_FIELDS:
        raise ValueError
    fields: dict[int, list[int]] = {}
    for at in range(place, place + count * (head.size + inline), head.size + inline):
        tag, kind, values = head.unpack_from(raw, at)
        if kind not in _FIELD_FORMATS:
            continue
        numbers = struct.Struct(order + f"{values}{_FIELD_FORMATS[kind]}")
        where = at + head.size
        if numbers.size > inline:
            where = struct.unpack_from(order + ("Q" if big else "I"), raw, where)[0]
        if numbers.size > len(raw):
            raise ValueError
        fields[tag] = list(numbers.unpack_from(raw, where)) or [0]
    return fields


def _webp_fault(raw: bytes) -> str:
    end = 8 + int.from_bytes(raw[4:8], "little")
    if end > len(raw):
        return CUT
    place = 12
    while place + 8 <= end:
        name, size = raw[place : place + 4], int.from_bytes(raw[place + 4 : place + 8], "little")
        data = raw[place + 8 : place + 8 + size]
        if len(data) < size:
            return CUT
        if name in (b"VP8 ", b"VP8L"):
            zeros = size - len(data.rstrip(b"\0"))
            unused = zeros > MAX_ZERO_BYTES and _means_nothing(raw, place + 8 + size)
            return ZEROS if unused else ""
        place += 8 + size + size % 2
    return CUT


def _means_nothing(raw: bytes, end: int) -> bool:
    """Tell whether the decoder never comes to the last bytes of a WebP's data.

    Its codes for what is likely are zeros, so a flat end may be coded as nothing but zeros, of any
    number; then other bytes there are another image, or none. Where data was lost, zeros decode
    into blocks that take less of it, and the last bytes are not used.
    """
    before, whole = end - MAX_ZERO_BYTES, _decoded(raw)
    if whole is None:
        return False  # its decoding tells more
    for other in _OTHER_BYTES:
        changed = _decoded(raw[:before] + bytes([other]) * MAX_ZERO_BYTES + raw[end:])
        if changed is None or not np.array_equal(whole, changed):
            return False
    return True


def _decoded(raw: bytes) -> NDArray[np.uint8] | None:
    try:
        return cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
