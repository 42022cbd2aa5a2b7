"""Thresholds from validation scores: one function for each method.

All scores are raw; ``edge.inspection.decision`` takes one at or above the threshold as anomalous. A
threshold has the precision of the scores it came from.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge.inspection.tolerance import allowed_beyond, needed_count, rate_bound
from edge.wording import counted

Scores = NDArray[np.floating]

# Shares of a count are exact to far more than this, and off by one without it: 100 × 0.29 < 29.
_ROUNDING = 1e-9

# Relative difference below which scores of different runtimes count as the same.
_RUNTIMES_AGREE = 1e-4

# Of the quantile of good scores, where nothing else is asked for.
PROBABILITY = 0.95
# Of so few good scores none can be told to be wrong.
_MIN_TO_DISTRUST = 5
# The margin above the trusted ones of N good scores is this / N: N − 1 of them show less of a tail.
_FEW_SAMPLES = 5.0


def f1_adaptive(good: Scores, defective: Scores) -> float:
    """Return the threshold midway between the two neighbouring scores that maximise F1.

    Midway, so that the weakest defect of the validation set lies strictly above and the worst good
    part strictly below. Of several maxima the highest threshold is taken.

    Args:
        good, defective: ``(N,)`` and ``(M,)`` raw scores, M at least 1.

    Returns:
        The lowest score itself where rejecting everything is best: there is no gap below it.

    Raises:
        ValueError: no defective score, or a score that is not finite.
    """
    good, defective = _ascending(good, "good"), _ascending(defective, "defective", at_least=1)
    values = np.unique(np.concatenate([good, defective]))
    rejected_defects = len(defective) - np.searchsorted(defective, values, side="left")
    rejected_goods = len(good) - np.searchsorted(good, values, side="left")
    f1 = 2.0 * rejected_defects / (rejected_defects + rejected_goods + len(defective))
    best = int(np.flatnonzero(f1 == f1.max())[-1])
    if best == 0:
        return float(values[0])
    return midway(values[best - 1], values[best])


def midway(below: float | np.floating, above: float | np.floating) -> float:
    """Return the middle of two neighbouring scores, never ``below`` itself after rounding."""
    middle = below / 2.0 + above / 2.0  # halved first: the sum or difference could overflow
    return float(middle if middle > below else above)


def quantile(good: Scores, probability: float = PROBABILITY, margin: float = 0.1) -> float:
    """Return a threshold from good scores alone: a high quantile and a margin above it.

    The defaults reject about one good part in twenty. A threshold beyond all good scores of a small
    set hangs on its strangest image, and lets defects escape, which costs more. So that one that
    was mis-sorted cannot open it, the share above the quantile, one at least, is not trusted: the
    threshold lies at most a margin above the highest of the others.

    Args:
        good: ``(N,)`` raw scores of good parts, N at least 1.
        probability: of the quantile; the next higher sample is taken, not an interpolation.
        margin: in shares of the distance from the median to that quantile. A handful of good parts
            never shows the whole tail; the margin stands for the part of it that was not seen.
            Above the trusted scores of fewer than 50 it is 5 / N.

    Returns:
        Always above the highest trusted sample, also with equal scores or without a margin; above
        the sample at the quantile where that is a trusted one, as always of fewer than 5.

    Raises:
        ValueError: no good score, or one that is not finite; a probability outside [0, 1] or a
            margin below 0.
    """
    good = _ascending(good, "good", at_least=1)
    if margin < 0.0:
        raise ValueError(f"the margin must not be below 0, it is {margin:g}")
    median = np.median(good)
    threshold = _above(np.quantile(good, probability, method="higher"), median, margin)
    if len(good) < _MIN_TO_DISTRUST or probability == 1.0:
        return threshold
    trusted = good[len(good) - 1 - beyond_quantile(len(good), probability)]
    if trusted < median:
        return threshold
    return min(threshold, _above(trusted, median, max(margin, _FEW_SAMPLES / len(good))))


def beyond_quantile(count: int, probability: float = PROBABILITY) -> int:
    """Return how many of ``count`` good samples a quantile threshold rejects at most."""
    if count < _MIN_TO_DISTRUST or probability == 1.0:
        return max(0, math.floor((count - 1) * (1.0 - probability) + _ROUNDING))
    return min(max(1, math.floor(count * (1.0 - probability) + _ROUNDING)), count - 1)


def _above(score: np.floating, median: np.floating, margin: float) -> float:
    """Return a threshold a margin above a score, in shares of its distance from the median."""
    # Another runtime gives the same score to some digits only; it must fall on the same side.
    unseen = max(margin * (score - median), _RUNTIMES_AGREE * abs(score))
    return max(_just_above(score), float(score + unseen))


def balanced(
    good: Scores,
    defective: Scores,
    rate: float = 1.0 - PROBABILITY,
    missed: float | None = None,
) -> float:
    """Return a threshold that weighs both kinds alike, and rejects at most a share of the good.

    Marked defects are no draw of the line: how many of them there are beside the good ones says
    nothing, and F1 would follow it. Here the share of the good that is rejected and the share of
    the defective that passes count alike; of several thresholds with the lowest sum the highest is
    taken. It never lies higher than good scores alone would lay it, unless ``rate`` asks for that.

    Args:
        good, defective: ``(N,)`` and ``(M,)`` raw scores, N at least 1; M may be 0.
        rate: at most this share of the good is rejected; of fewer than 1 / rate none is.
        missed: where given, at most this share of the defective passes, too, and the threshold lies
            in the middle of all that keep both, as far as can be from either bound; where none
            does, it is the lowest that ``rate`` allows.

    Raises:
        ValueError: no good score, or one that is not finite; a rate outside [0, 1).

    Source: Youden, Index for rating diagnostic tests, 1950.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"the rate lies between 0 and 1, it is {rate:g}")
    good, defective = _ascending(good, "good", at_least=1), _ascending(defective, "defective")
    highest_passed = good[len(good) - 1 - beyond_balanced(len(good), rate)]
    beyond = good[-1] if missed is not None else highest_passed
    highest = max(quantile(good), _above(beyond, np.median(good), 0.0))
    scores = np.unique(np.concatenate([good, defective]))
    above = scores[scores > highest_passed]
    gaps = [midway(low, high) for low, high in zip([highest_passed, *above], above, strict=False)]
    thresholds = np.array([*(gap for gap in gaps if gap < highest), highest], scores.dtype)
    passed = np.searchsorted(defective, thresholds, side="left") / max(len(defective), 1)
    if missed is not None:
        keeping = thresholds[passed <= missed + _ROUNDING]
        return midway(keeping[0], keeping[-1]) if len(keeping) > 1 else float(thresholds[0])
    cost = 1.0 - np.searchsorted(good, thresholds, side="left") / len(good) + passed
    return float(thresholds[np.flatnonzero(cost <= cost.min() + _ROUNDING)[-1]])


