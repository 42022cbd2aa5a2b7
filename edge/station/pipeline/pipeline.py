"""The station: camera → mailbox → inspection → sinks, and an orderly end of it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np

from edge.cameras.interface import Camera, EndOfFrames
from edge.cameras.supervised.freshness import aged
from edge.contract.verdict import ImageAddresses, Verdict
from edge.errors import CameraLost, ConfigurationError
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.decision import Reason
from edge.inspection.inspector import Inspection, Inspector
from edge.station.handshake.coordinator import HandshakeCoordinator, PipelineAction
from edge.station.handshake.part import (
    Decided,
    Exposed,
    Failed,
    FrameStamp,
    Input,
    PartResult,
    Rejected,
    TriggerRequest,
)
from edge.station.monitoring.heartbeat import Heartbeats
from edge.station.pipeline.code_reading import CodeReader, PartCode
from edge.station.pipeline.dispatcher import VerdictDispatcher
from edge.station.pipeline.mailbox import Mailbox, MailboxClosed
from edge.station.pipeline.ordering import OrderedOutput
from edge.station.pipeline.recipe_by_code import Refusal, choose_recipe_by_code
from edge.station.pipeline.run_summary import RunSummary
from edge.station.pipeline.sinks import Sink
from edge.station.pipeline.statistics import RunStatistics
from edge.station.pipeline.work import (
    Beats,
    InspectionSetup,
    NewestFrame,
    QueuedFrame,
    RecipeSetups,
    RecipeUnavailable,
    StationRules,
)
from edge.station.threads import Failures, Worker
from edge.wording import counted

log = logging.getLogger(__name__)

# How long a thread sleeps before it looks whether the station is to stop.
POLL_S = 0.1
CAPTURE_STOP_LIMIT_S = 3.0
INSPECTION_LIMIT_S = 30.0


class Station:
    """One camera, one model, one verdict per part.

    The capture thread owns the camera, every inspector has a thread (the first one that of the
    caller of ``run``), every sink has a thread; triggered, the timer has one. Verdicts leave in the
    order of the frames. Nothing behind the decision is waited for but the record of it.
    """

    def __init__(
        self,
        *,
        camera: Camera,
        mailbox: Mailbox[QueuedFrame],
        line: InspectionSetup,
        sinks: Sequence[Sink],
        failures: Failures,
        rules: StationRules = StationRules(),
        triggering: HandshakeCoordinator | None = None,
        recipes: RecipeSetups | None = None,
        beats: Beats | None = None,
        newest: NewestFrame | None = None,
        images: Callable[[Verdict], ImageAddresses | None] = lambda _: None,
        on_exposed: Callable[[Frame], None] = lambda _: None,
        on_ending: Callable[[], None] = lambda: None,
        codes: CodeReader | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Put the parts of a station together; ``run`` starts its threads.

        Args:
            camera: read and closed by the capture thread alone.
            mailbox: between capture and inspection, with its policy.
            line: the inspectors, and what their verdicts say of the model.
            sinks: what happens to verdicts.
            failures: where threads report what they died of.
            rules: what every part is held to.
            triggering: the hand-shake; None where every frame is a part.
            recipes: what inspects parts of other recipes; None where there is one model.
            beats: of its threads; None when nobody watches.
            newest: where each complete frame is left as it is taken.
            images: where the images of a verdict will be kept.
            on_exposed: called with each frame that is owed a verdict, before it is inspected.
            on_ending: called when no more frames are taken, before the camera is closed.
            codes: reads the ids of parts whose trigger gives none, and maybe which recipe inspects
                a part; closed with the station.
            clock_ns, utc_ns: monotonic and wall clock.
        """
        self._camera = camera
        self._mailbox = mailbox
        self._line = line
        self._failures = failures
        self._rules = rules
        self._triggering = triggering
        self._recipes = recipes
        self._beats = beats or Beats.of(Heartbeats(), len(line.inspectors), 60.0, 60.0)
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._turns = OrderedOutput()
        self._done = 0
        self._dispatcher = VerdictDispatcher(
            sinks=sinks,
            statistics=RunStatistics(rules.deadline_ms),
            handshake=triggering,
            images=images,
            ending=self._ending,
            clock_ns=clock_ns,
            utc_ns=utc_ns,
        )
        self._stopping = False
        self._taking_trigger = threading.Lock()
        self._lost: CameraLost | None = None
        self._last_number = 0
        self._newest = newest or NewestFrame()
        self._on_exposed = on_exposed
        self._on_ending = on_ending
        self._codes = codes

    def stop(self) -> None:
        """Ask for an orderly end. Only sets a flag: signal handlers call this."""
        self._stopping = True

    def exchange(self, line: InspectionSetup) -> None:
        """Inspect with another line from the next part on; those in work finish with theirs.

        Parts that were announced for another recipe are inspected by that one where the station
        has recipes; elsewhere they become ERROR.

        Raises:
            ValueError: it has fewer inspectors than this station has threads.
        """
        threads = len(self._line.inspectors)
        if len(line.inspectors) < threads:
            raise ValueError(f"{len(line.inspectors)} inspectors for {counted(threads, 'thread')}")
        self._line = line
        if self._triggering is not None:
            self._triggering.set_recipe(line.recipe)

    def trigger(self, request: TriggerRequest) -> None:
        """Take a trigger from whoever listens to the PLC.

        Raises:
            ConfigurationError: this station takes no triggers.
        """
        if self._triggering is None:
            raise ConfigurationError(
                "this station runs free and accepts no triggers. Set camera.trigger.mode."
            )
        with self._taking_trigger:  # the station ends before it, or after its part has a verdict
            self._carry_out(self._triggering.trigger(request))

    def camera_lost(self, detail: str) -> None:
        """Note that the camera is gone: an ERROR for every part that waits for it, or for one.

        Called, as ``camera_back`` is, by the thread that reads the camera.
        """
        self._beats.capture.rest()
        if self._triggering is None:
            self._issue_camera_lost(detail)
            return
        self._triggering.set_ready(Input.CAMERA, False)
        self._carry_out(self._triggering.camera_restarted(detail))

    def camera_back(self) -> None:
        """Note that the camera streams, with a counter of its own."""
        self._beats.capture.rest()
        if self._triggering is not None:
            self._carry_out(self._triggering.camera_restarted("the camera started anew"))
            self._triggering.set_ready(Input.CAMERA, True)

    def run(self, on_degraded: Callable[[str], None] = lambda _: None) -> RunSummary:
        """Inspect until the images end, ``stop`` is called or ``max_parts`` are done.

        Args:
            on_degraded: called with a reason when the station lost something it needs.

        Raises:
            CameraLost: of a camera that nobody supervises, after its ERROR verdict.
            Exception: whatever a thread died of.
        """
        capture = Worker("capture", self._capture, self._failures)
        timer = Worker("timer", self._keep_time, self._failures)
        self._dispatcher.start()
        capture.start()
        if self._triggering is not None:
            timer.start()
        try:
            self._inspect_all()
            self._failures.raise_first()
            if self._lost is not None:
                on_degraded(Reason.CAMERA_LOST.value)
                self._issue_camera_lost(str(self._lost))
        finally:
            self._mailbox.close()
            if self._triggering is not None:
                # At once: the camera may take seconds to close, and nobody inspects any more.
                self._triggering.set_ready(Input.MODEL, False)
            if not capture.join(CAPTURE_STOP_LIMIT_S):
                log.warning("%s does not close; ending without it", self._camera.identity)
            self._fail_open_parts()
            timer.join(CAPTURE_STOP_LIMIT_S)
            self._dispatcher.finish()
        self._failures.raise_first()
        if self._lost is not None:
            raise self._lost
        return self.summary()

    def summary(self) -> RunSummary:
        """Return the counts so far."""
        statistics = self._dispatcher.statistics
        return RunSummary(
            results=statistics.results,
            reasons=statistics.reasons,
            deadlines_missed=statistics.deadlines_missed,
            skipped=self._mailbox.skipped,
            dropped=self._dispatcher.dropped(),
            latency=statistics.latency(),
        )

    def _capture(self) -> None:
        try:
            while not (self._ending() or self._mailbox.closed):
                self._beats.capture()
                frame = self._camera.read(POLL_S)
                if frame is None:
                    continue
                self._beats.capture.rest()  # from here on the station may make it wait
                self._last_number = frame.number
                self._newest.add(frame)
                if self._triggering is None:
                    self._queue(QueuedFrame(frame))
                else:
                    self._carry_out(self._triggering.frame(frame))
        except (EndOfFrames, MailboxClosed):
            pass
        except CameraLost as error:
            self._lost = error
        finally:
            self._mailbox.close()
            self._on_ending()
            self._camera.close()
            self._beats.capture.rest()

    def _queue(self, exposure: QueuedFrame) -> None:
        self._on_exposed(exposure.frame)
        overrun = self._mailbox.put(exposure)
        if overrun is None:
            return
        detail = (
            "the part came while the queue was full and was not inspected. "
            "Slow the line down, or raise camera.queue_depth."
        )
        self._fail(overrun, Reason.OVERRUN, detail)

    def _queue_part(self, exposure: QueuedFrame) -> None:
        """Queue the image of a part, which is owed its verdict even while the station ends."""
        part = exposure.part
        if self._recipes is not None and part and part.recipe != self._line.recipe:
            self._recipes.want(part.recipe)
        try:
            self._queue(exposure)
        except MailboxClosed:
            detail = "the station was stopped before this part was inspected. Inspect it again."
            self._fail(exposure, Reason.INTERNAL, detail)

    def _keep_time(self) -> None:
        """Give parts their verdict when their time is over, whatever the others are doing."""
        triggering = cast(HandshakeCoordinator, self._triggering)
        while not self._mailbox.closed:
            triggering.wait_until_due(POLL_S)
            self._carry_out(triggering.tick())

    def _carry_out(self, actions: Sequence[PipelineAction]) -> None:
        """Do what the hand-shake asks for."""
        for one in actions:
            match one:
                case Exposed(part, frame):
                    self._queue_part(QueuedFrame(frame, part))
                case Failed(part=part, reason=reason, detail=detail, frame=frame, stamp=stamp):
                    shown = frame or self._no_image(detail, stamp)
                    self._issue_failure(QueuedFrame(shown, part), reason, detail)
                case Rejected(part=part, reason=reason, detail=detail):
                    self._issue_failure(QueuedFrame(self._no_image(detail), part), reason, detail)
                case Decided():
                    pass

    def _inspect_all(self) -> None:
        workers = [
            Worker(f"inspect {index + 1}", partial(self._inspect_frames, index), self._failures)
            for index in range(1, len(self._line.inspectors))
        ]
        for worker in workers:
            worker.start()
        try:
            self._inspect_frames(0)
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
            if self._codes is not None:
                self._codes.close()

    def _inspect_frames(self, index: int) -> None:
        def next_frame() -> QueuedFrame | None:
            if self._rules.max_parts is not None and self._done == self._rules.max_parts:
                raise MailboxClosed
            if self._ending():
                self._mailbox.close()  # what is queued is finished, nothing more is taken
            exposure = self._mailbox.get(POLL_S)
            self._done += exposure is not None
            return exposure

        try:
            while True:
                taken = self._turns.get(next_frame)
                if taken is not None:
                    self._inspect(index, *taken)
        except MailboxClosed:
            return

    def _inspect(self, index: int, number: int, exposure: QueuedFrame) -> None:
        started_ns = self._clock_ns()
        if self._rules.max_age_ms is not None:
            fresh = aged(exposure.frame, started_ns, self._rules.max_age_ms)
            exposure = replace(exposure, frame=fresh)
        line, beat = self._line, self._beats.inspect[index]
        try:
            code = self._code_before_inspection(exposure.frame)
            exposure, refusal = self._asked_by_code(exposure, code)
            if refusal is None:
                line, refusal = self._line_for(exposure)
            inspector = line.inspectors[index]
            beat()
            if refusal is None:
                inspection = self._inspected(inspector, exposure)
            else:
                inspection = inspector.failure(*refusal)
            if code is not None:
                inspection = replace(inspection, part_id=code.part_id)
        except BaseException as error:
            # The process ends on it, but the part gets its verdict.
            detail = f"{type(error).__name__}: {error}"
            failure = line.inspectors[index].failure(Reason.INTERNAL, detail)
            with self._turns.turn(number):
                self._issue_decided(exposure, failure, started_ns, line)
            raise
        finally:
            beat.rest()
        with self._turns.turn(number):
            self._issue_decided(exposure, inspection, started_ns, line)

    def _inspected(self, inspector: Inspector, exposure: QueuedFrame) -> Inspection:
        """Inspect a frame; a part without an id gets that of its code, which is read meanwhile."""
        part, codes = exposure.part, self._codes
        identified = part is not None and part.part_id is not None
        if codes is None or codes.names_recipes or identified:
            return inspector.inspect(exposure.frame)
        reading = codes.start(exposure.frame)
        return codes.identified(inspector.inspect(exposure.frame), reading)

    def _code_before_inspection(self, frame: Frame) -> PartCode | None:
        """Read the code that says what inspects the part, while no heartbeat runs.

        None where codes do not say that, and of a frame that is not whole, which is an ERROR.
        """
        if self._codes is None or not self._codes.names_recipes:
            return None
        reading = self._codes.start(frame)
        return self._codes.wait(reading) if reading is not None else None

    def _asked_by_code(
        self, exposure: QueuedFrame, code: PartCode | None
    ) -> tuple[QueuedFrame, Refusal | None]:
        """Return a part with the recipe that its code names, and why nothing may inspect it."""
        if code is None or self._codes is None:
            return exposure, None
        fault = self._codes.fault(code)
        if fault is not None:
            return exposure, (Reason.CODE_UNREADABLE, fault)
        return choose_recipe_by_code(exposure, code)

    def _line_for(self, exposure: QueuedFrame) -> tuple[InspectionSetup, Refusal | None]:
        """Return what inspects a part, and why nothing does; then the line stands for the record.

        A recipe that is not in memory is waited for, while no heartbeat runs.
        """
        line, part = self._line, exposure.part
        asked = exposure.code_recipe
        if asked is None:
            asked = part.recipe if part is not None else line.recipe
        if asked == line.recipe:
            return line, None
        if self._recipes is None:
            refusal = line.refusal(part)
            return line, (Reason.RECIPE_MISMATCH, refusal) if refusal is not None else None
        try:
            return self._recipes.setup(asked), None
        except RecipeUnavailable as error:
            return line, (Reason.RECIPE_UNAVAILABLE, str(error))

    def _ending(self) -> bool:
        return self._stopping or self._failures.any()

    def _fail_queued(self) -> None:
        """Give the parts that no inspector is left for their verdict."""
        if not self._failures.any():
            return
        self._mailbox.close()
        detail = (
            "the station stopped on a software defect before this part was inspected. "
            "Inspect it again."
        )
        try:
            while (exposure := self._mailbox.get(0.0)) is not None:
                self._fail(exposure, Reason.INTERNAL, detail)
        except MailboxClosed:
            return

    def _fail_open_parts(self) -> None:
        """Give the parts that wait for an image theirs: the station ends."""
        if self._triggering is not None:
            detail = "the station was stopped before the image came. Inspect the part again."
            self._triggering.set_ready(Input.CAMERA, False)
            with self._taking_trigger:
                self._carry_out(self._triggering.camera_restarted(detail))
                self._triggering.close()

    def _fail(self, exposure: QueuedFrame, reason: Reason, detail: str) -> None:
        """Give a part that will not be inspected its ERROR, unless it has a verdict already."""
        if self._triggering is None or exposure.part is None:
            self._issue_failure(exposure, reason, detail)
        else:
            self._carry_out(self._triggering.failed(exposure.part, reason, detail))

    def _issue_decided(
        self, exposure: QueuedFrame, inspection: Inspection, started_ns: int, line: InspectionSetup
    ) -> None:
        """Give out a verdict, unless its part has one already."""
        if self._triggering is not None and exposure.part is not None:
            decision = inspection.decision
            decided = PartResult(decision.result, decision.reason, inspection.normalized_score)
            actions = self._triggering.decided(exposure.part, decided)
            self._carry_out(actions)
            if Decided(exposure.part) not in actions:
                return
        self._dispatcher.issue(exposure, inspection, started_ns, line)

    def _issue_camera_lost(self, detail: str) -> None:
        self._issue_failure(QueuedFrame(self._no_image(detail)), Reason.CAMERA_LOST, detail)

    def _issue_failure(self, exposure: QueuedFrame, reason: Reason, detail: str) -> None:
        self._dispatcher.issue_failure(exposure, reason, detail, self._line)

    def _no_image(self, detail: str, stamp: FrameStamp | None = None) -> Frame:
        """Return what stands in the record of a part without an image; it had that of the stamp."""
        if stamp is None:
            stamp = FrameStamp(self._last_number + 1, self._clock_ns(), self._utc_ns())
        return Frame(
            pixels=np.empty((0, 0), np.uint8),
            number=stamp.number,
            captured_ns=stamp.captured_ns,
            captured_utc_ns=stamp.captured_utc_ns,
            status=FrameStatus.INCOMPLETE,
            detail=detail,
        )
