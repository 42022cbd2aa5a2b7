"""Which threshold is laid between scores, and what it guarantees."""

import math
from dataclasses import dataclass

import numpy as np

from edge.bundle.manifest import Guarantee, ThresholdMethod
from edge.inspection.thresholding import (
    PROBABILITY,
    Scores,
    balanced,
    beyond_balanced,
    beyond_quantile,
    f1_adaptive,
    f1_or_quantile,
    false_reject_rate,
    guaranteed_false_reject_rate,
    guaranteed_miss_rate,
    quantile,
    recall,
)
from edge.inspection.tolerance import rate_bound

_AUTO = "auto"

# Of the bound that order statistics carry, which is rounded up to tenths of a percent.
_CONFIDENCE = 0.95
_ROUNDED_TO = 1000


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """A method and its numbers.

    Attributes:
        method: None is the automatic one: adaptive F1 with defects, quantile without.
        numbers: of the method, as the user gave them.
        confidence: that the rate holds of all parts; None for an estimate.
    """

    method: ThresholdMethod | None
    numbers: tuple[float, ...] = ()
    confidence: float | None = None

    @property
    def text(self) -> str:
        """How a manifest and a report call the choice."""
        name = _AUTO if self.method is None else self.method.value.replace("_", "-")
        confidence = "" if self.confidence is None else f"@{self.confidence:g}"
        numbers = ",".join(f"{n:g}" for n in self.numbers)
        return f"{name}={numbers}{confidence}" if self.numbers else name

    def used(self, good: Scores, defective: Scores) -> ThresholdMethod:
        """Return the method that these scores are treated with."""
        if self.method is not None:
            return self.method
        return ThresholdMethod.F1_ADAPTIVE if len(defective) else ThresholdMethod.QUANTILE

    def guarantee(self, good: Scores, defective: Scores) -> Guarantee | None:
        """Return what the threshold of these scores promises; None of one that is an estimate."""
        used = self.used(good, defective)
        if used is ThresholdMethod.QUANTILE:
            probability = self.numbers[0] if self.numbers else PROBABILITY
            return _bounded(beyond_quantile(len(good), probability), good)
        if used is ThresholdMethod.BALANCED:
            rate = self.numbers[0] if self.numbers else 1.0 - PROBABILITY
            return _bounded(beyond_balanced(len(good), rate), good)
        if self.confidence is None:
            return None
        rate, confidence = self.numbers[0], self.confidence
        if self.method is ThresholdMethod.MISS_RATE:
            count = len(defective)
            return Guarantee(of="miss_rate", rate=rate, confidence=confidence, count=count)
        return _of_good(rate, confidence, good)

    def threshold(self, good: Scores, defective: Scores) -> float:
        """Return the raw threshold of good and defective scores.

        Raises:
            ValueError: the scores cannot show what is asked for; says what is needed.
        """
        if self.method is None:
            return f1_or_quantile(good, defective)
        if self.method is ThresholdMethod.F1_ADAPTIVE:
            return f1_adaptive(good, defective)
        if self.method is ThresholdMethod.RECALL:
            return recall(good, defective, *self.numbers)
        if self.method is ThresholdMethod.MISS_RATE and self.confidence is not None:
            return guaranteed_miss_rate(good, defective, self.numbers[0], self.confidence)
        if self.method is ThresholdMethod.FALSE_REJECT_RATE and self.confidence is not None:
            return guaranteed_false_reject_rate(good, self.numbers[0], self.confidence)
        if self.method is ThresholdMethod.FALSE_REJECT_RATE:
            return false_reject_rate(good, *self.numbers)
        if self.method is ThresholdMethod.QUANTILE:
            return quantile(good, *self.numbers)
        if self.method is ThresholdMethod.BALANCED:
            return balanced(good, defective, *self.numbers)
        # In the precision of the scores, so that it compares alike as float32 and as float64.
        return float(np.float32(self.numbers[0]))


def _bounded(beyond: int, good: Scores) -> Guarantee | None:
    """Return what follows for all good parts when at most ``beyond`` of these are rejected."""
    bound = rate_bound(beyond, len(good), _CONFIDENCE)
    rate = math.ceil(bound * _ROUNDED_TO) / _ROUNDED_TO
    return _of_good(rate, _CONFIDENCE, good) if rate < 1.0 else None


def _of_good(rate: float, confidence: float, good: Scores) -> Guarantee:
    return Guarantee(of="false_reject_rate", rate=rate, confidence=confidence, count=len(good))


# Unless something else is asked for.
AUTOMATIC = ThresholdChoice(None)
