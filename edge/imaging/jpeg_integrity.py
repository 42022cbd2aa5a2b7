"""Whether a JPEG is whole. Decoders fill what is missing or damaged, and call it a success.

The entropy-coded data is walked to its very end without decoding a pixel: every code has to be one
of the tables', no block may hold more than 64 coefficients, no average may lie beyond black or
white, restart markers have to come in order and exactly where they belong, and the last block has
to end where the end marker begins.

Source: ITU-T T.81, annexes B (markers), F (sequential) and G (progressive).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge.imaging.jpeg_code_tables import CodeTables, code_tables
from edge.imaging.jpeg_headers import (
    COEFFICIENTS,
    EOI,
    SOS,
    JpegComponent,
    JpegDamaged,
    JpegHeaders,
    JpegImage,
    read_marker,
    read_segment,
    standard_tables,
)
from edge.imaging.jpeg_scans import FAULTS, walk_ac_scan, walk_dc_scan, walk_sequential_scan

# Lost and never written parts of a buffer or file read as zeros. Entropy-coded data holds no such
# run, unless every flat block is coded as zeros only.
ZERO_RUN = bytes(24)
_WITHOUT_TABLES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, *range(0xC8, 0xD0), 0xDC, 0xDE, 0xDF}) - {0xCC}
_MAX_SEGMENTS = 100_000
# Headers of one camera are alike from image to image, so what they say is kept.
_MAX_KEPT_HEADER = 4096


def jpeg_fault(encoded: NDArray[np.uint8]) -> str:
    """Return what is missing or damaged in a JPEG; empty if it is whole.

    What follows the end marker is not looked at.

    Args:
        encoded: ``(N,) uint8``, from the start marker on.
    """
    try:
        _check(np.ascontiguousarray(encoded).reshape(-1))
    except JpegDamaged as damage:
        return str(damage)
    return ""


def _check(data: NDArray[np.uint8]) -> None:
    raw = data.tobytes()
    scan = _only_scan(raw)
    if scan is not None:
        end = _walk_sequential(data, raw, scan.header_bytes, scan)
        if read_marker(raw, end)[0] == EOI:
            return
    if not raw.startswith(b"\xff\xd8"):
        raise JpegDamaged("the start marker is missing")
    place = 2
    headers = JpegHeaders()
    for _ in range(_MAX_SEGMENTS):
        marker, place = read_marker(raw, place)
        if marker == EOI:
            if headers.image is None:
                raise JpegDamaged("the image ends before it begins")
            _check_that_all_came(headers.image)
            return
        if marker in _WITHOUT_TABLES:
            raise JpegDamaged(
                f"its kind (marker {marker:#x}) cannot be checked; save it as baseline JPEG or PNG"
            )
        body = read_segment(raw, place)
        place += 2 + len(body)
        if marker != SOS:
            headers.read(marker, body)
        elif headers.image is None:
            raise JpegDamaged("the header of the image is missing")
        else:
            place = _check_scan(data, raw, place, body, headers=headers, image=headers.image)
    raise JpegDamaged("it has too many headers")


def _only_scan(raw: bytes) -> "_Scan | None":
    """Return the first scan where it holds the whole of a sequential image; None of any other."""
    found = raw.find(b"\xff\xda", 0, _MAX_KEPT_HEADER)
    if found < 0:
        return None
    return _scan_behind(raw[: found + 2 + int.from_bytes(raw[found + 2 : found + 4], "big")])


@lru_cache(maxsize=16)
def _scan_behind(header: bytes) -> "_Scan | None":
    """Read headers up to and with that of a scan; None where something else is to be said."""
    headers, place = JpegHeaders(), 2
    try:
        while place < len(header):
            marker, place = read_marker(header, place)
            body = read_segment(header, place)
            place += 2 + len(body)
            if marker != SOS:
                headers.read(marker, body)
    except JpegDamaged:
        return None
    image = headers.image
    whole = header.startswith(b"\xff\xd8") and marker == SOS and image is not None
    if (
        not whole
        or image is None
        or image.progressive
        or body[:1] != bytes([len(image.components)])
    ):
        return None
    try:
        return _scan(body, headers, image, len(header))
    except JpegDamaged:
        return None


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

    components: Sequence[JpegComponent]
    first: int
    last: int
    high: int
    low: int
    codes: "CodeTables"
    blocks: NDArray[np.int64]
    limits: NDArray[np.int64]
    mcus: int
    restart: int
    header_bytes: int


def _scan(body: bytes, headers: JpegHeaders, image: JpegImage, header_bytes: int = 0) -> _Scan:
    """Read the header of a scan."""
    if len(body) < 1 or len(body) != 4 + 2 * body[0] or body[0] not in (1, 2, 3, 4):
        raise JpegDamaged("the header of a scan is damaged")
    names = body[1:-3:2]
    if len(set(names)) != len(names) or not all(name in image.components for name in names):
        raise JpegDamaged("the header of a scan is damaged")
    components = [image.components[name] for name in names]
    first, last = body[-3], body[-2]
    high, low = body[-1] >> 4, body[-1] & 15
    if not image.progressive:
        first, last, high, low = 0, 63, 0, 0
    chosen = body[2:-3:2]
    tables = headers.tables or standard_tables()
    # A scan of averages needs no codes for details, and the other way round.
    codes = tuple((tables.get(c >> 4), tables.get(0x10 | c & 15)) for c in chosen)
    if any((dc is None and first == 0) or (ac is None and last > 0) for dc, ac in codes):
        raise JpegDamaged("a table of codes is missing")
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
        codes=code_tables(codes),
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
    headers: JpegHeaders,
    image: JpegImage,
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
        raise JpegDamaged(FAULTS[fault])
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
        raise JpegDamaged(FAULTS[fault])
    if not codes.zeros_are_flat and raw.find(ZERO_RUN, place, end) >= 0:
        raise JpegDamaged("a part of it is zeros, as of data that never came")
    return int(end)


def _record_progress(image: JpegImage, scan: _Scan) -> None:
    """Hold a scan against what came before it: each bit of each coefficient comes once."""
    first, last, high, low = scan.first, scan.last, scan.high, scan.low
    sound = first <= last < COEFFICIENTS and (first > 0 or last == 0 or not image.progressive)
    if not sound or (first > 0 and len(scan.components) > 1) or (high and low != high - 1):
        raise JpegDamaged("the header of a scan is damaged")
    count = last + 1 - first
    for one in scan.components:
        if one.lowest_bit[first : last + 1] != [high or -1] * count:
            raise JpegDamaged("a scan is missing or comes twice")
        one.lowest_bit[first : last + 1] = [low] * count


def _check_that_all_came(image: JpegImage) -> None:
    if any(any(one.lowest_bit) for one in image.components.values()):
        raise JpegDamaged("scans of the image are missing")
