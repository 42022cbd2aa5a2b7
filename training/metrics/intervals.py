"""95 % confidence intervals for figures of small sets, each with the name of its method."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.metrics.scores import Labels, Scores, auroc, counts_below

_Z = 1.959963984540054  # of 95 %, two-sided
_DRAWS = 1000
# Scores that are worked on in one step; bounds memory.
_DRAWN_AT_ONCE = 2**17
_BISECTIONS = 60


class Interval(NamedTuple):
    """Where the figure of many more such images would lie."""

    low: float
    high: float
    method: str


def auroc_interval(scores: Scores, labels: Labels) -> Interval | None:
    """Return the interval of the AUROC; None if a class is missing.

    DeLong's variance on the logit scale. A perfect separation has no variance, and no small set
    proves one: there the score interval with Hanley and McNeil's variance is taken.

    Source: DeLong et al., Biometrics 44, 1988; Newcombe, Statistics in Medicine 25, 2006, method 5.
    """
    area = auroc(scores, labels)
    if area is None:
        return None
    variance = _delong_variance(scores, labels)
    if variance == 0.0 or area in (0.0, 1.0):
        return _newcombe(area, int((~labels).sum()), int(labels.sum()))
    spread = _Z * math.sqrt(variance) / (area * (1.0 - area))
    logit = math.log(area / (1.0 - area))
    return Interval(_logistic(logit - spread), _logistic(logit + spread), "DeLong")


def bootstrap_interval(
    metric: Callable[[Scores, Labels], float | None],
    scores: Scores,
    labels: Labels,
    random: np.random.Generator,
) -> Interval | None:
    """Return the percentile bootstrap interval of any metric.

    Good and defective images are drawn again each by themselves, 1,000 times. None where there is
    no metric, or where every draw gives the same: a perfect separation of few images is no
    certainty, and drawing them again cannot show it.
    """
    if metric(scores, labels) is None:
        return None
    values = (metric(scores[drawn], labels[drawn]) for drawn in _drawn_again(labels, random))
    return _percentiles([value for value in values if value is not None])


def bootstrap_intervals(
    metrics: Mapping[str, Callable[[Scores, Labels], NDArray[np.float64]]],
    scores: Scores,
    labels: Labels,
    random: np.random.Generator,
) -> dict[str, Interval]:
    """Return what ``bootstrap_interval`` gives of several metrics, all of the same draws.

    Args:
        metrics: by name; each gives ``(D,)`` figures of ``(D, N)`` scores with the same labels.
            One that needs good or defective images must not be asked for without.

    Returns:
        The intervals of those that have one.
    """
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in metrics}
    in_order = np.sort(labels)  # as they are drawn: good ones first
    draws = _drawn_again(labels, random)
    while block := list(islice(draws, max(_DRAWN_AT_ONCE // len(labels), 1))):
        drawn = scores[np.stack(block)]
        for name, metric in metrics.items():
            found[name].append(metric(drawn, in_order))
    intervals = {name: _percentiles(np.concatenate(values)) for name, values in found.items()}
    return {name: interval for name, interval in intervals.items() if interval is not None}


def _drawn_again(labels: Labels, random: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Yield the places of images drawn again, good ones first."""
    good, defective = np.flatnonzero(~labels), np.flatnonzero(labels)
    for _ in range(_DRAWS):
        yield np.concatenate(
            [random.choice(part, len(part)) for part in (good, defective) if len(part)]
        )


def _percentiles(found: Sequence[float] | NDArray[np.float64]) -> Interval | None:
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(low), float(high), "bootstrap") if low < high else None


def share_interval(hits: int, count: int) -> Interval | None:
    """Return Wilson's interval of a share of parts, such as missed defects; None of no parts."""
    if count == 0:
        return None
    share = hits / count
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    half /= 1 + _Z**2 / count
    return Interval(max(0.0, middle - half), min(1.0, middle + half), "Wilson")


