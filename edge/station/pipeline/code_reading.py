"""Reads the code of a part beside its inspection, within a time."""

import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from edge.imaging.codes import CodeReading, demand_readable, read_code
from edge.imaging.frame import Box, Frame, FrameStatus
from edge.inspection.inspector import Inspection
from edge.inspection.thresholding import Decision, Reason, Result
from edge.settings.code import CodeSettings


@dataclass(frozen=True, slots=True)
class StartedReading:
    """A reading that runs.

    Attributes:
        due_ns: monotonic time until which it is waited for.
    """

    future: Future[CodeReading]
    due_ns: int


class CodeReader:
    """Threads that read codes, as many as there are inspectors.

    A reading that takes too long is given up; its thread reads to the end, and what waits behind it
    is given up in its own time.
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
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="code")

    def start(self, frame: Frame) -> StartedReading | None:
        """Begin to read; None of a frame that is not whole."""
        if frame.status is not FrameStatus.COMPLETE or not frame.pixels.size:
            return None
        due_ns = self._clock_ns() + int(self._settings.timeout_ms * 1e6)
        return StartedReading(self._pool.submit(self._read, frame.pixels), due_ns)

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
            reading.future.cancel()
            return CodeReading(
                None,
                f"the code was not read within {self._settings.timeout_ms:g} ms. Set "
                "code.region to a smaller one, or raise code.timeout_ms.",
            )
