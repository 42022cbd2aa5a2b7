"""Thresholds keep what they promise on any scores."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.inspection.decision import Result, decide
from edge.inspection.thresholding import (
    Scores,
    balanced,
    bootstrap_interval,
    f1_adaptive,
    f1_or_quantile,
    false_reject_rate,
    midway,
    quantile,
    recall,
)

any_float = st.floats(allow_nan=False, allow_infinity=False)
large_float = st.floats(-1e300, 1e300)
# Few distinct values, so that ties are common.
coarse = st.integers(-5, 5).map(float)


def scores(
    least: int = 1,
    most: int = 40,
    elements: st.SearchStrategy[float] = coarse,
    dtype: type = np.float64,
) -> st.SearchStrategy[Scores]:
    return arrays(dtype, st.integers(least, most), elements=elements)


good_or_defective = scores(elements=coarse | any_float)


def f1(good: Scores, defective: Scores, threshold: float) -> float:
    true, false = (defective >= threshold).sum(), (good >= threshold).sum()
    return 2.0 * true / (true + false + len(defective))


def best_f1(good: Scores, defective: Scores) -> float:
    return max(f1(good, defective, each) for each in np.concatenate([good, defective]))


def rejected(values: Scores, threshold: float) -> int:
    return sum(decide(float(value), threshold).result is Result.NOK for value in values)


@given(scores(2, 40, coarse | any_float), st.data())
def test_a_separable_set_is_separated_strictly(values: Scores, data: st.DataObject) -> None:
    assume(values.min() < values.max())
    weakest = data.draw(st.sampled_from(sorted(set(values[values > values.min()]))))
    good, defective = values[values < weakest], values[values >= weakest]
    threshold = f1_adaptive(good, defective)
    assert good.max() < threshold <= defective.min()


@given(scores(), st.floats(1e-3, 1e6))
def test_a_gap_is_split_in_its_middle(good: Scores, gap: float) -> None:
    weakest = good.max() + gap
    threshold = f1_adaptive(good, np.array([weakest, weakest + gap]))
    assert threshold == pytest.approx(good.max() + gap / 2.0, rel=1e-9)


@given(good_or_defective, good_or_defective)
def test_the_adaptive_threshold_reaches_the_best_f1_there_is(
    good: Scores, defective: Scores
) -> None:
    assert f1(good, defective, f1_adaptive(good, defective)) == best_f1(good, defective)


@given(scores(), scores())
@example(good=np.array([2.0, 3.0]), defective=np.array([1.0, 10.0]))  # 2·2/6 at 1, 2·1/3 at 10
def test_of_equally_good_thresholds_the_highest_is_taken(good: Scores, defective: Scores) -> None:
    both = np.concatenate([good, defective])
    lowest_rejected = both[both >= f1_adaptive(good, defective)].min()
    for higher in both[both > lowest_rejected]:
        assert f1(good, defective, higher) < best_f1(good, defective)


@given(scores(0), scores())
def test_the_order_of_the_scores_does_not_matter(good: Scores, defective: Scores) -> None:
    assert f1_adaptive(good, defective) == f1_adaptive(good[::-1], defective[::-1])


@given(scores(), scores())
def test_calibration_does_not_change_its_scores(good: Scores, defective: Scores) -> None:
    before = good.copy(), defective.copy()
    for each in (good, defective):
        each.flags.writeable = False
    f1_adaptive(good, defective), quantile(good), recall(good, defective, 0.9)
    assert np.array_equal(good, before[0])
    assert np.array_equal(defective, before[1])


def test_the_weakest_defect_of_the_published_example_does_not_escape() -> None:
    """With the defect's own score and a strict comparison, 0.8 would pass as good."""
    good, defective = np.array([0.1, 0.2]), np.array([0.8, 0.9])
    assert f1_adaptive(good, defective) == 0.5
    assert rejected(defective, 0.5) == 2


