"""The simulation itself: promises hold under seeds, stories repeat, and faults are found."""

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.simulation.days import run_seeds
from tests.simulation.mutations import MUTATIONS, MutationMisfit, find, run_mutated
from tests.simulation.plan import Fault, Window, make_plan
from tests.simulation.shrinking import report, shrink
from tests.simulation.world import run_plan

PARTS = 24


@pytest.mark.parametrize("seed", ["4", "1009"])
def test_every_promise_holds_whatever_goes_wrong(seed: str) -> None:
    plan = make_plan(seed, days=1, parts=PARTS)
    outcome = run_plan(plan)
    assert outcome.violation is None, report(plan, outcome)
    assert sum(outcome.verdicts.values()) > PARTS / 2


def test_the_command_runs_a_seed_in_a_process_of_its_own() -> None:
    wanted = ["--seed", "4", "--stations", "1", "--parts", "8", "--processes", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 station-days, 8 parts" in done.stdout


def test_it_is_asked_whether_time_is_left_when_a_seed_can_begin_not_before() -> None:
    ended: list[str] = []
    asked_after: list[list[str]] = []

    def clock_s() -> float:
        asked_after.append(ended.copy())
        return float(len(ended))

    outcomes = run_seeds(
        ["4", "5", "6"], days=1, parts=4, processes=1, until_s=1.5, clock_s=clock_s
    )
    for seed, _ in outcomes:
        ended.append(seed)
    assert ended == ["4", "5"]
    assert asked_after == [[], ["4"], ["4", "5"]]


def test_a_seed_gives_the_same_story_twice() -> None:
    plan = make_plan("7", days=1, parts=12)
    assert run_plan(plan) == run_plan(plan)


def test_a_fault_in_the_product_is_found_and_reported_in_a_few_words() -> None:
    mutation = next(one for one in MUTATIONS if one.name.startswith("stale and cut frames"))
    whole = make_plan("3", days=1, parts=PARTS)
    plan = type(whole)(
        seed="cut",
        mode="software",
        leader="modbus",
        overlapping=False,
        slots=8,
        deadline_ms=None,
        windows=(Window(3.0, 12),),
        faults=(Fault(5.5, "clock_step"), Fault(7.5, "incomplete"), Fault(9.5, "twice")),
        ends_s=20.0,
    )
    assert run_plan(plan).violation is None
    found = run_mutated(mutation, plan)
    shorter, ended = shrink(plan, found, lambda one: run_mutated(mutation, one))
    assert [one.what for one in shorter.faults] == ["incomplete"]
    assert "P2: verdict" in report(shorter, ended)
    assert run_mutated(mutation, shorter) == ended


@pytest.mark.parametrize(
    "name",
    ["the PLC is shown a result before its commit", "a row is passed over"],
)
def test_a_fault_made_in_the_product_is_found_by_a_seed(name: str) -> None:
    assert find(name, max_seeds=2).seed is not None


def test_a_fault_that_no_longer_fits_the_product_does_not_pass_for_found() -> None:
    renamed = replace(MUTATIONS[0], wrap=lambda _: lambda self, *_args: self._renamed_since)
    with pytest.raises(MutationMisfit, match="_renamed_since"):
        run_mutated(renamed, make_plan("7", days=1, parts=4))
