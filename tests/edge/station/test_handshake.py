"""The hand-shake: one verdict per accepted part, and no frame of another part."""

import random
from collections import Counter, deque
from collections.abc import Callable
from itertools import accumulate, count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.contract.verdict import Recipe
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.decision import Reason, Result
from edge.station.handshake.part import (
    Accepted,
    Decided,
    Exposed,
    Failed,
    HandshakeEffect,
    Input,
    Late,
    Pairing,
    Part,
    PartPhase,
    PhaseError,
    ReadyChanged,
    RefusalsCounted,
    Rejected,
    Rejection,
    Repeated,
    ResultValid,
    Rules,
    SlotFreed,
    TriggerRequest,
    TriggerSource,
    Unexpected,
)
from edge.station.handshake.state_machine import (
    ACCEPTED_KNOWN_NS,
    MAX_MISSING,
    MAX_REFUSED_KNOWN,
    MIN_ACCEPTED_KNOWN,
    REFUSALS_REPORTED_AFTER_NS,
    HandshakeMachine,
)
from tests.soak import times

MS = 1_000_000
FRAME_TIMEOUT_MS = 100
SCHEDULES, SCHEDULE_LENGTH = times(60, 1000), 300
NOTHING = np.zeros((1, 1), np.uint8)


def image(number: int, at_ms: float, status: FrameStatus = FrameStatus.COMPLETE) -> Frame:
    return Frame(
        pixels=NOTHING,
        number=number,
        captured_ns=round(at_ms * MS),
        captured_utc_ns=0,
        status=status,
    )


def request(
    trigger_id: str,
    at_ms: float,
    recipe: Recipe | None = None,
    deadline_ms: float | None = None,
    source: TriggerSource = TriggerSource.SOFTWARE,
) -> TriggerRequest:
    received_ns = round(at_ms * MS)
    return TriggerRequest(
        trigger_id=trigger_id,
        part_id=f"part-{trigger_id}",
        recipe=recipe,
        deadline_ms=deadline_ms,
        received_ns=received_ns,
        received_utc_ns=0,
        source=source,
    )


class Line:
    """A hand-shake with a clock in milliseconds; ready, unless asked otherwise."""

    def __init__(self, pairing: Pairing = Pairing.SOFTWARE, ready: bool = True, **rules: object):
        merged = {"frame_timeout_ms": FRAME_TIMEOUT_MS, "result_hold_ms": 500.0, **rules}
        self.handshake = HandshakeMachine(Rules(pairing=pairing, **merged))  # type: ignore[arg-type]
        if ready:
            for name in Input:
                self.handshake.set_ready(name, True)

    def trigger(self, trigger_id: str, at_ms: float, **wishes: object) -> list[HandshakeEffect]:
        asked = request(trigger_id, at_ms, **wishes)  # type: ignore[arg-type]
        return printed(self.handshake.trigger(asked, round(at_ms * MS)))

    def accepted(self, trigger_id: str, at_ms: float, **wishes: object) -> Part:
        (outcome,) = self.trigger(trigger_id, at_ms, **wishes)
        assert isinstance(outcome, Accepted)
        return outcome.part

    def frame(
        self, number: int, at_ms: float, status: FrameStatus = FrameStatus.COMPLETE
    ) -> list[HandshakeEffect]:
        return printed(self.handshake.frame(image(number, at_ms, status), round(at_ms * MS)))

    def exposed(self, number: int, at_ms: float) -> Part:
        (outcome,) = self.frame(number, at_ms)
        assert isinstance(outcome, Exposed)
        assert outcome.frame.number == number
        return outcome.part

    def decided(self, part: Part, at_ms: float) -> list[HandshakeEffect]:
        return printed(self.handshake.decided(part, round(at_ms * MS), Result.OK))

    def committed(self, part: Part, seq: int, at_ms: float) -> list[HandshakeEffect]:
        return printed(self.handshake.committed(part, seq, round(at_ms * MS)))

    def tick(self, at_ms: float) -> list[HandshakeEffect]:
        return printed(self.handshake.tick(round(at_ms * MS)))

    def valid(self, trigger_id: str, number: int, at_ms: float) -> Part:
        """Bring one part to its valid result, with the frame's number as its ``seq``."""
        self.accepted(trigger_id, at_ms)
        part = self.exposed(number, at_ms)
        assert self.decided(part, at_ms) == [Decided(part)]
        assert self.committed(part, number, at_ms)[-1] == ResultValid(part, number, True)
        return part


def printed(outcomes: tuple[HandshakeEffect, ...]) -> list[HandshakeEffect]:
    """Leave the changes of readiness out; tests of those look at ``ready``."""
    return [outcome for outcome in outcomes if not isinstance(outcome, ReadyChanged)]


def failures(outcomes: list[HandshakeEffect]) -> list[tuple[int, Reason]]:
    return [(o.part.number, o.reason) for o in outcomes if isinstance(o, Failed)]


def test_ready_needs_camera_model_and_journal() -> None:
    handshake = Line(ready=False).handshake

    assert handshake.set_ready(Input.CAMERA, True) == ()
    assert handshake.set_ready(Input.MODEL, True) == ()
    assert handshake.set_ready(Input.JOURNAL, True) == (ReadyChanged(True),)
    assert handshake.set_ready(Input.MODEL, False) == (ReadyChanged(False),)
    assert not handshake.ready


