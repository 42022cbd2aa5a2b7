"""Metrics against scikit-learn and against brute force, ties included."""

import tracemalloc
import warnings
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
)
from sklearn.metrics import roc_curve as sklearn_roc_curve

from edge.inspection.thresholding import f1_adaptive
from training.metrics import (
    PixelFigures,
    PixelTotals,
    auroc,
    auroc_interval,
    average_precision,
    average_precision_of_each,
    bootstrap_interval,
    bootstrap_intervals,
    f1_at,
    f1_max,
    f1_max_of_each,
    f1_reject_all,
    intervals,
    recall_at_false_rejects,
    recall_at_false_rejects_of_each,
    share_interval,
)


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
    highest, rejecting = f1_max(scores, labels), f1_reject_all(labels)
    assert highest is not None and rejecting is not None
    assert highest >= rejecting - 1e-12
    assert rejecting == pytest.approx(f1_at(scores, labels, float(scores.min())))


@given(scored_labels())
def test_average_precision_is_scikit_learns(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    scores, labels = case
    expected = average_precision_score(labels, scores)
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


@given(scored_labels(), st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
def test_recall_at_a_false_reject_rate_is_on_scikit_learns_curve(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]], rate: float
) -> None:
    scores, labels = case
    rates, recalls, _ = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    found = recall_at_false_rejects(scores, labels, rate)
    assert found == pytest.approx(recalls[rates <= rate].max(), abs=1e-12)


def test_a_score_on_the_threshold_counts_as_rejected() -> None:
    assert f1_at(np.array([1.0, 2.0]), np.array([False, True]), 2.0) == 1.0


def test_one_class_alone_has_no_auroc() -> None:
    assert auroc(np.array([1.0, 2.0]), np.array([True, True])) is None
    assert auroc(np.array([1.0, 2.0]), np.array([False, False])) is None
    assert f1_max(np.array([1.0, 2.0]), np.array([False, False])) is None
    assert average_precision(np.array([1.0, 2.0]), np.array([False, False])) is None
    assert recall_at_false_rejects(np.array([1.0, 2.0]), np.array([True, True]), 0.1) is None
    assert auroc_interval(np.array([1.0, 2.0]), np.array([True, True])) is None


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


def totals(maps: list[NDArray[np.float32]], masks: list[NDArray[np.bool_]]) -> PixelTotals:
    counted = PixelTotals()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        counted.add(anomaly_map, mask)
    return counted


def figures(maps: list[NDArray[np.float32]], masks: list[NDArray[np.bool_]]) -> PixelFigures:
    found = totals(maps, masks).figures()
    assert found is not None
    return found


def drawn_maps(
    seed: int, levels: int, scale: float = 1.0
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.bool_]]]:
    random = np.random.default_rng(seed)
    masks = [random.random((9, 11)) > 0.8 for _ in range(3)]
    drawn = [random.integers(0, levels, (9, 11)) / levels + 0.3 * mask - 0.4 for mask in masks]
    maps = [(scale * one).astype(np.float32) for one in drawn]
    return maps, masks


@given(
    st.integers(0, 10_000),
    st.sampled_from([2, 5, 1000, 10**7]),
    st.sampled_from([0.05, 0.3, 1.0]),
    st.sampled_from([1e-6, 1.0, 1e9]),
)
@settings(max_examples=50)
def test_aupro_is_that_of_brute_force(seed: int, levels: int, limit: float, scale: float) -> None:
    maps, masks = drawn_maps(seed, levels, scale)
    found = totals(maps, masks).figures(limit)
    assert found is not None
    assert abs(found.aupro - slow_aupro(maps, masks, limit)) <= found.aupro_error + 1e-9
    assert found.aupro_error < 0.005


@given(st.integers(0, 10_000), st.sampled_from([2, 5, 1000, 10**7]))
def test_pixel_metrics_are_scikit_learns_within_the_stated_error(seed: int, levels: int) -> None:
    maps, masks = drawn_maps(seed, levels)
    found = figures(maps, masks)
    values, truth = (np.concatenate([p.ravel() for p in parts]) for parts in (maps, masks))
    assert abs(found.auroc - roc_auc_score(truth, values)) <= found.auroc_error + 1e-9
    assert found.auroc_error < 0.005
    expected = average_precision_score(truth, values)
    assert found.average_precision == pytest.approx(expected, abs=0.01)
    best = f1_max(values, truth)
    assert best is not None
    assert best - 0.01 < found.f1_max <= best + 1e-12


@given(st.integers(0, 10_000))
def test_the_pixel_threshold_is_the_runtimes(seed: int) -> None:
    """Of values that lie in bins of their own, as those of a map do but for noise."""
    maps, masks = drawn_maps(seed, 40)
    values, truth = (np.concatenate([p.ravel() for p in parts]) for parts in (maps, masks))
    assert totals(maps, masks).f1_adaptive() == f1_adaptive(values[~truth], values[truth])


def test_pixels_of_a_bin_that_all_must_be_rejected_are_all_rejected() -> None:
    maps = [np.array([[-1.0, 2.0, np.nextafter(np.float32(2.0), np.float32(3.0))]], np.float32)]
    threshold = totals(maps, [np.array([[False, True, True]])]).f1_adaptive()
    assert threshold == 0.5


