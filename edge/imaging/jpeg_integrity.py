"""Whether a JPEG is whole. Decoders fill what is missing or damaged, and call it a success.

The entropy-coded data is walked to its very end without decoding a pixel: every code has to be one
of the tables', no block may hold more than 64 coefficients, no average may lie beyond black or
white, restart markers have to come in order and exactly where they belong, and the last block has
to end where the end marker begins.

Source: ITU-T T.81, annexes B (markers), F (sequential) and G (progressive).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from edge.imaging.kernels import kernel, part_of_kernel

COEFFICIENTS = 64
# Index of the first look-ups: as wide as leaves the tables of a scan in the fastest cache.
FIRST_BITS = 12
FIRST_DC_BITS = 10
MAX_CODE_BITS = 16
MAX_DC_BITS = 11
MAX_BITS = 31  # of a code and the number behind it
ENDED = 1 << 16
# A block is walked to its end before it is known that its data has ended: 64 times 31 bits.
ROOM_BYTES = 512
FF_LOW, FF_HIGH = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
# Lost and never written parts of a buffer or file read as zeros. Entropy-coded data holds no such
# run, unless every flat block is coded as zeros only.
ZERO_RUN = bytes(24)

_SOI, _EOI, _SOS, _DQT, _DHT, _DRI = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD
_SEQUENTIAL, _PROGRESSIVE = frozenset({0xC0, 0xC1}), 0xC2
_WITHOUT_TABLES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, *range(0xC8, 0xD0), 0xDC, 0xDE, 0xDF}) - {0xCC}
_MAX_SEGMENTS = 100_000
# Headers of one camera are alike from image to image, so what they say is kept.
_MAX_KEPT_HEADER = 4096
_READ_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)

_ENDS_EARLY, _LEFT_OVER, _RESTART, _NO_CODE, _RANGE, _OVERRUN, _PADDING = range(1, 8)
_FAULTS = {
    _ENDS_EARLY: "the image ends before its last block",
    _LEFT_OVER: "bytes are left over behind the last block",
    _RESTART: "a restart marker is missing or out of order",
    _NO_CODE: "the data holds a code that is in no table",
    _RANGE: "a block is brighter than white or darker than black",
    _OVERRUN: "a block has more than 64 coefficients",
    _PADDING: "the padding behind the last block is damaged",
}


class _Damaged(Exception):
    """What is wrong with the image."""


def jpeg_fault(encoded: NDArray[np.uint8]) -> str:
    """Return what is missing or damaged in a JPEG; empty if it is whole.

    What follows the end marker is not looked at.

    Args:
        encoded: ``(N,) uint8``, from the start marker on.
    """
    try:
        _check(np.ascontiguousarray(encoded).reshape(-1))
    except _Damaged as damage:
        return str(damage)
    return ""


@dataclass(slots=True, kw_only=True)
class _Component:
    horizontal: int
    vertical: int
    quantization: int
    blocks_wide: int = 0
    blocks_high: int = 0
    # Down to which bit each coefficient has come, -1 for nothing of it; and of a progressive
    # image which of them are not zero so far, (blocks, 64).
    lowest_bit: list[int] = field(default_factory=lambda: [-1] * COEFFICIENTS)
    nonzero: NDArray[np.uint8] | None = None


@dataclass(slots=True, kw_only=True)
class _Image:
    progressive: bool
    width: int
    height: int
    components: dict[int, _Component]
    mcus_wide: int
    mcus_high: int


@dataclass(slots=True)
class _Headers:
    """What stands before a scan.

    Attributes:
        tables: of codes, by class and number.
        steps: of a block's average, by quantization table.
        restart: MCUs between two restart markers; 0 without.
    """

    image: _Image | None = None
    tables: dict[int, bytes] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    restart: int = 0

    def read(self, marker: int, body: bytes) -> None:
        """Read a segment that is no scan."""
        if marker in _SEQUENTIAL or marker == _PROGRESSIVE:
            if self.image is not None:
                raise _Damaged("two images are mixed")
            self.image = _frame_header(body, marker == _PROGRESSIVE)
        elif marker == _DHT:
            _read_codes(body, self.tables)
        elif marker == _DQT:
            _read_steps(body, self.steps)
        elif marker == _DRI:
            if len(body) != 2:
                raise _Damaged("a header is damaged")
            self.restart = int.from_bytes(body, "big")
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            raise _Damaged(f"an unknown marker {marker:#x} stands in it")


def _check(data: NDArray[np.uint8]) -> None:
    raw = data.tobytes()
    scan = _only_scan(raw)
    if scan is not None:
        end = _walk_sequential(data, raw, scan.header_bytes, scan)
        if _marker(raw, end)[0] == _EOI:
            return
    if not raw.startswith(b"\xff\xd8"):
        raise _Damaged("the start marker is missing")
    place = 2
    headers = _Headers()
    for _ in range(_MAX_SEGMENTS):
        marker, place = _marker(raw, place)
        if marker == _EOI:
            if headers.image is None:
                raise _Damaged("the image ends before it begins")
            _check_that_all_came(headers.image)
            return
        if marker in _WITHOUT_TABLES:
            raise _Damaged(
                f"its kind (marker {marker:#x}) cannot be checked; save it as baseline JPEG or PNG"
            )
        body = _segment(raw, place)
        place += 2 + len(body)
        if marker != _SOS:
            headers.read(marker, body)
        elif headers.image is None:
            raise _Damaged("the header of the image is missing")
        else:
            place = _check_scan(data, raw, place, body, headers=headers, image=headers.image)
    raise _Damaged("it has too many headers")


def _only_scan(raw: bytes) -> "_Scan | None":
    """Return the first scan where it holds the whole of a sequential image; None of any other."""
    found = raw.find(b"\xff\xda", 0, _MAX_KEPT_HEADER)
    if found < 0:
        return None
    return _scan_behind(raw[: found + 2 + int.from_bytes(raw[found + 2 : found + 4], "big")])


@lru_cache(maxsize=16)
def _scan_behind(header: bytes) -> "_Scan | None":
    """Read headers up to and with that of a scan; None where something else is to be said."""
    headers, place = _Headers(), 2
    try:
        while place < len(header):
            marker, place = _marker(header, place)
            body = _segment(header, place)
            place += 2 + len(body)
            if marker != _SOS:
                headers.read(marker, body)
    except _Damaged:
        return None
    image = headers.image
    whole = header.startswith(b"\xff\xd8") and marker == _SOS and image is not None
    if (
        not whole
        or image is None
        or image.progressive
        or body[:1] != bytes([len(image.components)])
    ):
        return None
    try:
        return _scan(body, headers, image, len(header))
    except _Damaged:
        return None


def _marker(raw: bytes, place: int) -> tuple[int, int]:
    """Return the marker that has to stand here, and the place behind it."""
    if raw[place : place + 1] not in (b"\xff", b""):
        raise _Damaged("bytes are left over before a marker")
    while raw[place : place + 1] == b"\xff":  # any number of them may precede a marker
        place += 1
    if place >= len(raw):
        raise _Damaged("the end marker is missing")
    return raw[place], place + 1


def _segment(raw: bytes, place: int) -> bytes:
    length = int.from_bytes(raw[place : place + 2], "big")
    body = raw[place + 2 : place + length]
    if length < 2 or len(body) != length - 2:
        raise _Damaged("a header is cut")
    return body


def _frame_header(body: bytes, progressive: bool) -> _Image:
    if len(body) < 6 or len(body) != 6 + 3 * body[5] or body[5] not in (1, 2, 3, 4):
        raise _Damaged("the header of the image is damaged")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if body[0] != 8 or not height or not width:
        raise _Damaged(
            f"{body[0]} bits and {width}×{height} pixels cannot be checked; save it as 8-bit "
            "baseline JPEG or PNG"
        )
    components = {
        body[at]: _Component(
            horizontal=body[at + 1] >> 4, vertical=body[at + 1] & 15, quantization=body[at + 2]
        )
        for at in range(6, len(body), 3)
    }
    if len(components) != body[5] or not all(
        1 <= one.horizontal <= 4 and 1 <= one.vertical <= 4 for one in components.values()
    ):
        raise _Damaged("the header of the image is damaged")
    max_wide = max(one.horizontal for one in components.values())
    max_high = max(one.vertical for one in components.values())
    mcus_wide, mcus_high = -(-width // (8 * max_wide)), -(-height // (8 * max_high))
    for one in components.values():
        one.blocks_wide = _blocks(width * one.horizontal, max_wide)
        one.blocks_high = _blocks(height * one.vertical, max_high)
    return _Image(
        progressive=progressive,
        width=width,
        height=height,
        components=components,
        mcus_wide=mcus_wide,
        mcus_high=mcus_high,
    )


def _blocks(samples: int, share: int) -> int:
    """Return how many blocks hold that many samples divided by ``share``, both rounded up."""
    return -(-samples // (8 * share))


def _read_codes(body: bytes, tables: dict[int, bytes]) -> None:
    """Read Huffman tables: by class and number, 16 counts and the symbols."""
    while body:
        count = sum(body[1:17])
        if len(body) < 17 + count or count > 256 or body[0] >> 4 > 1 or body[0] & 15 > 3:
            raise _Damaged("a table of codes is damaged")
        tables[body[0]] = body[1 : 17 + count]
        body = body[17 + count :]


def _read_steps(body: bytes, steps: dict[int, int]) -> None:
    """Read of each quantization table the step of a block's average."""
    while body:
        size = 1 + body[0] // 16
        values = body[1 : 1 + COEFFICIENTS * size]
        if size > 2 or len(values) != COEFFICIENTS * size:
            raise _Damaged("a quantization table is damaged")
        if size == 1 and 0 in values:
            raise _Damaged("a quantization table is damaged")
        steps[body[0] & 15] = int.from_bytes(values[:size], "big") or 1
        body = body[1 + COEFFICIENTS * size :]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """What the headers say of a scan.

    Attributes:
        first, last: the coefficients that it gives.
        high, low: the bits of them.
        blocks: to which of ``components`` each block of an MCU belongs.
        limits: of each component, how far an average may lie from grey, in quantization steps.
        mcus: how many there are.
        header_bytes: how long all headers are, where they are whole.
    """

    components: Sequence[_Component]
    first: int
    last: int
    high: int
    low: int
    codes: "_CodeTables"
    blocks: NDArray[np.int64]
    limits: NDArray[np.int64]
    mcus: int
    restart: int
    header_bytes: int


