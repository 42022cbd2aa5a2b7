"""From which file the image of a part came: its URI in the verdict, and the name people know."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_from_bytes, unquote, urlsplit

from edge.contract.encoding import bounded

MAX_URI = 1000
MAX_NAME = 300
_FRAME = re.compile(r"#frame=[0-9]+$")
_NO_UTF_8 = re.compile(rb"\\x([89a-f][0-9a-f])")


def source_uri(source: str | None) -> str | None:
    """Return what ``image.source_uri`` of a verdict says.

    Args:
        source: URI of the file, percent-encoded; None for a live camera.

    Returns:
        The URI; of one that is too long the name of the file alone, a relative reference.
    """
    if not source or not source.isascii():
        return None
    return source if len(source) <= MAX_URI else source.rpartition("/")[2][:MAX_URI]


def image_name(verdict: Mapping[str, Any]) -> str | None:
    """Return the name of the file that a ``verdict/1`` record is about, as people write it.

    ``part_7.png``, or ``line.mp4#frame=12`` for a frame of a video; None for a live camera, and in
    records that are older than the field.
    """
    image = verdict.get("image")
    uri = image.get("source_uri") if isinstance(image, Mapping) else None
    return None if not isinstance(uri, str) else parse_name(uri)


def parse_name(uri: str) -> str | None:
    """Return the decoded last segment of a file's URI, with the number of a video's frame.

    Bytes that are not UTF-8 are backslash escapes, as in every text: ``sch\\xf6n.png``. None of
    what is no URI.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    name = unquote(parts.path.rpartition("/")[2], errors="surrogateescape")
    if not name:
        return None
    return bounded(f"{name}#{parts.fragment}" if parts.fragment else name, MAX_NAME)


def encoded_name(name: str) -> bytes:
    """Return a file's name as it stands at the end of ``image.source_uri`` in a stored record."""
    frame = _FRAME.search(name)
    stem, suffix = (name[: frame.start()], frame[0]) if frame else (name, "")
    raw = _NO_UTF_8.sub(lambda escape: bytes([int(escape[1], 16)]), stem.encode(errors="replace"))
    return f"/{quoted_name(raw)}{suffix}".encode()


def quoted_name(raw: bytes) -> str:
    """Return a file's name as it stands in a URI."""
    return quote_from_bytes(raw, safe="")
