"""From the bytes a GenICam camera sends to the pixels of a frame.

Grey of more than 8 bits is shifted up to 16 (``Mono10`` by 6, ``Mono12`` by 4), so that black and
white levels mean the same light whatever the depth: 65535 is a full well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import CameraError
from edge.imaging.frame import PixelFormat, Pixels

Bytes = NDArray[np.uint8]


class ImageUndecodable(CameraError):
    """The bytes of a frame are not what its size and pixel format say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFormat:
    """How a camera lays out samples.

    Attributes:
        name, code: of GenICam's Pixel Format Naming Convention.
        bits: per pixel.
        becomes: what a frame of it is.
    """

    name: str
    code: int
    bits: int
    becomes: PixelFormat
    _decode: Callable[[Bytes, int, int], Pixels]

    def image_bytes(self, width: int, height: int) -> int:
        return (width * height * self.bits + 7) // 8

    def decode(self, sent: Bytes, width: int, height: int) -> Pixels:
        """Return the frame as an array of its own; one pass over the pixels.

        Args:
            sent: ``(N,) uint8``, not changed and not kept.

        Raises:
            ImageUndecodable: N is not what the size needs.
        """
        needed = self.image_bytes(width, height)
        if sent.size != needed or not needed:
            raise ImageUndecodable(
                f"{self.name} of {width}×{height} pixels has {needed} bytes, {sent.size} came. "
                "Check camera.sensor and the camera's firmware."
            )
        return self._decode(sent, width, height)


def _grey8(sent: Bytes, width: int, height: int) -> Pixels:
    return sent.reshape(height, width).copy()


def _grey_in_16(shift: int) -> Callable[[Bytes, int, int], Pixels]:
    def decode(sent: Bytes, width: int, height: int) -> Pixels:
        samples = sent.view("<u2").reshape(height, width)
        return np.left_shift(samples, np.uint16(shift), dtype=np.uint16)

    return decode


def _grey_packed(bits: int) -> Callable[[Bytes, int, int], Pixels]:
    # A stream of bits, least significant first: four samples of 10 bits in five bytes, two of 12
    # in three.
    samples = 8 // math.gcd(bits, 8)
    mask = np.uint16(0xFFFF << (16 - bits) & 0xFFFF)

    def decode(sent: Bytes, width: int, height: int) -> Pixels:
        groups = _in_groups(sent, samples * bits // 8)
        grey = np.empty((len(groups), samples), np.uint16)
        for place in range(samples):
            byte, bit = divmod(place * bits, 8)
            two = groups[:, byte + 1].astype(np.uint16) << np.uint16(8) | groups[:, byte]
            # The shift drops the neighbour above, the mask the one below.
            np.left_shift(two, np.uint16(16 - bits - bit), out=grey[:, place])
        grey &= mask
        return grey.reshape(-1)[: width * height].reshape(height, width)

    return decode


def _in_groups(sent: Bytes, group: int) -> Bytes:
    missing = -sent.size % group
    if missing:
        sent = np.concatenate([sent, np.zeros(missing, np.uint8)])
    return sent.reshape(-1, group)


def _converted(channels: int, how: int) -> Callable[[Bytes, int, int], Pixels]:
    shape = (channels,) if channels > 1 else ()

    def decode(sent: Bytes, width: int, height: int) -> Pixels:
        return np.asarray(cv2.cvtColor(sent.reshape(height, width, *shape), how), np.uint8)

    return decode


def _bgr8(sent: Bytes, width: int, height: int) -> Pixels:
    return sent.reshape(height, width, 3).copy()


_GREY8, _GREY16, _BGR8 = PixelFormat.GREY8, PixelFormat.GREY16, PixelFormat.BGR8

FORMATS = {
    form.name: form
    for form in (
        WireFormat(name="Mono8", code=0x01080001, bits=8, becomes=_GREY8, _decode=_grey8),
        WireFormat(
            name="Mono10", code=0x01100003, bits=16, becomes=_GREY16, _decode=_grey_in_16(6)
        ),
        WireFormat(
            name="Mono12", code=0x01100005, bits=16, becomes=_GREY16, _decode=_grey_in_16(4)
        ),
        WireFormat(
            name="Mono16", code=0x01100007, bits=16, becomes=_GREY16, _decode=_grey_in_16(0)
        ),
        WireFormat(
            name="Mono10p", code=0x010A0046, bits=10, becomes=_GREY16, _decode=_grey_packed(10)
        ),
        WireFormat(
            name="Mono12p", code=0x010C0047, bits=12, becomes=_GREY16, _decode=_grey_packed(12)
        ),
        # OpenCV's older names (BayerBG for GenICam's RG) are shifted by a pixel; these are not.
        WireFormat(
            name="BayerRG8",
            code=0x01080009,
            bits=8,
            becomes=_BGR8,
            _decode=_converted(1, cv2.COLOR_BayerRGGB2BGR),
        ),
        WireFormat(
            name="BayerGR8",
            code=0x01080008,
            bits=8,
            becomes=_BGR8,
            _decode=_converted(1, cv2.COLOR_BayerGRBG2BGR),
        ),
        WireFormat(
            name="BayerGB8",
            code=0x0108000A,
            bits=8,
            becomes=_BGR8,
            _decode=_converted(1, cv2.COLOR_BayerGBRG2BGR),
        ),
        WireFormat(
            name="BayerBG8",
            code=0x0108000B,
            bits=8,
            becomes=_BGR8,
            _decode=_converted(1, cv2.COLOR_BayerBGGR2BGR),
        ),
        WireFormat(
            name="RGB8",
            code=0x02180014,
            bits=24,
            becomes=_BGR8,
            _decode=_converted(3, cv2.COLOR_RGB2BGR),
        ),
        WireFormat(name="BGR8", code=0x02180015, bits=24, becomes=_BGR8, _decode=_bgr8),
    )
}

BY_CODE = {form.code: form for form in FORMATS.values()}