def test_a_part_goes_from_trigger_to_acknowledgement() -> None:
    line = Line()
    part = line.accepted("9917", 0)
    assert (part.number, part.part_id, part.source) == (1, "part-9917", TriggerSource.SOFTWARE)

    assert line.exposed(41, 30) == part
    assert line.decided(part, 50) == [Decided(part)]
    assert line.committed(part, 7, 60) == [ResultValid(part, 7, in_time=True)]
    assert printed(line.handshake.acknowledged(7)) == [SlotFreed(part, 7, ack_missing=False)]
    assert line.handshake.acknowledged(7) == ()
    assert line.handshake.next_due_ns() is None


def test_the_same_trigger_is_answered_with_its_phase_and_does_not_expose_again() -> None:
    line = Line()
    part = line.accepted("1", 0)
    phases = [line.trigger("1", 1)]
    line.exposed(10, 2)
    phases.append(line.trigger("1", 3))
    line.decided(part, 4)
    phases.append(line.trigger("1", 5))
    line.committed(part, 77, 6)
    phases.append(line.trigger("1", 7))
    line.handshake.acknowledged(77)
    phases.append(line.trigger("1", 8))

    assert phases == [
        [Repeated(part=part, phase=PartPhase.ACCEPTED, seq=None)],
        [Repeated(part=part, phase=PartPhase.EXPOSED, seq=None, exposed=True)],
        [Repeated(part=part, phase=PartPhase.DECIDED, seq=None, exposed=True)],
        [Repeated(part=part, phase=PartPhase.VALID, seq=77, exposed=True, result=Result.OK)],
        [Repeated(part=part, phase=PartPhase.CLEARED, seq=77, exposed=True, result=Result.OK)],
    ]
    assert line.handshake.counts["Accepted"] == 1


def test_a_refused_trigger_stays_refused_when_it_is_sent_again() -> None:
    line = Line(ready=False)
    (refused,) = line.trigger("1", 0)
    assert isinstance(refused, Rejected)
    for name in Input:
        line.handshake.set_ready(name, True)
    line.committed(refused.part, 5, 1)

    rejected = Repeated(
        part=refused.part,
        phase=PartPhase.REJECTED,
        seq=5,
        rejection=Rejection.NOT_READY,
        result=Result.ERROR,
    )
    assert line.trigger("1", 2) == [rejected]


def test_a_part_that_had_no_image_is_never_reported_as_exposed() -> None:
    line = Line()
    part = line.accepted("1", 0)
    line.tick(FRAME_TIMEOUT_MS)
    (undecided,) = line.trigger("1", FRAME_TIMEOUT_MS + 1)
    line.committed(part, 5, FRAME_TIMEOUT_MS + 2)
    (valid,) = line.trigger("1", FRAME_TIMEOUT_MS + 3)

    assert undecided == Repeated(part=part, phase=PartPhase.DECIDED, seq=None, result=Result.ERROR)
    assert valid == Repeated(part=part, phase=PartPhase.VALID, seq=5, result=Result.ERROR)


def test_a_verdict_that_is_committed_after_its_deadline_is_an_error_to_whoever_asks_again() -> None:
    line = Line()
    part = line.accepted("1", 0, deadline_ms=100)
    line.exposed(1, 10)
    line.decided(part, 20)
    line.committed(part, 5, 200)

    assert line.trigger("1", 201) == [
        Repeated(part=part, phase=PartPhase.VALID, seq=5, exposed=True, result=Result.ERROR)
    ]


def test_a_verdict_that_has_no_record_is_an_error_to_whoever_asks_again() -> None:
    line = Line()
    part = line.accepted("1", 0)
    line.exposed(1, 10)
    line.decided(part, 20)
    line.handshake.not_recorded(part)

    assert line.trigger("1", 30) == [
        Repeated(part=part, phase=PartPhase.CLEARED, seq=None, exposed=True, result=Result.ERROR)
    ]


def test_of_refused_triggers_the_ids_that_were_sent_last_are_known() -> None:
    line = Line(slots=2)
    line.accepted("in flight", 0)
    line.exposed(1, 0)
    line.handshake.set_ready(Input.MODEL, False)
    for number in range(MAX_REFUSED_KNOWN + 1):
        line.trigger(str(number), 1)
        line.trigger("1", 1)  # somebody asks for it again and again

    (known,) = line.trigger("in flight", 2)
    (asked_for,) = line.trigger("1", 2)
    (last,) = line.trigger(str(MAX_REFUSED_KNOWN), 2)
    (forgotten,) = line.trigger("0", 2)

    assert [type(one) for one in (known, asked_for, last)] == [Repeated] * 3
    assert isinstance(forgotten, Rejected)


def test_accepted_ids_are_known_for_their_time_and_the_last_ones_longer() -> None:
    line, later_ms = Line(slots=1), ACCEPTED_KNOWN_NS / MS
    for number in range(MIN_ACCEPTED_KNOWN + 2):
        line.valid(str(number), number, number)
        line.handshake.acknowledged(number)
    (within_its_time,) = line.trigger("0", 10_000)
    line.valid("one more", MIN_ACCEPTED_KNOWN + 2, later_ms + 1)  # 0 and 1 are over by then

    (forgotten,) = line.trigger("1", later_ms + 2)
    assert isinstance(within_its_time, Repeated)
    assert isinstance(forgotten, Accepted | Rejected)
    (kept,) = line.trigger("3", later_ms + 2)
    assert isinstance(kept, Repeated)


def test_accepted_ids_are_bounded_whatever_the_rate() -> None:
    bound = MIN_ACCEPTED_KNOWN + 100
    line = Line(slots=1, max_accepted_known=bound)
    for number in range(bound + 1):
        line.valid(str(number), number, number / 1000)
        line.handshake.acknowledged(number)

    (kept,) = line.trigger("1", 51)
    (forgotten,) = line.trigger("0", 51)
    assert isinstance(kept, Repeated)
    assert isinstance(forgotten, Accepted)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["part", "new ids", "one id", "ids of parts"]),
            st.integers(1, 2 * MAX_REFUSED_KNOWN),
            st.sampled_from([0, 10, 5000, 61_000]),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=times(10, 200))
