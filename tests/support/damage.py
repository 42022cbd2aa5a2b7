"""Damaged JPEGs, as cameras, networks, disks and memories make them."""

import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np

END = b"\xff\xd9"
SIZES = (188, 512, 1024, 1460, 4096)
Damage = Callable[[bytes, bytes, np.random.Generator], bytes]


def scan_start(jpeg: bytes) -> int:
    """Return where the entropy-coded data begins."""
    header = jpeg.index(b"\xff\xda")
    return header + 2 + int.from_bytes(jpeg[header + 2 : header + 4], "big")


def _span(jpeg: bytes, length: int, random: np.random.Generator) -> slice:
    start = scan_start(jpeg)
    at = int(random.integers(start, max(start + 1, len(jpeg) - 2 - length)))
    return slice(at, min(at + length, len(jpeg) - 2))


def _length(random: np.random.Generator) -> int:
    """Return a length: from a few bytes to a packet of a network or a page of a disk."""
    return int(random.choice(SIZES))


def cut(jpeg: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """The tail never came."""
    return jpeg[: int(random.integers(scan_start(jpeg), len(jpeg) - 2))]


def cut_and_ended(jpeg: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """The tail never came, the camera sends the end marker all the same."""
    return cut(jpeg, other, random) + END


def lost(jpeg: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """A packet in the middle is missing, and what follows has closed up."""
    span = _span(jpeg, _length(random), random)
    return jpeg[: span.start] + jpeg[span.stop :]


def zeroed(jpeg: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """A packet or page never came: the buffer was empty there."""
    span = _span(jpeg, max(64, _length(random)), random)
    return jpeg[: span.start] + bytes(span.stop - span.start) + jpeg[span.stop :]


def stale(jpeg: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """A packet never came: the buffer holds another image there."""
    span = _span(jpeg, _length(random), random)
    old = other[span].ljust(span.stop - span.start, b"\0")
    return jpeg[: span.start] + old + jpeg[span.stop :]


def noise(jpeg: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Bytes were overwritten with others."""
    span = _span(jpeg, _length(random), random)
    return jpeg[: span.start] + random.bytes(span.stop - span.start) + jpeg[span.stop :]


def moved(jpeg: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Two packets came in the wrong order."""
    length = _length(random)
    first = _span(jpeg, 2 * length, random)
    middle = min(first.start + length, first.stop)
    return (
        jpeg[: first.start]
        + jpeg[middle : first.stop]
        + jpeg[first.start : middle]
        + jpeg[first.stop :]
    )


def another_tail(jpeg: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """The buffer was filled anew while it was sent."""
    at = int(random.integers(scan_start(jpeg), min(len(jpeg), len(other)) - 2))
    return jpeg[:at] + other[at:]


def intervals(jpeg: bytes) -> tuple[bytes, list[bytes]]:
    """Split a JPEG with restart markers into its head and its intervals, markers behind them."""
    start = scan_start(jpeg)
    ends = [found.end() for found in re.finditer(rb"\xff[\xd0-\xd9]", jpeg[start:])]
    return jpeg[:start], [jpeg[start + begin : start + end] for begin, end in pairwise([0, *ends])]


def intervals_lost(jpeg: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Restart intervals did not come."""
    head, pieces = intervals(jpeg)
    first = int(random.integers(0, len(pieces) - 1))
    del pieces[first : first + int(random.integers(1, 9))]
    return head + b"".join(pieces) + (b"" if pieces[-1].endswith(END) else END)
