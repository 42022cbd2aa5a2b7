"""When lines switch: every part without a fresh OK is rejected."""

from collections.abc import Iterator
from itertools import permutations, product

import pytest

from edge.station.outputs.schedule import (
    MAX_WAITING,
    Edge,
    Exposure,
    Missed,
    Outcome,
    PartRule,
    PartSchedule,
)

MS = 1_000_000


def rule(**other: object) -> PartRule:
    values: dict[str, object] = {
        "opens_on_ok": True,
        "idle": False,
        "delay_ns": 100 * MS,
        "window_ns": 500 * MS,
        "hold_ns": 40 * MS,
        "tolerance_ns": 10 * MS,
    }
    return PartRule(**(values | other))  # type: ignore[arg-type]


def exposure(number: int, at_ms: float) -> Exposure:
    return Exposure((number, number), round(at_ms * MS))


def outcome(number: int, exposed_ms: float, at_ms: float, ok: bool) -> Outcome:
    return Outcome(
        key=(number, number),
        exposed_ns=round(exposed_ms * MS),
        ok=ok,
        decided_ns=round(at_ms * MS),
        outcome_ns=round(at_ms * MS),
        verdict_id=f"v{number}",
    )


class Line:
    """A schedule in time: what happens, and the levels that follow, each with its millisecond."""

    def __init__(self, one: PartRule) -> None:
        self.schedule = PartSchedule(one)
        self.levels: list[tuple[float, bool]] = []
        self.missed: list[Missed] = []

    def run(self, *events: tuple[float, Exposure | Outcome], until_ms: float) -> None:
        waiting = sorted(events, key=lambda one: one[0])
        now_ms = 0.0
        while now_ms <= until_ms:
            while waiting and waiting[0][0] <= now_ms:
                event = waiting.pop(0)[1]
                if isinstance(event, Exposure):
                    self.missed += self.schedule.exposed(event)
                else:
                    self.missed += self.schedule.decided(event)
            self._tick(now_ms)
            now_ms += 1.0

    def _tick(self, now_ms: float) -> None:
        for effect in self.schedule.tick(round(now_ms * MS)):
            if isinstance(effect, Missed):
                self.missed.append(effect)
            elif not self.levels or self.levels[-1][1] is not effect.active:
                self.levels.append((now_ms, effect.active))


def test_an_ok_opens_at_its_turn_and_whatever_else_keeps_the_line_idle() -> None:
    line = Line(rule())
    line.run(
        (0, exposure(1, 0)),
        (60, outcome(1, 0, 60, ok=True)),
        (200, exposure(2, 200)),
        (250, outcome(2, 200, 250, ok=False)),
        (400, exposure(3, 400)),  # it never gets a verdict
        (600, exposure(4, 600)),
        (690, outcome(4, 600, 690, ok=True)),
        until_ms=900,
    )
    assert line.levels == [(100, True), (140, False), (700, True), (740, False)]
    assert line.missed == []


def test_reject_that_idles_active_is_released_for_an_ok_alone() -> None:
    line = Line(rule(idle=True))
    line.run(
        (0, exposure(1, 0)),
        (60, outcome(1, 0, 60, ok=True)),
        (200, exposure(2, 200)),
        until_ms=500,
    )
    assert line.schedule.active is True
    assert line.levels == [(100, False), (140, True)]


def test_reject_that_idles_inactive_rejects_whatever_has_no_ok_by_its_turn() -> None:
    line = Line(rule(opens_on_ok=False))
    line.run(
        (0, exposure(1, 0)),
        (60, outcome(1, 0, 60, ok=True)),
        (200, exposure(2, 200)),
        (250, outcome(2, 200, 250, ok=False)),
        (400, exposure(3, 400)),
        # an ERROR without an image, of which only the trigger is known
        (650, outcome(4, 600, 650, ok=False)),
        until_ms=900,
    )
    levels = [(300, True), (340, False), (500, True), (540, False), (700, True), (740, False)]
    assert line.levels == levels