def test_rejecting_everything_is_taken_where_nothing_is_better() -> None:
    assert f1_adaptive(np.array([5.0]), np.array([1.0, 2.0, 6.0])) == 1.0


def test_without_good_scores_every_defect_is_rejected() -> None:
    assert f1_adaptive(np.array([]), np.array([3.0, 2.0])) == 2.0


float32 = st.floats(-1e6, 1e6, width=32)


@given(
    scores(elements=float32, dtype=np.float32),
    scores(elements=float32, dtype=np.float32),
    st.sampled_from(["f1", "quantile", "recall"]),
)
def test_float32_scores_are_decided_the_same_as_float32_and_as_float64(
    good: Scores, defective: Scores, method: str
) -> None:
    threshold = {
        "f1": lambda: f1_adaptive(good, defective),
        "quantile": lambda: quantile(good, 1.0, 0.0),
        "recall": lambda: recall(good, defective, 0.8),
    }[method]()
    for values in (good, defective):
        assert np.array_equal(values >= threshold, values.astype(np.float64) >= threshold)


@given(any_float, any_float)
@example(1.0, np.nextafter(1.0, 2.0))
@example(-1.7e308, 1.7e308)
@example(0.0, 5e-324)
def test_the_middle_lies_above_the_lower_and_at_most_at_the_upper(one: float, other: float) -> None:
    assume(one != other)
    below, above = min(one, other), max(one, other)
    assert below < midway(below, above) <= above


@given(scores(elements=coarse | large_float), st.floats(0.0, 1.0), st.floats(0.0, 2.0))
def test_the_quantile_threshold_passes_the_sample_at_the_quantile(
    good: Scores, probability: float, margin: float
) -> None:
    threshold = quantile(good, probability, margin)
    passed = len(good) - rejected(good, threshold)
    assert math.isfinite(threshold)
    assert passed >= max(1, math.floor(len(good) * probability))


@given(scores(2), st.floats(0.0, 1.0))
def test_a_wider_margin_gives_no_lower_threshold(good: Scores, margin: float) -> None:
    assert quantile(good, 0.99, margin) <= quantile(good, 0.99, margin + 0.5)


def test_the_quantile_margin_is_a_share_of_the_way_from_the_median() -> None:
    good = np.arange(101.0)
    assert quantile(good, 0.99, 0.5) == 99.0 + 0.5 * (99.0 - 50.0)


