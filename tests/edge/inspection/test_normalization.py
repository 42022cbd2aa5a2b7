"""Min-max normalization: the threshold lies at 0.5 and the order stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edge.bundle.manifest import Extent
from edge.inspection.normalization import THRESHOLD, ScoreScale, normalize, score_scale

numbers = st.floats(-1e6, 1e6)
scales = st.builds(ScoreScale, threshold=numbers, range=st.floats(1e-6, 1e6))
scores32 = arrays(
    np.float32,
    array_shapes(max_dims=3, max_side=8),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(scales)
def test_the_threshold_lies_at_one_half(scale: ScoreScale) -> None:
    assert normalize(np.array(scale.threshold), scale) == THRESHOLD


@given(numbers, scales)
def test_a_score_is_at_or_above_one_half_exactly_when_it_is_rejected(
    score: float, scale: ScoreScale
) -> None:
    assert (normalize(np.array(score), scale) >= THRESHOLD) == (score >= scale.threshold)


@given(scales)
def test_the_closest_score_below_the_threshold_stays_below_one_half(scale: ScoreScale) -> None:
    below = np.nextafter(scale.threshold, -np.inf)
    assert normalize(np.array(below), scale) < THRESHOLD


@given(arrays(np.float64, 20, elements=numbers), scales)
def test_the_order_of_scores_stays(scores: np.ndarray, scale: ScoreScale) -> None:
    normalized = normalize(np.sort(scores), scale)
    assert (np.diff(normalized) >= 0.0).all()


@given(scores32, scales)
def test_maps_keep_their_shape_and_type_and_lie_in_0_to_1(
    scores: np.ndarray, scale: ScoreScale
) -> None:
    before = scores.copy()
    normalized = normalize(scores, scale)
    assert normalized.shape == scores.shape
    assert normalized.dtype == np.float32
    assert ((normalized >= 0.0) & (normalized <= 1.0)).all()
    assert np.array_equal(scores, before)


@given(numbers, st.floats(1e-3, 1e6), st.floats(-0.49, 0.49))
def test_one_range_is_one_unit(low: float, span: float, units: float) -> None:
    scale = score_scale(low, Extent(min=low, max=low + span))
    normalized = normalize(np.array(low + units * span), scale)
    assert normalized == pytest.approx(0.5 + units, abs=1e-6)


@given(numbers, numbers)
def test_constant_validation_scores_make_one_raw_unit_one_unit(
    threshold: float, constant: float
) -> None:
    scale = score_scale(threshold, Extent(min=constant, max=constant))
    assert scale == ScoreScale(threshold, 1.0)


def test_scores_far_outside_the_range_end_at_0_and_1() -> None:
    scale = score_scale(10.0, Extent(min=0.0, max=20.0))
    assert normalize(np.array([-1e30, 0.0, 10.0, 20.0, 1e30]), scale).tolist() == [0, 0, 0.5, 1, 1]