def test_an_ok_that_comes_after_its_turn_is_missed_and_its_part_stays_rejected() -> None:
    line = Line(rule())
    line.run((0, exposure(1, 0)), (130, outcome(1, 0, 130, ok=True)), until_ms=400)
    assert line.levels == []
    assert [(one.passes, one.late_ns) for one in line.missed] == [(False, 30 * MS)]

    rejecting = Line(rule(opens_on_ok=False))
    rejecting.run((0, exposure(1, 0)), (130, outcome(1, 0, 130, ok=False)), until_ms=400)
    assert rejecting.levels == [(100, True), (140, False)]  # once
    assert rejecting.missed == []


def test_the_turn_of_a_part_ends_what_the_part_before_began() -> None:
    """With pulses longer than the distance of parts no part passes on another one's OK."""
    line = Line(rule(hold_ns=400 * MS))
    line.run(
        (0, exposure(1, 0)),
        (10, outcome(1, 0, 10, ok=True)),
        (50, exposure(2, 50)),
        (60, outcome(2, 50, 60, ok=False)),
        (100, exposure(3, 100)),  # no verdict
        (150, exposure(4, 150)),
        (160, outcome(4, 150, 160, ok=True)),
        until_ms=700,
    )
    assert line.levels == [(100, True), (150, False), (250, True), (650, False)]


def test_without_a_delay_an_ok_counts_within_its_window_alone() -> None:
    line = Line(rule(delay_ns=None, window_ns=200 * MS))
    line.run(
        (0, exposure(1, 0)),
        (60, outcome(1, 0, 60, ok=True)),
        (300, exposure(2, 300)),
        (510, outcome(2, 300, 510, ok=True)),
        until_ms=700,
    )
    assert line.levels == [(60, True), (100, False)]
    assert [one.late_ns for one in line.missed] == [10 * MS]


def test_a_turn_that_is_noticed_too_late_is_missed_and_never_given_to_the_next_part() -> None:
    good, reject = PartSchedule(rule()), PartSchedule(rule(opens_on_ok=False))
    good.decided(outcome(1, 0, 50, ok=True))
    reject.decided(outcome(1, 0, 50, ok=False))
    late = 120 * MS
    for schedule, passes in ((good, False), (reject, True)):
        effects = list(schedule.tick(late))
        assert [type(one) for one in effects] == [Missed]
        assert isinstance(effects[0], Missed)
        assert (effects[0].passes, effects[0].late_ns) == (passes, 20 * MS)
        assert schedule.active is False and schedule.next_due_ns() is None


def test_lost_messages_make_the_line_idle_and_no_verdict_before_them_counts() -> None:
    schedule = PartSchedule(rule(hold_ns=400 * MS))
    schedule.decided(outcome(1, 0, 50, ok=True))
    assert [one.active for one in _edges(schedule, 100)] == [True]
    schedule.exposed(exposure(2, 20))
    schedule.decided(outcome(2, 20, 60, ok=True))
    assert [one.active for one in schedule.distrust(110 * MS)] == [False]
    assert _edges(schedule, 130) == []
    assert schedule.active is False


def test_parts_that_wait_are_bounded_and_the_oldest_gives_way() -> None:
    schedule = PartSchedule(rule(delay_ns=10**12))
    missed = [
        one for number in range(MAX_WAITING + 2) for one in schedule.exposed(exposure(number, 0))
    ]
    assert len(missed) == 2 and not missed[0].passes


