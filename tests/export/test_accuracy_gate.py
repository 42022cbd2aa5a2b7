"""What a lower precision may change, where defective images judge it and where none do."""

import numpy as np
import pytest

from edge.inspection.predictor import RawPrediction
from export.accuracy_gate import Accuracy, AccuracyBudget, Scale, compare
from training.metrics import exact_interval
from training.metrics.scores import Scores

THRESHOLD, SPREAD = 10.0, 4.0

# Images of each half of a simulated set, and samples drawn of it.
MANY = 5_000
DRAWS = 120


def predictions(scores: list[float]) -> list[RawPrediction]:
    return [RawPrediction(score, np.zeros((1, 1), np.float32)) for score in scores]


def changed(before: list[float], after: list[float], defective: int = 0) -> Accuracy:
    """Compare; the last ``defective`` images show a defect."""
    shows = np.arange(len(before)) >= len(before) - defective
    return compare(predictions(before), predictions(after), Scale(shows, THRESHOLD, SPREAD))


def good_scores(count: int, at_the_threshold: float) -> list[float]:
    return [*np.linspace(5.0, 8.0, count - 1), at_the_threshold]


def test_an_image_at_the_threshold_may_go_over_it_by_rounding() -> None:
    before = good_scores(33, THRESHOLD - 0.05)
    accuracy = changed(before, [score + 0.1 for score in before])
    assert accuracy.flips == 1
    assert accuracy.rounding == pytest.approx(0.1 / SPREAD)
    assert accuracy.faults(AccuracyBudget()) == []
    assert accuracy.excess(AccuracyBudget()) == 0.0


def test_none_may_where_none_is_allowed() -> None:
    before = good_scores(33, THRESHOLD - 0.05)
    accuracy = changed(before, [score + 0.1 for score in before])
    assert accuracy.faults(AccuracyBudget(verdict_flips=0.0)) == [
        "verdicts that change more than rounding explains: 1 of 33, 3.0% (95 %: 0.1% to 15.8%) "
        "(allowed 0.0%)"
    ]


def test_verdicts_that_change_more_than_rounding_explains_are_counted_with_their_interval() -> None:
    before = [*good_scores(61, 8.0), *[THRESHOLD - 0.2 * SPREAD] * 3]
    accuracy = changed(before, [*before[:61], *[THRESHOLD + 0.5] * 3])
    assert accuracy.faults(AccuracyBudget()) == [
        "verdicts that change more than rounding explains: 3 of 64, 4.7% (95 %: 1.0% to 13.1%) "
        "(allowed 1.0%)"
    ]
    two = changed(before[:-1], [*before[:61], *[THRESHOLD + 0.5] * 2])
    assert two.faults(AccuracyBudget()) == []


def test_rounding_as_coarse_as_a_shift_of_all_excuses_nothing() -> None:
    random = np.random.default_rng(0)
    before = list(random.uniform(THRESHOLD - 2, THRESHOLD + 2, 200))
    accuracy = changed(before, list(before + random.normal(0, 0.25 * SPREAD, 200)))
    assert accuracy.rounding > 0.3
    assert any("more than rounding explains" in f for f in accuracy.faults(AccuracyBudget()))


def test_many_defects_at_the_threshold_that_all_slip_below_it_are_no_rounding() -> None:
    before = [*good_scores(56, 8.0), *[THRESHOLD + 0.02 * SPREAD] * 8]
    accuracy = changed(before, [score - 0.05 * SPREAD for score in before], defective=8)
    assert accuracy.faults(AccuracyBudget()) == [
        "of 64 verdicts 8 became wrong and 0 right (allowed 1.0% more)"
    ]


def refused(random: np.random.Generator, images: int, before: Scores, after: Scores) -> bool:
    """Tell whether a sample of a large set of images, half of them defective, is refused."""
    half = len(before) // 2
    good, defective = (random.integers(0, half, images // 2) + part for part in (0, half))
    rows = np.concatenate([good, defective])
    accuracy = changed(list(before[rows]), list(after[rows]), defective=images // 2)
    return bool(accuracy.faults(AccuracyBudget()))


def rate(images: int, before: Scores, after: Scores) -> float:
    random = np.random.default_rng(images)
    return sum(refused(random, images, before, after) for _ in range(DRAWS)) / DRAWS


def marked(random: np.random.Generator) -> Scores:
    """Return scores of a hard set: a tenth of each half are marked ones, at the threshold."""
    good = random.normal(THRESHOLD - 0.6 * SPREAD, 0.15 * SPREAD, MANY)
    defective = random.normal(THRESHOLD + 0.6 * SPREAD, 0.15 * SPREAD, MANY)
    for part in (good, defective):
        part[: MANY // 10] = random.normal(THRESHOLD, 0.05 * SPREAD, MANY // 10)
    return np.concatenate([good, defective])


@pytest.mark.parametrize("images", [64, 256])
def test_fine_rounding_of_a_set_with_marked_images_is_refused_at_most_once_in_twenty(
    images: int,
) -> None:
    random = np.random.default_rng(1)
    before = marked(random)
    after = before + random.normal(0, 0.01 * SPREAD, len(before))
    assert float(((before >= THRESHOLD) != (after >= THRESHOLD)).mean()) > 0.005
    assert rate(images, before, after) <= 0.05


@pytest.mark.parametrize(("images", "at_most"), [(64, 0.10), (256, 0.10)])
def test_flips_just_at_the_limit_are_refused_at_most_as_often_as_stated(
    images: int, at_most: float
) -> None:
    assert rate(images, *with_far_flips(0.01)) <= at_most


@pytest.mark.parametrize(("share", "images", "at_least"), [(0.10, 64, 0.85), (0.05, 256, 0.90)])
def test_flips_far_over_the_limit_are_refused_as_often_as_stated(
    share: float, images: int, at_least: float
) -> None:
    assert rate(images, *with_far_flips(share)) >= at_least


def with_far_flips(share: float) -> tuple[Scores, Scores]:
    """Return scores of which a share crosses the threshold from far away, half of them each way."""
    random = np.random.default_rng(2)
    before = marked(random)
    after = before + random.normal(0, 0.01 * SPREAD, len(before))
    far = random.random(len(before)) < share
    before[far] = THRESHOLD + np.sign(before[far] - THRESHOLD) * 0.15 * SPREAD
    after[far] = 2 * THRESHOLD - before[far]
    return before, after


def test_a_model_that_ranks_worse_is_refused_whatever_its_verdicts() -> None:
    random = np.random.default_rng(3)
    before = np.concatenate([random.normal(5, 0.5, 2000), random.normal(8, 0.8, 2000)])
    after = before + random.normal(0, 0.8, 4000)
    half = 2000
    accuracy = changed(list(before), list(after), defective=half)
    assert accuracy.auroc_before is not None
    assert accuracy.auroc_after is not None
    assert accuracy.auroc_before - accuracy.auroc_after > 0.005
    assert any("AUROC drop" in fault for fault in accuracy.faults(AccuracyBudget()))


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 8, 0.0, 0.3694), (1, 64, 0.0004, 0.0840), (5, 50, 0.0333, 0.2181), (8, 8, 0.6306, 1.0)],
)
def test_the_interval_is_that_of_the_tables(hits: int, count: int, low: float, high: float) -> None:
    interval = exact_interval(hits, count)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)
