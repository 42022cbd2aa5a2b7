"""What lower precision does to verdicts: figures, budget, and the faults of a candidate.

A verdict that changes is no fault in itself: an image at the threshold is decided by the last
digits in every precision. So three questions are asked, each with an error rate of its own:

1. Do verdicts change that rounding does not explain? An image counts whose score lay farther from
   the threshold than rounding moves scores. Refused where even the lower bound of their share
   (Clopper-Pearson, 95 % one-sided) exceeds the limit.
2. Do verdicts become worse? All changes, also those at the threshold: right ones that became wrong
   against wrong ones that became right. Refused where these are significantly more (McNemar's exact
   test, 5 % one-sided) and the lower bound of their excess (95 % one-sided) exceeds the limit.
3. Are defects told from good parts less well? Refused where the lower bound of the AUROC's drop
   (DeLong's variance of the difference, 95 % one-sided) exceeds the limit.

Each refuses a model that keeps its limit at most once in twenty; how often one over the limit
passes depends on the number of images, and is in ``docs/export.md``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge.inspection.predictor import RawPrediction
from edge.wording import counted
from training.metrics import (
    Interval,
    auroc,
    auroc_drop_bound,
    binomial_tail,
    exact_interval,
    share_text,
)

Predictions = Sequence[RawPrediction]

# Scores so near the threshold, in shares of the spread, are those whose verdicts can change.
_NEAR = 0.5

# An image so far above the threshold is rejected without doubt, and must stay so.
_CLEAR = 0.25

# Of the score differences near the threshold: what rounding does to all but the worst of them.
_ROUNDING = 0.95
_MIN_NEAR = 8

# Of each test: how often it refuses what keeps its limit.
_ERROR_RATE = 0.05


@dataclass(frozen=True, slots=True)
class AccuracyBudget:
    """What a lower precision may change, measured on images that it was not made with.

    Attributes:
        auroc_drop: of the image AUROC, where there are defective images.
        verdict_flips: share of images whose verdict changes beyond what rounding explains, and of
            verdicts that become worse; 0 counts every change.
        good_shift: of the median score of good images, in shares of the spread.
        map_correlation: lowest allowed median of the maps' correlations.
    """

    auroc_drop: float = 0.005
    verdict_flips: float = 0.01
    good_shift: float = 0.1
    map_correlation: float = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What scores are measured by: ``(N,) bool`` defective, raw threshold, range of one unit."""

    defective: NDArray[np.bool_]
    threshold: float
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What changed between two precisions on the same images.

    Attributes:
        images: how many.
        defective: how many of them show a defect.
        flips: images whose verdict changed.
        distances: of these from the threshold, in shares of the spread.
        rounding: what rounding does to scores near the threshold, in shares of the spread.
        worse, better: right verdicts that became wrong, and wrong ones that became right.
        auroc_drop_low: lower bound of the AUROC's drop, 95 % one-sided.
        near_difference: largest score difference of images near the threshold, in shares of the
            spread; farther away a difference changes no verdict.
        good_shift: of the median score of good images, in shares of the spread.
        map_correlation: median Pearson correlation of the maps; 1 where a map is one number only.
        smallest_map_correlation: of any map, for the record: flat maps correlate badly.
        missed: images that were clearly rejected and no longer are.
        finite: whether all numbers are.
    """

    images: int
    defective: int
    flips: int
    distances: tuple[float, ...]
    rounding: float
    worse: int
    better: int
    auroc_before: float | None
    auroc_after: float | None
    auroc_drop_low: float | None
    largest_difference: float
    near_difference: float
    good_shift: float
    map_correlation: float
    smallest_map_correlation: float
    missed: int
    finite: bool

    @property
    def verdict_flips(self) -> float:
        """Share of images whose verdict changed."""
        return self.flips / self.images

    @property
    def flip_interval(self) -> Interval:
        """Where the share of many more such images would lie, 95 %."""
        return exact_interval(self.flips, self.images)

    def faults(self, budget: AccuracyBudget) -> list[str]:
        """Return a sentence for each figure over budget."""
        if not self.finite:
            return ["numbers that are not finite"]
        found = []
        changed = self._counted(budget)
        low = exact_interval(changed, self.images, 1.0 - 2.0 * _ERROR_RATE).low
        if low > budget.verdict_flips:
            found.append(
                f"verdicts that change more than rounding explains: "
                f"{share_text(changed, self.images)} (allowed {budget.verdict_flips:.1%})"
            )
        if self._gets_worse(budget):
            found.append(
                f"of {counted(self.images, 'verdict')} {self.worse} became wrong and "
                f"{self.better} right "
                f"(allowed {budget.verdict_flips:.1%} more)"
            )
        if self.auroc_drop_low is not None and self.auroc_drop_low > budget.auroc_drop:
            found.append(
                f"AUROC drop {self._drop():.4f}, at least {self.auroc_drop_low:.4f} with 95 % "
                f"confidence (allowed {budget.auroc_drop:.4f})"
            )
        if abs(self.good_shift) > budget.good_shift:
            found.append(
                f"good scores shifted by {self.good_shift:+.3f} of the spread (allowed "
                f"{budget.good_shift:.3f})"
            )
        if self.map_correlation < budget.map_correlation:
            found.append(
                f"map correlation {self.map_correlation:.3f} "
                f"(at least {budget.map_correlation:.3f})"
            )
        if self.missed:
            found.append(f"{counted(self.missed, 'clearly defective image')} no longer rejected")
        return found

    def excess(self, budget: AccuracyBudget) -> float:
        """Return how far over budget it is, to compare candidates by; 0 within it."""
        if not self.finite:
            return float("inf")
        if not self.faults(budget):
            return 0.0
        over = (
            (self._counted(budget) / self.images - budget.verdict_flips) / 0.01,
            (self._net_worse() - budget.verdict_flips) / 0.01,
            (self._drop() - budget.auroc_drop) / 0.005,
            (abs(self.good_shift) - budget.good_shift) / 0.1,
            (budget.map_correlation - self.map_correlation) / 0.1,
        )
        return sum(max(0.0, share) for share in over) + self.missed

    def _counted(self, budget: AccuracyBudget) -> int:
        """Return how many verdicts changed of images farther away than rounding explains.

        Rounding that moves scores farther than a shift of all of them may be is no excuse.
        """
        if budget.verdict_flips <= 0.0:
            return self.flips
        excused = min(self.rounding, budget.good_shift)
        return sum(distance > excused for distance in self.distances)

    def _gets_worse(self, budget: AccuracyBudget) -> bool:
        changed = self.worse + self.better
        if binomial_tail(self.worse, changed, 0.5) >= _ERROR_RATE:
            return False
        net = self._net_worse()
        variance = max(changed / self.images - net**2, 0.0) / self.images
        quantile = NormalDist().inv_cdf(1.0 - _ERROR_RATE)
        return net - quantile * math.sqrt(variance) > budget.verdict_flips

    def _net_worse(self) -> float:
        return (self.worse - self.better) / self.images

    def _drop(self) -> float:
        return (self.auroc_before or 0.0) - (self.auroc_after or 0.0)


def compare(before: Predictions, after: Predictions, scale: Scale) -> Accuracy:
    """Measure what changed.

    Args:
        before, after: predictions of the same images; those beyond ``scale.defective`` are
            probes, which only count where they were clearly rejected.
    """
    count = len(scale.defective)
    was = np.array([p.score for p in before], np.float64)
    now = np.array([p.score for p in after], np.float64)
    finite = all(p.is_finite() for p in after)
    rejected, still = was >= scale.threshold, now >= scale.threshold
    clearly = was >= scale.threshold + _CLEAR * scale.spread
    missed = int((clearly & ~still)[count:].sum())
    was, now, rejected, still = was[:count], now[:count], rejected[:count], still[:count]
    difference = np.abs(now - was) / scale.spread
    distance = np.abs(was - scale.threshold) / scale.spread
    near, flipped = distance <= _NEAR, rejected != still
    right = rejected == scale.defective
    good = ~scale.defective
    shift = float(np.median((now - was)[good])) / scale.spread if good.any() else 0.0
    close = difference[near] if near.sum() >= _MIN_NEAR else difference
    correlations = [
        map_correlation(a.anomaly_map, b.anomaly_map) if a.anomaly_map.size > 1 else 1.0
        for a, b in zip(before[:count], after[:count], strict=True)
    ]
    return Accuracy(
        images=count,
        defective=int(scale.defective.sum()),
        flips=int(flipped.sum()),
        distances=tuple(float(value) for value in np.sort(distance[flipped])),
        rounding=float(np.quantile(close, _ROUNDING)) if finite else math.inf,
        worse=int((flipped & right).sum()),
        better=int((flipped & ~right).sum()),
        auroc_before=auroc(was, scale.defective),
        auroc_after=auroc(now, scale.defective) if finite else None,
        auroc_drop_low=auroc_drop_bound(was, now, scale.defective, _ERROR_RATE) if finite else None,
        largest_difference=float(difference.max()),
        near_difference=float(difference[near].max()) if near.any() else 0.0,
        good_shift=shift,
        map_correlation=float(np.median(correlations)),
        smallest_map_correlation=float(np.min(correlations)),
        missed=missed,
        finite=finite,
    )


def map_correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return Pearson's r; of two flat maps 1 if they agree."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    scale = max(float(np.abs(x).max()), 1e-12)
    x_spread, y_spread = float(x.std()), float(y.std())
    if max(x_spread, y_spread) < 1e-4 * scale:
        return 1.0 if float(np.abs(x - y).max()) < 1e-3 * scale else 0.0
    if min(x_spread, y_spread) == 0.0:
        return 0.0
    return float(np.mean((x - x.mean()) * (y - y.mean())) / (x_spread * y_spread))
