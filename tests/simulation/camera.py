"""The camera and what stands before it: frames that show which part they are of, and faults."""

import hashlib
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from edge.cameras.interface import CameraReport
from edge.errors import CameraLost, CameraNotOpened
from edge.imaging.frame import Frame, FrameStatus, Telemetry
from tests.simulation.scheduler import MILLISECOND, SECOND, Scheduler, Signal

HEIGHT, WIDTH = 6, 8
NOBODY = 0


@dataclass(frozen=True, slots=True)
class Exposure:
    """What really was before the camera when it exposed.

    Attributes:
        part: number of the part that it shows; ``NOBODY`` where none stood there.
        bad: that part has a defect.
        fit: it may be judged: complete, new, of the right size and in time.
    """

    number: int
    part: int
    bad: bool
    at_ns: int
    fit: bool = True


@dataclass(slots=True)
class Device:
    """The camera as a thing, which outlives the processes that open it.

    Attributes:
        awaited: a part waits for each image, and not for ever.
        present: it can be opened; reading one that went away fails.
        silent: it answers nothing and gives nothing, though it is open.
        next_faults: what the next exposures meet, in order.
        before: part that stands before it now, and whether it has a defect.
        on_image: called with the hash of each whole image, and what it shows.
    """

    scheduler: Scheduler
    chance: random.Random
    awaited: bool = False
    present: bool = True
    silent: bool = False
    stuck: bool = False
    free_run_ns: int | None = None
    next_faults: deque[str] = field(default_factory=deque)
    before: tuple[int, bool] = (NOBODY, False)
    exposures: int = 0
    drivers: "list[Driver]" = field(default_factory=list)
    on_image: Callable[[str, Exposure], None] = lambda _hash, _exposure: None
    _pixels: bytes = b""
    _given: bytes = b""  # of what it has made, the last whole image that a process has

    def open(self) -> "Driver":
        self.scheduler.sleep_ns(30 * MILLISECOND)
        if not self.present or self.silent:
            raise CameraNotOpened("the camera is not there")
        driver = Driver(self)
        self.drivers = [driver]
        self._pixels = self._given  # what was on its way is gone, and nobody knows it
        return driver

    def expose(self) -> None:
        """Take an image of whatever stands there; by an edge, or a software trigger."""
        if not self.drivers or not self.present or self.silent:
            return
        driver = self.drivers[0]
        fault = self.next_faults.popleft() if self.next_faults else ""
        part, bad = self.before
        self.exposures += 1
        fit = fault in ("", "late", "repeated")
        exposure = Exposure(self.exposures, part, bad, self.scheduler.now_ns, fit)
        if fault == "missed":  # it neither exposes nor counts
            return
        driver.counter += 1
        # Nothing shows of the first whole frame after an opening that it is cut, nor of the first
        # one, where no part waits for it, that it came late.
        unseen_cut = fault == "wrong_size" and not driver.gave_whole_frames
        unseen_late = fault == "too_late" and not driver.gave_frames and not self.awaited
        if unseen_cut or unseen_late:
            fault, exposure = "", replace(exposure, fit=True)
        if fault == "old_image" and not self._pixels:
            fault, exposure = "", replace(exposure, fit=True)
        if fault == "lost":  # counted, and never delivered
            return
        pixels = self._image(exposure)
        status, shape = FrameStatus.COMPLETE, (HEIGHT, WIDTH)
        if fault == "incomplete":
            status = FrameStatus.INCOMPLETE
        elif fault == "wrong_size":
            shape = (HEIGHT // 2, WIDTH)
        elif fault == "old_image":  # the last image again, as a new one
            pixels = self._pixels
        else:
            self._pixels = pixels
        transfer_ns = int((5 + 10 * self.chance.random()) * MILLISECOND)
        if fault == "late":
            transfer_ns += int((0.3 + 0.6 * self.chance.random()) * SECOND)
        elif fault == "too_late":
            transfer_ns += int((1.1 + 0.8 * self.chance.random()) * SECOND)
        driver.deliver(pixels, shape, status, self.scheduler.now_ns, transfer_ns)
        if fault == "repeated":
            driver.deliver(pixels, shape, status, self.scheduler.now_ns, transfer_ns, again=True)

    def vanish(self) -> None:
        self.present = False
        self._wake()

    def come_back(self) -> None:
        self.present, self.silent = True, False
        self._wake()

    def process_ended(self) -> None:
        """Let go: a new process has no image to compare the first one of a camera with."""
        self.drivers, self.stuck, self._pixels, self._given = [], False, b"", b""

    def fall_silent(self) -> None:
        self.silent = True

    def hang(self) -> None:
        """Hold the next call into the driver."""
        self.stuck = True
        self._wake()

    def gave(self, pixels: bytes) -> None:
        """Note the last whole image that the process has."""
        self._given = pixels

    def poke(self) -> None:
        """Let a read of the driver return: a trigger is coming."""
        self._wake()

    def _wake(self) -> None:
        for driver in self.drivers:
            driver.came.notify_all()

    def _image(self, exposure: Exposure) -> bytes:
        noise = self.chance.getrandbits(8 * (HEIGHT * WIDTH - 9)).to_bytes(
            HEIGHT * WIDTH - 9, "big"
        )
        head = exposure.number.to_bytes(4, "big") + exposure.part.to_bytes(4, "big")
        pixels = head + bytes([200 if exposure.bad else 20]) + noise
        self.on_image(hashlib.sha256(pixels).hexdigest(), exposure)
        return pixels


class Driver:
    """The device as one opening of it gives it to the station."""

    identity = "camera"
    simulated = False
    can_wait = False

    def __init__(self, device: Device) -> None:
        self._device = device
        self._scheduler = device.scheduler
        self.came = Signal(device.scheduler)
        self.counter = 0
        self.gave_frames = self.gave_whole_frames = False
        self._frames: deque[tuple[bytes, tuple[int, int], FrameStatus, int, int]] = deque()
        self._last_ns = 0
        self._at_once = False

    def deliver(
        self,
        pixels: bytes,
        shape: tuple[int, int],
        status: FrameStatus,
        exposed_ns: int,
        transfer_ns: int,
        again: bool = False,
    ) -> None:
        counter = self.counter
        self.gave_frames = True
        self.gave_whole_frames |= status is FrameStatus.COMPLETE and shape == (HEIGHT, WIDTH)

        def arrive() -> None:
            if self._device.drivers == [self] and self._device.present:
                self._frames.append((pixels, shape, status, counter, exposed_ns))
                self.came.notify_all()

        # A sensor gives its frames in order.
        self._last_ns = max(self._last_ns + 1, self._scheduler.now_ns + transfer_ns)
        self._scheduler.at(self._last_ns, arrive)

    def read(self, timeout_s: float) -> Frame | None:
        scheduler, device = self._scheduler, self._device
        scheduler.current()
        if device.stuck:
            scheduler.sleep_ns(3600 * SECOND)
        if not device.present:
            raise CameraLost("the camera went away")
        if not self._frames or device.silent:
            # Longer than asked: whoever triggers ends it. Else a quiet night is millions of steps.
            self.came.wait(max(round(timeout_s * SECOND), 400 * MILLISECOND))
        if not device.present:
            raise CameraLost("the camera went away")
        if not self._frames or device.silent:
            return None
        pixels, shape, status, number, exposed_ns = self._frames.popleft()
        if status is FrameStatus.COMPLETE and shape == (HEIGHT, WIDTH):
            device.gave(pixels)
        array = np.frombuffer(pixels, np.uint8)[: shape[0] * shape[1]].reshape(shape)
        return Frame(
            pixels=array,
            number=number,
            captured_ns=scheduler.now_ns,
            captured_utc_ns=scheduler.utc_ns(),
            status=status,
            detail="" if status is FrameStatus.COMPLETE else "packets are missing",
            telemetry=Telemetry(device_ns=exposed_ns),
        )

    def check(self) -> None:
        self._scheduler.current()
        if self._device.stuck:
            self._scheduler.sleep_ns(3600 * SECOND)
        if self._device.silent or not self._device.present:
            self._scheduler.sleep_ns(300 * MILLISECOND)
            raise CameraLost("the camera does not answer")

    def trigger(self) -> None:
        self._scheduler.current()
        if self._device.silent or not self._device.present:
            raise CameraLost("the camera does not answer")
        self._device.expose()

    def report(self) -> CameraReport:
        return CameraReport(model="simulated")

    def close(self) -> None:
        if self._device.drivers == [self]:
            self._device.drivers = []
