"""Which threshold a user asks for, as one word on the command line or in YAML."""

import math
from dataclasses import dataclass

import numpy as np

from edge.bundle.manifest import Guarantee, ThresholdMethod
from edge.inspection.thresholding import (
    PROBABILITY,
    Scores,
    f1_adaptive,
    f1_or_quantile,
    false_reject_rate,
    guaranteed_false_reject_rate,
    guaranteed_miss_rate,
    quantile,
    quantile_bound,
    recall,
)
from training.errors import SettingError

AUTOMATIC = "auto"
FORMS = (
    "auto, f1, recall=0.99, false-reject-rate=0.01, quantile=0.95 (with a margin: 0.95,0.1), "
    "manual=SCORE, or with a guarantee false-reject-rate=0.01@0.95 or miss-rate=0.02@0.95"
)

# Of the bound that a quantile carries, which is rounded up to tenths of a percent.
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
        name = AUTOMATIC if self.method is None else self.method.value.replace("_", "-")
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
        if self.used(good, defective) is ThresholdMethod.QUANTILE:
            probability = self.numbers[0] if self.numbers else PROBABILITY
            rate = quantile_bound(len(good), probability, _CONFIDENCE)
            rate = math.ceil(rate * _ROUNDED_TO) / _ROUNDED_TO
            return _of_good(rate, _CONFIDENCE, good) if rate < 1.0 else None
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
        # In the precision of the scores, so that it compares alike as float32 and as float64.
        return float(np.float32(self.numbers[0]))


def _of_good(rate: float, confidence: float, good: Scores) -> Guarantee:
    return Guarantee(of="false_reject_rate", rate=rate, confidence=confidence, count=len(good))


# Methods whose rate may be guaranteed; that of misses always is, for ``recall`` is its estimate.
_GUARANTEED = (ThresholdMethod.FALSE_REJECT_RATE, ThresholdMethod.MISS_RATE)
_NUMBERS = {
    AUTOMATIC: (None, 0, 0),
    "f1": (ThresholdMethod.F1_ADAPTIVE, 0, 0),
    "f1-adaptive": (ThresholdMethod.F1_ADAPTIVE, 0, 0),
    "recall": (ThresholdMethod.RECALL, 1, 1),
    "false-reject-rate": (ThresholdMethod.FALSE_REJECT_RATE, 1, 1),
    "miss-rate": (ThresholdMethod.MISS_RATE, 1, 1),
    "quantile": (ThresholdMethod.QUANTILE, 0, 2),
    "manual": (ThresholdMethod.MANUAL, 1, 1),
}


def parse_threshold(text: str) -> ThresholdChoice:
    """Read ``recall=0.99`` and the like.

    Raises:
        SettingError: no such method, or its numbers are missing, too many or out of range.
    """
    name, _, rest = text.strip().replace("_", "-").partition("=")
    if name not in _NUMBERS:
        raise SettingError(f"threshold {text!r} does not exist. Give {FORMS}.")
    method, fewest, most = _NUMBERS[name]
    rest, at, behind = rest.partition("@")
    try:
        numbers = tuple(float(part) for part in rest.split(",")) if rest else ()
        confidence = float(behind) if at else None
    except ValueError:
        raise SettingError(
            f"threshold {text!r}: {rest + at + behind!r} is no number. Give {FORMS}."
        ) from None
    if not fewest <= len(numbers) <= most:
        raise SettingError(f"threshold {text!r}: {len(numbers)} numbers given. Give {FORMS}.")
    if not all(math.isfinite(number) for number in numbers):
        raise SettingError(f"threshold {text!r}: give finite numbers.")
    _check_range(text, method, numbers)
    if confidence is not None:
        if method not in _GUARANTEED:
            raise SettingError(f"threshold {text!r}: has no confidence to be given. Give {FORMS}.")
        if not 0.0 < confidence < 1.0:
            raise SettingError(
                f"threshold {text!r}: the confidence {behind} must lie between 0 and 1, such as "
                "0.95."
            )
    elif method is ThresholdMethod.MISS_RATE:
        raise SettingError(
            f"threshold {text!r}: say with which confidence, such as {text}@0.95; recall="
            f"{1.0 - numbers[0]:g} is an estimate without."
        )
    return ThresholdChoice(method, numbers, confidence)


def _check_range(text: str, method: ThresholdMethod | None, numbers: tuple[float, ...]) -> None:
    if method is ThresholdMethod.MANUAL or not numbers:
        return
    first = numbers[0]
    if not 0.0 < first <= 1.0 or (method in _GUARANTEED and first == 1.0):
        raise SettingError(f"threshold {text!r}: {first:g} must lie between 0 and 1. Give {FORMS}.")
    if len(numbers) > 1 and numbers[1] < 0.0:
        raise SettingError(f"threshold {text!r}: the margin {numbers[1]:g} must not be below 0.")
