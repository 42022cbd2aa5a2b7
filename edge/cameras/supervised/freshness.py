"""Is this frame new? What a camera gave is doubted here before anybody may inspect it.

Drivers give the last frame again after an unplug, queues give frames of parts that are long
gone, and the return value of a read says nothing of it. Whatever is not proven new loses its
``COMPLETE``; no other status is ever made better.
"""

import math
from dataclasses import replace

import numpy as np

from edge.imaging.frame import Frame, FrameStatus, Pixels

# Crystals differ by up to 100 parts per million, and NTP slews the host's clock by as much.
DRIFT = 200e-6
# A camera's clock that went back further was set; no queue holds a frame for so long.
CLOCK_WAS_SET_NS = 60_000_000_000

SAMPLED_ROWS = 16
COMPARED_ROWS = 64


class Freshness:
    """Judges the frames of one camera in the order in which it gave them.

    Holds references to the last frame and the last whole one, never a copy.
    """

    def __init__(self, max_age_ms: float, frozen_after: int, live: bool = True) -> None:
        """Set the limits.

        Args:
            max_age_ms: how much longer than the fastest one a frame may take to arrive.
            frozen_after: so many identical frames in a row are FROZEN; 0 never.
            live: False for files, which have no camera's clock and may each have a size of its own.
        """
        self._max_age_ns = max_age_ms * 1e6
        self._frozen_after = frozen_after
        self._live = live
        self._last: Pixels | None = None
        self._last_whole: Pixels | None = None
        self._identical = 1
        self.reopened()

    def reopened(self) -> None:
        """Forget counter, clock and size; the last image stays, so that it is not taken twice."""
        self._number: int | None = None
        self._shape: tuple[int, ...] | None = None
        self._device_ns: int | None = None
        self._arrived_ns = 0
        self._min_lag_ns = 0.0

    def judged(self, frame: Frame) -> Frame:
        """Return the frame, no longer COMPLETE if it is not proven new and whole."""
        number = self._judge_number(frame)
        clock = self._judge_clock(frame) if self._live else None
        size = self._judge_size(frame) if self._live else None
        whole = frame.status is FrameStatus.COMPLETE and size is None
        pixels = self._judge_pixels(frame, whole)
        for verdict in (number, clock, size, pixels):
            if verdict is not None and frame.status is FrameStatus.COMPLETE:
                return replace(frame, status=verdict[0], detail=verdict[1])
        return frame

    def _judge_number(self, frame: Frame) -> tuple[FrameStatus, str] | None:
        last, number = self._number, frame.number
        if last is None or number > last:
            self._number = number
            return None
        if number == last:
            return FrameStatus.STALE, f"the camera has already sent frame number {number}"
        return FrameStatus.STALE, f"frame number {number} came after number {last}"

    def _judge_clock(self, frame: Frame) -> tuple[FrameStatus, str] | None:
        """Compare the camera's clock with ours: their difference grows with the way here."""
        device_ns = frame.telemetry.device_ns
        if device_ns is None:
            return None
        lag_ns = frame.captured_ns - device_ns
        before_ns, arrived_ns = self._device_ns, self._arrived_ns
        first = before_ns is None
        went_back = before_ns is not None and device_ns <= before_ns
        was_set = before_ns is not None and before_ns - device_ns > CLOCK_WAS_SET_NS
        if first or was_set:
            self._min_lag_ns = lag_ns
        elif not went_back:
            allowed_ns = self._min_lag_ns + DRIFT * (frame.captured_ns - arrived_ns)
            self._min_lag_ns = min(lag_ns, allowed_ns)
        if went_back and not was_set:
            return FrameStatus.STALE, "it was exposed before a frame that came earlier"
        self._device_ns, self._arrived_ns = device_ns, frame.captured_ns
        if was_set:
            return FrameStatus.STALE, "the camera's clock was set while it ran"
        late_ns = lag_ns - self._min_lag_ns
        if late_ns > self._max_age_ns:
            return FrameStatus.STALE, f"it was {late_ns / 1e6:.0f} ms on its way from the camera"
        return None

    def _judge_size(self, frame: Frame) -> tuple[FrameStatus, str] | None:
        """Compare with the largest frame since the camera was opened: smaller ones are cut."""
        shape = frame.pixels.shape
        if frame.status is not FrameStatus.COMPLETE:
            return None
        if not frame.pixels.size:
            return FrameStatus.INCOMPLETE, "the frame is empty"
        before = self._shape
        if before is None or math.prod(shape) > math.prod(before):
            self._shape = shape
        if before is None or shape == before:
            return None
        return FrameStatus.INCOMPLETE, f"its shape is {_text(shape)}, it was {_text(before)}"

    def _judge_pixels(self, frame: Frame, whole: bool) -> tuple[FrameStatus, str] | None:
        """Compare with the frame before and, where that was damaged, with the last whole one."""
        if not self._frozen_after or not frame.pixels.size:
            return None
        last, last_whole = self._last, self._last_whole
        self._last = frame.pixels
        if whole:
            self._last_whole = frame.pixels
        before = [last] if last is last_whole else [last, last_whole]
        if not any(one is not None and identical(one, frame.pixels) for one in before):
            if whole:
                self._identical = 1
            return None
        self._identical += 1
        if self._identical < self._frozen_after:
            return None
        return FrameStatus.FROZEN, f"the same frame at least {self._frozen_after} times in a row"


def aged(frame: Frame, now_ns: int, max_age_ms: float) -> Frame:
    """Return the frame, STALE if it was COMPLETE and waited longer than ``max_age_ms``."""
    age_ms = (now_ns - frame.captured_ns) / 1e6
    if age_ms <= max_age_ms or frame.status is not FrameStatus.COMPLETE:
        return frame
    detail = f"it waited {age_ms:.0f} ms; {max_age_ms:g} ms are allowed"
    return replace(frame, status=FrameStatus.STALE, detail=detail)


def identical(one: Pixels, other: Pixels) -> bool:
    """Tell whether two frames are the same, sample for sample.

    Noise makes two exposures of a sensor differ in nearly every row, so a few rows tell them apart;
    only frames that agree there are compared as a whole, in pieces that stay in the cache.
    """
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    height = one.shape[0]
    step = max(1, height // SAMPLED_ROWS)
    if not np.array_equal(one[::step], other[::step]):
        return False
    return all(
        np.array_equal(one[top : top + COMPARED_ROWS], other[top : top + COMPARED_ROWS])
        for top in range(0, height, COMPARED_ROWS)
    )


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
