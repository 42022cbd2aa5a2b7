"""Thresholds from validation scores, and the decision they serve.

All scores are raw; a score at or above the threshold is anomalous. Calibration in training and the
decision on the line share this module.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]


class Result(StrEnum):
    """Evaluation of a part; the four values of OPC UA for Machine Vision."""

    OK = "OK"
    NOK = "NOK"
    NOT_DECIDABLE = "NOT_DECIDABLE"
    ERROR = "ERROR"


class Reason(StrEnum):
    """Machine-readable cause of a result (``verdict/1``)."""

    SCORE_BELOW = "score_below"
    SCORE_ABOVE = "score_above"
    NEAR_THRESHOLD = "near_threshold"
    FRAME_INCOMPLETE = "frame_incomplete"
    FRAME_STALE = "frame_stale"
    FRAME_FROZEN = "frame_frozen"
    FRAME_LATE = "frame_late"
    EXPOSURE_OUT_OF_RANGE = "exposure_out_of_range"
    BLUR_OR_DARK = "blur_or_dark"
    CAMERA_LOST = "camera_lost"
    MODEL_ERROR = "model_error"
    TIMEOUT = "timeout"
    OVERRUN = "overrun"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Decision:
    result: Result
    reason: Reason


def decide(score: float, threshold: float, guard_band: float = 0.0) -> Decision:
    """Decide one part on raw values.

    Args:
        score: raw image score.
        threshold: raw threshold; a score equal to it is NOK.
        guard_band: half-width, in raw units, of the band around the threshold in which a part is
            ``NOT_DECIDABLE``; 0 switches it off.

    Returns:
        ERROR for a score that is not a finite number: a failure is never OK.
    """
    if not np.isfinite(score):
        return Decision(Result.ERROR, Reason.MODEL_ERROR)
    if abs(score - threshold) < guard_band:
        return Decision(Result.NOT_DECIDABLE, Reason.NEAR_THRESHOLD)
    if score >= threshold:
        return Decision(Result.NOK, Reason.SCORE_ABOVE)
    return Decision(Result.OK, Reason.SCORE_BELOW)


def f1_adaptive(good: Scores, defective: Scores) -> float:
    """Return the threshold midway between the two neighbouring scores that maximise F1.

    Midway, so that the weakest defect of the validation set lies strictly above and the worst good
    part strictly below. Of several maxima the highest threshold is taken.

    Args:
        good, defective: ``(N,)`` and ``(M,)`` raw scores, M at least 1.
    """
    if len(defective) == 0:
        raise ValueError("f1_adaptive needs at least one defective score; use quantile")
    values = np.unique(np.concatenate([good, defective]))
    rejected_defects = len(defective) - np.searchsorted(np.sort(defective), values, side="left")
    rejected_goods = len(good) - np.searchsorted(np.sort(good), values, side="left")
    f1 = 2.0 * rejected_defects / (rejected_defects + rejected_goods + len(defective))
    best = int(np.flatnonzero(f1 == f1.max())[-1])
    if best == 0:
        return float(values[0])
    return midway(float(values[best - 1]), float(values[best]))


def midway(below: float, above: float) -> float:
    """Return the middle of two neighbouring scores, never ``below`` itself after rounding."""
    middle = below + (above - below) / 2.0
    return middle if middle > below else above


def quantile(good: Scores, probability: float = 0.99, margin: float = 0.5) -> float:
    """Return a threshold from good scores alone: a high quantile and a margin above it.

    Args:
        good: ``(N,)`` raw scores of good parts, N at least 1.
        probability: of the quantile; the next higher sample is taken, not an interpolation.
        margin: in shares of the distance from the median to that quantile. A handful of good parts
            never shows the whole tail; the margin stands for the part of it that was not seen.
    """
    high = float(np.quantile(good, probability, method="higher"))
    return _above(high, high + margin * (high - float(np.median(good))))


def false_reject_rate(good: Scores, rate: float) -> float:
    """Return the lowest threshold that rejects at most ``rate`` of the good parts.

    Raises:
        ValueError: fewer than 1 / rate good parts, which cannot show such a rate.
    """
    if len(good) * rate < 1.0:
        raise ValueError(
            f"a false-reject rate of {rate:g} needs at least {int(np.ceil(1 / rate))} good "
            f"pictures, there are {len(good)}"
        )
    ordered = np.sort(good)
    allowed = int(np.floor(len(good) * rate))
    highest_passed = float(ordered[len(good) - 1 - allowed])
    higher = ordered[ordered > highest_passed]
    return midway(highest_passed, float(higher[0])) if len(higher) else _above(highest_passed)


def recall(good: Scores, defective: Scores, target: float) -> float:
    """Return the highest threshold that rejects at least ``target`` of the defective parts."""
    ordered = np.sort(defective)[::-1]
    weakest = float(ordered[int(np.ceil(len(ordered) * target)) - 1])
    below = np.concatenate([good, defective])
    below = below[below < weakest]
    return midway(float(below.max()), weakest) if len(below) else weakest


def bootstrap_interval(
    good: Scores, defective: Scores, random: np.random.Generator, draws: int = 200
) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % points of the threshold over resampled validation scores."""
    thresholds = []
    for _ in range(draws):
        resampled = random.choice(good, len(good)) if len(good) else good
        if len(defective):
            thresholds.append(f1_adaptive(resampled, random.choice(defective, len(defective))))
        else:
            thresholds.append(quantile(resampled))
    low, high = np.quantile(thresholds, [0.025, 0.975])
    return float(low), float(high)


def _above(score: float, candidate: float = -np.inf) -> float:
    return max(candidate, float(np.nextafter(score, np.inf)))