def test_whatever_floods_an_accepted_part_is_known_and_refused_ones_are_counted(
    steps: list[tuple[str, int, int]],
) -> None:
    burst, per_minute = 20, 6
    line = Line(
        recipe=Recipe("bottle", 1), recorded_refusals=burst, recorded_refusals_per_minute=per_minute
    )
    other, now_ms, names = Recipe("can", 1), 0.0, count()
    parts: list[str] = []
    outcomes: list[HandshakeEffect] = []
    for what, how_many, pause_ms in steps:
        now_ms += pause_ms + 1
        if what == "part":
            name = f"part {len(parts)}"
            outcomes += line.tick(now_ms)
            line.valid(name, len(parts) + 1, now_ms)
            parts.append(name)
        for _ in range(0 if what == "part" else how_many):
            name = "same" if what == "one id" else f"new {next(names)}"
            if what == "ids of parts" and parts:
                name = parts[next(names) % len(parts)]
            outcomes += line.trigger(name, now_ms, recipe=other)
    answers = [line.trigger(name, now_ms)[-1] for name in parts]
    outcomes += printed(line.handshake.close())

    for number, answer in enumerate(answers, 1):
        assert isinstance(answer, Repeated)
        assert (answer.seq, answer.result) == (number, Result.OK)
    refused = [one for one in outcomes if isinstance(one, Rejected)]
    recorded = sum(one.recorded for one in refused)
    reported = sum(one.count for one in outcomes if isinstance(one, RefusalsCounted))
    assert recorded + reported == len(refused)
    assert recorded <= burst + per_minute * now_ms / 60_000
    assert recorded >= min(burst, len(refused))


def test_refused_triggers_without_a_record_are_reported_together_and_have_no_verdict() -> None:
    line = Line(ready=False, recorded_refusals=1, recorded_refusals_per_minute=1)
    first, second, third = (
        line.trigger(name, at)[-1] for name, at in [("1", 0), ("2", 1), ("3", 5)]
    )
    due_ns = line.handshake.next_due_ns()
    (again,) = line.trigger("2", 6)

    assert isinstance(first, Rejected) and first.recorded
    assert isinstance(second, Rejected) and not second.recorded
    assert isinstance(third, Rejected) and not third.recorded
    assert due_ns == 1 * MS + REFUSALS_REPORTED_AFTER_NS
    assert again == Repeated(
        part=second.part, phase=PartPhase.REJECTED, seq=None, rejection=Rejection.NOT_READY
    )
    assert line.tick(due_ns / MS) == [RefusalsCounted(2, "the camera is not ready", 1 * MS)]
    assert line.handshake.next_due_ns() is None


def test_a_trigger_after_the_end_of_the_station_owes_no_record_that_nobody_would_write() -> None:
    line = Line()
    line.handshake.set_ready(Input.CAMERA, False)
    assert line.handshake.close() == ()
    (refused,) = line.trigger("1", 0)
    assert isinstance(refused, Rejected) and not refused.recorded


def test_every_refusal_names_its_cause_and_owes_a_record() -> None:
    live = Recipe("bottle", 7)
    line = Line(recipe=live, slots=1)
    line.accepted("1", 0, recipe=live)
    asked = request("old", 0, deadline_ms=20)
    (expired,) = printed(line.handshake.trigger(asked, 20 * MS))
    (mismatch,) = line.trigger("3", 20, recipe=Recipe("bottle", 8))
    (busy,) = line.trigger("4", 20)
    line.handshake.set_ready(Input.CAMERA, False)
    (camera,) = line.trigger("5", 20)

    refused = [expired, mismatch, busy, camera]
    assert [(o.rejection, o.reason) for o in refused if isinstance(o, Rejected)] == [
        (Rejection.EXPIRED, Reason.TIMEOUT),
        (Rejection.RECIPE_MISMATCH, Reason.RECIPE_MISMATCH),
        (Rejection.BUSY, Reason.OVERRUN),
        (Rejection.NOT_READY, Reason.CAMERA_LOST),
    ]
    assert len({o.part.number for o in refused if isinstance(o, Rejected)}) == 4
    assert line.handshake.counts["Rejected"] == 4


def test_no_image_within_the_limit_is_an_error_and_a_pause() -> None:
    line = Line()
    line.accepted("1", 0)
    assert line.handshake.next_due_ns() == FRAME_TIMEOUT_MS * MS
    assert line.tick(99) == []

    assert failures(line.tick(100)) == [(1, Reason.TIMEOUT)]
    assert not line.handshake.ready
    assert line.handshake.next_due_ns() == 2 * FRAME_TIMEOUT_MS * MS
    assert line.handshake.tick(200 * MS) == (ReadyChanged(True),)
    assert line.handshake.next_due_ns() is None


def test_an_image_after_its_limit_never_meets_the_next_part() -> None:
    line = Line()
    line.valid("0", 10, 0)
    line.accepted("1", 10)
    line.tick(110)
    (refused,) = line.trigger("2", 120)
    late = line.frame(11, 150)
    line.tick(260)
    line.accepted("3", 260)

    assert isinstance(refused, Rejected)
    assert refused.rejection is Rejection.NOT_READY
    assert [type(o) for o in late] == [Unexpected]
    assert line.exposed(12, 270).trigger_id == "3"


