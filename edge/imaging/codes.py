"""Codes in images: QR by OpenCV, QR and DataMatrix by zxing-cpp where it is installed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigurationError
from edge.imaging.frame import Box, Pixels
from edge.wording import counted

MAX_TEXT_LENGTH = 100
# Control characters as their symbols: printable, and no two codes read alike.
_SYMBOLS = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_ZXING = {"qr": "QRCode", "datamatrix": "DataMatrix"}


class CodesNotInstalled(ConfigurationError):
    """A kind of code needs a library that is not installed."""


@dataclass(frozen=True, slots=True)
class CodeReading:
    """What the code of an image says.

    Attributes:
        text: None where none was read. Of a GS1 code as people read it, ``(01)…(21)…``; of others
            control characters are their symbols: the group separator is ``␝``.
        fault: why not; else empty.
    """

    text: str | None
    fault: str = ""


def demand_readable(kinds: Sequence[str]) -> None:
    """Demand that kinds of codes, ``qr`` or ``datamatrix``, can be read here.

    Raises:
        CodesNotInstalled: DataMatrix without zxing-cpp.
    """
    if "datamatrix" in kinds and not _has_zxing():
        raise CodesNotInstalled(
            "code.kinds: datamatrix needs zxing-cpp, which is not installed. Install "
            "inspection-station[codes], or read qr alone."
        )


def read_code(pixels: Pixels, kinds: Sequence[str], region: Box | None) -> CodeReading:
    """Read the one code of an image.

    Args:
        pixels: of any format a frame may have.
        kinds: ``qr``, ``datamatrix``; those that ``demand_readable`` lets pass.
        region: where to look; None looks everywhere.
    """
    if region is not None:
        rows, columns = pixels.shape[:2]
        if region.x + region.width > columns or region.y + region.height > rows:
            return CodeReading(
                None,
                f"code.region {region.width}×{region.height}+{region.x}+{region.y} does not fit "
                f"the {columns}×{rows} frame. Change one of them.",
            )
        pixels = pixels[region.y : region.y + region.height, region.x : region.x + region.width]
    grey = _grey(pixels)
    read = _read_zxing(grey, kinds) if _has_zxing() else _read_qr(grey)
    texts = list(dict.fromkeys(text.translate(_SYMBOLS) for text in read))
    if not texts:
        return CodeReading(
            None,
            f"no readable code ({' or '.join(kinds)}). Check its print, focus and light, and "
            "code.region.",
        )
    if len(texts) > 1:
        return CodeReading(
            None,
            f"{counted(len(texts), 'code')} with different texts. Set code.region to where the "
            "part's is.",
        )
    text = texts[0]
    if len(text) > MAX_TEXT_LENGTH or not text.isprintable():
        return CodeReading(
            None,
            f"the code holds {len(text)} characters, or some that cannot be printed; a part id "
            f"has at most {MAX_TEXT_LENGTH} plain ones. Print another, or set code.unreadable: "
            "empty.",
        )
    return CodeReading(text)


@cache
def _has_zxing() -> bool:
    return find_spec("zxingcpp") is not None


def _read_zxing(grey: NDArray[np.uint8], kinds: Sequence[str]) -> list[str]:
    # zxing-cpp is an extra.
    import zxingcpp

    formats: Any = [getattr(zxingcpp.BarcodeFormat, _ZXING[kind]) for kind in kinds]
    found = zxingcpp.read_barcodes(grey, formats=formats)
    as_people_read = (zxingcpp.ContentType.Text, zxingcpp.ContentType.GS1)
    texts = [one.text for one in found if one.content_type in as_people_read]
    if len(texts) < len(found):  # there <GS> stands for a control character, and for these letters
        mode = zxingcpp.TextMode.Plain
        plain = zxingcpp.read_barcodes(grey, formats=formats, text_mode=mode)
        texts += [one.text for one in plain if one.content_type not in as_people_read]
    return [text for text in texts if text]


def _read_qr(grey: NDArray[np.uint8]) -> list[str]:
    try:
        # As bytes, for a text would end at the first zero.
        _, found, _, _ = cv2.QRCodeDetector().detectAndDecodeBytesMulti(grey)
        return [one.decode() for one in found if one]
    except (cv2.error, UnicodeDecodeError):  # it meets both in images without a code
        return []


def _grey(pixels: Pixels) -> NDArray[np.uint8]:
    """Return 8 bits of grey; 16 bits are stretched to what is there."""
    if pixels.dtype != np.uint8:
        low, high = int(pixels.min()), int(pixels.max())
        pixels = ((pixels - np.float32(low)) * (255.0 / max(high - low, 1))).astype(np.uint8)
    samples = np.ascontiguousarray(pixels, np.uint8)
    if samples.ndim == 2:
        return samples
    conversion = cv2.COLOR_BGRA2GRAY if samples.shape[2] == 4 else cv2.COLOR_BGR2GRAY
    return cv2.cvtColor(samples, conversion)
