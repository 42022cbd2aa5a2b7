"""The frame: what travels from a camera to the inspector."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.integer]


class FrameStatus(StrEnum):
    """Whether a frame may be inspected; only ``COMPLETE`` may."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    STALE = "stale"
    FROZEN = "frozen"


class PixelFormat(StrEnum):
    """Sample layout of a frame: ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``; 8 or 16 bits."""

    GREY8 = "grey8"
    GREY16 = "grey16"
    BGR8 = "bgr8"
    BGR16 = "bgr16"
    BGRA8 = "bgra8"
    BGRA16 = "bgra16"

    @property
    def is_colour(self) -> bool:
        return self not in (PixelFormat.GREY8, PixelFormat.GREY16)

    @property
    def is_16_bit(self) -> bool:
        return self.value.endswith("16")


_FORMATS = {
    (1, "uint8"): PixelFormat.GREY8,
    (1, "uint16"): PixelFormat.GREY16,
    (3, "uint8"): PixelFormat.BGR8,
    (3, "uint16"): PixelFormat.BGR16,
    (4, "uint8"): PixelFormat.BGRA8,
    (4, "uint16"): PixelFormat.BGRA16,
}


def pixel_format(pixels: Pixels) -> PixelFormat | None:
    """Return the format of an array, or None for a layout that is no frame's."""
    if pixels.ndim == 2:
        channels = 1
    elif pixels.ndim == 3 and pixels.shape[2] > 1:  # (H, W, 1) would be grey in two layouts
        channels = pixels.shape[2]
    else:
        return None
    return _FORMATS.get((channels, pixels.dtype.name))


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in frame pixels, origin top-left."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a camera says about one exposure; None where it does not say.

    Attributes:
        device_ns: the camera's own clock at the exposure; its zero is the camera's affair.
        missing_packets: of the transfer; 0 of a complete one.
        exposure_us, gain_db: as they were for this image.
    """

    device_ns: int | None = None
    missing_packets: int | None = None
    exposure_us: float | None = None
    gain_db: float | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Frame:
    """One image as the camera gave it.

    Attributes:
        pixels: ``(H, W)``, ``(H, W, 3) BGR`` or ``(H, W, 4) BGRA``, uint8 or uint16; owned by the
            frame, never written again. Empty when the image could not be read.
        number: the camera's own frame counter, not ours; for folders the position of the file.
        captured_ns: monotonic host time of arrival.
        captured_utc_ns: wall-clock time of arrival; written down, never calculated with.
        status: only ``COMPLETE`` frames may be inspected.
        source: URI of the file the image came from, percent-encoded as ``Path.as_uri`` gives it,
            of a video with ``#frame=N`` for its N-th frame; None for a live camera.
        source_modified_utc_ns: when that file was written, by its file system's clock; None where
            nobody asked.
        detail: why the frame is not complete, for people.
        telemetry: what the camera says about the exposure.
        epoch: rises by one whenever the camera was opened again; ``number`` counts within one.
    """

    pixels: Pixels = field(repr=False)
    number: int
    captured_ns: int
    captured_utc_ns: int
    status: FrameStatus = FrameStatus.COMPLETE
    source: str | None = None
    detail: str = ""
    telemetry: Telemetry = Telemetry()
    epoch: int = 0
    source_modified_utc_ns: int | None = None