def test_an_image_that_came_in_time_and_is_handled_late_is_in_time() -> None:
    line = Line()
    line.accepted("1", 0)

    outcomes = line.handshake.frame(image(5, 99), 300 * MS)

    assert any(isinstance(outcome, Exposed) for outcome in outcomes)


def test_the_deadline_is_an_error_by_timer_and_a_later_score_cannot_change_it() -> None:
    line = Line()
    line.accepted("1", 0, deadline_ms=60)
    part = line.exposed(1, 30)
    assert line.handshake.next_due_ns() == 60 * MS

    assert failures(line.tick(60)) == [(1, Reason.TIMEOUT)]
    assert line.decided(part, 65) == [Late(part, "score", 5 * MS)]
    assert line.committed(part, 1, 70) == [ResultValid(part, 1, in_time=False)]


def test_a_score_after_the_deadline_is_too_late_whether_or_not_the_timer_was_faster() -> None:
    line = Line()
    line.accepted("1", 0, deadline_ms=60)
    part = line.exposed(1, 30)

    failed, late = line.decided(part, 61)

    assert failures([failed]) == [(1, Reason.TIMEOUT)]
    assert late == Late(part, "score", MS)


def test_the_stations_own_deadline_counts_from_the_image() -> None:
    line = Line(deadline_ms=40.0)
    assert line.accepted("1", 0).due_ns is None

    assert line.exposed(1, 30).due_ns == 70 * MS


def test_a_part_past_its_deadline_still_takes_its_own_image() -> None:
    line = Line()
    line.valid("0", 10, 0)
    line.accepted("1", 10, deadline_ms=20)
    line.accepted("2", 15)
    assert failures(line.tick(30)) == [(2, Reason.TIMEOUT)]

    (late,) = line.frame(11, 40)
    assert isinstance(late, Late)
    assert (late.part.trigger_id, late.what) == ("1", "frame")
    assert line.exposed(12, 50).trigger_id == "2"


def test_a_commit_after_the_deadline_is_not_in_time() -> None:
    line = Line()
    line.accepted("1", 0, deadline_ms=60)
    part = line.exposed(1, 30)
    line.decided(part, 59)

    assert line.committed(part, 1, 60) == [ResultValid(part, 1, in_time=False)]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (FrameStatus.INCOMPLETE, Reason.FRAME_INCOMPLETE),
        (FrameStatus.STALE, Reason.FRAME_STALE),
        (FrameStatus.FROZEN, Reason.FRAME_FROZEN),
    ],
)
def test_a_damaged_image_is_the_error_of_its_part_alone(
    status: FrameStatus, reason: Reason
) -> None:
    line = Line(Pairing.ANNOUNCED)
    line.valid("0", 10, 0)
    line.accepted("1", 10)
    line.accepted("2", 11)

    assert failures(line.frame(11, 20, status)) == [(2, reason)]
    assert line.exposed(12, 21).trigger_id == "2"


def test_the_kth_announced_part_gets_the_kth_image() -> None:
    line = Line(Pairing.ANNOUNCED)
    line.valid("0", 10, 0)
    for number in range(1, 6):
        line.accepted(str(number), number)

    assert [line.exposed(10 + k, 10 + k).trigger_id for k in range(1, 6)] == list("12345")


@pytest.mark.parametrize("pairing", [Pairing.SOFTWARE, Pairing.ANNOUNCED])
def test_a_jump_of_the_counter_fails_every_waiting_part_and_shifts_none(pairing: Pairing) -> None:
    line = Line(pairing)
    line.valid("0", 10, 0)
    for number in range(1, 4):
        line.accepted(str(number), 10 + number)

    jump = line.frame(12, 20)
    (refused,) = line.trigger("4", 21)
    on_its_way = line.frame(13, 30)

    assert failures(jump) == [(part, Reason.OVERRUN) for part in (2, 3, 4)]
    assert isinstance(jump[-1], Unexpected)
    assert isinstance(refused, Rejected)
    assert [type(o) for o in on_its_way] == [Unexpected]
    assert line.handshake.counts["missed_exposures"] == 1


def test_after_a_jump_that_accounts_for_every_part_the_line_goes_on_at_once() -> None:
    line = Line()
    line.valid("0", 10, 0)
    line.accepted("1", 10)
    line.accepted("2", 11)

    assert failures(line.frame(12, 20)) == [(2, Reason.OVERRUN), (3, Reason.OVERRUN)]
    assert line.handshake.ready
    line.accepted("3", 21)
    assert line.exposed(13, 30).trigger_id == "3"


def test_a_counter_that_goes_back_fails_the_waiting_parts() -> None:
    line = Line()
    line.valid("0", 10, 0)
    line.accepted("1", 10)

    assert failures(line.frame(1, 20)) == [(2, Reason.OVERRUN)]


def test_a_number_that_came_before_is_no_new_exposure() -> None:
    line = Line()
    line.valid("0", 10, 0)
    line.accepted("1", 10)

    assert [type(o) for o in line.frame(10, 20)] == [Unexpected]
    assert line.exposed(11, 21).trigger_id == "1"


def test_an_image_before_its_announcement_belongs_to_nobody() -> None:
    line = Line(Pairing.ANNOUNCED)
    line.valid("0", 10, 0)

    assert [type(o) for o in line.frame(11, 20)] == [Unexpected]
    (refused,) = line.trigger("1", 25)
    assert isinstance(refused, Rejected)
    assert refused.reason is Reason.OVERRUN


