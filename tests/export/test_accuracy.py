"""What a lower precision may change, where defective pictures judge it and where none do."""

import numpy as np
import pytest

from edge.inspection.prediction import RawPrediction
from export.accuracy import Accuracy, AccuracyBudget, Scale, compare

THRESHOLD, SPREAD = 10.0, 4.0


def predictions(scores: list[float]) -> list[RawPrediction]:
    return [RawPrediction(score, np.zeros((1, 1), np.float32)) for score in scores]


def changed(before: list[float], after: list[float], defective: int = 0) -> Accuracy:
    """Compare; the last ``defective`` pictures show a defect."""
    shows = np.arange(len(before)) >= len(before) - defective
    return compare(predictions(before), predictions(after), Scale(shows, THRESHOLD, SPREAD))


def good_scores(count: int, at_the_threshold: float) -> list[float]:
    return [*np.linspace(5.0, 8.0, count - 1), at_the_threshold]


def test_of_few_good_pictures_one_may_go_over_the_threshold_it_lay_at() -> None:
    before = good_scores(33, THRESHOLD - 0.05)
    accuracy = changed(before, [*before[:-1], THRESHOLD + 0.05])
    assert accuracy.verdict_flips == pytest.approx(1 / 33)
    assert accuracy.farthest_flip == pytest.approx(0.05 / SPREAD)
    assert accuracy.faults(AccuracyBudget()) == []
    assert accuracy.excess(AccuracyBudget()) == 0.0


def test_two_of_few_may_not() -> None:
    before = [*good_scores(32, THRESHOLD - 0.05), THRESHOLD - 0.04]
    accuracy = changed(before, [*before[:-2], THRESHOLD + 0.05, THRESHOLD + 0.06])
    assert accuracy.faults(AccuracyBudget()) == ["verdict flips 6.1% (allowed 3.0%)"]


def test_one_that_lay_away_from_the_threshold_may_not() -> None:
    before = good_scores(33, THRESHOLD - 0.2 * SPREAD)
    accuracy = changed(before, [*before[:-1], THRESHOLD + 0.05])
    assert accuracy.faults(AccuracyBudget()) == ["verdict flips 3.0% (allowed 1.0%)"]


def test_none_may_where_none_is_allowed() -> None:
    before = good_scores(33, THRESHOLD - 0.05)
    accuracy = changed(before, [*before[:-1], THRESHOLD + 0.05])
    assert accuracy.faults(AccuracyBudget(verdict_flips=0.0)) == [
        "verdict flips 3.0% (allowed 0.0%)"
    ]


def test_where_defective_pictures_judge_the_share_is_exact() -> None:
    before = [*good_scores(33, THRESHOLD - 0.05), 14.0]
    accuracy = changed(before, [*before[:-2], THRESHOLD + 0.05, 14.0], defective=1)
    assert accuracy.faults(AccuracyBudget()) == ["verdict flips 2.9% (allowed 1.0%)"]


def test_of_defective_pictures_alone_the_share_is_exact_too() -> None:
    accuracy = changed([THRESHOLD + 0.05, 14.0], [THRESHOLD - 0.05, 14.0], defective=2)
    assert accuracy.faults(AccuracyBudget()) == ["verdict flips 50.0% (allowed 1.0%)"]


def test_a_hundred_good_pictures_show_one_percent() -> None:
    before = [*good_scores(99, THRESHOLD - 0.05), THRESHOLD - 0.04]
    two = changed(before, [*before[:-2], THRESHOLD + 0.05, THRESHOLD + 0.06])
    assert two.faults(AccuracyBudget()) == ["verdict flips 2.0% (allowed 1.0%)"]
    one = changed(before, [*before[:-1], THRESHOLD + 0.05])
    assert one.faults(AccuracyBudget()) == []
