"""Drift: found when scores leave the band, silent when they do not."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.bundle.manifest import ScoreStatistics
from edge.inspection.decision import Result
from edge.settings.drift import DriftSettings
from edge.station.monitoring.drift_detector import (
    NOK_ALLOWANCE,
    Alarm,
    DriftDetector,
    Recovered,
    _exceedances,
    _independent,
)
from tests.soak import times

# As calibration in training has them.
PROBABILITIES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
WINDOW = 200
RHOS = (0.0, 0.3, 0.6, 0.8)
Scores = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Scores]

DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda random, count: random.normal(5.0, 1.0, count),
    "skewed": lambda random, count: random.lognormal(0.0, 1.0, count),
    "few values": lambda random, count: np.round(random.normal(5.0, 1.0, count)),
    "constant": lambda random, count: np.full(count, 3.0),
    "mostly zero": lambda random, count: np.maximum(0.0, random.normal(-1.0, 1.0, count)),
}


class Calibrated:
    """A detector and the threshold that 95 % of its good calibration parts are below."""

    def __init__(
        self, draw: Draw, good_count: int, random: np.random.Generator, per_million: float = 1.0
    ) -> None:
        good = draw(random, good_count).astype(np.float32)
        quantiles = tuple(float(value) for value in np.quantile(good, PROBABILITIES))
        statistics = ScoreStatistics(probabilities=PROBABILITIES, scores=quantiles)
        settings = DriftSettings(window=WINDOW, false_alarms_per_million=per_million)
        self.threshold = quantiles[8]
        self.detector = DriftDetector(statistics, good_count, settings)

    def watch(self, scores: Scores) -> list[tuple[int, Alarm | Recovered]]:
        """Return what the detector said, and after how many parts."""
        printed = []
        for number, score in enumerate(scores.tolist(), start=1):
            result = Result.NOK if score >= self.threshold else Result.OK
            outcome = self.detector.observe(score, result)
            if outcome is not None:
                printed.append((number, outcome))
        return printed


def alarms(printed: list[tuple[int, Alarm | Recovered]]) -> int:
    return sum(isinstance(outcome, Alarm) for _, outcome in printed)


@given(st.integers(1, 30), st.data())
def test_the_count_above_a_calibration_score_is_known_exactly(
    good_count: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, good_count))
    size = data.draw(st.integers(1, 30))

    found = _exceedances(size, good_count, rank)

    # Every order of old and new scores is equally likely: count those with k new ones above.
    for k, probability in enumerate(found):
        below = math.comb(rank - 1 + size - k, size - k)
        above = math.comb(good_count - rank + k, k)
        exact = Fraction(below * above, math.comb(good_count + size, size))
        assert probability == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("good_count", [5, 40, 500])
def test_an_unchanged_line_gives_no_alarm(name: str, good_count: int) -> None:
    found = 0
    for seed in range(times(4, 40)):
        random = np.random.default_rng(seed)
        line = Calibrated(DISTRIBUTIONS[name], good_count, random)
        found += alarms(line.watch(DISTRIBUTIONS[name](random, 3000)))

    assert found == 0  # of 12,000 parts, or 120,000; the stated rate allows 0.012, or 0.12


def test_false_alarms_are_no_more_than_stated() -> None:
    stated_per_million, parts = 2000.0, 0
    found = 0
    for seed in range(times(30, 300)):
        random = np.random.default_rng(seed)
        draw = DISTRIBUTIONS["normal"]
        line = Calibrated(draw, (10, 100, 1000)[seed % 3], random, stated_per_million)
        found += alarms(line.watch(draw(random, 3000)))
        parts += 3000

    assert found / parts * 1e6 <= stated_per_million


def test_defects_within_the_allowance_are_no_drift() -> None:
    found = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        line = Calibrated(DISTRIBUTIONS["normal"], 100, random)
        scores = DISTRIBUTIONS["normal"](random, 3000)
        scores[random.random(3000) < 0.8 * NOK_ALLOWANCE] = 20.0
        found += alarms(line.watch(scores))

    assert found == 0


def test_a_few_images_shown_again_and_again_are_no_drift() -> None:
    found = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        line = Calibrated(DISTRIBUTIONS["normal"], 50, random)
        found += alarms(line.watch(np.tile(DISTRIBUTIONS["normal"](random, 12), 60)))

    assert found == 0


def dependent(random: np.random.Generator, count: int, correlation: float) -> Scores:
    """Return scores of which each resembles the one before (autoregressive of order one)."""
    scores = random.normal(0.0, math.sqrt(1.0 - correlation**2), count)
    scores[0] = random.normal()
    for number in range(1, count):
        scores[number] += correlation * scores[number - 1]
    return scores + 5.0


@pytest.mark.parametrize("correlation", [0.8, 0.9])
def test_parts_that_resemble_their_neighbours_are_no_drift(correlation: float) -> None:
    found = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        line = Calibrated(DISTRIBUTIONS["normal"], (40, 200, 1000)[seed % 3], random)
        found += alarms(line.watch(dependent(random, 3000, correlation)))

    assert found == 0


@pytest.mark.parametrize(("correlation", "windows"), [(0.5, 2), (0.9, 6)])
def test_a_change_of_dependent_parts_is_found_later(correlation: float, windows: int) -> None:
    for seed in range(12):
        random = np.random.default_rng(seed)
        line = Calibrated(DISTRIBUTIONS["normal"], 100, random)
        assert not line.watch(dependent(random, 1000, correlation))

        (_, alarm), *_ = line.watch(dependent(random, windows * WINDOW, correlation) + 2.0)

        assert isinstance(alarm, Alarm)
        assert alarm.direction == "higher"


def test_neighbours_that_resemble_each_other_count_for_fewer() -> None:
    random = np.random.default_rng(2)

    found = [np.mean([_independent(dependent(random, 1000, r)) for _ in range(30)]) for r in RHOS]

    # N (1 - r) / (1 + r) of an infinitely long window.
    assert found == pytest.approx([1000 * (1 - r) / (1 + r) for r in RHOS], rel=0.25)


def test_repeated_scores_count_once() -> None:
    random = np.random.default_rng(1)

    assert 150 < _independent(random.random(200)) <= 200
    assert _independent(np.tile(random.random(20), 10)) == 20
    assert _independent(np.zeros(200)) == 1


@pytest.mark.parametrize(
    ("change", "direction"),
    [
        (lambda scores: scores + 2.0, "higher"),
        (lambda scores: scores + 20.0, "higher"),  # every part is rejected
        (lambda scores: scores - 1.0, "lower"),
        (lambda scores: 5.0 + (scores - 5.0) * 4.0, None),
        (lambda scores: 5.0 + (scores - 5.0) * 0.3, None),
    ],
)
def test_a_change_is_found_within_two_windows(
    change: Callable[[Scores], Scores], direction: str | None
) -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        line = Calibrated(DISTRIBUTIONS["normal"], 100, random)
        assert not line.watch(DISTRIBUTIONS["normal"](random, 1000))

        ((_, alarm),) = line.watch(change(DISTRIBUTIONS["normal"](random, 2 * WINDOW)))

        assert isinstance(alarm, Alarm)
        assert alarm.direction == direction or direction is None


def test_the_alarm_carries_its_evidence() -> None:
    random = np.random.default_rng(3)
    line = Calibrated(DISTRIBUTIONS["normal"], 200, random)

    ((_, alarm),) = line.watch(DISTRIBUTIONS["normal"](random, WINDOW) + 2.0)

    assert isinstance(alarm, Alarm)
    low, high = alarm.expected_share
    assert low <= 1.0 - alarm.probability <= high < alarm.observed_share
    assert alarm.parts == WINDOW
    assert 150 < alarm.independent <= WINDOW
    assert alarm.expected_quantiles[1] == pytest.approx(5.0, abs=0.3)
    assert alarm.observed_quantiles[1] == pytest.approx(7.0, abs=0.3)
    assert all(below < above for below, above in pairwise(alarm.observed_quantiles))
    assert "higher" in str(alarm)
    assert "fit the model again" in str(alarm)


def test_an_alarm_is_given_once_until_the_line_has_recovered() -> None:
    random = np.random.default_rng(5)
    line = Calibrated(DISTRIBUTIONS["normal"], 300, random)
    good = DISTRIBUTIONS["normal"]

    printed = line.watch(
        np.concatenate([good(random, 2000) + 3.0, good(random, 2000), good(random, 1000) - 3.0])
    )

    assert [type(outcome) for _, outcome in printed] == [Alarm, Recovered, Alarm]
    assert (
        str(printed[1][1])
        == "the scores of the last 200 parts are in the range of good parts again"
    )
    assert printed[0][0] == WINDOW
    assert 2000 < printed[1][0] <= 4000
    assert 4000 < printed[2][0] <= 4000 + WINDOW


def test_more_rejected_parts_than_single_defects_are_an_alarm() -> None:
    random = np.random.default_rng(7)
    line = Calibrated(DISTRIBUTIONS["normal"], 100, random)
    scores = DISTRIBUTIONS["normal"](random, 1000)
    scores[::2] = random.normal(20.0, 1.0, 500)

    ((_, alarm),) = line.watch(scores)

    assert isinstance(alarm, Alarm)
    assert (alarm.direction, alarm.nok >= WINDOW // 2) == ("higher", True)


def test_parts_without_a_score_are_passed_over() -> None:
    random = np.random.default_rng(9)
    line = Calibrated(DISTRIBUTIONS["normal"], 100, random)

    for score in (None, math.nan, math.inf):
        assert all(line.detector.observe(score, Result.ERROR) is None for _ in range(2 * WINDOW))
    ((number, _),) = line.watch(DISTRIBUTIONS["normal"](random, WINDOW) + 5.0)

    assert number == WINDOW


def test_one_calibration_image_is_never_enough_for_an_alarm() -> None:
    random = np.random.default_rng(11)
    line = Calibrated(DISTRIBUTIONS["normal"], 1, random)

    assert line.watch(DISTRIBUTIONS["normal"](random, 1000) + 100.0) == []