def beyond_balanced(count: int, rate: float = 1.0 - PROBABILITY) -> int:
    """Return how many of ``count`` good samples a balanced threshold rejects at most."""
    return max(0, min(math.floor(count * rate + _ROUNDING), count - 1))


def false_reject_rate(good: Scores, rate: float) -> float:
    """Return the lowest gap between good scores that rejects at most ``rate`` of them.

    Args:
        good: ``(N,)`` raw scores of good parts, N at least 1 / rate.
        rate: between 0 and 1, both excluded.

    Returns:
        The middle of that gap; just above the highest score where ties leave none.

    Raises:
        ValueError: fewer than 1 / rate good parts, which cannot show such a rate; a rate out of
            range; or a score that is not finite.
    """
    if not 0.0 < rate < 1.0:
        raise ValueError(f"a false-reject rate lies between 0 and 1, it is {rate:g}")
    if math.floor(len(good) * rate + _ROUNDING) < 1:
        raise ValueError(
            f"a false-reject rate of {rate:g} needs at least "
            f"{counted(math.ceil(1 / rate - _ROUNDING), 'good image')} that the model was not "
            f"fitted on, there are {len(good)}"
            + (f"; these carry {math.ceil(1e4 / len(good)) / 1e4:g} at best" if len(good) else "")
        )
    return lowest_that_rejects(good, rate)


