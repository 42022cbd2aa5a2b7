"""Walks the entropy-coded data of a scan of a JPEG to its end, without decoding a pixel.

All kernels of it are here: numba sees by the age of its file that one has changed.

Source: ITU-T T.81, annexes F (sequential) and G (progressive).
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from edge.imaging.jpeg_headers import COEFFICIENTS
from edge.imaging.kernels import kernel, part_of_kernel

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
_READ_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_ENDS_EARLY, _LEFT_OVER, _RESTART, _NO_CODE, _RANGE, _OVERRUN, _PADDING = range(1, 8)
FAULTS = {
    _ENDS_EARLY: "the image ends before its last block",
    _LEFT_OVER: "bytes are left over behind the last block",
    _RESTART: "a restart marker is missing or out of order",
    _NO_CODE: "the data holds a code that is in no table",
    _RANGE: "a block is brighter than white or darker than black",
    _OVERRUN: "a block has more than 64 coefficients",
    _PADDING: "the padding behind the last block is damaged",
}


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
        dc, longest_dc, ac, first_ac, longest_ac, dc_of, ac_of: see ``CodeTables``.
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