@pytest.mark.parametrize("opens_on_ok", [True, False])
def test_whatever_comes_in_whatever_order_no_part_passes_without_its_own_fresh_ok(
    opens_on_ok: bool,
) -> None:
    """Every combination of verdict and lateness of three parts whose pulses overlap."""
    one_rule = rule(opens_on_ok=opens_on_ok, idle=False, hold_ns=120 * MS)
    for oks, lates in _combinations():
        line = Line(one_rule)
        events: list[tuple[float, Exposure | Outcome]] = []
        for number in range(3):
            at = 50.0 * number
            decided = at + (130 if lates[number] else 60)
            events.append((at, exposure(number + 1, at)))
            events.append((decided, outcome(number + 1, at, decided, oks[number])))
        line.run(*events, until_ms=500)
        for number in range(3):
            turn = 100.0 + 50.0 * number
            level = next((active for at, active in reversed(line.levels) if at <= turn), False)
            fresh = oks[number] and not lates[number]
            assert level is (fresh if opens_on_ok else not fresh), (oks, lates, line.levels)


def test_an_ok_after_the_turn_of_a_later_part_opens_nothing() -> None:
    """An overrun is an ERROR at once, while the part before it is still inspected."""
    events = (
        (0.0, exposure(1, 0)),
        (100.0, exposure(2, 100)),
        (105.0, outcome(2, 100, 105, ok=False)),
        (160.0, outcome(1, 0, 160, ok=True)),
    )
    good = Line(rule(delay_ns=None, hold_ns=2000 * MS))
    good.run(*events, until_ms=700)
    assert good.levels == []
    assert [one.passes for one in good.missed] == [False]

    rejecting = Line(rule(delay_ns=None, opens_on_ok=False, hold_ns=100 * MS))
    rejecting.run(*events, until_ms=700)
    assert rejecting.levels == [(105, True), (260, False)]  # the later part's pulse is not cut


def test_a_verdict_that_comes_after_the_turn_of_its_part_ends_nothing_of_a_later_part() -> None:
    """A part without an image has its ERROR late, and only then is anything known of it."""
    events = (
        (100.0, exposure(2, 100)),
        (150.0, outcome(2, 100, 150, ok=True)),
        (250.0, outcome(1, 0, 250, ok=False)),  # its turn was at 100
    )
    good = Line(rule(hold_ns=400 * MS))
    good.run(*events, until_ms=900)
    assert good.levels == [(200, True), (600, False)]
    assert [(one.passes, one.late_ns) for one in good.missed] == [(True, 150 * MS)]


def test_an_ok_opens_nothing_while_a_part_before_it_has_no_verdict() -> None:
    line = Line(rule(delay_ns=None, hold_ns=2000 * MS))
    line.run(
        (0, exposure(1, 0)),  # skipped: it never gets one
        (30, exposure(2, 30)),
        (60, outcome(2, 30, 60, ok=True)),
        (600, exposure(3, 600)),
        (660, outcome(3, 600, 660, ok=True)),
        until_ms=900,
    )
    assert line.levels == [(660, True)]
    assert [one.passes for one in line.missed] == [False]


def test_without_a_delay_a_line_stands_open_on_the_ok_of_the_last_part_alone() -> None:
    """Every order of the verdicts of three parts, each OK, not OK, or none."""
    for order in permutations(range(3)):
        for results in product((True, False, None), repeat=3):
            schedule = PartSchedule(rule(delay_ns=None, window_ns=200 * MS, hold_ns=2000 * MS))
            for number in range(3):
                schedule.exposed(exposure(number, number * 10))
            over: set[int] = set()
            for step, number in enumerate(order):
                at_ms = 50.0 + 10 * step
                ok = results[number]
                if ok is not None:
                    schedule.decided(outcome(number, number * 10, at_ms, ok))
                    over.add(number)
                _edges(schedule, at_ms)
                if schedule.active:
                    assert over == set(range(max(over) + 1)) and results[max(over)], order
            _edges(schedule, 230)
            assert not schedule.active or (results[2] and None not in results[:2])


def _combinations() -> Iterator[tuple[tuple[bool, ...], tuple[bool, ...]]]:
    for bits in range(64):
        flags = tuple(bool(bits >> n & 1) for n in range(6))
        yield flags[:3], flags[3:]


def _edges(schedule: PartSchedule, at_ms: float) -> list[Edge]:
    return [one for one in schedule.tick(round(at_ms * MS)) if isinstance(one, Edge)]