def lowest_that_rejects(good: Scores, rate: float) -> float:
    """Return the lowest gap between good scores that rejects at most ``rate`` of them.

    Args:
        good: ``(N,)`` raw scores of good parts, N at least 1.
        rate: from 0 to below 1; of fewer than 1 / rate none is rejected.

    Returns:
        The middle of that gap; just above the highest score where none is higher.

    Raises:
        ValueError: no good score, or one that is not finite; a rate out of range.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"the rate lies between 0 and 1, it is {rate:g}")
    good = _ascending(good, "good", at_least=1)
    allowed = math.floor(len(good) * rate + _ROUNDING)
    return _gap_above(good, good[len(good) - 1 - allowed])


def guaranteed_false_reject_rate(good: Scores, rate: float, confidence: float) -> float:
    """Return the lowest gap that rejects at most ``rate`` of all good parts, with confidence.

    Args:
        good: ``(N,)`` raw scores of good parts that the model was not fitted on.
        rate, confidence: both between 0 and 1, excluded.

    Returns:
        The middle of that gap; just above the highest score where ties leave none.

    Raises:
        ValueError: too few good parts (says how many are needed, and the strictest rate that these
            carry); a rate or confidence out of range; or a score that is not finite.

    Source: ``edge.inspection.tolerance``.
    """
    good = _ascending(good, "good")
    beyond = _carried(len(good), "good", rate=rate, confidence=confidence, name="false-reject")
    return _gap_above(good, good[len(good) - 1 - beyond])


def guaranteed_miss_rate(good: Scores, defective: Scores, rate: float, confidence: float) -> float:
    """Return the highest gap that passes at most ``rate`` of all defective parts, with confidence.

    Args:
        good, defective: ``(N,)`` and ``(M,)`` raw scores of parts that nothing was fitted on.
        rate, confidence: both between 0 and 1, excluded.

    Returns:
        The middle of that gap; the defect's own score where nothing lies below it.

    Raises:
        ValueError: too few defective parts (says how many are needed, and the strictest rate that
            these carry); a rate or confidence out of range; or a score that is not finite.

    Source: ``edge.inspection.tolerance``.
    """
    good, defective = _ascending(good, "good"), _ascending(defective, "defective")
    weakest = defective[
        _carried(len(defective), "defective", rate=rate, confidence=confidence, name="miss")
    ]
    return _gap_below(np.concatenate([good, defective]), weakest)


def _carried(count: int, kind: str, *, rate: float, confidence: float, name: str) -> int:
    """Return how many of ``count`` parts may lie on the wrong side of the threshold."""
    beyond = allowed_beyond(count, rate, confidence)
    if beyond is None:
        carried = (
            f"; these carry {math.ceil(rate_bound(0, count, confidence) * 1e4) / 1e4:g} at best"
            if count
            else ""
        )
        raise ValueError(
            f"a {name} rate of {rate:g} with a confidence of {confidence:g} needs at least "
            f"{needed_count(rate, confidence)} {kind} images that the model was not fitted on, "
            f"there are {count}{carried}"
        )
    return beyond


def recall(good: Scores, defective: Scores, target: float) -> float:
    """Return the highest gap between scores that rejects at least ``target`` of the defective.

    Args:
        good, defective: ``(N,)`` and ``(M,)`` raw scores, M at least 1.
        target: above 0, at most 1.

    Returns:
        The middle of that gap; the weakest defect's own score where nothing lies below it.

    Raises:
        ValueError: no defective score, a target out of range, or a score that is not finite.
    """
    if not 0.0 < target <= 1.0:
        raise ValueError(f"a recall lies above 0 and at most at 1, it is {target:g}")
    good, defective = _ascending(good, "good"), _ascending(defective, "defective", at_least=1)
    needed = max(1, math.ceil(len(defective) * target - _ROUNDING))
    weakest = defective[len(defective) - needed]
    return _gap_below(np.concatenate([good, defective]), weakest)


def f1_or_quantile(good: Scores, defective: Scores) -> float:
    """Return the adaptive threshold, or without any defect the quantile threshold."""
    return f1_adaptive(good, defective) if len(defective) else quantile(good)


def bootstrap_interval(
    good: Scores,
    defective: Scores,
    random: np.random.Generator,
    *,
    draws: int = 200,
    method: Callable[[Scores, Scores], float] = f1_or_quantile,
) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % points of a threshold over resampled validation scores.

    Args:
        good, defective: ``(N,)`` and ``(M,)`` raw scores.
        random: where the draws come from; the same generator gives the same interval.
        draws: how often both sets are drawn again, with replacement.
        method: the threshold that is to be judged, of good and defective scores.
    """
    thresholds = [
        method(_drawn_again(good, random), _drawn_again(defective, random)) for _ in range(draws)
    ]
    low, high = np.quantile(thresholds, [0.025, 0.975])
    return float(low), float(high)


def _drawn_again(scores: Scores, random: np.random.Generator) -> Scores:
    return random.choice(scores, len(scores)) if len(scores) else scores


def _ascending(scores: Scores, kind: str, at_least: int = 0) -> Scores:
    """Sort scores, and refuse those that would make a threshold which rejects nothing."""
    if len(scores) < at_least:
        raise ValueError(
            f"no scores of {kind} images; add some to the validation split or choose another "
            "threshold method"
        )
    faulty = len(scores) - int(np.isfinite(scores).sum())
    if faulty:
        raise ValueError(
            f"{faulty} of {counted(len(scores), 'score')} of {kind} images are not finite; fit "
            "the model again"
        )
    return np.sort(scores)


def _gap_above(good: Scores, passed: np.floating) -> float:
    """Return the middle of the gap above a good score; just above it where there is none."""
    higher = good[good > passed]
    return midway(passed, higher[0]) if len(higher) else _just_above(passed)


def _gap_below(scores: Scores, rejected: np.floating) -> float:
    """Return the middle of the gap below a defect's score; the score where nothing is lower."""
    lower = scores[scores < rejected]
    return midway(lower.max(), rejected) if len(lower) else float(rejected)


def _just_above(score: np.floating) -> float:
    return float(np.nextafter(score, score.dtype.type(np.inf)))
