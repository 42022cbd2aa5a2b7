"""When lines switch: every part without a fresh OK is rejected."""

from collections.abc import Iterator
from itertools import pairwise, permutations, product

import pytest

from edge.station.outputs.conveyor import Conveyor, Count, unwrapped
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

    def run(self, *events: tuple[float, Exposure | Outcome | Count], until_ms: float) -> None:
        waiting = sorted(events, key=lambda one: one[0])
        now_ms = 0.0
        while now_ms <= until_ms:
            while waiting and waiting[0][0] <= now_ms:
                event = waiting.pop(0)[1]
                if isinstance(event, Count):
                    self.schedule.moved(event)
                elif isinstance(event, Exposure):
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


def counts(*steps: tuple[float, float], every_ms: float = 10.0, spell: int = 1) -> list[Count]:
    """Return the counts of a conveyor that moves evenly from one (ms, count) to the next."""
    found = []
    for (from_ms, from_count), (to_ms, to_count) in pairwise(steps):
        at_ms = from_ms
        while at_ms < to_ms:
            share = (at_ms - from_ms) / (to_ms - from_ms)
            count = round(from_count + share * (to_count - from_count))
            found.append(Count(round(at_ms * MS), count, spell))
            at_ms += every_ms
    return found


def at_their_time(moves: list[Count]) -> list[tuple[float, Count]]:
    return [(one.at_ns / MS, one) for one in moves]


def by_counts(**other: object) -> PartRule:
    return rule(delay_ns=None, delay_counts=1000, ahead_ns=20 * MS, **other)


def test_a_part_has_its_turn_once_the_conveyor_has_brought_it_there() -> None:
    """It moves by 10 counts a millisecond, stands for 100 ms, and goes on at half the speed."""
    line = Line(by_counts())
    moves = counts((0, 0), (200, 2000), (300, 2000), (600, 3500))
    line.run(
        *at_their_time(moves),
        (5.0, exposure(1, 5)),  # at 50: at 1050 after 105 ms
        (60.0, outcome(1, 5, 60, ok=True)),
        (150.0, exposure(2, 150)),  # at 1500: at 2500 after 400 ms, with the stop
        (390.0, outcome(2, 150, 390, ok=True)),
        (155.0, exposure(3, 155)),  # NOK
        (190.0, outcome(3, 155, 190, ok=False)),
        (350.0, exposure(4, 350)),  # at 2250: it never gets a verdict
        until_ms=600,
    )
    assert line.levels == [(105, True), (145, False), (400, True), (410, False)]
    assert line.missed == []


@pytest.mark.parametrize("opens_on_ok", [True, False])
def test_parts_whose_place_is_not_known_any_more_are_rejected_or_reported(
    opens_on_ok: bool,
) -> None:
    line = Line(by_counts(opens_on_ok=opens_on_ok))
    # away between 55 and 80 ms; what it counts then is another conveyor's for all that is known
    moves = [*counts((0, 0), (60, 600)), *counts((80, 90), (400, 3290), spell=2)]
    line.run(
        *at_their_time(moves),
        (5.0, exposure(1, 5)),
        (50.0, outcome(1, 5, 50, ok=True)),
        (6.0, exposure(2, 6)),
        (70.0, exposure(3, 70)),  # while it is away
        (75.0, outcome(3, 70, 75, ok=False)),
        (90.0, outcome(2, 6, 90, ok=True)),
        (100.0, exposure(4, 100)),  # from here on it is known again
        (120.0, outcome(4, 100, 120, ok=opens_on_ok)),
        until_ms=400,
    )
    assert line.levels == [(200, True), (240, False)]
    causes = [(one.passes, "encoder was disconnected" in one.cause) for one in line.missed]
    # good: both OKs were rejected; reject: of one nobody knew, and the one that is NOK passed
    assert causes == ([(False, True)] * 2 if opens_on_ok else [(True, True)] * 2)


def test_an_encoder_that_is_lost_closes_the_line_at_once() -> None:
    schedule = PartSchedule(by_counts(hold_ns=10_000 * MS))
    for one in counts((0, 0), (110, 1100)):
        schedule.moved(one)
    schedule.exposed(exposure(1, 0))
    schedule.decided(outcome(1, 0, 50, ok=True))
    schedule.exposed(exposure(2, 50))
    assert [one.active for one in _edges(schedule, 100)] == [True]
    schedule.encoder_lost(120 * MS)
    assert [one.active for one in _edges(schedule, 120)] == [False]


def test_a_part_without_an_image_ends_nothing_of_a_later_part_by_counts_too() -> None:
    schedule = PartSchedule(by_counts(hold_ns=10_000 * MS))
    for one in counts((0, 0), (210, 2100)):
        schedule.moved(one)
    schedule.exposed(exposure(2, 100))
    schedule.decided(outcome(2, 100, 150, ok=True))
    assert [one.active for one in _edges(schedule, 200)] == [True]
    (missed,) = schedule.decided(outcome(1, 50, 205, ok=False))  # its turn was at 150
    assert (missed.passes, missed.late_ns) == (True, 55 * MS)
    assert _edges(schedule, 205) == [] and schedule.active


def test_a_counter_that_overflows_or_goes_back_goes_on_counting() -> None:
    counted = 65_500
    for raw in (65_530, 10, 0, 65_535, 30_000):
        counted = unwrapped(counted, raw, 16)
    assert counted == 65_536 + 30_000
    assert unwrapped(2**32 - 5, 3, 32) == 2**32 + 3


def test_the_speed_of_a_conveyor_counts_for_a_moment_alone() -> None:
    conveyor = Conveyor(20 * MS)
    for one in counts((0, 0), (20, 200)):
        conveyor.moved(one)
    assert conveyor.due_ns(250) == 25 * MS and conveyor.due_ns(400) is None
    assert conveyor.due_ns(50) == 5 * MS and conveyor.count_at(5 * MS) == 50
    assert conveyor.count_at(11 * MS) is None and conveyor.knows(11 * MS)
    conveyor.moved(Count(20 * MS, 100, 1))  # it has stopped
    assert conveyor.due_ns(250) is None
    assert not conveyor.knows(-1)


def _combinations() -> Iterator[tuple[tuple[bool, ...], tuple[bool, ...]]]:
    for bits in range(64):
        flags = tuple(bool(bits >> n & 1) for n in range(6))
        yield flags[:3], flags[3:]


def _edges(schedule: PartSchedule, at_ms: float) -> list[Edge]:
    return [one for one in schedule.tick(round(at_ms * MS)) if isinstance(one, Edge)]
