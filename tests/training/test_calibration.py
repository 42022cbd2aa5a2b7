"""Calibration: thresholds, ranges and statistics from validation scores."""

from pathlib import Path

import numpy as np
import pytest

from edge.manifest import InputSpec, ThresholdMethod
from tests.small_training import write
from training.calibration import calibrate
from training.data.loading import first_sight
from training.data.samples import Sample
from training.errors import CalibrationError
from training.evaluation import Scored, split_metrics

SPEC: InputSpec = first_sight((32, 32))
GOOD = [1.0, 1.25, 1.5, 1.75, 2.0]


def scored(score: float, kind: str = "good", mask: Path | None = None, peak: float = 0.5) -> Scored:
    anomaly_map = np.full((8, 8), 0.1, np.float32)
    anomaly_map[2:4, 2:4] = peak
    return Scored(Sample(Path(f"{kind}-{score}.png"), kind, mask), (32, 32), score, anomaly_map)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[8:16, 8:16] = 255
    return write(tmp_path / "mask.png", pixels)


def test_with_defects_the_threshold_lies_midway_between_both_kinds() -> None:
    items = [scored(s) for s in GOOD] + [scored(s, "spot") for s in (4.0, 6.0)]
    found = calibrate(items, SPEC, seed=0)

    assert found.threshold.method is ThresholdMethod.F1_ADAPTIVE
    assert found.threshold.image == 3.0
    assert (found.threshold.good_count, found.threshold.defective_count) == (5, 2)
    assert (found.normalization.image.min, found.normalization.image.max) == (1.0, 6.0)


def test_without_defects_the_threshold_lies_a_margin_above_the_quantile() -> None:
    found = calibrate([scored(s) for s in GOOD], SPEC, seed=0)

    assert found.threshold.method is ThresholdMethod.QUANTILE
    assert found.threshold.image == pytest.approx(2.05)
    assert found.threshold.defective_count == 0
    assert found.threshold.pixel >= 0.5


def test_without_defects_a_score_as_far_above_the_threshold_reaches_the_end_of_the_scale() -> None:
    found = calibrate([scored(s) for s in GOOD], SPEC, seed=0)
    image = found.normalization.image
    assert image.max - found.threshold.image == found.threshold.image - image.min


def test_thresholds_have_the_precision_of_scores_and_maps() -> None:
    items = [scored(0.1 * n) for n in range(1, 9)] + [scored(0.95, "spot")]
    threshold = calibrate(items, SPEC, seed=0).threshold
    assert float(np.float32(threshold.image)) == threshold.image
    assert float(np.float32(threshold.pixel)) == threshold.pixel


def test_the_pixel_threshold_separates_masked_from_good_pixels(mask: Path) -> None:
    items = [scored(1.0), scored(5.0, "spot", mask, peak=9.0)]
    assert 0.1 < calibrate(items, SPEC, seed=0).threshold.pixel < 9.0


def test_defects_without_masks_leave_the_pixel_threshold_to_the_good_maps() -> None:
    items = [scored(s) for s in GOOD] + [scored(5.0, "spot", peak=9.0)]
    assert calibrate(items, SPEC, seed=0).threshold.pixel == pytest.approx(0.5, rel=2e-4)


def test_quantiles_of_the_good_scores_are_kept() -> None:
    items = [scored(s) for s in GOOD] + [scored(9.0, "spot")]
    statistics = calibrate(items, SPEC, seed=0).statistics
    quantiles = dict(zip(statistics.probabilities, statistics.scores, strict=True))
    assert quantiles[0.0] == 1.0
    assert quantiles[0.5] == 1.5
    assert quantiles[1.0] == 2.0


def test_the_bootstrap_interval_depends_on_the_seed_alone() -> None:
    items = [scored(s) for s in GOOD] + [scored(2.1, "spot"), scored(1.6, "spot")]
    first, again = calibrate(items, SPEC, seed=1), calibrate(items, SPEC, seed=1)
    assert first == again
    assert first.threshold.interval is not None
    assert first.threshold.interval[0] < first.threshold.interval[1]


@pytest.mark.parametrize("score", [1.0, 0.0])
def test_equal_scores_can_be_calibrated_on(score: float) -> None:
    found = calibrate([scored(score)] * 4, SPEC, seed=0)
    assert found.threshold.image > score


def test_a_model_that_cannot_tell_defects_from_good_parts_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calibrate([scored(s) for s in GOOD] + [scored(0.5, "spot")], SPEC, seed=0)
    assert "the best F1 is that of rejecting every part" in caplog.text


def test_a_useful_model_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    calibrate([scored(s / 9) for s in range(9)] + [scored(5.0, "spot")] * 12, SPEC, seed=0)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["good", "spot"])
def test_a_threshold_on_few_pictures_is_warned_of(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    calibrate([scored(1.0), scored(3.0, kind)], SPEC, seed=0)
    assert "pictures only" in caplog.text


def test_without_good_pictures_there_is_no_calibration() -> None:
    with pytest.raises(CalibrationError, match="no good pictures"):
        calibrate([scored(3.0, "spot")], SPEC, seed=0)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["score", "map"])
def test_numbers_that_are_not_finite_are_refused(number: float, where: str) -> None:
    bad = scored(number) if where == "score" else scored(1.0, peak=number)
    with pytest.raises(CalibrationError, match="not finite"):
        calibrate([scored(1.0), bad], SPEC, seed=0)


def test_metrics_of_a_split_count_pictures_and_quote_the_baseline(mask: Path) -> None:
    items = [scored(s, peak=0.1) for s in GOOD] + [scored(5.0, "spot", mask, peak=9.0)] * 2
    metrics = split_metrics(items, SPEC)

    assert (metrics.good_count, metrics.defective_count) == (5, 2)
    assert metrics.image_auroc == 1.0
    assert metrics.image_f1_max == 1.0
    assert metrics.f1_reject_all == pytest.approx(4 / 9)
    assert metrics.pixel_auroc == pytest.approx(1.0, abs=0.01)
    assert metrics.aupro is not None


def test_without_masks_there_are_no_pixel_metrics() -> None:
    metrics = split_metrics([scored(1.0), scored(5.0, "spot")], SPEC)
    assert metrics.image_auroc == 1.0
    assert metrics.pixel_auroc is None
    assert metrics.pixel_f1_max is None
    assert metrics.aupro is None


def test_without_defects_there_are_counts_only() -> None:
    metrics = split_metrics([scored(1.0)], SPEC)
    assert metrics.good_count == 1
    assert metrics.image_auroc is None
    assert metrics.f1_reject_all is None