@pytest.mark.parametrize("pairing", Pairing)
@pytest.mark.parametrize("lost", ["start", "refused before it came here"])
def test_the_image_of_a_part_whose_announcement_was_lost_meets_no_later_part(
    lost: str, pairing: Pairing
) -> None:
    """Of a hardware line, which exposes all the same; seed 20181 of the simulation."""
    line = Line(pairing)
    if lost == "start":
        assert printed(line.handshake.camera_restarted(0)) == []
    else:
        line.valid("0", 10, 0) if pairing is not Pairing.EVERY_FRAME else line.frame(10, 0)
        assert printed(line.handshake.announcement_lost(0)) == []
    if pairing is not Pairing.ANNOUNCED:  # no image without a message, or none with one
        assert line.handshake.ready
        return

    (refused,) = line.trigger("2", 150)
    of_the_lost_one = line.frame(11, 199)
    line.tick(350)

    assert isinstance(refused, Rejected)
    assert refused.reason is Reason.OVERRUN
    assert [type(o) for o in of_the_lost_one] == [Unexpected]
    assert line.handshake.ready
    line.accepted("3", 360)
    assert line.exposed(12, 370).trigger_id == "3"


@pytest.mark.parametrize("pairing", [Pairing.SOFTWARE, Pairing.ANNOUNCED])
def test_a_refused_trigger_that_is_sent_again_may_have_its_edge_all_the_same(
    pairing: Pairing,
) -> None:
    """Whoever was refused holds the part back, and announces it again once the line is ready."""
    line = Line(pairing)
    line.handshake.set_ready(Input.MODEL, False)
    assert isinstance(line.trigger("1", 0)[0], Rejected)
    line.handshake.set_ready(Input.MODEL, True)
    line.tick(200)
    assert line.handshake.ready

    assert [type(o) for o in line.trigger("1", 210)] == [Repeated]
    if pairing is Pairing.SOFTWARE:  # which exposes nothing
        assert line.handshake.ready
        return
    (refused,) = line.trigger("2", 220)

    assert isinstance(refused, Rejected)
    assert [type(o) for o in line.frame(11, 230)] == [Unexpected]


@pytest.mark.parametrize("pairing", [Pairing.SOFTWARE, Pairing.ANNOUNCED])
def test_a_trigger_of_a_quiet_time_that_is_read_after_it_takes_no_earlier_image(
    pairing: Pairing,
) -> None:
    """The frame that was waited for may have come after it, and not be handled yet."""
    line = Line(pairing)
    line.accepted("1", 0)
    line.tick(100)  # no frame came
    line.tick(200)
    assert line.handshake.ready

    (taken,) = printed(line.handshake.trigger(request("2", 199), 201 * MS))
    of_the_first = printed(line.handshake.frame(image(11, 199.5), 202 * MS))

    assert isinstance(taken, Rejected if pairing is Pairing.ANNOUNCED else Accepted)
    assert isinstance(of_the_first[-1], Unexpected)


@pytest.mark.parametrize("late_ms", [99, 100, 400])
def test_where_the_station_exposes_late_the_image_meets_no_later_part(late_ms: float) -> None:
    """The thread of the triggers may wait for the record of a refused one."""
    line = Line()
    (taken,) = printed(line.handshake.trigger(request("1", 0), round(late_ms * MS)))
    if late_ms >= FRAME_TIMEOUT_MS:  # another part stands before the camera by now
        assert isinstance(taken, Rejected)
        assert (taken.rejection, taken.reason) == (Rejection.EXPIRED, Reason.TIMEOUT)
        assert line.handshake.ready
        return
    assert failures(line.tick(100)) == [(1, Reason.TIMEOUT)]
    line.tick(200)
    assert isinstance(line.trigger("2", 201)[0], Rejected)
    assert [type(o) for o in line.frame(11, late_ms + 2 * FRAME_TIMEOUT_MS - 1)] == [Unexpected]


@pytest.mark.parametrize("pairing", Pairing)
def test_a_part_that_whoever_announced_it_has_forgotten_takes_no_other_parts_image(
    pairing: Pairing,
) -> None:
    line = Line(pairing)
    if pairing is Pairing.EVERY_FRAME:
        line.handshake.announcements_forgotten(0)
        assert line.exposed(10, 0)
        return
    line.valid("0", 10, 0)
    line.accepted("1", 10)
    line.accepted("2", 20)
    line.handshake.announcements_forgotten(30 * MS)
    if pairing is Pairing.SOFTWARE:  # the station has exposed for it
        assert line.exposed(11, 40).trigger_id == "1"
        return

    assert not line.handshake.ready
    assert line.handshake.next_due_ns() == 0
    assert failures(line.tick(31)) == [(2, Reason.OVERRUN), (3, Reason.OVERRUN)]
    assert [type(o) for o in line.frame(11, 40)] == [Unexpected]
    line.tick(230)
    assert line.handshake.ready
    line.accepted("3", 240)
    assert line.exposed(12, 250).trigger_id == "3"


def test_until_the_counter_is_known_parts_are_taken_one_at_a_time() -> None:
    line = Line(Pairing.ANNOUNCED)
    line.accepted("1", 0)
    (busy,) = line.trigger("2", 1)

    assert isinstance(busy, Rejected)
    assert busy.rejection is Rejection.BUSY
    # Whether this is the frame of 1 or of 2, nobody can say.
    assert failures(line.frame(500, 20)) == [(1, Reason.OVERRUN)]


def test_a_lost_camera_fails_what_waits_and_its_return_starts_a_new_count() -> None:
    line = Line()
    line.valid("0", 10, 0)
    line.accepted("1", 10)
    line.handshake.set_ready(Input.CAMERA, False)

    lost = printed(line.handshake.camera_restarted(20 * MS, "the camera is lost"))
    line.tick(210)
    line.tick(500)
    line.handshake.set_ready(Input.CAMERA, True)
    assert line.handshake.camera_restarted(510 * MS) == ()
    line.accepted("2", 520)

    assert failures(lost) == [(2, Reason.CAMERA_LOST)]
    assert line.exposed(1, 530).trigger_id == "2"


