"""Drift: an alarm when the scores of the line leave the band of the good parts in calibration.

No labels are needed and none are believed. Of the last parts it is counted how many score above
each quantile that the manifest holds. How many that may be is known exactly, whatever the
distribution: the share of new parts above the r-th of n calibration scores is Beta(n − r + 1, r)
distributed, so a count is beta-binomial. A small calibration set makes the band wide, as it must.

Rejected parts may be defects, which say nothing about drift, so up to ``NOK_ALLOWANCE`` of the
window they count as whatever speaks against an alarm. A window counts for as many independent
parts as it really holds: a score that repeats to the last bit is an image that was shown again, as
replays do, and parts that resemble their neighbours, as those of one batch or one tool do, say less
than as many others.

The rate of false alarms, per decided part of a line that has not changed, whose parts are
independent and of which no more are defective than allowed for, is at most
``false_alarms_per_million``: a union bound over all quantiles, both sides, and all windows. Of
parts that depend on each other the number of independent ones is estimated, so the rate is no
bound; slow waves that are longer than a window are drift to it.
"""

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import ScoreStatistics
from edge.inspection.decision import Result
from edge.settings.drift import DriftSettings
from edge.wording import counted

# Of the window; more rejected parts than that are no longer taken for single defects.
NOK_ALLOWANCE = 0.1
# Windows overlap: one is looked at whenever this share of it is new.
STEP_SHARE = 0.25
# An alarm is over when a window lies within the band that holds 95 % of unchanged lines.
RECOVERED_ALPHA = 0.05
# Relative difference below which scores of different runtimes count as the same.
_RUNTIMES_AGREE = 1e-4
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """The scores have left the band; the evidence is that of the quantile that says so loudest.

    Attributes:
        direction: whether scores are ``higher`` or ``lower`` than in calibration.
        parts, nok: in the window.
        independent: for how many independent parts it counts.
        probability, reference_score: the quantile of the good parts in calibration.
        expected_share: lowest and highest share of parts above it on an unchanged line.
        observed_share: which was seen; with rejected parts counted in the line's favour.
        expected_quantiles, observed_quantiles: 5 %, 50 % and 95 %, rejected parts included.
    """

    direction: Literal["higher", "lower"]
    parts: int
    nok: int
    independent: int
    probability: float
    reference_score: float
    expected_share: tuple[float, float]
    observed_share: float
    expected_quantiles: tuple[float, float, float]
    observed_quantiles: tuple[float, float, float]

    def __str__(self) -> str:
        low, high = self.expected_share
        return (
            f"scores are {self.direction} than those of good parts in calibration: of "
            f"{counted(self.parts, 'part')} {self.observed_share:.0%} lie above "
            f"{self.reference_score:.4g}, expected: {low:.0%} to {high:.0%}. Check light, "
            "lens, position and product; if the change is wanted, fit the model again"
        )


@dataclass(frozen=True, slots=True)
class Recovered:
    """After an alarm a whole window lies within the band again."""

    parts: int

    def __str__(self) -> str:
        return (
            f"the scores of the last {counted(self.parts, 'part is', 'parts are')} in the range of "
            "good parts again"
        )


@dataclass(frozen=True, slots=True)
class _Cut:
    """One quantile of the reference and the ranks of the calibration scores around it."""

    probability: float
    score: float
    rank_below: int
    rank_above: int


@dataclass(frozen=True, slots=True)
class _Band:
    """Counts above one quantile that an unchanged line has, both ends included."""

    least: int
    most: int


class DriftDetector:
    """Watches the scores of one model on one line; a new model needs a new detector."""

    def __init__(
        self, statistics: ScoreStatistics, good_count: int, settings: DriftSettings
    ) -> None:
        """Begin with an empty window.

        Args:
            statistics: of the manifest.
            good_count: calibration images that they rest on (``threshold.good_count``).
            settings: of the station.
        """
        self._statistics = statistics
        self._good_count = max(1, good_count)
        self._cuts = [
            _cut(probability, score, self._good_count)
            for probability, score in zip(statistics.probabilities, statistics.scores, strict=True)
        ]
        self._window = settings.window
        self._step = max(1, int(settings.window * STEP_SHARE))
        self._alpha = min(0.5, self._step * settings.false_alarms_per_million / 1e6)
        self._recent: deque[tuple[float, bool]] = deque(maxlen=settings.window)
        self._new = 0
        self._alarmed = False

    def observe(self, score: float | None, result: Result) -> Alarm | Recovered | None:
        """Take one decided part in; tell once when the scores leave the band or are back in it.

        Args:
            score: raw image score; parts without one are passed over.
            result: what was decided.
        """
        if score is None or not math.isfinite(score) or not self._cuts:
            return None
        self._recent.append((score, result is Result.NOK))
        self._new += 1
        if len(self._recent) < self._window or self._new < self._step:
            return None
        self._new = 0
        if not self._alarmed:
            alarm = self._evidence(self._alpha)
            if alarm is not None:
                self._alarmed = True
                self._recent.clear()  # it is over when a window without these parts is in the band
            return alarm
        if self._evidence(RECOVERED_ALPHA) is None:
            self._alarmed = False
            return Recovered(self._window)
        return None

    def _evidence(self, alpha: float) -> Alarm | None:
        """Return the loudest of the quantiles whose count lies outside its band, if any does."""
        scores = np.array([score for score, _ in self._recent])
        nok = np.array([rejected for _, rejected in self._recent])
        size = _independent(scores)
        alarms = []
        for cut in self._cuts:
            ranks = (cut.rank_below, cut.rank_above)
            band = _band(ranks, self._good_count, size, alpha / (2 * len(self._cuts)))
            minimum, most = _shares_above(cut.score, scores, nok)
            if math.floor(minimum * size + _ROUNDING) > band.most:
                alarms.append((minimum - band.most / size, "higher", cut, band, minimum))
            if math.ceil(most * size - _ROUNDING) < band.least:
                alarms.append((band.least / size - most, "lower", cut, band, most))
        if not alarms:
            return None
        _, direction, cut, band, share = max(alarms, key=lambda alarm: alarm[0])
        observed = np.quantile(scores, (0.05, 0.5, 0.95))
        statistics = self._statistics
        expected = np.interp((0.05, 0.5, 0.95), statistics.probabilities, statistics.scores)
        return Alarm(
            direction="higher" if direction == "higher" else "lower",
            parts=len(scores),
            nok=int(nok.sum()),
            independent=size,
            probability=cut.probability,
            reference_score=cut.score,
            expected_share=(band.least / size, band.most / size),
            observed_share=share,
            expected_quantiles=(float(expected[0]), float(expected[1]), float(expected[2])),
            observed_quantiles=(float(observed[0]), float(observed[1]), float(observed[2])),
        )


