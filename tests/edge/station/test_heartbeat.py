"""Heartbeats: silence is told for each stage by its own limit, and by the clock that is given."""

import pytest

from edge.station.monitoring.heartbeat import Heartbeats, Stale


class Clock:
    """Monotonic time that the test turns."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def go_on(self, seconds: float) -> int:
        self.now_ns += round(seconds * 1e9)
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heartbeats(clock: Clock) -> Heartbeats:
    return Heartbeats(clock)


def test_a_stage_is_fresh_from_its_start_until_its_limit(
    clock: Clock, heartbeats: Heartbeats
) -> None:
    heartbeats.stage("capture", 10.0, critical=True)
    assert heartbeats.stale(clock.go_on(10.0)) == []
    assert heartbeats.stale(clock.go_on(0.5)) == [Stale("capture", True, 10.5, 10.0)]


def test_a_beat_makes_its_own_stage_fresh_and_no_other(
    clock: Clock, heartbeats: Heartbeats
) -> None:
    inspect = heartbeats.stage("inspect", 1.0, critical=True)
    heartbeats.stage("publish", 1.0, critical=False)
    now_ns = clock.go_on(3.0)
    inspect()
    assert heartbeats.stale(now_ns) == [Stale("publish", False, 3.0, 1.0)]


def test_each_stage_is_judged_by_its_own_limit_and_the_longest_silence_comes_first(
    clock: Clock, heartbeats: Heartbeats
) -> None:
    heartbeats.stage("journal", 30.0, critical=True)
    late = heartbeats.stage("capture", 2.0, critical=True)
    clock.go_on(1.0)
    late()
    heartbeats.stage("inspect", 1.0, critical=True)
    clock.go_on(3.0)
    capture, inspect = (
        Stale("capture", True, 3.0, 2.0),
        Stale("inspect", True, 3.0, 1.0),
    )
    assert heartbeats.stale(clock.now_ns) == [capture, inspect]
    late.rest()
    clock.go_on(30.0)
    assert [one.stage for one in heartbeats.stale(clock.now_ns)] == ["journal", "inspect"]


def test_a_stage_that_came_to_its_end_is_not_missed_until_it_beats_again(
    clock: Clock, heartbeats: Heartbeats
) -> None:
    capture = heartbeats.stage("capture", 1.0, critical=True)
    capture.rest()
    assert heartbeats.stale(clock.go_on(1000.0)) == []
    capture()
    assert [one.stage for one in heartbeats.stale(clock.go_on(2.0))] == ["capture"]


def test_two_stages_of_one_name_are_refused(heartbeats: Heartbeats) -> None:
    heartbeats.stage("inspect 1", 1.0, critical=True)
    with pytest.raises(ValueError, match="inspect 1"):
        heartbeats.stage("inspect 1", 1.0, critical=True)


def test_what_is_logged_names_stage_silence_and_limit() -> None:
    assert str(Stale("journal", True, 31.25, 30.0)) == "journal silent for 31.2 s (30 s allowed)"