def exact_interval(hits: int, count: int, confidence: float = 0.95) -> Interval:
    """Return Clopper and Pearson's interval of a share, which errs on the safe side always.

    Args:
        count: at least 1.
    """
    tail = (1.0 - confidence) / 2.0

    def not_too_low(share: float) -> bool:
        return binomial_tail(hits, count, share) >= tail

    def not_too_high(share: float) -> bool:
        return binomial_tail(count - hits, count, 1.0 - share) >= tail

    share = hits / count
    low = _edge(share, 0.0, not_too_low) if hits else 0.0
    high = _edge(share, 1.0, not_too_high) if hits < count else 1.0
    return Interval(low, high, "Clopper-Pearson")


def share_text(hits: int, count: int) -> str:
    """Return a share in percent with its exact 95 % interval, behind the count it is of."""
    if count == 0:
        return "0 of 0"
    interval = exact_interval(hits, count)
    return (
        f"{hits} of {count}, {hits / count:.1%} (95 %: {interval.low:.1%} to {interval.high:.1%})"
    )


def binomial_tail(hits: int, count: int, share: float) -> float:
    """Return the probability of at least so many hits, each with the probability ``share``."""
    if hits <= 0:
        return 1.0
    if share <= 0.0 or share >= 1.0:
        return float(share >= 1.0)
    k = np.arange(hits, count + 1)
    logs = _log_ways(hits, count) + k * math.log(share) + (count - k) * math.log1p(-share)
    return min(1.0, math.fsum(np.exp(logs)))


@lru_cache(maxsize=16)  # an interval asks for the same ones over a hundred times
def _log_ways(hits: int, count: int) -> NDArray[np.float64]:
    """Return the logarithm of in how many ways at least so many of them are chosen, by number."""
    ways = np.array(
        [
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
            for k in range(hits, count + 1)
        ]
    )
    ways.flags.writeable = False
    return ways


def auroc_drop_bound(
    before: Scores, after: Scores, labels: Labels, error_rate: float
) -> float | None:
    """Return the one-sided lower bound of what the AUROC loses; None if a class is missing.

    Args:
        before, after: ``(N,)`` scores of the same images.
        error_rate: how often the bound lies above the loss of many more such images.

    Source: DeLong et al., Biometrics 44, 1988: the variance of a difference of paired areas.
    """
    if not labels.any() or labels.all():
        return None
    defective = _placed(before, labels) - _placed(after, labels)
    good = _placed(-before, ~labels) - _placed(-after, ~labels)
    variance = _variance_of_mean(defective) + _variance_of_mean(good)
    quantile = NormalDist().inv_cdf(1.0 - error_rate)
    return float(defective.mean()) - quantile * math.sqrt(variance)


def _placed(scores: Scores, labels: Labels) -> NDArray[np.float64]:
    """Return for each labelled score the share of the others that lie below it."""
    return counts_below(np.sort(scores[~labels]), scores[labels]) / int((~labels).sum())


def _delong_variance(scores: Scores, labels: Labels) -> float:
    good, defective = np.sort(scores[~labels]), np.sort(scores[labels])
    of_defective = counts_below(good, defective) / len(good)
    of_good = 1.0 - counts_below(defective, good) / len(defective)
    return _variance_of_mean(of_defective) + _variance_of_mean(of_good)


def _variance_of_mean(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def _newcombe(area: float, good: int, defective: int) -> Interval:
    extra = (good + defective) / 2.0 - 1.0

    def reaches(theta: float) -> bool:
        weight = 1.0 + extra * (1.0 - theta) / (2.0 - theta) + extra * theta / (1.0 + theta)
        variance = theta * (1.0 - theta) * weight / (good * defective)
        return abs(area - theta) <= _Z * math.sqrt(variance)

    low = _edge(area, 0.0, reaches) if area > 0.0 else 0.0
    high = _edge(area, 1.0, reaches) if area < 1.0 else 1.0
    return Interval(low, high, "Newcombe")


def _edge(inside: float, outside: float, reaches: Callable[[float], bool]) -> float:
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2.0
        inside, outside = (middle, outside) if reaches(middle) else (inside, middle)
    return inside


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))
