"""Reads the code of a part beside its inspection, within a time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from edge.imaging.codes import CodeReading, demand_readable, read_code
from edge.imaging.frame import Box, Frame, FrameStatus, Pixels
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.inspector import Inspection
from edge.settings.code import CodeSettings


@dataclass(frozen=True, slots=True)
class StartedReading:
    """A reading that runs or waits for a thread.

    Attributes:
        due_ns: monotonic time until which it is waited for.
        given_up: nobody waits for it any more; it need not begin.
    """

    future: Future[CodeReading]
    due_ns: int
    given_up: threading.Event


class CodeReader:
    """Threads that read codes, as many as there are inspectors.

    A reading that takes too long is given up; its thread reads to the end, and what waits behind it
    is given up in its own time. For each thread one more may wait: a decoder that hangs holds no
    more frames than that, and the parts after it have no code at once.
    """

    def __init__(
        self,
        settings: CodeSettings,
        threads: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Prepare to read.

        Raises:
            CodesNotInstalled: a kind of code cannot be read here.
        """
        demand_readable(settings.kinds)
        self._settings = settings
        self._clock_ns = clock_ns
        region = settings.region
        box = None if region is None else Box(region.x, region.y, region.width, region.height)
        self._read = partial(read_code, kinds=settings.kinds, region=box)
        self._places = threading.BoundedSemaphore(2 * threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="code")

    def start(self, frame: Frame) -> StartedReading | None:
        """Begin to read; None of a frame that is not whole."""
        if frame.status is not FrameStatus.COMPLETE or not frame.pixels.size:
            return None
        due_ns = self._clock_ns() + int(self._settings.timeout_ms * 1e6)
        given_up = threading.Event()
        if not self._places.acquire(blocking=False):
            refused: Future[CodeReading] = Future()
            refused.set_result(self._not_read("codes of earlier parts are still being read"))
            return StartedReading(refused, due_ns, given_up)
        future = self._pool.submit(self._read_in_time, frame.pixels, given_up)
        return StartedReading(future, due_ns, given_up)

    def identified(self, inspection: Inspection, reading: StartedReading | None) -> Inspection:
        """Return an inspection with what the code says, or with the fault that there is none."""
        if reading is None:
            return inspection
        found = self._result(reading)
        if found.text is not None:
            return replace(inspection, part_id=found.text)
        if self._settings.unreadable == "empty" or inspection.decision.result is Result.ERROR:
            return inspection
        decision = Decision(Result.ERROR, Reason.CODE_UNREADABLE)
        return replace(inspection, decision=decision, detail=found.fault)

    def close(self) -> None:
        """Begin no more readings."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _result(self, reading: StartedReading) -> CodeReading:
        left_s = max(reading.due_ns - self._clock_ns(), 0) / 1e9
        try:
            return reading.future.result(left_s)
        except (TimeoutError, CancelledError):
            reading.given_up.set()
            return self._not_read(f"the code was not read within {self._settings.timeout_ms:g} ms")

    def _read_in_time(self, pixels: Pixels, given_up: threading.Event) -> CodeReading:
        """Read in a thread of the pool, and leave the place before anybody has the result."""
        try:
            if given_up.is_set():
                return self._not_read("the reading was given up")
            return self._read(pixels)
        finally:
            self._places.release()

    def _not_read(self, why: str) -> CodeReading:
        return CodeReading(
            None, f"{why}. Set code.region to a smaller one, or raise code.timeout_ms."
        )
