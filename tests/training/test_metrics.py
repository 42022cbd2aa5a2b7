"""Metrics against scikit-learn and against brute force, ties included."""

import warnings
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_auc_score

from training.metrics import aupro, auroc, f1_at, f1_max, f1_reject_all


@st.composite
def scored_labels(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores with many ties, and labels of both classes."""
    pairs = draw(
        st.lists(
            st.tuples(st.integers(-3, 3) | st.floats(-4, 4, width=32), st.booleans()),
            min_size=2,
            max_size=40,
        ).filter(lambda pairs: len({label for _, label in pairs}) == 2)
    )
    return np.array([s for s, _ in pairs], np.float64), np.array([label for _, label in pairs])


@given(scored_labels())
def test_auroc_is_scikit_learns(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    scores, labels = case
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(scored_labels())
def test_the_highest_f1_is_scikit_learns(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    scores, labels = case
    precision, recall, _ = precision_recall_curve(labels, scores)
    total = precision + recall
    f1 = np.divide(2.0 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    assert f1_max(scores, labels) == pytest.approx(f1.max(), abs=1e-12)


@given(scored_labels())
def test_the_highest_f1_is_that_of_the_best_of_all_thresholds(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    scores, labels = case
    best = max(f1_at(scores, labels, threshold) for threshold in scores)
    assert f1_max(scores, labels) == pytest.approx(best, abs=1e-12)


@given(scored_labels())
def test_the_highest_f1_is_never_below_rejecting_everything(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    scores, labels = case
    assert f1_max(scores, labels) >= f1_reject_all(labels) - 1e-12
    assert f1_reject_all(labels) == pytest.approx(f1_at(scores, labels, float(scores.min())))


def test_a_score_on_the_threshold_counts_as_rejected() -> None:
    assert f1_at(np.array([1.0, 2.0]), np.array([False, True]), 2.0) == 1.0


def test_one_class_alone_has_no_auroc() -> None:
    assert auroc(np.array([1.0, 2.0]), np.array([True, True])) is None
    assert auroc(np.array([1.0, 2.0]), np.array([False, False])) is None
    assert f1_max(np.array([1.0, 2.0]), np.array([False, False])) is None


def test_the_published_baseline_of_bottle_is_met() -> None:
    assert f1_reject_all(np.arange(83) < 63) == pytest.approx(0.863, abs=5e-4)


def slow_aupro(
    maps: list[NDArray[np.float32]], masks: list[NDArray[np.bool_]], limit: float
) -> float:
    """One threshold after the other, one region after the other."""
    regions = []
    for index, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [(index, labels == label) for label in range(1, count)]
    curve = [(0.0, 0.0)]
    for threshold in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        rejected = [m >= threshold for m in maps]
        wrong = sum(int((r & ~mask).sum()) for r, mask in zip(rejected, masks, strict=True))
        rate = wrong / sum(int((~mask).sum()) for mask in masks)
        overlap = np.mean([(rejected[i] & region).sum() / region.sum() for i, region in regions])
        curve.append((rate, float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2.0
    return area / limit


@given(st.integers(0, 10_000), st.sampled_from([2, 5, 1000]), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_is_that_of_brute_force(seed: int, levels: int, limit: float) -> None:
    random = np.random.default_rng(seed)
    masks = [random.random((9, 11)) > 0.8 for _ in range(3)]
    maps = [np.float32(random.integers(0, levels, (9, 11)) / levels + 0.3 * mask) for mask in masks]

    assert aupro(maps, masks, limit) == pytest.approx(slow_aupro(maps, masks, limit), abs=1e-9)


def test_a_small_region_counts_as_much_as_a_large_one_for_aupro() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[2:12, 2:12] = True
    mask[16, 16] = True
    large_missed = np.zeros((20, 20), np.float32)
    large_missed[16, 16] = 1.0
    small_missed = mask.astype(np.float32)
    small_missed[16, 16] = 0.0

    assert aupro([large_missed], [mask]) == pytest.approx(aupro([small_missed], [mask]))


def test_perfect_maps_have_full_aupro() -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[2:4, 2:4] = True
    assert aupro([mask.astype(np.float32)], [mask]) == pytest.approx(1.0)


def test_without_a_region_or_without_background_there_is_no_aupro() -> None:
    anomaly_map = np.zeros((4, 4), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert aupro([anomaly_map], [np.zeros((4, 4), np.bool_)]) is None
        assert aupro([anomaly_map], [np.ones((4, 4), np.bool_)]) is None