@given(scores(5, 200, st.floats(1.0, 2.0)), st.floats(2.0, 1e6), st.floats(0.0, 1.0))
def test_one_mis_sorted_defect_does_not_open_the_quantile_threshold(
    good: Scores, defect: float, margin: float
) -> None:
    clean = quantile(good, 0.95, margin)
    highest, median = good.max(), np.median(good)
    bound = highest + max(margin, 5 / len(good)) * (highest - np.sort(good)[len(good) // 2 - 1])
    opened = quantile(np.append(good, defect), 0.95, margin)
    assert opened <= max(clean, bound, median) * (1 + 2e-4)


def test_of_twenty_good_scores_the_highest_is_not_trusted() -> None:
    good = np.arange(20.0)
    assert quantile(good) == 19.0 + 0.1 * (19.0 - 9.5)
    assert quantile(good, margin=0.25) == 18.0 + 0.25 * (18.0 - 9.5)
    for defect in (30.0, 1e3, 1e9):
        assert quantile(np.append(good[:19], defect)) == 18.0 + 5 / 20 * (18.0 - 9.5)
    assert quantile(np.append(good[:19], 1e3), 1.0) > 1e3  # the maximum, where it was asked for


def test_equal_good_scores_all_pass_the_quantile_threshold() -> None:
    assert rejected(np.full(9, 2.5), quantile(np.full(9, 2.5))) == 0


@given(scores(10, 60, coarse | any_float), st.floats(0.1, 0.99))
def test_no_more_good_parts_are_rejected_than_the_rate_allows(good: Scores, rate: float) -> None:
    threshold = false_reject_rate(good, rate)
    assert rejected(good, threshold) <= len(good) * rate + 1e-6


@given(scores(10, 60), st.floats(0.1, 0.99))
def test_a_threshold_one_gap_lower_would_reject_too_many(good: Scores, rate: float) -> None:
    threshold = false_reject_rate(good, rate)
    next_lower = good[good < threshold].max()
    assert rejected(good, next_lower) > len(good) * rate - 1e-6


@pytest.mark.parametrize("count", [29, 49, 100, 107])
def test_the_rate_is_exact_where_floating_point_is_not(count: int) -> None:
    good = np.arange(float(count))
    assert rejected(good, false_reject_rate(good, 1 / count)) == 1
    assert rejected(np.arange(100.0), false_reject_rate(np.arange(100.0), 0.29)) == 29


def test_too_few_good_parts_cannot_show_a_false_reject_rate() -> None:
    with pytest.raises(ValueError, match=r"least 100 good images .* 99; these carry 0.0102 at"):
        false_reject_rate(np.arange(99.0), 0.01)


@given(
    scores(0, 40, coarse | any_float),
    scores(1, 40, coarse | any_float),
    st.floats(0.0, 1.0, exclude_min=True),
)
def test_recall_rejects_the_promised_share_of_defects(
    good: Scores, defective: Scores, target: float
) -> None:
    threshold = recall(good, defective, target)
    assert rejected(defective, threshold) >= len(defective) * target - 1e-6


@given(scores(0), scores(), st.floats(0.0, 1.0, exclude_min=True))
def test_a_threshold_one_score_higher_would_miss_the_recall(
    good: Scores, defective: Scores, target: float
) -> None:
    threshold = recall(good, defective, target)
    weakest = defective[defective >= threshold].min()
    above = np.nextafter(weakest, np.inf)
    assert rejected(defective, above) < len(defective) * target + 1e-6


def test_recall_is_exact_where_floating_point_is_not() -> None:
    defective = np.arange(100.0)
    assert rejected(defective, recall(np.array([]), defective, 0.07)) == 7


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.1, math.nan])
def test_a_false_reject_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        false_reject_rate(np.arange(10.0), rate)


@pytest.mark.parametrize("target", [0.0, -0.1, 1.1, math.nan])
def test_a_recall_out_of_range_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most at 1"):
        recall(np.arange(10.0), np.arange(10.0), target)


@pytest.mark.parametrize("margin", [-0.1, -1.0])
def test_a_margin_below_zero_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        quantile(np.arange(10.0), margin=margin)


SOME, NONE = np.arange(10.0), np.array([])


def test_no_good_score_is_named_as_the_cause() -> None:
    with pytest.raises(ValueError, match="no scores of good images; add some"):
        quantile(NONE)


@pytest.mark.parametrize("threshold", [f1_adaptive, lambda g, d: recall(g, d, 0.9)])
def test_no_defective_score_is_named_as_the_cause(
    threshold: Callable[[Scores, Scores], float],
) -> None:
    with pytest.raises(ValueError, match="no scores of defective images; add some"):
        threshold(SOME, NONE)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "threshold",
    [
        lambda faulty: f1_adaptive(faulty, SOME),
        lambda faulty: f1_adaptive(SOME, faulty),
        lambda faulty: quantile(faulty),
        lambda faulty: false_reject_rate(faulty, 0.5),
        lambda faulty: recall(faulty, SOME, 0.5),
        lambda faulty: recall(SOME, faulty, 0.5),
        lambda faulty: balanced(faulty, SOME),
        lambda faulty: balanced(SOME, faulty),
    ],
)
def test_no_threshold_is_made_of_scores_that_are_not_finite(
    threshold: Callable[[Scores], float], bad: float
) -> None:
    with pytest.raises(ValueError, match=r"1 of 3 scores of .* are not finite"):
        threshold(np.array([1.0, bad, 2.0]))


