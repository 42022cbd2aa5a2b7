"""A camera with every fault in any order, which keeps what it really showed.

It is a driver, as the supervisor opens them. What an image shows is known by the image itself,
so a test can ask of every verdict whether it was given to the right one.
"""

import time
from collections import deque
from dataclasses import dataclass, replace
from enum import Enum, auto
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.cameras.interface import CameraReport
from edge.errors import CameraLost, CameraNotOpened
from edge.imaging.frame import Frame, FrameStatus, Telemetry
from tests.support.small_bundle import defective_image, good_image

PERIOD_S = 0.003
# Its clock counts from another zero than ours.
OWN_ZERO_NS = 77_000_000_000
LONG_AGO_NS = 5_000_000_000


class Fault(Enum):
    """What becomes of one exposure; only of GOOD and SKIPPED an image may be OK."""

    GOOD = auto()
    DEFECTIVE = auto()
    SKIPPED = auto()  # a good one, after three that never left the camera
    FROZEN = auto()  # the image before, under a new number
    REPEATED = auto()  # the image before once more, under its own number
    OLDER = auto()  # one from before that, with its number
    WAITED_IN_CAMERA = auto()
    WAITED_IN_DRIVER = auto()
    INCOMPLETE = auto()
    CUT = auto()  # the driver calls it complete
    EMPTY = auto()
    DARK = auto()
    SILENT = auto()
    PULLED = auto()
    PULLED_AND_FROZEN = auto()  # comes back with its last image
    PULLED_AND_REFUSING = auto()


@dataclass(frozen=True, slots=True)
class Shown:
    """What an image really is.

    Attributes:
        pixels: kept, so that no other array is ever taken for it.
        number: 1, 2, …, of all that were ever shown.
        good: a good part, whole, and new when it was given.
        part: that was in front of the camera.
    """

    pixels: NDArray[Any]
    number: int
    good: bool
    part: str | None = None


class FaultyCamera:
    """Plays exposures; ``open`` is what a supervisor opens it with."""

    identity = "faulty"
    simulated = False
    can_wait = False

    def __init__(self) -> None:
        self.openings = 0
        self._shown: dict[int, Shown] = {}
        self._due: deque[Frame | CameraLost | None] = deque()
        self._held: Frame | None = None
        self._lock = Lock()
        self._count = 0
        self._number = 0
        self._refusals = 0
        self._given: list[Frame] = []

    @property
    def shown(self) -> int:
        """How many images there have been."""
        return len(self._shown)

    def what(self, pixels: NDArray[Any]) -> Shown | None:
        """Return what an image shows; None of one that this camera never gave."""
        shown = self._shown.get(id(pixels))
        return shown if shown is not None and shown.pixels is pixels else None

    def play(self, fault: Fault, part: str | None = None, held: bool = False) -> None:
        """Expose; what comes of it is given by ``read``, or held back until the next exposure."""
        with self._lock:
            self._release()
            self._play(fault, part)
            if held:
                newest = self._due.pop()
                assert isinstance(newest, Frame)
                self._held = newest

    def pull(self) -> None:
        """Take the plug out and put it in again; it counts anew, and waits."""
        with self._lock:
            self._pull()

    def _pull(self, refusals: int = 0) -> None:
        self._due.append(CameraLost("faulty: pulled. Plug it in."))
        self._refusals = refusals
        self._number = 0

    def release(self) -> bool:
        """Give the image that was held back; tell whether there was one."""
        with self._lock:
            return self._release()

    def _release(self) -> bool:
        held, self._held = self._held, None
        if held is not None:
            self._due.append(replace(held, captured_ns=time.monotonic_ns()))
        return held is not None

    def count_one(self) -> None:
        """Expose and count, and lose the image before it leaves the camera."""
        with self._lock:
            self._number += 1

    def _play(self, fault: Fault, part: str | None) -> None:
        last = next((one for one in reversed(self._given) if one.pixels.size), None)
        match fault:
            case Fault.GOOD:
                self._give(self._exposed(good_image(self._count), part, good=True))
            case Fault.DEFECTIVE:
                self._give(self._exposed(defective_image(self._count), part))
            case Fault.SKIPPED:
                self._number += 3
                self._give(self._exposed(good_image(self._count), part, good=True))
            case Fault.FROZEN if last is not None:
                self._give(self._exposed(last.pixels.copy(), part))
            case Fault.REPEATED | Fault.OLDER if last is not None:
                old = last if fault is Fault.REPEATED else self._given[0]
                pixels = old.pixels.copy()
                self._keep(pixels, part, good=False)
                self._give(replace(old, pixels=pixels))
            case Fault.WAITED_IN_CAMERA | Fault.WAITED_IN_DRIVER:
                frame = self._exposed(good_image(self._count), part)
                then_ns = frame.captured_ns - LONG_AGO_NS
                if fault is Fault.WAITED_IN_CAMERA:
                    of_camera = Telemetry(device_ns=then_ns - OWN_ZERO_NS)
                    self._give(replace(frame, telemetry=of_camera))
                else:  # of which the camera says no time
                    self._give(replace(frame, captured_ns=then_ns, telemetry=Telemetry()))
            case Fault.INCOMPLETE:
                frame = self._exposed(good_image(self._count), part)
                self._give(replace(frame, status=FrameStatus.INCOMPLETE, detail="lost packets"))
            case Fault.CUT:
                self._give(self._exposed(good_image(self._count)[:60].copy(), part))
            case Fault.EMPTY:
                self._give(self._exposed(np.empty((0, 0), np.uint8), part))
            case Fault.DARK:
                self._give(self._exposed(np.zeros_like(good_image()), part))
            case Fault.PULLED | Fault.PULLED_AND_FROZEN | Fault.PULLED_AND_REFUSING:
                self._pull(refusals=2 if fault is Fault.PULLED_AND_REFUSING else 0)
                frozen = fault is Fault.PULLED_AND_FROZEN and last is not None
                self._play(Fault.FROZEN if frozen else Fault.GOOD, None)
            case _:
                self._due.append(None)

    def _exposed(self, pixels: NDArray[Any], part: str | None, good: bool = False) -> Frame:
        self._count += 1
        self._number += 1
        self._keep(pixels, part, good)
        now_ns = time.monotonic_ns()
        telemetry = Telemetry(device_ns=now_ns - OWN_ZERO_NS)
        return Frame(
            pixels=pixels,
            number=self._number,
            captured_ns=now_ns,
            captured_utc_ns=time.time_ns(),
            telemetry=telemetry,
        )

    def _keep(self, pixels: NDArray[Any], part: str | None, good: bool) -> None:
        self._shown[id(pixels)] = Shown(pixels, len(self._shown) + 1, good, part)

    def _give(self, frame: Frame) -> None:
        self._due.append(frame)
        self._given.append(frame)

    # What the supervisor calls.

    def open(self) -> "FaultyCamera":
        with self._lock:
            if self._refusals:
                self._refusals -= 1
                raise CameraNotOpened("faulty: is not there. Plug it in.")
            self.openings += 1
        return self

    def read(self, timeout_s: float) -> Frame | None:
        time.sleep(min(PERIOD_S, timeout_s))  # the time of an exposure
        with self._lock:
            due = self._due.popleft() if self._due else None
        if isinstance(due, CameraLost):
            raise due
        return due

    def check(self) -> None:
        pass

    def trigger(self) -> None:
        pass

    def report(self) -> CameraReport:
        return CameraReport(model="faulty")

    def close(self) -> None:
        pass