@pytest.mark.parametrize("waits", [True, False])
def test_a_frame_that_lay_in_the_driver_while_all_stood_still_meets_no_later_part(
    waits: bool,
) -> None:
    """Of a process that was stopped, or a machine that slept, as long as it likes."""
    line = Line()
    line.valid("0", 10, 0)
    line.accepted("1", 10)
    if not waits:  # its time is over, and all that is waited for is that the line is quiet
        line.tick(10 + FRAME_TIMEOUT_MS)
    later = 7_200_000.0

    refused = line.trigger("2", later)[-1]
    assert isinstance(refused, Rejected)
    assert refused.rejection is Rejection.NOT_READY
    assert not any(isinstance(one, Exposed) for one in line.frame(11, later + 1))
    quiet_until_ns = line.handshake.next_due_ns()
    assert quiet_until_ns is not None
    line.tick(quiet_until_ns / MS)
    line.accepted("3", quiet_until_ns / MS + 1)


def test_a_camera_that_refuses_to_expose_is_the_error_of_the_part() -> None:
    line = Line()
    part = line.accepted("1", 0)

    outcomes = printed(line.handshake.failed(part, Reason.CAMERA_LOST, "no answer", 5 * MS))

    assert failures(outcomes) == [(1, Reason.CAMERA_LOST)]
    assert not line.handshake.ready
    assert printed(line.handshake.failed(part, Reason.INTERNAL, "again", 6 * MS)) == []


def test_an_overrun_of_the_queue_is_the_error_of_that_part_alone() -> None:
    line = Line()
    line.accepted("1", 0)
    part = line.exposed(1, 5)

    outcomes = printed(line.handshake.failed(part, Reason.OVERRUN, "queue full", 6 * MS))

    assert failures(outcomes) == [(1, Reason.OVERRUN)]
    assert line.handshake.ready


def test_every_image_is_a_part_and_every_missing_number_an_error() -> None:
    line = Line(Pairing.EVERY_FRAME, deadline_ms=40.0)
    first = line.exposed(10, 0)
    outcomes = line.frame(13, 5)

    assert first.due_ns == 40 * MS
    assert failures(outcomes) == [(2, Reason.OVERRUN), (3, Reason.OVERRUN)]
    exposed = outcomes[-1]
    assert isinstance(exposed, Exposed)
    assert (exposed.part.number, exposed.part.trigger_id) == (4, None)
    assert line.decided(exposed.part, 6) == [Decided(exposed.part)]


def test_parts_whose_frames_never_came_were_there_between_the_frames_around_them() -> None:
    """Outputs give each its turn then, and not together with the part behind the gap."""
    line = Line(Pairing.EVERY_FRAME)
    line.exposed(10, 100)
    first, second, _ = line.frame(13, 400)
    behind_gap, _ = line.frame(14 + MAX_MISSING + 1, 400 + 34 * (MAX_MISSING + 2))

    times = [
        one.part.announced_ns for one in (first, second, behind_gap) if isinstance(one, Failed)
    ]
    assert times == [200 * MS, 300 * MS, 434 * MS]


@given(st.lists(st.integers(1, MAX_MISSING + 1), min_size=1, max_size=50))
def test_without_triggers_every_exposure_has_its_part(gaps: list[int]) -> None:
    line = Line(Pairing.EVERY_FRAME)
    line.exposed(100, 0)
    numbers = enumerate(accumulate(gaps, initial=100))
    outcomes = [outcome for at_ms, number in numbers for outcome in line.frame(number, at_ms)]
    parts = [outcome.part for outcome in outcomes if isinstance(outcome, Exposed | Failed)]

    assert [part.number for part in parts] == list(range(2, 2 + sum(gaps)))


def test_a_nonsensical_counter_is_one_error_that_says_how_many() -> None:
    line = Line(Pairing.EVERY_FRAME)
    line.exposed(10, 0)

    missed, exposed = line.frame(10 + MAX_MISSING + 2, 5)

    assert isinstance(missed, Failed)
    assert str(MAX_MISSING + 1) in missed.detail
    assert isinstance(exposed, Exposed)


def test_where_every_image_is_a_part_a_trigger_is_refused() -> None:
    (refused,) = Line(Pairing.EVERY_FRAME).trigger("1", 0)

    assert isinstance(refused, Rejected)


def test_a_result_nobody_acknowledges_is_cleared_and_counted() -> None:
    line = Line()
    part = line.valid("1", 1, 0)
    assert line.handshake.next_due_ns() == 500 * MS

    assert line.tick(500) == [SlotFreed(part, 1, ack_missing=True)]
    assert line.handshake.counts["ack_missing"] == 1


def test_results_stand_in_slots_and_the_oldest_makes_room() -> None:
    line = Line(slots=2)
    first = line.valid("1", 1, 0)
    line.valid("2", 2, 1)
    line.accepted("3", 2)
    third = line.exposed(3, 3)
    line.decided(third, 4)

    assert line.committed(third, 3, 5) == [
        SlotFreed(first, 1, ack_missing=True),
        ResultValid(third, 3, in_time=True),
    ]


def test_a_result_is_never_valid_before_its_part_is_decided() -> None:
    line = Line()
    line.accepted("1", 0)
    part = line.exposed(1, 1)

    with pytest.raises(PhaseError, match="part 1"):
        line.committed(part, 1, 2)