@given(scores(1, 60), scores(0, 30), st.integers(2, 20))
def test_a_balanced_threshold_does_not_follow_how_many_defects_were_marked(
    good: Scores, defective: Scores, times: int
) -> None:
    assert balanced(good, np.repeat(defective, times), 0.1) == balanced(good, defective, 0.1)


@given(scores(1, 60, coarse | large_float), scores(0, 30), st.floats(0.0, 0.9))
@example(np.arange(20.0), np.array([1.0, 2.0]), 0.05)
def test_a_balanced_threshold_rejects_no_more_of_the_good_than_allowed(
    good: Scores, defective: Scores, rate: float
) -> None:
    assert rejected(good, balanced(good, defective, rate)) <= rate * len(good) + 1e-6


@given(scores(1, 60), scores(1, 30), st.floats(0.0, 0.9), st.floats(0.0, 1.0))
def test_a_balanced_threshold_keeps_both_bounds_where_any_does(
    good: Scores, defective: Scores, rate: float, missed: float
) -> None:
    threshold = balanced(good, defective, rate, missed)
    passed = len(defective) - rejected(defective, threshold)
    lowest = balanced(good, defective, rate, 0.0)
    assert rejected(good, threshold) <= rate * len(good) + 1e-6
    possible = len(defective) - rejected(defective, lowest) <= missed * len(defective)
    assert passed <= missed * len(defective) + 1e-6 or not possible


def test_between_both_bounds_a_balanced_threshold_lies_in_the_middle() -> None:
    good, defective = np.arange(100.0), np.arange(60.5, 160.5)
    threshold = balanced(good, defective, 0.2, 0.3)  # above 79, and below 90.5
    assert threshold == pytest.approx((79.25 + 90.25) / 2.0)


def test_a_balanced_threshold_gives_up_as_many_good_parts_as_defects_are_worth() -> None:
    good = np.arange(100.0)
    # Half of the defects lie above 97 % of the good parts, the others above 20 %.
    defective = np.array([96.5] * 5 + [19.5] * 5)
    assert rejected(good, balanced(good, defective, 0.5)) == 3
    assert rejected(good, balanced(good, defective, 0.9)) == 3
    assert rejected(good, balanced(good, np.array([19.5]), 0.9)) == 80
    assert rejected(good, balanced(good, defective, 0.01)) <= 1


@given(scores(5, 60), scores(0, 30))
def test_marked_defects_never_let_more_pass_than_good_parts_alone_would(
    good: Scores, defective: Scores
) -> None:
    allowed = 1.5 / len(good)
    assert balanced(good, defective, allowed) <= balanced(good, NONE, allowed)


def test_the_bootstrap_interval_holds_the_threshold_of_a_clear_gap() -> None:
    good, defective = np.linspace(0.0, 1.0, 50), np.linspace(3.0, 4.0, 20)
    low, high = bootstrap_interval(good, defective, np.random.default_rng(1))
    assert low <= f1_adaptive(good, defective) <= high
    assert 1.0 < high - 0.5 < 3.0


def test_the_same_generator_gives_the_same_interval() -> None:
    intervals = [
        bootstrap_interval(SOME, SOME + 5.0, np.random.default_rng(3), draws=20) for _ in range(2)
    ]
    assert intervals[0] == intervals[1]


def test_the_interval_without_defects_is_that_of_the_quantile_threshold() -> None:
    low, high = bootstrap_interval(SOME, NONE, np.random.default_rng(3), draws=50)
    assert low < f1_or_quantile(SOME, NONE) < high


def test_the_interval_is_of_the_method_that_was_asked_for() -> None:
    interval = bootstrap_interval(
        SOME, SOME, np.random.default_rng(3), draws=5, method=lambda good, defective: 7.0
    )
    assert interval == (7.0, 7.0)