def _cut(probability: float, score: float, good_count: int) -> _Cut:
    """Find the calibration scores between which an interpolated quantile lies."""
    position = (good_count - 1) * probability + 1.0
    return _Cut(
        probability,
        score,
        rank_below=math.floor(position + _ROUNDING),
        rank_above=math.ceil(position - _ROUNDING),
    )


def _shares_above(
    cut: float, scores: NDArray[np.float64], nok: NDArray[np.bool_]
) -> tuple[float, float]:
    """Return the smallest and largest share of good parts above a score that the window allows.

    Equal scores, and rejected parts within the allowance, count to either side.
    """
    margin = _RUNTIMES_AGREE * abs(cut)
    above = scores > cut + margin
    size = len(scores)
    rejected = max(0.0, np.count_nonzero(above & nok) / size - NOK_ALLOWANCE)
    minimum = np.count_nonzero(above & ~nok) / size + rejected
    most = np.count_nonzero((scores >= cut - margin) | nok) / size
    return minimum, most


def _independent(scores: NDArray[np.float64]) -> int:
    """Return for how many independent parts a window counts.

    The smaller of Kish's size (1965), of repeated scores, and of N / (1 + 2 Σ ρ) over the
    autocorrelations ρ of the ranks, as far as they are no noise: up to the first pair of neighbours
    whose sum is not above 0 (Geyer 1992, initial positive sequence).
    """
    ranks, repeated = np.unique(scores, return_inverse=True, return_counts=True)[1:]
    kish = repeated.sum() ** 2 / (repeated.astype(np.float64) ** 2).sum()
    middle_ranks = (np.cumsum(repeated) - (repeated - 1) / 2.0)[ranks]
    return max(1, math.floor(min(kish, len(scores) / _correlation_time(middle_ranks)) + _ROUNDING))


def _correlation_time(values: NDArray[np.float64]) -> float:
    """Return how many neighbours in a sequence count as one; 1 of independent ones."""
    size = len(values)
    deviations = values - values.mean()
    spectrum = np.fft.rfft(deviations, 2 * size)
    covariances = np.fft.irfft(spectrum * np.conj(spectrum), 2 * size)[:size]
    if covariances[0] <= 0.0:
        return 1.0
    pairs = covariances[1 : size // 2 * 2 - 1].reshape(-1, 2).sum(axis=1) / covariances[0]
    noise = np.flatnonzero(pairs <= 0.0)
    return 1.0 + 2.0 * float(pairs[: noise[0] if len(noise) else len(pairs)].sum())


@lru_cache(maxsize=4096)  # windows of one line differ little in size: each is computed once
def _band(ranks: tuple[int, int], good_count: int, size: int, alpha: float) -> _Band:
    """Return which counts of ``size`` new parts above a quantile are likelier than ``alpha``.

    Each end for the neighbouring calibration score, below or above, that makes it wider.
    """
    above = np.cumsum(_exceedances(size, good_count, ranks[0])[::-1])[::-1]
    below = np.cumsum(_exceedances(size, good_count, ranks[1]))
    return _Band(
        least=int(np.count_nonzero(below <= alpha)),
        most=int(np.count_nonzero(above > alpha)) - 1,
    )


def _exceedances(size: int, good_count: int, rank: int) -> NDArray[np.float64]:
    """Return the probability of 0 to ``size`` new parts above the calibration score of that rank.

    Beta-binomial with a = n − r + 1 and b = r, by the ratio of neighbours.
    """
    a, b = good_count - rank + 1, rank
    k = np.arange(size)
    ratios = np.log(size - k) - np.log(k + 1) + np.log(a + k) - np.log(b + size - k - 1)
    none = math.lgamma(b + size) - math.lgamma(b) + math.lgamma(a + b) - math.lgamma(a + b + size)
    logarithms = none + np.concatenate([[0.0], np.cumsum(ratios)])
    return np.asarray(np.exp(logarithms), np.float64)
