"""Whether a station does well with a release; pure."""

import math
from dataclasses import dataclass
from functools import lru_cache

from edge.contract.fleet import FleetReport, PartCounts
from edge.fleet.plan import RolloutBounds
from edge.inspection.tolerance import rate_bound

CONFIDENCE = 0.95
ONE_SIDED = (1.0 + CONFIDENCE) / 2.0
MIN_TIMED_PARTS = 100
DRIFT, CHALLENGE_OVERDUE = "drift", "challenge_overdue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the broker has of a station.

    Attributes:
        report: None of one that takes no releases, or never did.
        online: it is connected, as its state says.
        reasons: of its state.
        asked: order of the desired state that the broker has for it.
        online_s: for how long it has been connected, while somebody looked.
    """

    report: FleetReport | None = None
    online: bool = False
    reasons: tuple[str, ...] = ()
    asked: tuple[int, int] = (0, 0)
    online_s: float = math.inf

    def answer(self, rollout: str) -> FleetReport | None:
        """Return its report if that is about what it is asked for by this roll-out."""
        report = self.report
        if report is None or report.rollout != rollout or report.order < self.asked:
            return None
        return report


def out_of_bounds(seen: Seen, bounds: RolloutBounds) -> str:
    """Return what is bad about a station that has the release in force; empty for nothing."""
    report = seen.report
    since, week = (report.since, report.week) if report else (None, None)
    if since is not None:
        for fault in (
            _errors(since, bounds),
            _rejects(since, week or PartCounts(), bounds),
            _slow(since, bounds),
        ):
            if fault:
                return fault
    if bounds.drift and DRIFT in seen.reasons:
        return "its scores drift"
    return ""


def surely_above(hits: int, count: int, rate: float) -> bool:
    """Tell whether the exact interval of a rate lies above another rate.

    Source: Clopper and Pearson, Biometrika 26, 1934; the tail instead of its inverse, as many
    stations are asked again and again.
    """
    if count == 0 or hits <= rate * count:
        return False
    if rate <= 0.0:
        return hits > 0
    return _tail(hits, count, rate) < 1.0 - ONE_SIDED


def _errors(since: PartCounts, bounds: RolloutBounds) -> str:
    limit = bounds.error_rate
    if limit is None or not surely_above(since.error, since.parts, limit):
        return ""
    return (
        f"{_rate(since.error, since.parts)} of its parts are ERROR; {_percent(limit)} are allowed"
    )


def _rejects(since: PartCounts, week: PartCounts, bounds: RolloutBounds) -> str:
    if week.decided == 0:
        return ""  # nothing to compare with
    above, below = bounds.nok_factor, bounds.nok_factor_below
    now = _rate(since.nok, since.decided)
    then = f"{_rate(week.nok, week.decided)} in the week before"
    if above is not None:
        high = week_high(week.nok, week.decided)
        if surely_above(since.nok, since.decided, min(above * high, 1.0)):
            return f"{now} of its parts are NOK, {then}"
    if below is not None:
        low = week_low(week.nok, week.decided)
        if surely_above(since.ok, since.decided, 1.0 - below * low):
            return f"only {now} of its parts are NOK, {then}: defects may pass"
    return ""


def _slow(since: PartCounts, bounds: RolloutBounds) -> str:
    limit_ms, p99_ms = bounds.p99_ms, since.p99_ms
    if limit_ms is None or p99_ms is None or p99_ms <= limit_ms or since.parts < MIN_TIMED_PARTS:
        return ""
    return f"1 % of its parts take longer than {p99_ms:.0f} ms, {limit_ms:g} ms may be"


@lru_cache(maxsize=4096)
def week_high(hits: int, count: int) -> float:
    return rate_bound(hits, count, ONE_SIDED)


@lru_cache(maxsize=4096)
def week_low(hits: int, count: int) -> float:
    # As ``rate_interval`` has it, by the sum of the hits: there are far fewer of them.
    return rate_bound(hits - 1, count, 1.0 - ONE_SIDED) if hits else 0.0


@lru_cache(maxsize=4096)
def _tail(hits: int, count: int, rate: float) -> float:
    """Return how likely so many hits or more are."""
    return math.fsum(
        math.exp(
            math.lgamma(count + 1)
            - math.lgamma(k + 1)
            - math.lgamma(count - k + 1)
            + k * math.log(rate)
            + (count - k) * math.log1p(-rate)
        )
        if rate < 1.0
        else float(k == count)
        for k in range(hits, count + 1)
    )


def _rate(hits: int, count: int) -> str:
    return f"{_percent(hits / count)} ({hits} of {count})" if count else "0 of 0"


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
