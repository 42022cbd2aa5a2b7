"""The decision is never OK by accident."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inspection.decision import Decision, Reason, Result, decide

any_float = st.floats(allow_nan=False, allow_infinity=False)


@given(any_float, any_float)
def test_only_a_score_below_the_threshold_is_ok(score: float, threshold: float) -> None:
    assert (decide(score, threshold).result is Result.OK) == (score < threshold)


def test_a_score_on_the_threshold_is_nok() -> None:
    assert decide(0.5, 0.5) == Decision(Result.NOK, Reason.SCORE_ABOVE)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_a_model_error(score: float) -> None:
    assert decide(score, 0.5, 0.1) == Decision(Result.ERROR, Reason.MODEL_ERROR)


@pytest.mark.parametrize(
    ("threshold", "guard_band"),
    [(math.nan, 0.0), (math.inf, 0.0), (-math.inf, 0.0), (0.5, math.nan), (0.5, math.inf)],
)
def test_a_threshold_that_is_not_finite_passes_nothing(threshold: float, guard_band: float) -> None:
    assert decide(0.0, threshold, guard_band) == Decision(Result.ERROR, Reason.INTERNAL)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.25, Result.OK),
        (0.26, Result.NOT_DECIDABLE),
        (0.5, Result.NOT_DECIDABLE),
        (0.74, Result.NOT_DECIDABLE),
        (0.75, Result.NOK),
    ],
)
def test_near_the_threshold_nothing_is_decided(score: float, expected: Result) -> None:
    assert decide(score, 0.5, guard_band=0.25).result is expected
