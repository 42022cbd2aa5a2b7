"""The hand-shake: every accepted part gets its own frame and exactly one verdict.

A pure state machine. Every event takes the monotonic time and returns what is to be done about it,
in order; whoever owns it serialises the calls, carries out the outcomes and calls ``tick`` when
``next_due_ns`` has come.

What pairs a frame with a part is the camera's own frame counter. Where that leaves a doubt,
nobody gets the frame: the parts that wait become ERROR, and the station is not ready until twice
``frame_timeout_ms`` after the last of their triggers, so that a frame that is still on its way
cannot meet a later part. Where that is noticed late, the process has stood still, and the frame may
lie in the camera's driver: the time begins anew. Where a hardware line exposes, an announcement
that was refused or lost leaves such a frame, too: after each start of the camera, and each return
of whoever announces, the station waits as long. A trigger counts as of the moment in which it
came: one of such a time that is read after it is refused. Three things no counter shows: a frame
that comes later than that; a part that is announced more than ``frame_timeout_ms`` after its frame;
and, of several parts that wait for a hardware line, an edge that the camera neither exposed nor
counted. Announcing a part only after ``exposed`` of the one before leaves no room for the last.

Accepted parts are never at the mercy of refused triggers: a flood of these has records up to a
rate and is counted beyond it, and its ids are remembered apart from those of accepted parts.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import replace

from edge.contract.verdict import Recipe
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.decision import Reason, Result
from edge.station.handshake.part import (
    IN_FLIGHT,
    OVER,
    UNDECIDED,
    Accepted,
    Decided,
    Exposed,
    Failed,
    FrameStamp,
    HandshakeEffect,
    Input,
    Late,
    OpenPart,
    Pairing,
    Part,
    PartPhase,
    ReadyChanged,
    RefusalsCounted,
    Rejected,
    Rejection,
    Repeated,
    ResultValid,
    Rules,
    SlotFreed,
    TriggerRequest,
    Unexpected,
    nanoseconds,
)
from edge.token_bucket import TokenBucket

Outcomes = tuple[HandshakeEffect, ...]

# Parts without announcement that may be open at once; the station's own queue is shorter.
MAX_OPEN = 1000
# A longer gap in the counter is one ERROR that says how many: a camera, too, may count nonsense.
MAX_MISSING = 32
# Ids of accepted parts are known again for their time, and longer while they are few. A part that
# is not over is never forgotten.
ACCEPTED_KNOWN_NS = 600_000_000_000
MIN_ACCEPTED_KNOWN = 1000
# Ids of refused triggers: those that were sent last.
MAX_REFUSED_KNOWN = 1000
# Refused triggers without a record of their own are told of together.
REFUSALS_REPORTED_AFTER_NS = 60_000_000_000

# What is due is noticed within this part of the time that a frame has, unless all stands still.
_NOTICED_WITHIN = 4

_IMAGE_FAULTS = {
    FrameStatus.INCOMPLETE: Reason.FRAME_INCOMPLETE,
    FrameStatus.STALE: Reason.FRAME_STALE,
    FrameStatus.FROZEN: Reason.FRAME_FROZEN,
}
_SHOWN_BEFORE = "the camera has already sent a frame with this number"
_INPUT_REASONS = {
    Input.CAMERA: Reason.CAMERA_LOST,
    Input.MODEL: Reason.MODEL_ERROR,
    Input.JOURNAL: Reason.INTERNAL,
    Input.MASTER: Reason.INTERNAL,
    Input.OUTPUTS: Reason.INTERNAL,
}


class HandshakeMachine:
    """The state machine of one camera.

    Attributes:
        counts: how often each outcome happened, by the name of its class; ``ack_missing``,
            ``missed_exposures`` and ``refused_without_record`` beside them.
    """

    def __init__(self, rules: Rules) -> None:
        self.counts: Counter[str] = Counter()
        self._rules = rules
        self._recipe = rules.recipe
        self._frame_timeout_ns = nanoseconds(rules.frame_timeout_ms)
        self._latest_ns = 2 * self._frame_timeout_ns  # from a trigger to a frame that is late
        self._missing_inputs = set(rules.inputs)
        self._reported_ready = False
        self._last_number = 0
        self._open: dict[int, OpenPart] = {}  # until cleared, in the order of their numbers
        self._waiting: deque[OpenPart] = deque()  # announced, frame not seen, in order
        self._accepted: OrderedDict[str, OpenPart] = OrderedDict()  # oldest first
        self._refused: OrderedDict[str, OpenPart] = OrderedDict()  # sent longest ago first
        self._records_of_refusals = TokenBucket(
            rules.recorded_refusals_per_minute, rules.recorded_refusals
        )
        self._unrecorded: RefusalsCounted | None = None
        self._base: int | None = None  # the camera's counter at the last frame
        self._base_ns = 0  # when that one arrived
        self._quiet_until_ns: int | None = None
        self._last_quiet_ns = 0  # until when it was quiet the last time
        self._forgotten = False  # by whoever announced what waits
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether a trigger would be accepted: camera, model, journal, a slot, pairing certain."""
        return not self._missing_inputs and self._quiet_until_ns is None and not self._busy

    @property
    def missing(self) -> frozenset[Input]:
        """What the station needs and does not have."""
        return frozenset(self._missing_inputs)

    @property
    def in_flight(self) -> int:
        """Parts without a journalled verdict."""
        return sum(one.phase in IN_FLIGHT for one in self._open.values())

    def set_ready(self, name: Input, good: bool) -> Outcomes:
        """Note that the station has, or lacks, one of the things it needs."""
        (self._missing_inputs.discard if good else self._missing_inputs.add)(name)
        return self._counted([])

    def set_recipe(self, recipe: Recipe | None) -> None:
        """Name the recipe that is live from now on."""
        self._recipe = recipe

    def trigger(self, request: TriggerRequest, now_ns: int) -> Outcomes:
        """Accept a part, refuse it, or tell where it is when it was seen before."""
        done = self._expire(now_ns)
        known = self._known(request.trigger_id)
        if known is not None:
            if known.phase is PartPhase.REJECTED:
                self._refused.move_to_end(request.trigger_id)
                # Refused again: it was held back, and its edge may come now.
                self._pause_for_lost_announcement(request.received_ns)
            return self._counted([*done, _repeated(known)])
        part = Part.announced(self._next_number(), request, self._recipe)
        refusal = self._refusal(request, now_ns)
        if refusal is not None:
            return self._counted([*done, self._rejected(part, *refusal, now_ns=now_ns)])
        awaited_ns = self._awaited_ns(request, now_ns)
        one = OpenPart(part=part, phase=PartPhase.ACCEPTED, awaited_ns=awaited_ns)
        self._open[part.number] = one
        self._waiting.append(one)
        self._remember_accepted(one, now_ns)
        return self._counted([*done, Accepted(part)])

    def frame(self, frame: Frame, now_ns: int) -> Outcomes:
        """Pair a frame with its part; it is never paired with one that it may not belong to."""
        # By arrival: a frame that came in time and was handled late is in time.
        done = self._expire(min(frame.captured_ns, now_ns))
        before, self._base = self._base, frame.number
        before_ns, self._base_ns = self._base_ns, frame.captured_ns
        advance = 1 if before is None else frame.number - before
        if self._rules.pairing is Pairing.EVERY_FRAME:
            return self._counted([*done, *self._part_of_its_own(frame, advance, before_ns)])
        if advance == 0:
            return self._counted([*done, Unexpected(frame, _SHOWN_BEFORE)])
        if not self._waiting:
            # A part that is announced after its frame must not take the next one.
            self._pause(now_ns + self._frame_timeout_ns)
            return self._counted([*done, Unexpected(frame, "no part waits for a frame")])
        if frame.captured_ns < self._waiting[0].awaited_ns:
            # Announced too late, or exposed by nobody: whose the next frame is, is not known.
            detail = "a frame came before the waiting part was announced"
            lost = self._fail_ambiguous(Reason.OVERRUN, detail)
            return self._counted([*done, *lost, Unexpected(frame, detail)])
        if before is None and self._quiet_until_ns is not None:
            detail = (
                "a refused trigger may also have exposed an image, and no earlier frame "
                "shows which one it is"
            )
            return self._counted(
                [*done, *self._fail_ambiguous(Reason.OVERRUN, detail), Unexpected(frame, detail)]
            )
        if advance == 1:
            return self._counted([*done, *self._paired(self._waiting.popleft(), frame)])
        return self._counted([*done, *self._jumped(frame, advance)])

    def camera_restarted(self, now_ns: int, detail: str = "the camera started anew") -> Outcomes:
        """Forget the camera's counter; parts that wait for a frame become ERROR.

        For both ends of an outage: when the camera is lost, so that nobody waits longer, and when
        it is back.
        """
        done = [*self._expire(now_ns), *self._fail_ambiguous(Reason.CAMERA_LOST, detail)]
        self._base = None
        self._pause_for_lost_announcement(now_ns)
        return self._counted(done)

    def announcement_lost(self, now_ns: int) -> Outcomes:
        """Note that a part may have been announced of which nothing is known here.

        Refused before it came here, or sent while nobody listened: its edge may come all the same.
        """
        self._pause_for_lost_announcement(now_ns)
        return self._counted([])

    def announcements_forgotten(self, now_ns: int) -> Outcomes:
        """Note that whoever announces began anew: what it announced before may not come any more.

        Where a line exposes, the parts that wait for a frame become ERROR, with the next event.
        """
        self._forgotten = self._rules.pairing is Pairing.ANNOUNCED
        return self.announcement_lost(now_ns)

    def decided(self, part: Part, now_ns: int, result: Result | None = None) -> Outcomes:
        """Note that the part has its score: ``Decided``, or ``Late`` when it came too late."""
        done = self._expire(now_ns)
        one = self._open.get(part.number)
        if one is None or one.phase not in UNDECIDED:
            return self._counted([*done, _late(part, "score", now_ns)])
        one.move(PartPhase.DECIDED)
        one.result = result
        return self._counted([*done, Decided(one.part)])

    def failed(self, part: Part, reason: Reason, detail: str, now_ns: int) -> Outcomes:
        """Note that the station cannot expose for, or inspect, this part."""
        done = self._expire(now_ns)
        one = self._open.get(part.number)
        if one is None or one.phase not in UNDECIDED:
            return self._counted(done)
        waited = one.phase is PartPhase.ACCEPTED
        done += self._fail(one, reason, detail)
        if waited:
            done += self._fail_ambiguous(Reason.OVERRUN, f"the previous part failed: {detail}")
        return self._counted(done)

    def committed(self, part: Part, seq: int, now_ns: int) -> Outcomes:
        """Note that the journal has the verdict; only now may its result stand at the ports.

        Raises:
            PhaseError: the part is not decided.
        """
        known = self._known(part.trigger_id or "")
        if known is not None and known.part.number == part.number:
            known.seq = seq  # also of a rejected one, for whoever asks again
        one = self._open.get(part.number)
        if one is None:
            return ()
        one.move(PartPhase.VALID)
        one.seq, one.valid_ns = seq, now_ns
        done: list[HandshakeEffect] = []
        standing = [other for other in self._open.values() if other.phase is PartPhase.VALID]
        if len(standing) > self._rules.slots:
            done += self._clear(min(standing, key=lambda other: other.valid_ns), ack_missing=True)
        in_time = one.part.due_ns is None or now_ns < one.part.due_ns
        one.result = one.result if in_time else Result.ERROR
        return self._counted([*done, ResultValid(one.part, seq, in_time)])

    def not_recorded(self, part: Part) -> Outcomes:
        """Note that the journal refused the verdict: the result never becomes valid.

        Raises:
            PhaseError: the part is not decided.
        """
        one = self._open.get(part.number)
        if one is None:
            return ()
        one.move(PartPhase.CLEARED)
        one.result = Result.ERROR
        del self._open[part.number]
        return self._counted([])

    def acknowledged(self, seq: int) -> Outcomes:
        """Note the consumer's ``ack``; an unknown or repeated one changes nothing."""
        for one in self._open.values():
            if one.phase is PartPhase.VALID and one.seq == seq:
                return self._counted(self._clear(one, ack_missing=False))
        return ()

    def tick(self, now_ns: int) -> Outcomes:
        """Do what is due by time alone."""
        return self._counted(self._expire(now_ns))

    def next_due_ns(self) -> int | None:
        """Return when ``tick`` is to be called; None as long as nothing is pending."""
        due = [
            one.part.due_ns
            for one in self._open.values()
            if one.phase in UNDECIDED and one.part.due_ns is not None
        ]
        due += [
            one.valid_ns + nanoseconds(self._rules.result_hold_ms)
            for one in self._open.values()
            if one.phase is PartPhase.VALID
        ]
        if self._forgotten:
            due.append(0)
        elif self._waiting:
            due.append(self._waiting[0].part.announced_ns + self._frame_timeout_ns)
        elif self._quiet_until_ns is not None:
            due.append(self._quiet_until_ns)
        if self._unrecorded is not None:
            due.append(self._unrecorded.since_ns + REFUSALS_REPORTED_AFTER_NS)
        return min(due, default=None)

    def close(self) -> Outcomes:
        """Tell what was counted and not told yet; the station ends.

        A trigger that comes later is refused without a record: nobody is left who writes it.
        """
        self._closed = True
        return self._counted(self._report_unrecorded())

    @property
    def _busy(self) -> bool:
        if self._rules.pairing is Pairing.EVERY_FRAME:
            return False
        # Without a counter to compare with, one part at a time: two could not be told apart.
        room = self._rules.slots if self._base is not None else 1
        return len(self._waiting) >= room or self.in_flight >= self._rules.slots

    def _refusal(
        self, request: TriggerRequest, now_ns: int
    ) -> tuple[Rejection, Reason, str] | None:
        """Return why a trigger cannot be accepted, for the PLC, for the record and in words."""
        deadline_ms, recipe = request.deadline_ms, request.recipe
        if deadline_ms is not None and now_ns - request.received_ns >= nanoseconds(deadline_ms):
            detail = "the trigger's deadline had passed when it was read"
            return Rejection.EXPIRED, Reason.TIMEOUT, detail
        if now_ns - request.received_ns >= self._frame_timeout_ns:
            limit = f"{self._rules.frame_timeout_ms:g} ms"
            detail = f"the trigger was read only {limit} after it came, when its frame was due"
            return Rejection.EXPIRED, Reason.TIMEOUT, detail
        if recipe is not None and recipe != self._recipe and not request.offered:
            detail = (
                f"{recipe} is requested, but {self._recipe or 'none'} is active. Choose it first"
            )
            if request.offered is not None:
                detail = f"{recipe} is requested, but it is not in force at this station"
            return Rejection.RECIPE_MISMATCH, Reason.RECIPE_MISMATCH, detail
        if self._rules.pairing is Pairing.EVERY_FRAME:
            detail = "this station accepts no triggers: every frame is a part"
            return Rejection.NOT_READY, Reason.INTERNAL, detail
        for name in Input:
            if name in self._missing_inputs:
                detail = f"the {name} is not ready"
                return Rejection.NOT_READY, _INPUT_REASONS[name], detail
        # A trigger may be read late: that of a quiet time is none of the time after it.
        late = self._awaited_ns(request, now_ns) < self._last_quiet_ns
        if self._quiet_until_ns is not None or late:
            detail = "frames of earlier parts may still come. Trigger only while ready"
            return Rejection.NOT_READY, Reason.OVERRUN, detail
        if self._busy:
            detail = "no slot is free. Trigger only while ready, or raise handshake.slots"
            return Rejection.BUSY, Reason.OVERRUN, detail
        return None

    def _awaited_ns(self, request: TriggerRequest, now_ns: int) -> int:
        """Return from when on the frame may come; where the station exposes, from now on."""
        announced = self._rules.pairing is Pairing.ANNOUNCED
        return request.received_ns if announced else now_ns

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _known(self, trigger_id: str) -> OpenPart | None:
        """Return the part of a trigger that was sent before; None where none is known."""
        return self._accepted.get(trigger_id) or self._refused.get(trigger_id)

    def _rejected(
        self, part: Part, rejection: Rejection, reason: Reason, detail: str, *, now_ns: int
    ) -> Rejected:
        """Refuse a part: with a record of its own, or counted where there are too many of them."""
        self._pause_for_lost_announcement(part.announced_ns)
        recorded = not self._closed and self._records_of_refusals.try_consume(now_ns)
        if not recorded:
            before = self._unrecorded or RefusalsCounted(0, detail, now_ns)
            self._unrecorded = RefusalsCounted(before.count + 1, detail, before.since_ns)
            self.counts["refused_without_record"] += 1
        one = OpenPart(part=part, phase=PartPhase.REJECTED, rejection=rejection)
        one.result = Result.ERROR if recorded else None
        self._refused[part.trigger_id or ""] = one
        if len(self._refused) > MAX_REFUSED_KNOWN:
            self._refused.popitem(last=False)
        return Rejected(
            part=part, rejection=rejection, reason=reason, detail=detail, recorded=recorded
        )

    def _remember_accepted(self, one: OpenPart, now_ns: int) -> None:
        self._accepted[one.part.trigger_id or ""] = one
        while len(self._accepted) > MIN_ACCEPTED_KNOWN:
            oldest_id, oldest = next(iter(self._accepted.items()))
            fresh = now_ns - oldest.part.announced_ns < ACCEPTED_KNOWN_NS
            room = len(self._accepted) <= self._rules.max_accepted_known
            if oldest.phase not in OVER or (fresh and room):
                return
            del self._accepted[oldest_id]

    def _report_unrecorded(self) -> list[HandshakeEffect]:
        counted, self._unrecorded = self._unrecorded, None
        return [] if counted is None else [counted]

    def _paired(self, one: OpenPart, frame: Frame) -> list[HandshakeEffect]:
        """Give the frame to the part whose turn it is."""
        if one.phase is not PartPhase.ACCEPTED:
            return [_late(one.part, "frame", frame.captured_ns)]
        if frame.status is not FrameStatus.COMPLETE:
            return self._fail(one, _IMAGE_FAULTS[frame.status], frame.detail, frame)
        if one.part.due_ns is None and self._rules.deadline_ms is not None:
            due_ns = frame.captured_ns + nanoseconds(self._rules.deadline_ms)
            one.part = replace(one.part, due_ns=due_ns)
        one.move(PartPhase.EXPOSED)
        one.stamp = FrameStamp.of(frame)
        return [Exposed(one.part, frame)]

    def _jumped(self, frame: Frame, advance: int) -> list[HandshakeEffect]:
        """Account for a counter that did not go on by one: nobody may have this frame."""
        waiting = len(self._waiting)
        if advance < 0:
            detail = f"the camera's counter went back to {frame.number}"
        else:
            detail = f"the camera's counter went on by {advance}: an exposure was missed"
            self.counts["missed_exposures"] += advance - 1
        if advance == waiting:  # every exposure is accounted for, nothing is on its way
            lost = self._fail_waiting(Reason.OVERRUN, detail)
        else:
            lost = self._fail_ambiguous(Reason.OVERRUN, detail)
        return [*lost, Unexpected(frame, detail)]

    def _part_of_its_own(self, frame: Frame, advance: int, before_ns: int) -> list[HandshakeEffect]:
        """Make the part of a frame, and before it those whose frames never came.

        When these were exposed nobody saw: they are spread evenly since the frame before.
        """
        if advance == 0:
            return [Unexpected(frame, _SHOWN_BEFORE)]
        done: list[HandshakeEffect] = []
        missing = max(0, advance - 1)
        self.counts["missed_exposures"] += missing
        if missing > MAX_MISSING:
            detail = f"{missing} exposures were missed; this record stands for all of them"
            first_ns = (frame.captured_ns - before_ns) * missing // advance
            done += self._fail(self._seen(frame, first_ns), Reason.OVERRUN, detail)
        else:
            for behind in range(missing, 0, -1):
                detail = (
                    f"frame {frame.number - behind} never came: its exposure was missed or lost"
                )
                sooner_ns = (frame.captured_ns - before_ns) * behind // advance
                done += self._fail(self._seen(frame, sooner_ns), Reason.OVERRUN, detail)
        one = self._seen(frame)
        if one.part.number in self._open:
            return [*done, *self._paired(one, frame)]
        detail = f"{MAX_OPEN} parts have no verdict yet. Slow the line down"
        return [*done, *self._fail(one, Reason.OVERRUN, detail, frame)]

    def _seen(self, frame: Frame, sooner_ns: int = 0) -> OpenPart:
        """Return a new part that nobody announced; open unless there are too many.

        Args:
            sooner_ns: it was there so much sooner than the frame, which is not its own.
        """
        part = Part.seen(self._next_number(), frame, self._recipe, sooner_ns)
        one = OpenPart(part=part, phase=PartPhase.ACCEPTED)
        if len(self._open) < MAX_OPEN + self._rules.slots:
            self._open[part.number] = one
        return one

    def _fail(
        self, one: OpenPart, reason: Reason, detail: str, frame: Frame | None = None
    ) -> list[HandshakeEffect]:
        one.move(PartPhase.DECIDED)
        one.result = Result.ERROR
        return [Failed(part=one.part, reason=reason, detail=detail, frame=frame, stamp=one.stamp)]

    def _fail_waiting(self, reason: Reason, detail: str) -> list[HandshakeEffect]:
        done: list[HandshakeEffect] = []
        for one in self._waiting:
            if one.phase is PartPhase.ACCEPTED:  # others have their verdict, by their deadline
                done += self._fail(one, reason, detail)
        self._waiting.clear()
        return done

    def _fail_ambiguous(self, reason: Reason, detail: str) -> list[HandshakeEffect]:
        """Fail what waits, and let the frames that may still come of it meet nobody."""
        if self._waiting:
            self._pause(self._waiting[-1].awaited_ns + self._latest_ns)
        return self._fail_waiting(reason, detail)

    def _pause_for_lost_announcement(self, announced_ns: int) -> None:
        """Let a frame meet nobody that a hardware line exposed for a part that is not awaited."""
        if self._rules.pairing is Pairing.ANNOUNCED:
            self._pause(announced_ns + self._latest_ns)

    def _pause(self, until_ns: int) -> None:
        self._quiet_until_ns = max(self._quiet_until_ns or until_ns, until_ns)

    def _expire(self, now_ns: int) -> list[HandshakeEffect]:
        done = [outcome for one in tuple(self._open.values()) for outcome in self._due(one, now_ns)]
        counted = self._unrecorded
        if counted is not None and now_ns - counted.since_ns >= REFUSALS_REPORTED_AFTER_NS:
            done += self._report_unrecorded()
        if self._forgotten:
            self._forgotten = False
            detail = "whoever announced the part began anew before its frame came"
            done += self._fail_ambiguous(Reason.OVERRUN, detail)
        if self._waiting:
            first = self._waiting[0]
            if now_ns - first.part.announced_ns >= self._frame_timeout_ns:
                limit = f"{self._rules.frame_timeout_ms:g} ms"
                if first.phase is PartPhase.ACCEPTED:
                    detail = f"no frame came within {limit}. Check the camera and its trigger"
                    done += self._fail(first, Reason.TIMEOUT, detail)
                others = f"the previous part had no frame within {limit}"
                done += self._fail_ambiguous(Reason.OVERRUN, others)
                self._pause(now_ns + self._frame_timeout_ns)
        quiet_until_ns = self._quiet_until_ns
        if quiet_until_ns is not None and now_ns >= quiet_until_ns and not self._waiting:
            self._quiet_until_ns = None
            self._last_quiet_ns = max(self._last_quiet_ns, quiet_until_ns)
            self._base = None
            if now_ns - quiet_until_ns >= self._frame_timeout_ns // _NOTICED_WITHIN:
                self._pause(now_ns + self._frame_timeout_ns)
        return done

    def _due(self, one: OpenPart, now_ns: int) -> Iterator[HandshakeEffect]:
        due_ns = one.part.due_ns
        if one.phase in UNDECIDED and due_ns is not None and now_ns >= due_ns:
            missing = "frame" if one.phase is PartPhase.ACCEPTED else "score"
            yield from self._fail(one, Reason.TIMEOUT, f"no {missing} by the part's deadline")
        hold_ns = nanoseconds(self._rules.result_hold_ms)
        if one.phase is PartPhase.VALID and now_ns - one.valid_ns >= hold_ns:
            yield from self._clear(one, ack_missing=True)

    def _clear(self, one: OpenPart, ack_missing: bool) -> list[HandshakeEffect]:
        one.move(PartPhase.CLEARED)
        del self._open[one.part.number]
        self.counts["ack_missing"] += ack_missing
        return [SlotFreed(one.part, one.seq or 0, ack_missing)]

    def _counted(self, done: list[HandshakeEffect]) -> Outcomes:
        """Count the outcomes, and add what they did to readiness."""
        if self.ready != self._reported_ready:
            self._reported_ready = self.ready
            done.append(ReadyChanged(self._reported_ready))
        self.counts.update(type(outcome).__name__ for outcome in done)
        return tuple(done)


def _repeated(known: OpenPart) -> Repeated:
    """Return what is told of a part again; an ERROR at once, other results once on record."""
    result = known.result if known.seq is not None or known.result is Result.ERROR else None
    return Repeated(
        part=known.part,
        phase=known.phase,
        seq=known.seq,
        rejection=known.rejection,
        exposed=known.exposed,
        result=result,
    )


def _late(part: Part, what: str, now_ns: int) -> Late:
    since_ns = part.announced_ns if part.due_ns is None else part.due_ns
    return Late(part, what, now_ns - since_ns)
