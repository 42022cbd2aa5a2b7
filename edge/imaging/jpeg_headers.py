"""The markers and headers of a JPEG: what stands before its scans.

Source: ITU-T T.81, annex B.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

COEFFICIENTS = 64
SOI, EOI, SOS, DQT, DHT, DRI = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD
_SEQUENTIAL, _PROGRESSIVE = frozenset({0xC0, 0xC1}), 0xC2


class JpegDamaged(Exception):
    """What is wrong with the image."""


@dataclass(slots=True, kw_only=True)
class JpegComponent:
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
class JpegImage:
    progressive: bool
    width: int
    height: int
    components: dict[int, JpegComponent]
    mcus_wide: int
    mcus_high: int


@dataclass(slots=True)
class JpegHeaders:
    """What stands before a scan.

    Attributes:
        tables: of codes, by class and number.
        steps: of a block's average, by quantization table.
        restart: MCUs between two restart markers; 0 without.
    """

    image: JpegImage | None = None
    tables: dict[int, bytes] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    restart: int = 0

    def read(self, marker: int, body: bytes) -> None:
        """Read a segment that is no scan."""
        if marker in _SEQUENTIAL or marker == _PROGRESSIVE:
            if self.image is not None:
                raise JpegDamaged("two images are mixed")
            self.image = _frame_header(body, marker == _PROGRESSIVE)
        elif marker == DHT:
            _read_codes(body, self.tables)
        elif marker == DQT:
            _read_steps(body, self.steps)
        elif marker == DRI:
            if len(body) != 2:
                raise JpegDamaged("a header is damaged")
            self.restart = int.from_bytes(body, "big")
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            raise JpegDamaged(f"an unknown marker {marker:#x} stands in it")


def read_marker(raw: bytes, place: int) -> tuple[int, int]:
    """Return the marker that has to stand here, and the place behind it."""
    if raw[place : place + 1] not in (b"\xff", b""):
        raise JpegDamaged("bytes are left over before a marker")
    while raw[place : place + 1] == b"\xff":  # any number of them may precede a marker
        place += 1
    if place >= len(raw):
        raise JpegDamaged("the end marker is missing")
    return raw[place], place + 1


def read_segment(raw: bytes, place: int) -> bytes:
    """Return what stands in the segment whose length stands here."""
    length = int.from_bytes(raw[place : place + 2], "big")
    body = raw[place + 2 : place + length]
    if length < 2 or len(body) != length - 2:
        raise JpegDamaged("a header is cut")
    return body


def _frame_header(body: bytes, progressive: bool) -> JpegImage:
    if len(body) < 6 or len(body) != 6 + 3 * body[5] or body[5] not in (1, 2, 3, 4):
        raise JpegDamaged("the header of the image is damaged")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if body[0] != 8 or not height or not width:
        raise JpegDamaged(
            f"{body[0]} bits and {width}×{height} pixels cannot be checked; save it as 8-bit "
            "baseline JPEG or PNG"
        )
    components = {
        body[at]: JpegComponent(
            horizontal=body[at + 1] >> 4, vertical=body[at + 1] & 15, quantization=body[at + 2]
        )
        for at in range(6, len(body), 3)
    }
    if len(components) != body[5] or not all(
        1 <= one.horizontal <= 4 and 1 <= one.vertical <= 4 for one in components.values()
    ):
        raise JpegDamaged("the header of the image is damaged")
    max_wide = max(one.horizontal for one in components.values())
    max_high = max(one.vertical for one in components.values())
    mcus_wide, mcus_high = -(-width // (8 * max_wide)), -(-height // (8 * max_high))
    for one in components.values():
        one.blocks_wide = _blocks(width * one.horizontal, max_wide)
        one.blocks_high = _blocks(height * one.vertical, max_high)
    return JpegImage(
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
            raise JpegDamaged("a table of codes is damaged")
        tables[body[0]] = body[1 : 17 + count]
        body = body[17 + count :]


def _read_steps(body: bytes, steps: dict[int, int]) -> None:
    """Read of each quantization table the step of a block's average."""
    while body:
        size = 1 + body[0] // 16
        values = body[1 : 1 + COEFFICIENTS * size]
        if size > 2 or len(values) != COEFFICIENTS * size:
            raise JpegDamaged("a quantization table is damaged")
        if size == 1 and 0 in values:
            raise JpegDamaged("a quantization table is damaged")
        steps[body[0] & 15] = int.from_bytes(values[:size], "big") or 1
        body = body[1 + COEFFICIENTS * size :]


@lru_cache(maxsize=1)
def standard_tables() -> dict[int, bytes]:
    """Return the codes of T.81's annex K, which Motion-JPEG leaves out; the encoder writes them."""
    _, encoded = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    raw, place = encoded.tobytes(), 2
    tables: dict[int, bytes] = {}
    while raw[place + 1] != SOS:
        body = read_segment(raw, place + 2)
        if raw[place + 1] == DHT:
            _read_codes(body, tables)
        place += 4 + len(body)
    return tables