def _scan(body: bytes, headers: _Headers, image: _Image, header_bytes: int = 0) -> _Scan:
    """Read the header of a scan."""
    if len(body) < 1 or len(body) != 4 + 2 * body[0] or body[0] not in (1, 2, 3, 4):
        raise _Damaged("the header of a scan is damaged")
    names = body[1:-3:2]
    if len(set(names)) != len(names) or not all(name in image.components for name in names):
        raise _Damaged("the header of a scan is damaged")
    components = [image.components[name] for name in names]
    first, last = body[-3], body[-2]
    high, low = body[-1] >> 4, body[-1] & 15
    if not image.progressive:
        first, last, high, low = 0, 63, 0, 0
    chosen = body[2:-3:2]
    tables = headers.tables or _standard_tables()
    # A scan of averages needs no codes for details, and the other way round.
    codes = tuple((tables.get(c >> 4), tables.get(0x10 | c & 15)) for c in chosen)
    if any((dc is None and first == 0) or (ac is None and last > 0) for dc, ac in codes):
        raise _Damaged("a table of codes is missing")
    if len(components) == 1:
        blocks = [0]
        mcus = components[0].blocks_wide * components[0].blocks_high
    else:
        blocks = [
            number
            for number, one in enumerate(components)
            for _ in range(one.horizontal * one.vertical)
        ]
        mcus = image.mcus_wide * image.mcus_high
    # A block of black gives -1024, in steps rounded away from zero at most.
    limits = [1024 // (headers.steps.get(one.quantization, 1) << low) + 1 for one in components]
    return _Scan(
        components=components,
        first=first,
        last=last,
        high=high,
        low=low,
        codes=_code_tables(codes),
        blocks=np.array(blocks, np.int64),
        limits=np.array(limits, np.int64),
        mcus=mcus,
        restart=headers.restart,
        header_bytes=header_bytes,
    )


def _check_scan(
    data: NDArray[np.uint8],
    raw: bytes,
    place: int,
    body: bytes,
    *,
    headers: _Headers,
    image: _Image,
) -> int:
    """Walk the data of one scan and return the place behind it."""
    scan = _scan(body, headers, image)
    _record_progress(image, scan)
    if not image.progressive:
        return _walk_sequential(data, raw, place, scan)
    if scan.first > 0:
        flags = scan.components[0].nonzero
        if flags is None:
            flags = np.zeros((scan.mcus, COEFFICIENTS), np.uint8)
            scan.components[0].nonzero = flags
        fault, end = walk_ac_scan(
            data,
            place,
            scan.codes.longest_ac[scan.codes.ac_of[0]],
            flags,
            scan.mcus,
            scan.restart,
            scan.first,
            scan.last,
            scan.high > 0,
        )
    else:
        fault, end = walk_dc_scan(
            data,
            place,
            scan.codes.longest_dc[scan.codes.dc_of],
            scan.blocks,
            scan.limits,
            scan.mcus,
            scan.restart,
            scan.high > 0,
        )
    if fault:
        raise _Damaged(_FAULTS[fault])
    return int(end)


def _walk_sequential(data: NDArray[np.uint8], raw: bytes, place: int, scan: _Scan) -> int:
    """Walk the data of a sequential scan and return the place behind it."""
    codes = scan.codes
    fault, end = walk_sequential_scan(
        data,
        place,
        codes.dc,
        codes.longest_dc,
        codes.ac,
        codes.first_ac,
        codes.longest_ac,
        scan.blocks,
        codes.dc_of,
        codes.ac_of,
        scan.limits,
        scan.mcus,
        scan.restart,
    )
    if fault:
        raise _Damaged(_FAULTS[fault])
    if not codes.zeros_are_flat and raw.find(ZERO_RUN, place, end) >= 0:
        raise _Damaged("a part of it is zeros, as of data that never came")
    return int(end)


def _record_progress(image: _Image, scan: _Scan) -> None:
    """Hold a scan against what came before it: each bit of each coefficient comes once."""
    first, last, high, low = scan.first, scan.last, scan.high, scan.low
    sound = first <= last < COEFFICIENTS and (first > 0 or last == 0 or not image.progressive)
    if not sound or (first > 0 and len(scan.components) > 1) or (high and low != high - 1):
        raise _Damaged("the header of a scan is damaged")
    count = last + 1 - first
    for one in scan.components:
        if one.lowest_bit[first : last + 1] != [high or -1] * count:
            raise _Damaged("a scan is missing or comes twice")
        one.lowest_bit[first : last + 1] = [low] * count


def _check_that_all_came(image: _Image) -> None:
    if any(any(one.lowest_bit) for one in image.components.values()):
        raise _Damaged("scans of the image are missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class _CodeTables:
    """Look-ups of a scan, ``(tables, 2^bits) uint16``; components share them where codes are one.

    An entry holds the bits to skip in its lowest five, in the next ten by how many coefficients
    to go on, and its highest bit at the end of a block; 0 is no code. Of the first coefficient
    (``dc``) it holds the bits of the code, and above eight bits those of the number behind it.

    Attributes:
        dc, first_ac: by the next ``FIRST_DC_BITS``, ``FIRST_BITS``; 0 also where the code is
            longer.
        ac: the same for as many codes in a row as fit; 0 where not one does.
        longest_dc, longest_ac: by the next 16 bits: the bits of the code, and above eight its
            symbol; 0 for no code.
        dc_of, ac_of: which table each component has.
        zeros_are_flat: a run of zeros may be blocks without any detail.
    """

    dc: NDArray[np.uint16]
    ac: NDArray[np.uint16]
    first_ac: NDArray[np.uint16]
    longest_dc: NDArray[np.uint16]
    longest_ac: NDArray[np.uint16]
    dc_of: NDArray[np.int64]
    ac_of: NDArray[np.int64]
    zeros_are_flat: bool


@lru_cache(maxsize=32)  # a progressive image has a dozen
def _code_tables(codes: tuple[tuple[bytes | None, bytes | None], ...]) -> _CodeTables:
    dc_codes = list(dict.fromkeys(dc or bytes(16) for dc, _ in codes))
    ac_codes = list(dict.fromkeys(ac or bytes(16) for _, ac in codes))
    longest_dc = np.stack([_longest(one) for one in dc_codes])
    longest_ac = np.stack([_longest(one) for one in ac_codes])
    # All 16-bit patterns of one look-up share a code only if that is no longer than it.
    dc = longest_dc[:, :: 1 << (MAX_CODE_BITS - FIRST_DC_BITS)].copy()
    dc[dc & 31 > FIRST_DC_BITS] = 0
    first_ac = np.zeros((len(ac_codes), 1 << FIRST_BITS), np.uint16)
    ac = np.zeros_like(first_ac)
    for number in range(len(ac_codes)):
        join_codes(longest_ac[number], first_ac[number], ac[number])
    dc_of = [dc_codes.index(dc or bytes(16)) for dc, _ in codes]
    ac_of = [ac_codes.index(ac or bytes(16)) for _, ac in codes]
    flat = all(
        longest_dc[d, 0] >> 8 == 0 and longest_ac[a, 0] >> 8 == 0
        for d, a in zip(dc_of, ac_of, strict=True)
    )
    return _CodeTables(
        dc=dc,
        ac=ac,
        first_ac=first_ac,
        longest_dc=longest_dc,
        longest_ac=longest_ac,
        dc_of=np.array(dc_of, np.int64),
        ac_of=np.array(ac_of, np.int64),
        zeros_are_flat=flat,
    )


def _longest(table: bytes) -> NDArray[np.uint16]:
    """Return length and symbol of the code that each 16 bits begin with."""
    entries = np.zeros(1 << MAX_CODE_BITS, np.uint16)
    place, symbols = 0, iter(table[16:])
    for length, count in enumerate(table[:16], 1):
        span = 1 << (MAX_CODE_BITS - length)
        for _ in range(count):
            if place + span > entries.size:
                raise _Damaged("a table of codes is damaged")
            entries[place : place + span] = length | next(symbols) << 8
            place += span
    return entries


@part_of_kernel
def _signed(value: Any) -> int:
    """Return a number with which one may calculate: unsigned and signed ones give fractions."""
    signed: Any = np.int64(value)
    return signed


@part_of_kernel
def _ac_entry(found: int) -> int:
    """Return the entry of one code from its length and symbol."""
    length, run, size = found & 31, found >> 12, (found >> 8) & 15
    if length == 0 or (size == 0 and run not in (0, 15)):
        return 0
    if size == 0 and run == 0:
        return length | 0x8000
    return (length + size) | (run + 1) << 5


@kernel(numba.void(numba.uint16[::1], numba.uint16[::1], numba.uint16[::1]))
def join_codes(
    longest: NDArray[np.uint16], first: NDArray[np.uint16], joined: NDArray[np.uint16]
) -> None:
    """Fill the two quick look-ups of a table of AC codes."""
    for index in range(1 << FIRST_BITS):
        bits = index << (MAX_CODE_BITS - FIRST_BITS)
        used, ahead, ended = 0, 0, False
        while not ended:
            found = _signed(longest[(bits << used) & 0xFFFF])
            entry = _ac_entry(found)
            if entry == 0 or found & 31 > FIRST_BITS - used:
                break
            if used and used + (entry & 31) > FIRST_BITS:
                break
            if used == 0:
                first[index] = entry
            used += entry & 31
            ahead += (entry >> 5) & 0x3FF
            ended = entry >= 0x8000
            joined[index] = used | ahead << 5 | (0x8000 if ended else 0)
            if used >= FIRST_BITS:
                break


@part_of_kernel
def _filled(
    data: NDArray[np.uint8], place: int, bits: np.uint64, count: int
) -> tuple[int, np.uint64, int]:
    """Read on until 56 bits lie ready, or up to the next marker.

    Args:
        bits: what was read and not used, from the highest bit on, ``count`` of them.
    """
    while count < 56 and place < data.size:
        byte = data[place]
        if byte == 0xFF:
            if place + 1 >= data.size or data[place + 1] != 0:
                break
            place += 1
        bits |= np.uint64(byte) << np.uint64(56 - count)
        place += 1
        count += 8
    return place, bits, count


@part_of_kernel
def _number(bits: np.uint64, size: int) -> int:
    """Return the signed number that ``bits`` begin with, of at least one bit."""
    value = _signed(bits >> np.uint64(64 - size))
    return value if value >= 1 << (size - 1) else value - (1 << size) + 1


@part_of_kernel
def _added(
    averages: NDArray[np.int64],
    limits: NDArray[np.int64],
    component: int,
    bits: np.uint64,
    size: int,
) -> bool:
    """Add the number that ``bits`` begin with to an average; False where that leaves its range."""
    if size > MAX_DC_BITS:
        return False
    averages[component] += _number(bits, size)
    return bool(abs(averages[component]) <= limits[component])


@part_of_kernel
def _end_of_interval(data: NDArray[np.uint8], place: int, bits: np.uint64, count: int) -> int:
    """Return what is wrong where the last block of a scan or of an interval has ended."""
    if count >= 8 or place + 1 >= data.size or data[place] != 0xFF or data[place + 1] == 0:
        return _LEFT_OVER if place + 1 < data.size else _ENDS_EARLY
    # Ones, as the standard says, or zeros, as some encoders do.
    padding = bits >> np.uint64(63 - count) >> np.uint64(1)
    if padding != 0 and padding != (1 << count) - 1:
        return _PADDING
    return 0


@part_of_kernel
def _restarted(
    data: NDArray[np.uint8], place: int, bits: np.uint64, count: int, number: int
) -> tuple[int, int]:
    """Return what is wrong at a restart marker, and the place behind it."""
    fault = _end_of_interval(data, place, bits, count)
    if fault == 0:
        while place + 1 < data.size and data[place + 1] == 0xFF:
            place += 1
        if place + 1 >= data.size or data[place + 1] != 0xD0 + number:
            fault = _RESTART
    return fault, place + 2


@part_of_kernel
def _eight_bytes(data: NDArray[np.uint8], place: int) -> np.uint64:
    """Return the next eight bytes, the first of them highest; compiles to one load."""
    word, start = np.uint64(0), np.uint64(place)
    for ahead in range(8):
        word |= np.uint64(data[start + np.uint64(ahead)]) << np.uint64(56 - 8 * ahead)
    return word


@part_of_kernel
def _fault(found: int, at_byte: int, count: int, length: int) -> int:
    """Return a fault that was found, unless the data had ended before it."""
    return _ENDS_EARLY if 8 * at_byte - count > 8 * length else found


@part_of_kernel
def _copied(data: NDArray[np.uint8], place: int, plain: NDArray[np.uint8]) -> tuple[int, int]:
    """Copy data up to the next marker, without the zeros that follow each FF of it.

    Returns:
        The place of the marker, or where the file ends, and how many bytes were copied.
    """
    count = 0
    while place < data.size:
        while place + 8 <= data.size:
            word = _eight_bytes(data, place)
            if (~word - FF_LOW) & word & FF_HIGH:  # one of them is FF
                break
            start = np.uint64(count)
            for ahead in range(8):
                plain[start + np.uint64(ahead)] = word >> np.uint64(56 - 8 * ahead)
            place += 8
            count += 8
        stop = min(place + 8, data.size)
        while place < stop:
            byte = data[place]
            if byte == 0xFF:
                if place + 1 >= data.size or data[place + 1] != 0:
                    return place, count
                place += 1
            plain[count] = byte
            count += 1
            place += 1
    return place, count


@kernel(
    numba.types.UniTuple(numba.int64, 2)(
        _READ_BYTES,
        numba.int64,
        *[numba.types.Array(numba.uint16, 2, "C")] * 5,
        *[numba.int64[::1]] * 4,
        *[numba.int64] * 2,
    )
)
def walk_sequential_scan(
    data: NDArray[np.uint8],
    place: int,
    dc: NDArray[np.uint16],
    longest_dc: NDArray[np.uint16],
    ac: NDArray[np.uint16],
    first_ac: NDArray[np.uint16],
    longest_ac: NDArray[np.uint16],
    blocks: NDArray[np.int64],
    dc_of: NDArray[np.int64],
    ac_of: NDArray[np.int64],
    limits: NDArray[np.int64],
    mcus: int,
    restart: int,
) -> tuple[int, int]:
    """Walk the data of a sequential scan.

    Args:
        data: the whole file; the scan begins at ``place``.
        dc, longest_dc, ac, first_ac, longest_ac, dc_of, ac_of: see ``_CodeTables``.
        blocks, limits, mcus: see ``_Scan``.
        restart: MCUs between two restart markers; 0 without.

    Returns:
        What is wrong, 0 for nothing, and the place behind the scan.
    """
    shift, dc_shift = np.uint64(64 - FIRST_BITS), np.uint64(64 - FIRST_DC_BITS)
    plain = np.empty(data.size - place + ROOM_BYTES, np.uint8)
    averages = np.zeros(4, np.int64)
    left, number = mcus, 0
    while left > 0:
        place, length = _copied(data, place, plain)
        plain[length : length + ROOM_BYTES] = 0
        averages[:] = 0
        interval = min(left, restart) if restart > 0 else left
        left -= interval
        at_byte, bits, count = 0, np.uint64(0), 0
        for _ in range(interval):
            for block in blocks:
                dc_table, ac_table = dc_of[block], ac_of[block]
                bits |= _eight_bytes(plain, at_byte) >> np.uint64(count)
                at_byte += (63 - count) >> 3
                count |= 56
                entry = _signed(dc[dc_table, bits >> dc_shift])
                if entry == 0:
                    entry = _signed(longest_dc[dc_table, bits >> np.uint64(48)])
                    if entry == 0:
                        return _fault(_NO_CODE, at_byte, count, length), place
                used, size = entry & 31, entry >> 8
                if size > 0 and not _added(averages, limits, block, bits << np.uint64(used), size):
                    return _fault(_RANGE, at_byte, count, length), place
                bits <<= np.uint64(used + size)
                count -= used + size
                at = 1
                while at < COEFFICIENTS:
                    bits |= _eight_bytes(plain, at_byte) >> np.uint64(count)
                    at_byte += (63 - count) >> 3
                    count |= 56
                    for _ in range(2):
                        entry = _signed(ac[ac_table, bits >> shift])
                        ahead = at + ((entry >> 5) & 0x3FF)
                        if entry == 0 or ahead >= COEFFICIENTS:
                            entry = _signed(first_ac[ac_table, bits >> shift])
                            if entry == 0:
                                entry = _ac_entry(
                                    _signed(longest_ac[ac_table, bits >> np.uint64(48)])
                                )
                                if entry == 0:
                                    return _fault(_NO_CODE, at_byte, count, length), place
                            ahead = at + ((entry >> 5) & 0x3FF)
                        bits <<= np.uint64(entry & 31)
                        count -= entry & 31
                        at = ahead
                        if entry >= 0x8000:
                            at |= ENDED
                            break
                        if at >= COEFFICIENTS or count < MAX_BITS:
                            break
                if at & ~ENDED > COEFFICIENTS:
                    return _fault(_OVERRUN, at_byte, count, length), place
                if 8 * at_byte - count > 8 * length:
                    return _ENDS_EARLY, place
        unread = 8 * length - (8 * at_byte - count)
        if unread >= 8 or place + 1 >= data.size:
            return _LEFT_OVER if place + 1 < data.size else _ENDS_EARLY, place
        # Ones, as the standard says, or zeros, as some encoders do.
        padding = _signed(plain[length - 1]) & ((1 << unread) - 1) if length > 0 else 0
        if padding != 0 and padding != (1 << unread) - 1:
            return _PADDING, place
        if left > 0:
            while place + 1 < data.size and data[place + 1] == 0xFF:
                place += 1
            if place + 1 >= data.size or data[place + 1] != 0xD0 + number:
                return _RESTART, place
            place += 2
            number = (number + 1) & 7
    return 0, place


@kernel(
    numba.types.UniTuple(numba.int64, 2)(
        _READ_BYTES,
        numba.int64,
        numba.types.Array(numba.uint16, 2, "C"),
        *[numba.int64[::1]] * 2,
        *[numba.int64] * 2,
        numba.boolean,
    )
)
def walk_dc_scan(
    data: NDArray[np.uint8],
    place: int,
    longest_dc: NDArray[np.uint16],
    blocks: NDArray[np.int64],
    limits: NDArray[np.int64],
    mcus: int,
    restart: int,
    refines: bool,
) -> tuple[int, int]:
    """Walk a scan of averages of a progressive image; arguments as for a sequential one.

    Args:
        refines: each block gets one more bit.
    """
    bits, count = np.uint64(0), 0
    averages = np.zeros(4, np.int64)
    for mcu in range(mcus):
        if restart > 0 and mcu > 0 and mcu % restart == 0:
            fault, place = _restarted(data, place, bits, count, (mcu // restart - 1) & 7)
            if fault:
                return fault, place
            bits, count = np.uint64(0), 0
            averages[:] = 0
        for block in blocks:
            if count < 32:
                place, bits, count = _filled(data, place, bits, count)
            if refines:
                length, size = 1, 0
            else:
                entry = _signed(longest_dc[block, bits >> np.uint64(48)])
                if entry == 0:
                    return _NO_CODE, place
                length, size = entry & 31, entry >> 8
            if size > 0 and not _added(averages, limits, block, bits << np.uint64(length), size):
                return _RANGE, place
            bits <<= np.uint64(length + size)
            count -= length + size
            if count < 0:
                return _ENDS_EARLY, place
    return _end_of_interval(data, place, bits, count), place


@kernel(
    numba.types.UniTuple(numba.int64, 2)(
        _READ_BYTES,
        numba.int64,
        numba.types.Array(numba.uint16, 1, "C"),
        numba.uint8[:, ::1],
        *[numba.int64] * 4,
        numba.boolean,
    )
)
def walk_ac_scan(
    data: NDArray[np.uint8],
    place: int,
    longest_ac: NDArray[np.uint16],
    nonzero: NDArray[np.uint8],
    blocks: int,
    restart: int,
    first: int,
    last: int,
    refines: bool,
) -> tuple[int, int]:
    """Walk a scan of details of a progressive image.

    Args:
        nonzero: ``(blocks, 64)``, which coefficients are not zero so far; changed.
        first, last: the coefficients that the scan gives.
        refines: those that are not zero get one more bit, others may become so.
    """
    bits, count = np.uint64(0), 0
    ended_blocks = 0
    for block in range(blocks):
        if restart > 0 and block > 0 and block % restart == 0:
            if ended_blocks:
                return _OVERRUN, place
            fault, place = _restarted(data, place, bits, count, (block // restart - 1) & 7)
            if fault:
                return fault, place
            bits, count = np.uint64(0), 0
        at = first
        while at <= last and ended_blocks == 0:
            if count < 32:
                place, bits, count = _filled(data, place, bits, count)
            found = _signed(longest_ac[bits >> np.uint64(48)])
            length, run, size = found & 31, found >> 12, (found >> 8) & 15
            if length == 0 or (refines and size > 1):
                return _NO_CODE, place
            bits <<= np.uint64(length)
            count -= length
            if size == 0 and run < 15:
                ended_blocks = (1 << run) + _signed(bits >> np.uint64(63 - run) >> np.uint64(1))
                bits <<= np.uint64(run)
                count -= run
                break
            bits <<= np.uint64(size)  # a sign, or the whole number
            count -= size
            if not refines:
                at += run
            # Written out here and below: one loop for both, or a function, measured slower.
            while refines and at <= last:
                if nonzero[block, at]:
                    if count < 8:
                        place, bits, count = _filled(data, place, bits, count)
                    bits <<= np.uint64(1)
                    count -= 1
                else:
                    if run == 0:
                        break
                    run -= 1
                at += 1
            if at > last and (size > 0 or not refines):
                return _OVERRUN, place
            if size > 0:
                nonzero[block, at] = 1
            at += 1
            if count < 0:
                return _ENDS_EARLY, place
        if ended_blocks > 0:
            ended_blocks -= 1
            while refines and at <= last:
                if nonzero[block, at]:
                    if count < 8:
                        place, bits, count = _filled(data, place, bits, count)
                    bits <<= np.uint64(1)
                    count -= 1
                at += 1
        if count < 0:
            return _ENDS_EARLY, place
    if ended_blocks:
        return _OVERRUN, place
    return _end_of_interval(data, place, bits, count), place


@lru_cache(maxsize=1)
def _standard_tables() -> dict[int, bytes]:
    """Return the codes of T.81's annex K, which Motion-JPEG leaves out; the encoder writes them."""
    _, encoded = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    raw, place = encoded.tobytes(), 2
    tables: dict[int, bytes] = {}
    while raw[place + 1] != _SOS:
        body = _segment(raw, place + 2)
        if raw[place + 1] == _DHT:
            _read_codes(body, tables)
        place += 4 + len(body)
    return tables
