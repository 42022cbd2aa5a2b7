"""The hand-shake among threads: its events one at a time, what follows carried out in order."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from edge.contract.event import Event, Severity
from edge.contract.verdict import Recipe
from edge.errors import CameraError, CameraLost
from edge.imaging.frame import Frame
from edge.inspection.decision import Reason, Result
from edge.station.handshake.part import (
    Accepted,
    Decided,
    Exposed,
    Failed,
    HandshakeEffect,
    Input,
    Late,
    Part,
    PartResult,
    ReadyChanged,
    RefusalsCounted,
    Rejected,
    Repeated,
    ResultValid,
    SlotFreed,
    TriggerRequest,
    TriggerSource,
    Unexpected,
)
from edge.station.handshake.ports import Port
from edge.station.handshake.state_machine import HandshakeMachine, Outcomes
from edge.wording import counted

log = logging.getLogger(__name__)

# A camera that runs free although it should not would fill the log.
UNEXPECTED_PER_LINE = 100

# What the station has to do itself; everything else is done here.
PipelineAction = Exposed | Decided | Failed | Rejected


class HandshakeCoordinator:
    """Serialises the hand-shake's events and notifies the ports.

    Any thread calls any method. Ports are called under the lock, so that every PLC sees one order;
    the camera is triggered outside of it, because a driver may take its time.
    """

    def __init__(
        self,
        *,
        handshake: HandshakeMachine,
        ports: Sequence[Port],
        expose: Callable[[], None],
        record_event: Callable[[Event], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Take a hand-shake over.

        Args:
            handshake: nobody else may touch it from here on.
            ports: what PLCs see.
            expose: software trigger of the camera; may raise CameraError.
            record_event: keeps what is worth keeping beside the verdicts.
            clock_ns: monotonic.
        """
        self._handshake = handshake
        self._ports = tuple(ports)
        self._expose = expose
        self._record_event = record_event
        self._clock_ns = clock_ns
        self._changed = threading.Condition()
        self._results: dict[int, PartResult] = {}
        self._unrecorded: dict[str, Part] = {}  # by id of the verdict
        self._acknowledging = False
        self._unexpected = 0

    @property
    def ready(self) -> bool:
        """Whether a trigger would be accepted now."""
        with self._changed:
            return self._handshake.ready

    def counts(self) -> dict[str, int]:
        """Return how often each outcome happened."""
        with self._changed:
            return dict(self._handshake.counts)

    def trigger(self, request: TriggerRequest) -> list[PipelineAction]:
        """Take a trigger; a software trigger exposes before this returns."""
        actions, outcomes = self._event(lambda now_ns: self._handshake.trigger(request, now_ns))
        for outcome in outcomes:
            if isinstance(outcome, Accepted) and outcome.part.source is TriggerSource.SOFTWARE:
                actions += self._exposed(outcome.part)
        return actions

    def frame(self, frame: Frame) -> list[PipelineAction]:
        """Take a frame."""
        return self._event(lambda now_ns: self._handshake.frame(frame, now_ns))[0]

    @property
    def missing(self) -> frozenset[Input]:
        """What the station needs and does not have."""
        with self._changed:
            return self._handshake.missing

    def decided(self, part: Part, decided: PartResult) -> list[PipelineAction]:
        """Take a score; the verdict may be written only when ``Decided`` is among what is owed."""

        def event(now_ns: int) -> Outcomes:
            outcomes = self._handshake.decided(part, now_ns, decided.result)
            if Decided(part) in outcomes:
                self._results[part.number] = decided
            return outcomes

        return self._event(event)[0]

    def failed(self, part: Part, reason: Reason, detail: str) -> list[PipelineAction]:
        """Note that a part cannot be exposed for or inspected."""
        return self._event(lambda now: self._handshake.failed(part, reason, detail, now))[0]

    def await_record(self, part: Part, verdict_id: str) -> None:
        """Remember whose verdict this is, until the journal has it or never will."""
        self._unrecorded[verdict_id] = part

    def on_committed(self, verdict_id: str, seq: int) -> None:
        """The journal has a verdict: only now the PLC may see its result."""
        part = self._unrecorded.pop(verdict_id, None)
        if part is not None:
            self._event(lambda now_ns: self._handshake.committed(part, seq, now_ns))
            self._results.pop(part.number, None)  # of a part that stands at no port

    def on_not_recorded(self, verdict_id: str) -> None:
        """The journal will never have a verdict: its result never becomes valid."""
        part = self._unrecorded.pop(verdict_id, None)
        if part is not None:
            self._event(lambda _: self._handshake.not_recorded(part))
            self._results.pop(part.number, None)

    def acknowledged(self, seq: int) -> None:
        """Note that a consumer has a verdict."""
        _, outcomes = self._event(lambda _: self._handshake.acknowledged(seq))
        self._acknowledging = self._acknowledging or bool(outcomes)

    def on_writable(self, writable: bool) -> None:
        """The journal takes records, or no longer."""
        self.set_ready(Input.JOURNAL, writable)

    def set_ready(self, name: Input, good: bool) -> None:
        """Note that camera, model or journal came or went."""
        self._event(lambda _: self._handshake.set_ready(name, good))

    def set_recipe(self, recipe: Recipe | None) -> None:
        """Name the recipe that is live from now on."""
        with self._changed:
            self._handshake.set_recipe(recipe)

    def camera_restarted(self, detail: str) -> list[PipelineAction]:
        """Note that the camera was lost, or is back with another counter."""
        return self._event(lambda now_ns: self._handshake.camera_restarted(now_ns, detail))[0]

    def announcement_lost(self) -> None:
        """Note that a part may have been announced of which nothing is known here."""
        self._event(self._handshake.announcement_lost)

    def announcements_forgotten(self) -> None:
        """Note that whoever announces began anew; the timer's thread ends what waits."""
        self._event(self._handshake.announcements_forgotten)

    def wait_until_due(self, max_wait_s: float) -> None:
        """Wait until ``tick`` has something to do, at most ``max_wait_s``."""
        with self._changed:
            due_ns = self._handshake.next_due_ns()
            wait_s = max_wait_s
            if due_ns is not None:
                wait_s = min(max_wait_s, max(0.0, (due_ns - self._clock_ns()) / 1e9))
            self._changed.wait(wait_s)

    def tick(self) -> list[PipelineAction]:
        """Do what is due by time."""
        return self._event(self._handshake.tick)[0]

    def close(self) -> None:
        """Record what was counted and not told yet."""
        self._event(lambda _: self._handshake.close())

    def _event(self, event: Callable[[int], Outcomes]) -> tuple[list[PipelineAction], Outcomes]:
        with self._changed:
            due_ns = self._handshake.next_due_ns()
            outcomes = event(self._clock_ns())
            actions = [one for one in map(self._carry_out, outcomes) if one is not None]
            if self._handshake.next_due_ns() != due_ns:
                self._changed.notify_all()
        return actions, outcomes

    def _exposed(self, part: Part) -> list[PipelineAction]:
        try:
            self._expose()
        except CameraError as error:
            lost = isinstance(error, CameraLost)  # else it is there, and was asked too fast
            return self.failed(part, Reason.CAMERA_LOST if lost else Reason.OVERRUN, str(error))
        return []

    def _carry_out(self, outcome: HandshakeEffect) -> PipelineAction | None:
        match outcome:
            case Exposed(part):
                self._notify(lambda port: port.exposed(part))
                return outcome
            case Decided():
                return outcome
            case Failed(part=part, reason=reason):
                self._results[part.number] = PartResult(Result.ERROR, reason)
                return outcome
            case Rejected(part=part, rejection=rejection):
                recorded = outcome.recorded
                self._notify(lambda port: port.rejected(part, rejection, recorded))
                return outcome if recorded else None
            case RefusalsCounted():
                self._record_event(_refusals_counted(outcome))
            case Accepted(part):
                self._notify(lambda port: port.accepted(part))
            case Repeated():
                self._notify(lambda port: port.repeated(outcome))
            case ReadyChanged(ready):
                self._notify(lambda port: port.ready(ready))
            case ResultValid(part, valid_seq, in_time):
                decided = self._results.pop(part.number)
                if not in_time:
                    decided = PartResult(Result.ERROR, Reason.TIMEOUT)
                self._notify(lambda port: port.result_valid(part, valid_seq, decided))
            case SlotFreed(part, seq, ack_missing):
                self._notify(lambda port: port.result_cleared(part))
                # Without a consumer that ever acknowledges, none is missing.
                if ack_missing and self._acknowledging:
                    self._record_event(_ack_missing(part, seq))
            case Late(part, what, late_ns):
                self._record_event(_late(part, what, late_ns))
            case Unexpected(frame, detail):
                self._notify(lambda port: port.unexpected(frame))
                self._unexpected += 1
                if self._unexpected == 1 or self._unexpected % UNEXPECTED_PER_LINE == 0:
                    log.warning(
                        "frame %d is no part's: %s (%d so far)",
                        frame.number,
                        detail,
                        self._unexpected,
                    )
        return None

    def _notify(self, call: Callable[[Port], None]) -> None:
        for port in self._ports:
            call(port)


def _ack_missing(part: Part, seq: int) -> Event:
    return Event(
        "ack_missing",
        Severity.WARNING,
        f"nobody acknowledged verdict {seq}. Check the consumer, or raise handshake.result_hold_ms",
        {"seq": seq, "part_id": part.part_id, "trigger_id": part.trigger_id},
    )


def _refusals_counted(refusals: RefusalsCounted) -> Event:
    return Event(
        "triggers_refused",
        Severity.WARNING,
        f"{counted(refusals.count, 'further trigger was', 'further triggers were')} refused "
        "without a verdict each; the "
        f"last because {refusals.detail} Find out who sends them",
        {"count": refusals.count, "last": refusals.detail},
    )


def _late(part: Part, what: str, late_ns: int) -> Event:
    return Event(
        "frame_late",
        Severity.WARNING,
        f"the {what} of part {part.part_id or part.number} came {late_ns / 1e6:.0f} "
        "ms too late; its verdict is not changed",
        {"part_id": part.part_id, "trigger_id": part.trigger_id, "late_ms": late_ns / 1e6},
    )
