"""A live camera that is opened again and again for as long as the station runs."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edge.cameras.interface import LiveCamera, SwitchesLines
from edge.cameras.supervised.freshness import Freshness, aged
from edge.cameras.supervised.queue import Handover, Item
from edge.cameras.supervised.state_machine import (
    AWAY,
    CameraState,
    CameraStatus,
    Supervision,
    delay_s,
)
from edge.errors import CameraClosed, CameraError, CameraLost, CameraStuck, ConfigurationError
from edge.imaging.frame import Frame, FrameStatus
from edge.settings.camera import SupervisionSettings

log = logging.getLogger(__name__)

# The reader does nothing but read, so these are spare.
HANDOVER_FRAMES = 8
HANDOVER_FRAMES_TRIGGERED = 16
MAX_TRIGGERS = 16

READ_SLICE_S = 0.1
# A software trigger waits for the end of a slice.
READ_SLICE_TRIGGERED_S = 0.005
# And an edge of an output line.
READ_SLICE_LINES_S = 0.002
CHECK_PERIOD_S = 0.5
REPORT_PERIOD_S = 30.0
TRIGGER_LIMIT_S = 1.0  # two halves: a process that stands still in one has the other
CLOSE_LIMIT_S = 2.0

NOT_NEW = frozenset({FrameStatus.STALE, FrameStatus.FROZEN})


@dataclass(slots=True)
class _Call:
    """A call into the driver that has not returned."""

    name: str
    began_ns: int
    limit_s: float


@dataclass(slots=True, eq=False, kw_only=True)
class _Request:
    """What another thread asks of the camera."""

    what: str
    act: Callable[[LiveCamera], None]
    started: bool = False
    done: bool = False
    error: CameraError | None = None


class SupervisedCamera:
    """Owns the only thread that touches the camera; looks like a camera itself.

    ``read``, ``start`` and ``close`` belong to one thread, ``trigger`` and the attributes to any.
    Frames and changes of state reach the reader in one order: ``on_change`` of a loss is called
    after the last frame before it, and of a recovery before the first frame after it. When the
    reader falls behind, the oldest frames are dropped and counted, and the numbers of the others
    show it; of a source that can wait none is dropped, not even one that comes after its loss.

    Attributes:
        dropped: frames that the reader did not take in time.
    """

    def __init__(
        self,
        *,
        open_camera: Callable[[], LiveCamera],
        settings: SupervisionSettings,
        triggered: bool,
        on_change: Callable[[CameraStatus], None],
        identity: str,
        simulated: bool = False,
        can_wait: bool = False,
        busy: Callable[[], bool] | None = None,
        idle: CameraState = CameraState.WAITING_TRIGGER,
        hurried: bool = False,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is opened yet.

        Args:
            open_camera: opens and configures, and checks what it configured, at every call.
            settings: when it is lost, stuck or not fresh.
            triggered: no frame is no fault while the camera answers.
            on_change: called by ``read`` once for every change of state.
            identity, simulated, can_wait: as of every camera; known before one is open.
            busy: tells that it has found a frame and is reading it. However long that takes, it
                is no silence; ``stuck_after_s`` bounds it.
            idle: the state of one that works, and of which nothing is asked.
            hurried: what is asked of it besides frames has a deadline: it switches lines.
            clock_ns: monotonic.
            chance: in [0, 1), for the delays between attempts.
        """
        self.identity = identity
        self.simulated = simulated
        self.can_wait = can_wait
        self.dropped = 0
        self._open_camera = open_camera
        self._settings = settings
        self._triggered = triggered
        self._on_change = on_change
        self._busy = busy
        self._hurried = hurried
        self._clock_ns = clock_ns
        self._chance = chance
        self._changed = threading.Condition()  # guards everything below
        self._supervision = Supervision(
            identity=identity, settings=settings, triggered=triggered, now_ns=clock_ns(), idle=idle
        )
        # Used by the camera's thread only.
        self._freshness = Freshness(settings.max_age_ms, settings.frozen_after, live=not can_wait)
        self._handover = Handover(HANDOVER_FRAMES_TRIGGERED if triggered else HANDOVER_FRAMES)
        self._requests: deque[_Request] = deque()
        self._call: _Call | None = None
        self._epoch = 0
        self._attempted = False
        self._defect: BaseException | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    @property
    def status(self) -> CameraStatus:
        """What is known of the camera now; may be ahead of the frames that ``read`` gives."""
        return self._supervision.status

    def start(self) -> None:
        """Start to supervise; return when the first attempt to open has ended, or takes too long.

        A camera that is absent is not an error: it is tried for ever.

        Raises:
            ConfigurationError: the camera does not take its settings, or can never be opened.
        """
        self._thread.start()
        with self._changed:
            while not self._attempted and self._supervision.status.state not in AWAY:
                self._changed.wait(READ_SLICE_S)
                self._tick(self._clock_ns())
            self._raise_defect()

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame, or None when there was none within the time or it is away.

        Raises:
            CameraStuck: a call into the driver does not return.
            ConfigurationError: the first camera that was met does not take its settings.
        """
        until_ns = self._clock_ns() + round(timeout_s * 1e9)
        while True:
            item = self._next_item(until_ns)
            if not isinstance(item, CameraStatus):
                break
            self._on_change(item)
        if item is None or self.can_wait:
            return item
        return aged(item, self._clock_ns(), self._settings.max_age_ms)

    def trigger(self) -> None:
        """Expose one frame now; returns when the camera took the trigger.

        Raises:
            CameraLost: the camera is away.
            CameraError: it takes no software trigger, or not this one.
        """
        self._ask(_Request(what="take the trigger", act=lambda camera: camera.trigger()))

    def set_line(self, line: str, high: bool) -> None:
        """Switch an output line; returns when the camera has confirmed it.

        Raises:
            CameraLost: the camera is away.
            CameraError: it did not.
        """

        def switch(camera: LiveCamera) -> None:
            if not isinstance(camera, SwitchesLines):
                raise CameraError(f"{self.identity}: has no lines.")
            camera.set_line(line, high)

        self._ask(_Request(what=f"switch {line}", act=switch))

    def _ask(self, request: _Request) -> None:
        with self._changed:
            status = self._supervision.status
            if self._closing:
                raise CameraClosed(f"{self.identity}: is closed; the station is stopping.")
            if not status.working:
                raise CameraLost(status.detail or f"{self.identity}: is not open yet. Wait for it.")
            if len(self._requests) >= MAX_TRIGGERS:
                raise CameraError(f"{self.identity}: too many requests wait. Slow the line down.")
            self._requests.append(request)
            self._changed.notify_all()
            halves_s = [TRIGGER_LIMIT_S / 2] * 2
            if not any(self._changed.wait_for(lambda: request.done, one) for one in halves_s):
                if not request.started:
                    self._requests.remove(request)  # it must not expose for a later part
                raise CameraError(
                    f"{self.identity}: did not {request.what} within {TRIGGER_LIMIT_S:g} s. "
                    "Inspect the part again."
                )
        if request.error is not None:
            raise request.error

    def close(self) -> None:
        """Release the camera; a driver that does not return is left behind."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is None or threading.current_thread() is self._thread:
            return
        self._thread.join(CLOSE_LIMIT_S)
        if self._thread.is_alive():
            log.warning("%s: the driver does not release the camera", self.identity)

    # The reader's side.

    def _next_item(self, until_ns: int) -> Item | None:
        with self._changed:
            while True:
                # What waits here happened before a deadline that is missed now.
                item = self._handover.get()
                if item is not None:
                    self._changed.notify_all()
                    return item
                self._raise_defect()
                now_ns = self._clock_ns()
                self._raise_if_stuck(now_ns)
                if self._tick(now_ns):
                    continue
                if self._closing or now_ns >= until_ns:
                    return None
                self._changed.wait(min(READ_SLICE_S, (until_ns - now_ns) / 1e9))

    def _raise_defect(self) -> None:
        if self._defect is not None:
            raise self._defect

    def _raise_if_stuck(self, now_ns: int) -> None:
        call = self._call
        if call is None:
            return
        blocked_s = (now_ns - call.began_ns) / 1e9
        if blocked_s > call.limit_s:
            raise CameraStuck(
                f"{self.identity}: {call.name} has been blocked in the driver for "
                f"{blocked_s:.0f} s. Only a new process helps: the service manager starts "
                "one; without a service manager, start edge-run again. If it comes back, "
                "check cable, hub and driver."
            )

    # The camera's side.

    def _run(self) -> None:
        try:
            attempt = 0
            while not self._closing:
                camera = self._opened()
                with self._changed:
                    self._attempted = True
                    self._changed.notify_all()
                if camera is not None:
                    try:
                        held_s = self._serve(camera)
                    finally:
                        self._release(camera)
                    # A camera that comes and goes in a moment is not asked for in a hurry.
                    attempt = 0 if held_s > self._settings.longest_delay_s else attempt
                pause_s = delay_s(attempt, self._settings, self._chance())
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, pause_s)
                attempt += 1
        except BaseException as error:
            with self._changed:
                self._defect = error
                self._attempted = True
                self._changed.notify_all()
        finally:
            self._refuse_requests(f"{self.identity}: is closed.")

    def _opened(self) -> LiveCamera | None:
        with self._changed:
            self._supervision.opening(self._clock_ns())
        limit_s = max(self._settings.opening_limit_s, self._settings.stuck_after_s)
        try:
            with self._driver("opening it", limit_s):
                camera = self._open_camera()
        except ConfigurationError as error:
            if self._epoch == 0:
                raise  # nobody has seen these settings work: they are not tried for ever
            with self._changed:
                self._publish_change(self._supervision.refused(self._clock_ns(), str(error)))
            return None
        except CameraError as error:
            with self._changed:
                self._publish_change(self._supervision.not_opened(self._clock_ns(), str(error)))
            return None
        with self._changed:
            self._epoch += 1
            self._freshness.reopened()
            self._publish_change(self._supervision.opened(self._clock_ns()))
        return camera

    def _release(self, camera: LiveCamera) -> None:
        try:
            with self._driver("closing it"):
                camera.close()
        except CameraError as error:
            log.debug("%s", error)  # it was lost, and is released all the same

    def _serve(self, camera: LiveCamera) -> float:
        """Read, check and trigger until the camera is lost; return for how long it gave frames."""
        began_ns = reported_ns = checked_ns = self._clock_ns()
        # What can wait has no exposure that a trigger could be late for.
        hurried = self._triggered and not self.can_wait
        slice_s = READ_SLICE_TRIGGERED_S if hurried else READ_SLICE_S
        if self._hurried:
            slice_s = READ_SLICE_LINES_S
        try:
            self._report(camera)
            while not self._closing and self._supervision.open:
                self._serve_requests(camera)
                with self._driver("reading a frame"):
                    frame = camera.read(slice_s)
                if frame is not None:
                    self._on_frame(frame)
                now_ns = self._clock_ns()
                with self._changed:
                    self._tick(now_ns)
                if self._check_is_due(now_ns, checked_ns):
                    checked_ns = now_ns
                    self._check(camera)
                if (now_ns - reported_ns) / 1e9 > REPORT_PERIOD_S:
                    reported_ns = now_ns
                    self._report(camera)
        except (CameraError, ConfigurationError) as error:
            with self._changed:
                self._publish_change(self._supervision.lost(self._clock_ns(), str(error)))
        self._refuse_requests(f"{self.identity}: was lost before it accepted the trigger.")
        return (self._clock_ns() - began_ns) / 1e9

    def _on_frame(self, frame: Frame) -> None:
        frame = replace(self._freshness.judged(frame), epoch=self._epoch)
        fresh = frame.status not in NOT_NEW
        with self._changed:
            if not self._supervision.open and not self.can_wait:
                return  # it came after the loss was told, and may be of before
            self._publish_change(self._supervision.imaged(self._clock_ns(), fresh, frame.detail))
            if self.can_wait:
                self._changed.wait_for(lambda: self._handover.has_room or self._closing)
            dropped = self._handover.put_frame(frame)
            self._changed.notify_all()
        if dropped is not None:
            self.dropped += 1
            if self.dropped == 1:  # the counter tells of the others
                log.warning("%s: frame %d was not read in time", self.identity, dropped.number)

    def _check_is_due(self, now_ns: int, checked_ns: int) -> bool:
        supervision = self._supervision
        if not supervision.open or not supervision.answers_count:
            return False
        # One that failed is repeated at once: a lost packet is no lost camera.
        silence_s = supervision.silence_s(now_ns)
        return silence_s > CHECK_PERIOD_S or (now_ns - checked_ns) / 1e9 > REPORT_PERIOD_S

    def _check(self, camera: LiveCamera) -> None:
        try:
            with self._driver("asking whether it is there"):
                camera.check()
        except CameraLost as error:
            with self._changed:
                self._publish_change(self._supervision.unanswered(self._clock_ns(), str(error)))
        else:
            with self._changed:
                self._publish_change(self._supervision.answered(self._clock_ns()))

    def _report(self, camera: LiveCamera) -> None:
        with self._driver("asking how it is"):
            report = camera.report()
        with self._changed:
            self._supervision.reported(report)

    def _serve_requests(self, camera: LiveCamera) -> None:
        while True:
            with self._changed:
                if not self._requests:
                    return
                request = self._requests.popleft()
                request.started = True
                request.error = CameraError(f"{self.identity}: failed. Inspect the part again.")
            try:
                with self._driver("having it " + request.what):
                    request.act(camera)
                request.error = None
            except CameraLost as error:
                request.error = error
                raise
            except CameraError as error:
                request.error = error
            finally:
                with self._changed:
                    request.done = True
                    self._changed.notify_all()

    def _refuse_requests(self, cause: str) -> None:
        with self._changed:
            while self._requests:
                request = self._requests.popleft()
                request.error = CameraLost(f"{cause} Inspect the part again.")
                request.done = True
            self._changed.notify_all()

    def _tick(self, now_ns: int) -> bool:
        """Do what is due by time; tell whether the state has changed."""
        if self._busy is not None and self._busy():
            self._supervision.worked(now_ns)
        return self._publish_change(self._supervision.tick(now_ns))

    def _publish_change(self, change: CameraStatus | None) -> bool:
        """Hand a change of state over, in its place among the frames; tell whether there is one."""
        if change is not None:
            self._handover.put_change(change)
            self._changed.notify_all()
        return change is not None

    @contextmanager
    def _driver(self, name: str, limit_s: float | None = None) -> Iterator[None]:
        """Mark a call into the driver, so that the reader sees how long it takes."""
        limit_s = self._settings.stuck_after_s if limit_s is None else limit_s
        self._call = _Call(name, self._clock_ns(), limit_s)
        try:
            yield
        finally:
            self._call = None
