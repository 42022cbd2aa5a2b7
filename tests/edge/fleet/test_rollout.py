"""How a roll-out goes on: waves, bounds, stations that are off, and what ends it; pure."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.contract.fleet import Action, FleetReport, PartCounts, ReleaseFile, ReleasePhase
from edge.fleet.errors import PlanInvalid
from edge.fleet.judgement import Seen, out_of_bounds, surely_above, week_low
from edge.fleet.plan import Plan, RolloutBounds, chosen, make_waves, read_plan
from edge.fleet.rollout import Rollout, Stage, advance, desired_action
from edge.inspection.tolerance import rate_interval
from tests.soak import times

STATIONS = [f"plant/line/s{n:02}/top" for n in range(10)]
JOURNAL = "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11"
RELEASE = ReleaseFile(name="nut", version=2, sha256="a" * 64, bytes=10, address="/srv/r/a.recipe")
WEEK = PartCounts(ok=9_500, nok=500)
GOOD = PartCounts(ok=380, nok=20, p99_ms=40.0)


def plan(**changes: Any) -> Plan:
    wanted = {"stations": ["plant/+/+/+"], "address": "/srv/r", "waves": [0.5, 1.0], **changes}
    return Plan.model_validate(wanted)


def rollout(**changes: Any) -> Rollout:
    chosen_plan = plan(**changes)
    waves = make_waves(chosen_plan, STATIONS, STATIONS)
    return Rollout(
        id="one", claim=1, release=RELEASE, plan=chosen_plan, waves=tuple(map(tuple, waves))
    )


def station(
    phase: ReleasePhase = ReleasePhase.IN_FORCE, since: PartCounts | None = GOOD, **changes: Any
) -> Seen:
    report = FleetReport(
        journal=JOURNAL, rollout="one", claim=1, phase=phase, since=since, week=WEEK, reason=None
    )
    return Seen(**{"report": report, "online": True, **changes})


def after(one: Rollout, minutes: float) -> Rollout:
    return one.model_copy(update={"elapsed_s": minutes * 60.0})


def test_waves_follow_the_canary_one_after_the_other_to_the_end() -> None:
    now, seen = rollout(), dict.fromkeys(STATIONS, station())
    assert [len(wave) for wave in now.waves] == [1, 5, 4]
    assert desired_action(now, now.waves[0][0], Seen()) is Action.TAKE
    assert desired_action(now, now.waves[1][0], Seen()) is None
    assert advance(after(now, 29), seen).wave == 0
    now = advance(after(now, 31), seen)
    assert (now.wave, now.elapsed_s) == (1, 0.0)
    now = advance(after(advance(after(now, 11), seen), 11), seen)
    assert now.stage is Stage.DONE


@pytest.mark.parametrize(
    ("one", "named"),
    [
        (station(since=PartCounts(ok=360, nok=40)), "10 % (40 of 400) of its parts are NOK"),
        (station(since=PartCounts(ok=370, nok=20, error=20)), "of its parts are ERROR"),
        (station(ReleasePhase.FAILED), "failed"),
        (station(ReleasePhase.FELL_BACK), "fell_back"),
        (station(reasons=("drift",)), "its scores drift"),
        (station(since=GOOD.model_copy(update={"p99_ms": 81.0})), "longer than 81 ms"),
    ],
)
def test_a_bad_canary_brings_everything_back(one: Seen, named: str) -> None:
    now = rollout(bounds={"p99_ms": 80.0})
    canary = now.waves[0][0]
    now = advance(after(now, 1), {canary: one})
    assert now.stage is Stage.ROLLING_BACK
    assert named in now.reason
    assert canary in now.reason
    assert desired_action(now, canary, one) is Action.RETURN
    assert desired_action(now, now.waves[1][0], Seen()) is None
    back = advance(now, {canary: station(ReleasePhase.RETURNED, since=None)})
    assert back.stage is Stage.ROLLED_BACK


def test_a_plan_may_pause_instead() -> None:
    now = rollout(on_bad="pause")
    bad = {now.waves[0][0]: station(ReleasePhase.REFUSED)}
    assert advance(now, bad).stage is Stage.PAUSED


def test_what_chance_explains_is_not_bad() -> None:
    assert out_of_bounds(station(since=PartCounts(ok=55, nok=5)), RolloutBounds()) == ""
    assert out_of_bounds(station(since=None), RolloutBounds()) == ""


def test_a_model_that_lets_everything_pass_is_bad_where_the_plan_asks() -> None:
    passing = station(since=PartCounts(ok=1_000))
    assert out_of_bounds(passing, RolloutBounds()) == ""
    assert "defects may pass" in out_of_bounds(passing, RolloutBounds(nok_factor_below=0.5))


def test_a_canary_that_is_off_is_waited_for_and_a_later_station_is_not() -> None:
    now, off = rollout(canary={"minutes": 0, "parts": 0}, wave_minutes=0), Seen(online=False)
    assert advance(now, {now.waves[0][0]: off}).wave == 0
    seen = {**dict.fromkeys(STATIONS, station()), now.waves[1][2]: off}
    now = advance(now, seen)
    assert (now.wave, advance(now, seen).wave) == (1, 2)
    assert desired_action(now, now.waves[1][2], off) is Action.TAKE  # when it is there again


def test_a_station_that_says_nothing_in_time_is_bad() -> None:
    now = rollout(answer_minutes=2)
    quiet = {now.waves[0][0]: station(ReleasePhase.FETCHING)}
    assert advance(after(now, 1.9), quiet).stage is Stage.RUNNING
    assert "within 2 minutes" in advance(after(now, 2.1), quiet).reason


def test_a_station_that_was_off_has_its_time_from_when_it_is_there() -> None:
    now = after(rollout(answer_minutes=2), 30)
    back = {now.waves[0][0]: Seen(online=True, online_s=119.0)}
    assert advance(now, back).stage is Stage.RUNNING
    late = {now.waves[0][0]: Seen(online=True, online_s=121.0)}
    assert advance(now, late).stage is Stage.ROLLING_BACK


def test_a_station_that_could_not_fetch_it_has_time_to_try_again() -> None:
    """Of a wave of a hundred stations that fetch at the same time some do not get through."""
    now, one = rollout(answer_minutes=2), station(ReleasePhase.FAILED, since=None)
    assert one.report is not None
    failed = one.report.model_copy(update={"reason": "not_fetched", "detail": "http: no answer"})
    seen = {now.waves[0][0]: replace(one, report=failed)}
    assert advance(after(now, 1.9), seen).stage is Stage.RUNNING
    late = advance(after(now, 2.1), seen)
    assert late.stage is Stage.ROLLING_BACK
    assert "within 2 minutes; http: no answer" in late.reason


def test_a_report_from_before_it_was_asked_counts_for_nothing() -> None:
    now = rollout()
    old = {now.waves[0][0]: station(ReleasePhase.FAILED, asked=(2, 0))}
    assert advance(now, old).stage is Stage.RUNNING


def test_the_challenge_of_each_station_is_waited_for_where_the_plan_asks() -> None:
    now = after(rollout(canary={"minutes": 0}, bounds={"challenge": True}), 1)
    due = {now.waves[0][0]: station(reasons=("challenge_overdue",))}
    assert advance(now, due).wave == 0
    assert advance(now, {now.waves[0][0]: station()}).wave == 1


def test_stations_that_have_it_keep_it_when_it_is_aborted() -> None:
    now = rollout().became(Stage.ABORTED)
    assert desired_action(now, now.waves[0][0], station()) is None
    assert desired_action(now, now.waves[0][0], station(ReleasePhase.FETCHING)) is Action.KEEP


@settings(max_examples=times(20, 400))
@given(st.integers(0, 400), st.integers(1, 400), st.floats(0.001, 0.999))
def test_surely_above_is_the_lower_end_of_the_exact_interval(
    hits: int, count: int, rate: float
) -> None:
    hits = min(hits, count)
    low = rate_interval(hits, count)[0]
    assert week_low(hits, count) == pytest.approx(low, abs=1e-9)
    if abs(low - rate) > 1e-9:
        assert surely_above(hits, count, rate) == (low > rate)


def test_stations_are_chosen_by_name_and_the_canary_is_one_that_is_online() -> None:
    named = plan(stations=["plant/line/s00/top", "plant/line/new/top", "plant/other/+/+"])
    stations = chosen(named, [*STATIONS, "plant/other/x/top"])
    assert stations == ["plant/line/new/top", "plant/line/s00/top", "plant/other/x/top"]
    assert make_waves(named, stations, ["plant/other/x/top"])[0] == ["plant/other/x/top"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stations: [a/b/c]\naddress: /srv/r\n", "line 1: stations.0"),
        ("stations: [a/b/c/d]\naddress: http://r/x\n", "needs put"),
        ("stations: [a/b/c/d]\naddress: /r\nwaves: [0.5]\n", "must rise from above 0 to 1.0"),
        ("stations: [a/b/c/d]\naddress: /r\nwave: 2\n", "line 3: wave is unknown"),
        ("stations: [a/b/c/d]\naddress: /r\nbounds: {error_rate: 2}\n", "bounds.error_rate"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_line_and_key(
    tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(PlanInvalid, match=named.replace(".", r"\.")):
        read_plan(path)