def test_a_verdict_that_the_journal_refused_is_never_valid() -> None:
    line = Line(slots=1)
    line.accepted("1", 0)
    part = line.exposed(1, 1)
    line.decided(part, 2)
    assert not line.handshake.ready

    assert line.handshake.not_recorded(part) == (ReadyChanged(True),)
    assert line.committed(part, 1, 3) == []


class World:
    """A line around the hand-shake: what was exposed for whom is known here, and only here.

    The camera counts every exposure, also one whose frame it loses; frames arrive in order, at
    most twice the frame timeout after their trigger. A hardware line exposes whatever the station
    answered to the announcement. Triggers that are sent while the line is ready, and frames that
    have arrived, may be handled later.
    """

    def __init__(self, pairing: Pairing, seed: int) -> None:
        self.pairing = pairing
        self.random = random.Random(seed)
        self.slots = self.random.randint(1, 5)
        deadline_ms = self.random.choice([None, 40.0])
        self.line = Line(pairing, deadline_ms=deadline_ms, slots=self.slots)
        self.now_ms = 0.0
        self.numbers = count(65401)
        self.names, self.seqs = count(1), count(1)
        self.sent: list[str] = []
        self.edges: deque[tuple[str, float]] = deque()  # announced, not yet exposed
        self.under_way: deque[tuple[int, float]] = deque()  # frame, latest arrival
        self.unread: deque[tuple[str, float, float | None]] = deque()  # trigger, arrival, deadline
        self.unhandled: deque[Frame] = deque()  # arrived
        self.refused: set[str] = set()
        self.exposed_for: dict[int, str] = {}
        self.paired: set[int] = set()
        self.accepted: set[int] = set()
        self.records: Counter[int] = Counter()
        self.inspecting: list[Part] = []
        self.uncommitted: deque[Part] = deque()
        self.valid: set[int] = set()

    def apply(self, outcomes: list[HandshakeEffect]) -> None:
        """Carry the outcomes out as a station does, and keep the books."""
        for outcome in outcomes:
            if isinstance(outcome, Accepted):
                self.accepted.add(outcome.part.number)
                if self.pairing is Pairing.SOFTWARE:
                    self.expose(outcome.part.trigger_id or "", self.now_ms)
            elif isinstance(outcome, Exposed):
                assert self.exposed_for[outcome.frame.number] == outcome.part.trigger_id
                assert outcome.frame.status is FrameStatus.COMPLETE
                assert outcome.frame.number not in self.paired
                self.paired.add(outcome.frame.number)
                self.inspecting.append(outcome.part)
            elif isinstance(outcome, Decided | Failed | Rejected):
                if isinstance(outcome, Rejected):
                    self.refused.add(outcome.part.trigger_id or "")
                self.records[outcome.part.number] += 1
                assert self.records[outcome.part.number] == 1
                self.uncommitted.append(outcome.part)
            elif isinstance(outcome, ResultValid):
                assert outcome.part.number in self.accepted
                assert outcome.part.number not in self.valid
                self.valid.add(outcome.part.number)

    def expose(self, trigger_id: str, triggered_ms: float) -> None:
        number = next(self.numbers)
        self.exposed_for[number] = trigger_id
        self.under_way.append((number, triggered_ms + 2 * FRAME_TIMEOUT_MS - 1))

    def arrive(self, status: FrameStatus) -> None:
        number, _ = self.under_way.popleft()
        self.unhandled.append(image(number, self.now_ms, status))
        if self.random.random() < 0.95:
            self.handle()

    def handle(self) -> None:
        while self.unhandled:
            frame = self.unhandled.popleft()
            self.apply(printed(self.line.handshake.frame(frame, round(self.now_ms * MS))))

    def pass_time(self, ms: float) -> None:
        """Let time go by, with what cannot be later than that."""
        end_ms = self.now_ms + ms
        while self.edges and self.edges[0][1] + FRAME_TIMEOUT_MS < end_ms:
            self.expose(*self.edges.popleft())
        while self.under_way and self.under_way[0][1] < end_ms:
            self.now_ms = max(self.now_ms, self.under_way[0][1])
            self.arrive(FrameStatus.COMPLETE)
        self.now_ms = end_ms

    def trigger(self) -> None:
        name = str(next(self.names))
        self.sent.append(name)
        if self.pairing is Pairing.ANNOUNCED:
            self.edges.append((name, self.now_ms))
        deadline_ms = self.random.choice([None, None, 30.0, 150.0])
        self.unread.append((name, self.now_ms, deadline_ms))
        if not self.line.handshake.ready or self.random.random() < 0.95:
            self.read()

    def read(self) -> None:
        while self.unread:
            name, sent_ms, deadline_ms = self.unread.popleft()
            asked = request(name, sent_ms, deadline_ms=deadline_ms)
            self.apply(printed(self.line.handshake.trigger(asked, round(self.now_ms * MS))))

    def same_trigger_again(self) -> None:
        self.read()
        name = self.random.choice(self.sent)
        if self.pairing is Pairing.ANNOUNCED and name in self.refused:
            self.edges.append((name, self.now_ms))  # it was held back until now
        (*others, repeated) = self.line.trigger(name, self.now_ms)
        assert isinstance(repeated, Repeated)
        assert repeated.part.trigger_id == name
        self.apply(others)

    def announced_in_vain(self) -> None:
        """Let an announcement get lost; that is noticed, and its edge comes."""
        self.edges.append(("lost", self.now_ms))
        self.line.handshake.announcement_lost(round(self.now_ms * MS))

    def plc_begins_anew(self) -> None:
        """It knows nothing of what it announced, which may be taken off the line."""
        self.read()
        if self.random.random() < 0.5:
            self.edges.clear()
        self.line.handshake.announcements_forgotten(round(self.now_ms * MS))

    def edge(self) -> None:
        self.expose(*self.edges.popleft())

    def edge_missed_and_counted(self) -> None:
        self.edges.popleft()
        next(self.numbers)

    def image(self) -> None:
        self.arrive(FrameStatus.COMPLETE)

    def damaged_image(self) -> None:
        self.arrive(self.random.choice(list(FrameStatus)))

    def image_lost(self) -> None:
        self.under_way.popleft()

    def a_moment(self) -> None:
        self.pass_time(self.random.choice([1, 5, 10, 30]))

    def a_while(self) -> None:
        self.pass_time(self.random.choice([99, 100, 101, 150, 199, 200]))

    def tick(self) -> None:
        self.apply(self.line.tick(self.now_ms))

    def timer(self) -> None:
        due_ns = self.line.handshake.next_due_ns()
        if due_ns is not None:
            self.pass_time(max(0.0, due_ns / MS - self.now_ms))
            self.tick()
            later_ns = self.line.handshake.next_due_ns()
            assert later_ns is None or later_ns > self.now_ms * MS  # it does not turn on the spot

    def score(self) -> None:
        part = self.inspecting.pop(self.random.randrange(len(self.inspecting)))
        self.apply(self.line.decided(part, self.now_ms))

    def inspection_fails(self) -> None:
        part = self.inspecting.pop(self.random.randrange(len(self.inspecting)))
        now_ns = round(self.now_ms * MS)
        self.apply(printed(self.line.handshake.failed(part, Reason.MODEL_ERROR, "", now_ns)))

    def commit(self) -> None:
        part = self.uncommitted.popleft()
        self.apply(self.line.committed(part, next(self.seqs), self.now_ms))

    def acknowledge(self) -> None:
        self.apply(printed(self.line.handshake.acknowledged(self.random.randint(1, 200))))

    def camera_lost_and_back(self) -> None:
        handshake = self.line.handshake
        handshake.set_ready(Input.CAMERA, False)
        self.apply(
            printed(handshake.camera_restarted(round(self.now_ms * MS), "the camera is lost"))
        )
        self.under_way.clear()
        self.unhandled.clear()
        away_ms = self.random.choice([0, 50, 300])
        self.now_ms += away_ms
        self.edges = deque(e for e in self.edges if e[1] + FRAME_TIMEOUT_MS > self.now_ms)
        self.numbers = count(1)
        self.exposed_for.clear()
        self.paired.clear()
        self.apply(printed(handshake.camera_restarted(round(self.now_ms * MS))))
        handshake.set_ready(Input.CAMERA, True)

    def steps(self) -> dict[Callable[[], None], float]:
        """Return what can happen now, and how likely it is."""
        ready = self.line.handshake.ready
        steps: dict[Callable[[], None], float] = {
            self.trigger: 8 if ready else 1,
            self.a_moment: 6,
            self.a_while: 0.5,
            self.tick: 2,
            self.timer: 0.5,
            self.acknowledge: 1,
            self.camera_lost_and_back: 0.2,
        }
        if self.pairing is Pairing.ANNOUNCED:
            steps |= {self.announced_in_vain: 0.1, self.plc_begins_anew: 0.1}
        if self.unread:
            steps[self.read] = 4
        if self.unhandled:
            steps[self.handle] = 4
        if self.sent:
            steps[self.same_trigger_again] = 0.5
        if self.edges:
            steps |= {self.edge: 8, self.edge_missed_and_counted: 0.4}
        if self.under_way:
            steps |= {self.image: 8, self.damaged_image: 0.5, self.image_lost: 0.3}
        if self.inspecting:
            steps |= {self.score: 8, self.inspection_fails: 0.3}
        if self.uncommitted:
            steps[self.commit] = 8
        return steps

    def play(self, length: int) -> None:
        for _ in range(length):
            steps = self.steps()
            (step,) = self.random.choices(list(steps), list(steps.values()))
            step()
            assert self.line.handshake.in_flight <= self.slots

    def come_to_the_end(self) -> None:
        """Let everything come in that is on its way."""
        self.read()
        self.handle()
        for _ in range(10):
            self.pass_time(FRAME_TIMEOUT_MS)
            self.handle()
            self.tick()
            while self.inspecting:
                self.score()
            while self.uncommitted:
                self.commit()


@pytest.mark.parametrize("pairing", [Pairing.SOFTWARE, Pairing.ANNOUNCED])
def test_whatever_happens_each_part_has_one_verdict_and_no_others_image(
    pairing: Pairing,
) -> None:
    happened: Counter[str] = Counter()
    for seed in range(SCHEDULES):
        world = World(pairing, seed)
        try:
            world.play(SCHEDULE_LENGTH)
            world.come_to_the_end()
            assert len(world.records) == len(world.sent)
            assert world.valid == world.accepted
            assert world.line.handshake.in_flight == 0
            assert world.line.handshake.next_due_ns() is None
            assert world.line.handshake.ready
        except BaseException as error:
            error.add_note(f"schedule {seed} of {pairing}")
            raise
        happened += world.line.handshake.counts

    # The schedules did meet what they are to prove.
    for kind in (Exposed, Decided, Failed, Late, Unexpected, Rejected, Repeated, SlotFreed):
        assert happened[kind.__name__] > SCHEDULES
    assert happened["missed_exposures"] > SCHEDULES / 10
    assert happened["Decided"] > happened["Accepted"] / 4
