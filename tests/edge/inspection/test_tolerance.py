"""What held-out scores guarantee, against the exact law and against draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from edge.inspection.thresholding import (
    beyond_balanced,
    beyond_quantile,
    guaranteed_false_reject_rate,
    guaranteed_miss_rate,
    quantile,
)
from edge.inspection.tolerance import (
    allowed_beyond,
    needed_count,
    rate_bound,
    rate_interval,
)

SHARES = st.floats(0.001, 0.5)
CONFIDENCES = st.sampled_from([0.8, 0.9, 0.95, 0.99])


def test_the_counts_are_those_of_the_tables() -> None:
    """As in every table of distribution-free tolerance limits."""
    assert [needed_count(rate, 0.95) for rate in (0.01, 0.02, 0.05, 0.1)] == [299, 149, 59, 29]
    assert [allowed_beyond(n, 0.01, 0.95) for n in (298, 299, 472, 473)] == [None, 0, 0, 1]


@given(st.integers(1, 2000), SHARES, CONFIDENCES)
def test_what_may_lie_beyond_is_the_exact_binomial_law(
    count: int, rate: float, confidence: float
) -> None:
    beyond = allowed_beyond(count, rate, confidence)
    assert (beyond is None) == (count < needed_count(rate, confidence))
    carried = -1 if beyond is None else beyond
    assert beyond is None or binom.cdf(carried, count, rate) <= 1.0 - confidence + 1e-9
    assert binom.cdf(carried + 1, count, rate) > 1.0 - confidence - 1e-9


@given(st.integers(1, 2000), st.data(), CONFIDENCES)
def test_the_bound_of_a_rate_is_that_of_clopper_and_pearson(
    count: int, data: st.DataObject, confidence: float
) -> None:
    beyond = data.draw(st.integers(0, count - 1))
    exact = beta.ppf(confidence, beyond + 1, count - beyond)
    assert rate_bound(beyond, count, confidence) == pytest.approx(exact, abs=1e-7)
    assert rate_bound(count, count, confidence) == 1.0


@pytest.mark.parametrize(
    ("hits", "count", "interval"),
    [
        (81, 263, (0.2527, 0.3676)),
        (15, 148, (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1684)),
        (1, 29, (0.0009, 0.1776)),
        (29, 29, (0.8806, 1.0)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_a_two_sided_interval_is_that_of_the_literature(
    hits: int, count: int, interval: tuple[float, float]
) -> None:
    """Newcombe, Statistics in Medicine 17, 1998, table I, method 5."""
    assert rate_interval(hits, count) == pytest.approx(interval, abs=5e-5)


def test_a_guaranteed_rate_is_broken_as_often_as_its_confidence_says() -> None:
    """Of 10,000 draws of 299 scores 4.95 % may break 1 %: P(Binomial(299, 0.01) = 0)."""
    draws = np.random.default_rng(0).random((10_000, 299))
    limits = [guaranteed_false_reject_rate(good, 0.01, 0.95) for good in draws]
    broken = np.mean([1.0 - limit > 0.01 for limit in limits])
    assert 0.043 <= broken <= 0.057
    misses = [guaranteed_miss_rate(np.zeros(0), drawn[:149], 0.02, 0.95) for drawn in draws]
    assert 0.043 <= np.mean([limit > 0.02 for limit in misses]) <= 0.057


@pytest.mark.parametrize(
    ("count", "probability", "beyond"),
    [(1, 0.95, 0), (4, 0.5, 1), (5, 0.95, 1), (30, 0.95, 1), (100, 0.95, 5), (100, 1.0, 0)],
)
def test_a_quantile_carries_the_bound_of_the_samples_that_may_lie_beyond_it(
    count: int, probability: float, beyond: int
) -> None:
    bound = rate_bound(beyond_quantile(count, probability), count)
    assert bound == pytest.approx(beta.ppf(0.95, beyond + 1, count - beyond), abs=1e-7)
    for seed in range(50):
        good = np.random.default_rng(seed).lognormal(0.0, 2.0, count)
        assert np.count_nonzero(good >= quantile(good, probability, 0.0)) <= beyond


def test_the_bound_of_a_quantile_is_broken_at_most_as_often_as_its_confidence_says() -> None:
    draws = np.random.default_rng(1).random((10_000, 60))
    rejected = [1.0 - quantile(good, margin=0.0) for good in draws]
    # Of so few a margin of 5 / N stays, which only keeps the bound more often.
    assert np.mean(np.array(rejected) > rate_bound(beyond_quantile(60), 60)) <= 0.057


def test_no_good_parts_carry_no_bound() -> None:
    assert beyond_quantile(0) == beyond_balanced(0) == 0
    assert rate_bound(0, 0) == 1.0


def test_equal_scores_break_no_guarantee() -> None:
    ties = np.full(299, 0.25, np.float32)
    assert guaranteed_false_reject_rate(ties, 0.01, 0.95) > 0.25
    assert guaranteed_miss_rate(ties, ties[:149], 0.02, 0.95) <= 0.25


def test_too_few_parts_say_how_many_are_needed_and_what_these_carry() -> None:
    good = np.arange(100, dtype=np.float32)
    with pytest.raises(ValueError, match=r"at least 299 good .* are 100; these carry 0\.0296 at"):
        guaranteed_false_reject_rate(good, 0.01, 0.95)
    assert guaranteed_false_reject_rate(good, 0.0296, 0.95) > 99.0
    with pytest.raises(ValueError, match=r"at least 149 defective images .* there are 0$"):
        guaranteed_miss_rate(good, good[:0], 0.02, 0.95)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="lies between 0 and 1"):
        guaranteed_false_reject_rate(np.arange(9.0), rate, 0.95)
