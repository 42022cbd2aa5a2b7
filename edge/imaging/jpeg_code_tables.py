"""Look-ups for the Huffman codes of a scan of a JPEG.

Source: ITU-T T.81, annexes C and F.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge.imaging.jpeg_headers import JpegDamaged
from edge.imaging.jpeg_scans import FIRST_BITS, FIRST_DC_BITS, MAX_CODE_BITS, join_codes


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTables:
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
def code_tables(codes: tuple[tuple[bytes | None, bytes | None], ...]) -> CodeTables:
    """Return the look-ups of a scan.

    Args:
        codes: of each component, of its averages and its details: 16 counts and the symbols.

    Raises:
        JpegDamaged: they are no codes.
    """
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
    return CodeTables(
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
                raise JpegDamaged("a table of codes is damaged")
            entries[place : place + span] = length | next(symbols) << 8
            place += span
    return entries
