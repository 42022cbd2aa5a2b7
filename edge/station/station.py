"""The station: camera → mailbox → inspection → sinks, and an orderly end of it."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from edge.cameras.camera import Camera, EndOfPictures
from edge.errors import CameraLost
from edge.frame import Frame, FrameStatus
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.thresholding import Reason, Result
from edge.messaging.verdict import Verdict, new_id
from edge.station.latency import StageLatencies
from edge.station.mailbox import Mailbox, MailboxClosed
from edge.station.sinks import Sink
from edge.station.tally import Tally
from edge.station.turns import Turns
from edge.station.worker import Failures, Worker

log = logging.getLogger(__name__)

# How long a thread sleeps before it looks whether the station is to stop.
POLL_S = 0.1
CAPTURE_STOP_LIMIT_S = 3.0
SINK_STOP_LIMIT_S = 10.0
INSPECTION_LIMIT_S = 30.0


class Station:
    """One camera, one model, one verdict per part.

    The capture thread owns the camera, every inspector has a thread (the first one that of the
    caller of ``run``), every sink has a thread. Verdicts leave in the order of the frames. Nothing
    behind the decision is waited for, except by sources that can wait.
    """

    def __init__(
        self,
        camera: Camera,
        mailbox: Mailbox[Frame],
        inspectors: Sequence[Inspector],
        sinks: Sequence[Sink],
        failures: Failures,
        deadline_ms: float | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._camera = camera
        self._mailbox = mailbox
        self._inspectors = tuple(inspectors)
        self._turns = Turns()
        self._done = 0
        self._sinks = tuple(sinks)
        self._failures = failures
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._deadline_ms = deadline_ms
        self._results: Counter[Result] = Counter()
        self._reasons: Counter[Reason] = Counter()
        self._deadlines_missed = 0
        self._latencies = StageLatencies()
        self._emitting = threading.Lock()
        self._counting = threading.Lock()  # its own: a sink may count while others wait for it
        self._stopping = False
        self._lost: CameraLost | None = None
        self._last_number = 0

    def stop(self) -> None:
        """Ask for an orderly end. Only sets a flag: signal handlers call this."""
        self._stopping = True

    def run(
        self, most_parts: int | None = None, on_degraded: Callable[[str], None] = lambda _: None
    ) -> Tally:
        """Inspect until the pictures end, ``stop`` is called or ``most_parts`` are done.

        Args:
            most_parts: stop after so many; None for no limit.
            on_degraded: called with a reason when the station lost something it needs.

        Raises:
            CameraLost: after its ERROR verdict reached the sinks.
            Exception: whatever a thread died of.
        """
        capture = Worker("capture", self._capture, self._failures)
        for sink in self._sinks:
            sink.start()
        capture.start()
        try:
            self._inspect_all(most_parts)
            self._failures.raise_first()
            if self._lost is not None:
                on_degraded(Reason.CAMERA_LOST.value)
                self._emit_camera_lost(str(self._lost))
        finally:
            self._mailbox.close()
            if not capture.join(CAPTURE_STOP_LIMIT_S):
                log.warning("%s does not let go; ending without it", self._camera.identity)
            self._finish_sinks()
        self._failures.raise_first()
        if self._lost is not None:
            raise self._lost
        return self.tally()

    def tally(self) -> Tally:
        """Return the counts so far."""
        with self._counting:
            return Tally(
                results=dict(self._results),
                reasons=dict(self._reasons),
                deadlines_missed=self._deadlines_missed,
                skipped=self._mailbox.skipped,
                dropped={sink.name: sink.dropped for sink in self._sinks},
                latency=self._latencies.quantiles(),
            )

    def _inspect_all(self, most_parts: int | None) -> None:
        first, *others = self._inspectors
        workers = [
            Worker(
                f"inspect {number}", partial(self._inspect_frames, i, most_parts), self._failures
            )
            for number, i in enumerate(others, start=2)
        ]
        for worker in workers:
            worker.start()
        try:
            self._inspect_frames(first, most_parts)
        except BaseException as error:
            self._failures.report(error)  # the others finish what is queued and end, too
            raise
        finally:
            # Their parts still have to reach the sinks, so nothing is closed before they are done.
            deadline = time.monotonic() + INSPECTION_LIMIT_S
            for worker in workers:
                if not worker.join(max(0.0, deadline - time.monotonic())):
                    log.error("an inspection does not end; its part has no verdict")
            self._fail_queued()

    def _fail_queued(self) -> None:
        """Give the parts that no inspector is left for their verdict."""
        if not self._failures.any():
            return
        self._mailbox.close()
        detail = "the station ended on a defect before this part was inspected. Inspect it again."
        try:
            while (frame := self._mailbox.take(0.0)) is not None:
                failure = self._inspectors[0].failure(Reason.INTERNAL, detail)
                self._emit(frame, failure, self._clock_ns())
        except MailboxClosed:
            return

    def _inspect_frames(self, inspector: Inspector, most_parts: int | None) -> None:
        def take() -> Frame | None:
            if most_parts is not None and self._done == most_parts:
                raise MailboxClosed
            if self._ending():
                self._mailbox.close()  # what is queued is finished, nothing more is taken
            frame = self._mailbox.take(POLL_S)
            self._done += frame is not None
            return frame

        try:
            while True:
                taken = self._turns.take(take)
                if taken is not None:
                    self._inspect(inspector, *taken)
        except MailboxClosed:
            return

    def _inspect(self, inspector: Inspector, number: int, frame: Frame) -> None:
        started_ns = self._clock_ns()
        try:
            inspection = inspector.inspect(frame)
        except BaseException as error:
            # The process ends on it, but the part gets its verdict.
            failure = inspector.failure(Reason.INTERNAL, f"{type(error).__name__}: {error}")
            with self._turns.turn(number):
                self._emit(frame, failure, started_ns)
            raise
        with self._turns.turn(number):
            self._emit(frame, inspection, started_ns)

    def _ending(self) -> bool:
        return self._stopping or self._failures.any()

    def _capture(self) -> None:
        try:
            while not self._ending():
                frame = self._camera.read(POLL_S)
                if frame is None:
                    continue
                self._last_number = frame.number
                overrun = self._mailbox.put(frame)
                if overrun is not None:
                    self._emit_overrun(overrun)
        except (EndOfPictures, MailboxClosed):
            pass
        except CameraLost as error:
            self._lost = error
        finally:
            self._mailbox.close()
            self._camera.close()

    def _emit(self, frame: Frame, inspection: Inspection, started_ns: int) -> None:
        """Give the verdict to every sink; the only place where parts are counted."""
        utc_ns = self._utc_ns()
        with self._emitting:
            verdict = Verdict(
                id=new_id(utc_ns),
                inspection=inspection,
                frame=frame,
                decided_ns=self._clock_ns(),
                decided_utc_ns=utc_ns,
                inspection_started_ns=started_ns,
            )
            self._count(verdict)
            for sink in self._sinks:
                sink.put(verdict, self._ending)

    def _count(self, verdict: Verdict) -> None:
        decision = verdict.inspection.decision
        total_ms = (verdict.decided_ns - verdict.frame.captured_ns) / 1e6
        late = self._deadline_ms is not None and total_ms > self._deadline_ms
        with self._counting:
            self._results[decision.result] += 1
            self._reasons[decision.reason] += 1
            self._latencies.record(verdict)
            self._deadlines_missed += late

    def _emit_overrun(self, frame: Frame) -> None:
        detail = (
            "the part came while the queue was full and was not inspected. "
            "Slow the line down, or raise camera.queue_depth."
        )
        self._emit(frame, self._inspectors[0].failure(Reason.OVERRUN, detail), self._clock_ns())

    def _emit_camera_lost(self, detail: str) -> None:
        now_ns = self._clock_ns()
        nothing = Frame(
            pixels=np.empty((0, 0), np.uint8),
            number=self._last_number + 1,
            captured_ns=now_ns,
            captured_utc_ns=self._utc_ns(),
            status=FrameStatus.INCOMPLETE,
            detail=detail,
        )
        self._emit(nothing, self._inspectors[0].failure(Reason.CAMERA_LOST, detail), now_ns)

    def _finish_sinks(self) -> None:
        """Let every sink deliver what it has; the limit counts from when the run must end.

        At the end of the pictures nothing presses: a reader of the pipe may take its time.
        """
        for sink in self._sinks:
            sink.close()
        for sink in self._sinks:
            while not self._ending() and not sink.join(POLL_S):
                pass
        deadline = time.monotonic() + SINK_STOP_LIMIT_S
        for sink in self._sinks:
            if not sink.join(max(0.0, deadline - time.monotonic())):
                log.error("%s did not finish in time; its last verdicts are lost", sink.name)
