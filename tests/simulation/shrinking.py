"""From a plan that breaks a promise to the shortest one that still does."""

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.plan import Plan
from tests.simulation.world import Outcome, describe, run_plan

Run = Callable[[Plan], Outcome]


def shrink(plan: Plan, outcome: Outcome, run: Run = run_plan) -> tuple[Plan, Outcome]:
    """Leave out whatever the broken promise does not need: time, hours, faults, windows.

    Returns:
        The shortest plan that was found, and how it ends: with the same promise broken.
    """
    if outcome.violation is None:
        return plan, outcome
    promise = outcome.violation.promise
    best, ended = plan, outcome

    def try_out(shorter: Plan) -> bool:
        nonlocal best, ended
        found = run(shorter)
        if found.violation is None or found.violation.promise != promise:
            return False
        best, ended = shorter, found
        return True

    end_s = outcome.at_s + 0.001
    if end_s < plan.ends_s:
        try_out(_until(plan, end_s))
    try_out(replace(best, skips=()))
    _leave_out_faults(lambda: best, try_out)
    for window in best.windows[:-1]:
        try_out(replace(best, windows=tuple(one for one in best.windows if one != window)))
    _begin_later(lambda: best, try_out)
    return best, ended


def _until(plan: Plan, end_s: float) -> Plan:
    return replace(
        plan,
        ends_s=end_s,
        windows=tuple(one for one in plan.windows if one.at_s < end_s),
        faults=tuple(one for one in plan.faults if one.at_s < end_s),
        skips=tuple(one for one in plan.skips if one[0] < end_s),
    )


def _leave_out_faults(best: Callable[[], Plan], try_out: Callable[[Plan], bool]) -> None:
    """Leave out halves of the faults, then quarters, down to single ones."""
    size = max(1, len(best().faults) // 2)
    while True:
        start = 0
        while start < len(best().faults):
            faults = best().faults
            fewer = faults[:start] + faults[start + size :]
            if not try_out(replace(best(), faults=fewer)):
                start += size
        if size == 1:
            return
        size //= 2


def _begin_later(best: Callable[[], Plan], try_out: Callable[[Plan], bool]) -> None:
    """Leave out the time before the first fault that is left, and the parts in it."""
    plan = best()
    if not plan.faults or not plan.windows:
        return
    window = next(
        (one for one in reversed(plan.windows) if one.at_s <= plan.faults[0].at_s), plan.windows[0]
    )
    before = int((plan.faults[0].at_s - window.at_s) / window.period_s) - 3
    if before <= 0:
        return
    earlier_s = before * window.period_s
    try_out(
        replace(
            plan,
            windows=tuple(
                replace(one, parts=one.parts - before)
                if one is window
                else replace(one, at_s=one.at_s - earlier_s)
                for one in plan.windows
                if one.at_s >= window.at_s
            ),
            faults=tuple(replace(one, at_s=one.at_s - earlier_s) for one in plan.faults),
            skips=tuple((at_s - earlier_s, hours, how) for at_s, hours, how in plan.skips),
            ends_s=plan.ends_s - earlier_s,
        )
    )


def report(plan: Plan, outcome: Outcome) -> str:
    """Put a broken promise into words: what has to happen for it, and what was seen."""
    lines = [
        f"BROKEN {outcome.violation}",
        f"Seed {plan.seed}: {plan.mode} parts, {plan.leader} leads, {plan.slots} slots"
        f"{', parts overlap' if plan.overlapping else ''}"
        f"{f', deadline {plan.deadline_ms:g} ms' if plan.deadline_ms else ''}.",
        "What has to happen:",
        *(
            f"{one.at_s:10.3f} s  {one.parts} parts, one each {one.period_s:g} s"
            for one in plan.windows
        ),
        *(f"{one.at_s:10.3f} s  {describe(one)}" for one in plan.faults),
        *(f"{at_s:10.3f} s  {length_s / 3600:.1f} h pass" for at_s, length_s, _ in plan.skips),
        "What was seen:",
        outcome.story,
    ]
    return "\n".join(lines)
