"""A roll-out: how far it is, and what follows from what stations report; pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import Field

from edge.contract.fleet import (
    ROLLOUT_SCHEMA,
    Action,
    Claim,
    Desired,
    FleetMessage,
    ReleaseFile,
    ReleasePhase,
    RolloutId,
    Step,
)
from edge.fleet.judgement import CHALLENGE_OVERDUE, Seen, out_of_bounds
from edge.fleet.plan import MAX_WAVES, Plan
from edge.wording import counted


class Stage(StrEnum):
    """How far a roll-out is."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    ABORTED = "aborted"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"

    @property
    def over(self) -> bool:
        return self in (Stage.DONE, Stage.ABORTED, Stage.ROLLED_BACK)


class Rollout(FleetMessage):
    """The retained record of a roll-out.

    Attributes:
        wave: that is under way; 0 is the canary.
        elapsed_s: of this wave, while somebody led it.
        reason: why it is not running any more, for people.
        waves: stations, the canary first.
    """

    schema_: Literal["fleet-rollout/1"] = Field(default=ROLLOUT_SCHEMA, alias="schema")
    id: RolloutId
    claim: Claim
    step: Step = 0
    stage: Stage = Stage.RUNNING
    wave: int = Field(default=0, ge=0, le=MAX_WAVES)
    elapsed_s: float = Field(default=0.0, ge=0)
    reason: str = Field(default="", max_length=500)
    release: ReleaseFile
    plan: Plan
    waves: tuple[tuple[str, ...], ...] = Field(min_length=1, max_length=MAX_WAVES + 1)

    def reached(self) -> list[str]:
        """Return the stations that are to have the release by now, or were."""
        return [one for wave in self.waves[: self.wave + 1] for one in wave]

    def stations(self) -> list[str]:
        return [one for wave in self.waves for one in wave]

    def became(self, stage: Stage, reason: str = "") -> "Rollout":
        """Return it at another stage."""
        return self.model_copy(
            update={"stage": stage, "reason": reason[:500], "step": self.step + 1}
        )


def advance(rollout: Rollout, seen: Mapping[str, Seen]) -> Rollout:
    """Return the roll-out as it is to go on.

    Args:
        seen: what the broker has of each station now.
    """
    if rollout.stage is Stage.RUNNING:
        return _run(rollout, seen)
    if rollout.stage is Stage.ROLLING_BACK:
        waiting = [one for one in rollout.reached() if not _back(rollout, seen.get(one, Seen()))]
        if not any(seen.get(one, Seen()).online for one in waiting):
            return rollout.became(Stage.ROLLED_BACK, rollout.reason)
    return rollout


def desired_action(rollout: Rollout, station: str, seen: Seen) -> Action | None:
    """Return what a station is asked for; None for nothing by this roll-out."""
    if station not in rollout.reached():
        return None
    match rollout.stage:
        case Stage.ROLLING_BACK | Stage.ROLLED_BACK:
            return Action.RETURN
        case Stage.ABORTED:
            return None if _has_it(rollout, seen) else Action.KEEP
        case _:
            return Action.TAKE


def make_desired(rollout: Rollout, action: Action, journal: str | None) -> Desired:
    """Return the message that asks a station for it.

    Args:
        journal: of the station that is meant.
    """
    return Desired(
        rollout=rollout.id,
        claim=rollout.claim,
        step=rollout.step,
        action=action,
        journal=journal,
        release=rollout.release if action is Action.TAKE else None,
        older=rollout.plan.older,
        change_product=rollout.plan.change_product,
    )


def wave_name(rollout: Rollout) -> str:
    """Return how people call the wave that is under way."""
    if rollout.wave == 0:
        return "canary"
    return f"wave {rollout.wave} of {len(rollout.waves) - 1}"


def bad_station(rollout: Rollout, seen: Mapping[str, Seen]) -> str:
    """Return the first bad station and why; empty where all do well."""
    for station in rollout.reached():
        one = seen.get(station, Seen())
        report = one.answer(rollout.id)
        if report is None:
            continue
        if report.bad:
            return f"{station}: {report.reason or report.phase}: {report.detail}"
        if report.phase is ReleasePhase.IN_FORCE and (
            why := out_of_bounds(one, rollout.plan.bounds)
        ):
            return f"{station}: {why}"
    return ""


def _run(rollout: Rollout, seen: Mapping[str, Seen]) -> Rollout:
    plan, wave = rollout.plan, rollout.waves[rollout.wave]
    bad = bad_station(rollout, seen)
    late = plan.answer_minutes * 60.0
    if not bad and rollout.elapsed_s > late:
        for station in wave:
            one = seen.get(station, Seen())
            if one.online and one.online_s > late and not _has_it(rollout, one):
                bad = (
                    f"{station}: has not accepted the release within {plan.answer_minutes:g} "
                    "minutes"
                )
                report = one.answer(rollout.id)
                if report is not None and report.detail:
                    bad += f"; {report.detail}"
                break
    if bad:
        paused = plan.on_bad == "pause"
        return rollout.became(Stage.PAUSED if paused else Stage.ROLLING_BACK, bad)
    if waits_for(rollout, seen):
        return rollout
    if rollout.wave + 1 == len(rollout.waves):
        return rollout.became(Stage.DONE)
    return rollout.model_copy(
        update={"wave": rollout.wave + 1, "elapsed_s": 0.0, "step": rollout.step + 1}
    )


def waits_for(rollout: Rollout, seen: Mapping[str, Seen]) -> str:
    """Return what the wave under way waits for; empty when the next one may begin."""
    plan, wave = rollout.plan, rollout.waves[rollout.wave]
    with_it = [one for one in wave if _has_it(rollout, seen.get(one, Seen()))]
    # Behind the canary a station that is off takes it when it is there again.
    needed = [one for one in wave if rollout.wave == 0 or seen.get(one, Seen()).online]
    missing = [one for one in needed if one not in with_it]
    if missing:
        return f"{len(missing)} of {counted(len(wave), 'station')}, {missing[0]} first"
    left_s = plan.minutes(rollout.wave) * 60.0 - rollout.elapsed_s
    if left_s > 0:
        return f"{left_s:.0f} s"
    parts = plan.parts(rollout.wave)
    for station in with_it:
        one = seen[station]
        since = one.report.since if one.report else None
        if since is None or since.parts < parts:
            return f"{counted(parts, 'part')} at {station}, {since.parts if since else 0} so far"
        if plan.bounds.challenge and CHALLENGE_OVERDUE in one.reasons:
            return f"the challenge of {station}"
    return ""


def _has_it(rollout: Rollout, seen: Seen) -> bool:
    report = seen.answer(rollout.id)
    return report is not None and report.phase is ReleasePhase.IN_FORCE


def _back(rollout: Rollout, seen: Seen) -> bool:
    report = seen.answer(rollout.id)
    # One that refuses to go back is another station than was meant; it took nothing.
    return report is not None and report.phase in (
        ReleasePhase.RETURNED,
        ReleasePhase.KEPT,
        ReleasePhase.REFUSED,
    )
