"""What lower precision does to verdicts: figures, budget, and the faults of a candidate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.inspection.prediction import RawPrediction
from training.metrics import auroc

Predictions = Sequence[RawPrediction]

# Scores so near the threshold, in shares of the spread, are those whose verdicts can change.
_NEAR = 0.5

# A picture so far above the threshold is rejected without doubt, and must stay so.
_CLEAR = 0.25


@dataclass(frozen=True, slots=True)
class AccuracyBudget:
    """What a lower precision may change, measured on pictures that it was not made with.

    Attributes:
        auroc_drop: of the image AUROC, where there are defective pictures.
        verdict_flips: share of pictures whose verdict changes. Fewer than a hundred good pictures
            cannot show one percent, and the threshold was put close to some of them: where no
            picture is defective the number is rounded up, if those that change lay near it.
        good_shift: of the median score of good pictures, in shares of the spread.
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


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What changed between two precisions on the same pictures.

    Attributes:
        pictures: how many.
        defective: how many of them show a defect.
        farthest_flip: how far from the threshold a picture lay whose verdict changed, in shares of
            the spread.
        near_difference: largest score difference of pictures near the threshold, in shares of the
            spread; farther away a difference changes no verdict.
        good_shift: of the median score of good pictures, in shares of the spread.
        map_correlation: median Pearson correlation of the maps; 1 where a map is one number only.
        smallest_map_correlation: of any map, for the record: flat maps correlate badly.
        missed: pictures that were clearly rejected and no longer are.
        finite: whether all numbers are.
    """

    pictures: int
    defective: int
    verdict_flips: float
    farthest_flip: float
    auroc_before: float | None
    auroc_after: float | None
    largest_difference: float
    near_difference: float
    good_shift: float
    map_correlation: float
    smallest_map_correlation: float
    missed: int
    finite: bool

    def faults(self, budget: AccuracyBudget) -> list[str]:
        """Return a sentence for each figure over budget."""
        if not self.finite:
            return ["numbers that are not finite"]
        found = []
        allowed = self._flips_allowed(budget)
        if self.verdict_flips > allowed:
            found.append(f"verdict flips {self.verdict_flips:.1%} (allowed {allowed:.1%})")
        if self.auroc_before is not None and self.auroc_after is not None:
            drop = self.auroc_before - self.auroc_after
            if drop > budget.auroc_drop:
                found.append(f"AUROC drop {drop:.4f} (allowed {budget.auroc_drop:.4f})")
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
            found.append(f"{self.missed} clearly defective pictures no longer rejected")
        return found

    def excess(self, budget: AccuracyBudget) -> float:
        """Return how far over budget it is, to compare candidates by; 0 within it."""
        if not self.finite:
            return float("inf")
        drop = (self.auroc_before or 0.0) - (self.auroc_after or 0.0)
        over = (
            (self.verdict_flips - self._flips_allowed(budget)) / 0.01,
            (drop - budget.auroc_drop) / 0.005,
            (abs(self.good_shift) - budget.good_shift) / 0.1,
            (budget.map_correlation - self.map_correlation) / 0.1,
        )
        return sum(max(0.0, share) for share in over) + self.missed

    def _flips_allowed(self, budget: AccuracyBudget) -> float:
        if self.defective or self.farthest_flip > budget.good_shift:
            return budget.verdict_flips
        return math.ceil(budget.verdict_flips * self.pictures - 1e-9) / self.pictures


def compare(before: Predictions, after: Predictions, scale: Scale) -> Accuracy:
    """Measure what changed.

    Args:
        before, after: predictions of the same pictures; those beyond ``scale.defective`` are
            probes, which only count where they were clearly rejected.
    """
    count = len(scale.defective)
    was = np.array([p.score for p in before], np.float64)
    now = np.array([p.score for p in after], np.float64)
    finite = all(p.is_finite() for p in after)
    rejected, still = was >= scale.threshold, now >= scale.threshold
    clearly = was >= scale.threshold + _CLEAR * scale.spread
    missed = int((clearly & ~still)[count:].sum())
    was, now = was[:count], now[:count]
    difference = np.abs(now - was) / scale.spread
    distance = np.abs(was - scale.threshold) / scale.spread
    near, flipped = distance <= _NEAR, (rejected != still)[:count]
    good = ~scale.defective
    shift = float(np.median((now - was)[good])) / scale.spread if good.any() else 0.0
    correlations = [
        map_correlation(a.anomaly_map, b.anomaly_map) if a.anomaly_map.size > 1 else 1.0
        for a, b in zip(before[:count], after[:count], strict=True)
    ]
    return Accuracy(
        pictures=count,
        defective=int(scale.defective.sum()),
        verdict_flips=float(np.mean(flipped)),
        farthest_flip=float(distance[flipped].max()) if flipped.any() else 0.0,
        auroc_before=auroc(was, scale.defective),
        auroc_after=auroc(now, scale.defective) if finite else None,
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
