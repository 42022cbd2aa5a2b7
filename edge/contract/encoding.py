"""How texts, times and identities are written in payloads."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from edge.redaction import readable


def to_json(content: Mapping[str, Any]) -> str:
    """Serialise a payload on one line, which UTF-8 can carry: see ``readable``.

    Raises:
        ValueError: a number is NaN or infinite, which JSON has no word for.
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text if text.isascii() else readable(text, in_json=True)


def new_id(utc_ns: int) -> str:
    """Return a UUIDv7: ids sort by time, to a quarter of a microsecond; the rest is random.

    Source: RFC 9562, 5.7, and 6.2, method 3.

    Args:
        utc_ns: wall-clock time in nanoseconds since 1970.
    """
    milliseconds, rest_ns = divmod(utc_ns, 1_000_000)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76
    value |= (rest_ns * 4096 // 1_000_000) << 64 | 0x2 << 62
    value |= int.from_bytes(os.urandom(8), "big") >> 2
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def bounded(text: str, longest: int) -> str:
    """Make a text safe to send: printable, encodable (file names need not be), bounded."""
    text = readable(text[: longest + 1])
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable if len(printable) <= longest else printable[: longest - 1] + "…"


def utc_text(ns: int) -> str:
    """Write nanoseconds since 1970 as RFC 3339 with microseconds."""
    moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ns % 1_000_000_000 // 1000:06d}Z"