def test_everything_defective_has_the_lowest_value_as_threshold() -> None:
    maps = [np.array([[3.0, 2.0]], np.float32)]
    assert totals(maps, [np.ones((1, 2), np.bool_)]).f1_adaptive() == 2.0
    assert PixelTotals().f1_adaptive() is None


def test_maps_of_one_value_each_say_nothing_about_places() -> None:
    mask = np.zeros((4, 4), np.bool_)
    mask[:2] = True
    maps = [np.full((4, 4), value, np.float32) for value in (1.0, 2.0)]
    counted = totals(maps, [mask, mask])
    assert counted.figures() is None
    assert counted.f1_adaptive() is None


def test_memory_of_pixel_metrics_does_not_grow_with_the_images() -> None:
    random = np.random.default_rng(0)
    counted = PixelTotals()
    sizes = []
    for count in (3, 60):
        tracemalloc.start()
        for _ in range(count):
            mask = random.random((64, 64)) > 0.9
            counted.add(random.random((64, 64), np.float32), mask)
        sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 20_000


def test_a_small_region_counts_as_much_as_a_large_one_for_aupro() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[2:12, 2:12] = True
    mask[16, 16] = True
    large_missed = np.zeros((20, 20), np.float32)
    large_missed[16, 16] = 1.0
    small_missed = mask.astype(np.float32)
    small_missed[16, 16] = 0.0

    large, small = figures([large_missed], [mask]), figures([small_missed], [mask])
    assert large.aupro == pytest.approx(small.aupro)


def test_perfect_maps_have_full_aupro() -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[2:4, 2:4] = True
    assert figures([mask.astype(np.float32)], [mask]).aupro == pytest.approx(1.0)


def test_without_a_region_or_without_background_there_are_no_pixel_metrics() -> None:
    anomaly_map = np.eye(4, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert totals([anomaly_map], [np.zeros((4, 4), np.bool_)]).figures() is None
        assert totals([anomaly_map], [np.ones((4, 4), np.bool_)]).figures() is None


def make_scores(
    random: np.random.Generator, good: int, defective: int, distance: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    drawn = np.concatenate([random.normal(0, 1, good), random.normal(distance, 1, defective)])
    return drawn, np.arange(good + defective) >= good


@pytest.mark.parametrize(("distance", "area"), [(0.0, 0.5), (1.1902, 0.8), (2.3262, 0.95)])
def test_the_interval_of_the_auroc_holds_the_true_one_19_times_of_20(
    distance: float, area: float
) -> None:
    random = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        interval = auroc_interval(*make_scores(random, 25, 25, distance))
        assert interval is not None
        hits += interval.low <= area <= interval.high
    assert 0.92 <= hits / 400 <= 0.985


def test_a_perfect_separation_of_few_images_is_no_proof() -> None:
    few = auroc_interval(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True]))
    many = auroc_interval(np.arange(400.0), np.arange(400) >= 200)
    assert few is not None
    assert many is not None
    assert few.low < 0.6
    assert 0.97 < many.low < 1.0
    assert few.high == many.high == 1.0
    assert few.method == "Newcombe"


def test_drawing_again_shows_no_certainty_of_a_perfect_separation() -> None:
    scores, labels = np.arange(8.0), np.arange(8) >= 4
    assert bootstrap_interval(f1_max, scores, labels, np.random.default_rng(0)) is None


def test_every_interval_names_its_method_and_holds_its_figure() -> None:
    scores, labels = make_scores(np.random.default_rng(1), 30, 20, 1.0)
    found = auroc_interval(scores, labels)
    drawn = bootstrap_interval(f1_max, scores, labels, np.random.default_rng(0))
    again = bootstrap_interval(f1_max, scores, labels, np.random.default_rng(0))
    assert found is not None
    assert drawn is not None
    highest = f1_max(scores, labels)
    assert highest is not None
    assert (found.method, drawn.method) == ("DeLong", "bootstrap")
    assert found.low < roc_auc_score(labels, scores) < found.high
    assert drawn.low <= highest <= drawn.high
    assert drawn == again


def test_intervals_of_several_metrics_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_DRAWN_AT_ONCE", 1700)  # so that the last block is shorter
    scores, labels = make_scores(np.random.default_rng(2), 30, 20, 1.0)
    scores = scores.round(1)  # with ties
    found = bootstrap_intervals(
        {
            "f1_max": f1_max_of_each,
            "average_precision": average_precision_of_each,
            "recall": partial(recall_at_false_rejects_of_each, rate=0.1),
        },
        scores,
        labels,
        np.random.default_rng(0),
    )
    assert list(found) == ["f1_max", "average_precision", "recall"]
    recall = partial(recall_at_false_rejects, rate=0.1)
    for name, metric in (("f1_max", f1_max), ("average_precision", average_precision)):
        alone = bootstrap_interval(metric, scores, labels, np.random.default_rng(0))
        assert alone is not None
        assert found[name][:2] == pytest.approx(alone[:2], rel=1e-12)
    alone = bootstrap_interval(recall, scores, labels, np.random.default_rng(0))
    assert alone is not None
    assert found["recall"][:2] == pytest.approx(alone[:2], rel=1e-12)


def test_the_interval_of_a_share_is_wilsons() -> None:
    found = share_interval(0, 20)
    assert found is not None
    assert found.low == pytest.approx(0.0, abs=1e-12)
    assert found.high == pytest.approx(0.1611, abs=1e-4)
    found = share_interval(7, 10)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.3968, 0.8922), abs=1e-4)
    assert share_interval(0, 0) is None
