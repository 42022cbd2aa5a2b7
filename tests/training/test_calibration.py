"""Calibration: thresholds, ranges and statistics from validation scores."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.bundle.manifest import ThresholdMethod
from edge.teaching.guarantees import guarantee_sentence
from edge.teaching.outliers import far_above
from tests.support.small_training import good_image, write
from training.calibration import calibrate
from training.data.loading import first_sight
from training.data.samples import Sample
from training.data.synthetic_defects import Flaw
from training.errors import CalibrationError, DataError, SettingError
from training.figures import FALSE_REJECTS, Scored, SplitTotals, split_metrics
from training.good_images import make_calibration_check
from training.threshold_option import parse_threshold

SPEC: InputSpec = first_sight((32, 32))
GOOD = [1.0, 1.25, 1.5, 1.75, 2.0]


def scored(score: float, kind: str = "good", mask: Path | None = None, peak: float = 0.5) -> Scored:
    anomaly_map = np.full((8, 8), 0.1, np.float32)
    anomaly_map[2:4, 2:4] = peak
    return Scored(
        sample=Sample(path=Path(f"{kind}-{score}.png"), kind=kind, mask=mask),
        frame=(32, 32),
        score=score,
        anomaly_map=anomaly_map,
    )


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
    found = calibrate([scored(s / 100) for s in range(101)], SPEC, seed=0)

    assert found.threshold.method is ThresholdMethod.QUANTILE
    assert found.threshold.image == pytest.approx(0.95 + 0.1 * (0.95 - 0.5))
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


def test_a_model_that_cannot_separate_defects_from_good_parts_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calibrate([scored(s) for s in GOOD] + [scored(0.5, "spot")], SPEC, seed=0)
    assert "the best F1 is that of rejecting every part" in caplog.text


def test_a_useful_model_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    calibrate([scored(s / 9) for s in range(9)] + [scored(5.0, "spot")] * 12, SPEC, seed=0)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["good", "spot"])
def test_a_threshold_on_few_images_is_warned_of(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    calibrate([scored(1.0), scored(3.0, kind)], SPEC, seed=0)
    assert re.search(r"the threshold rests on \d+ \w+ images? only", caplog.text)


def test_without_good_images_there_is_no_calibration() -> None:
    with pytest.raises(CalibrationError, match="no good images"):
        calibrate([scored(3.0, "spot")], SPEC, seed=0)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["score", "map"])
def test_numbers_that_are_not_finite_are_refused(number: float, where: str) -> None:
    bad = scored(number) if where == "score" else scored(1.0, peak=number)
    with pytest.raises(CalibrationError, match="not finite"):
        calibrate([scored(1.0), bad], SPEC, seed=0)


def test_metrics_of_a_split_count_images_and_quote_the_baseline(mask: Path) -> None:
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


@pytest.mark.parametrize(
    ("text", "method", "threshold"),
    [
        ("f1", ThresholdMethod.F1_ADAPTIVE, 4.5),
        ("recall=1.0", ThresholdMethod.RECALL, 1.55),
        ("recall=0.6", ThresholdMethod.RECALL, 4.5),
        ("false-reject-rate=0.2", ThresholdMethod.FALSE_REJECT_RATE, 1.875),
        ("quantile=0.5,0", ThresholdMethod.QUANTILE, 1.50015),
        ("quantile", ThresholdMethod.QUANTILE, 2.0),
        ("false-reject-rate=0.5@0.95", ThresholdMethod.FALSE_REJECT_RATE, 2.0),
        ("miss-rate=0.7@0.95", ThresholdMethod.MISS_RATE, 1.55),
        ("manual=1.7", ThresholdMethod.MANUAL, 1.7),
        ("auto", ThresholdMethod.F1_ADAPTIVE, 4.5),
    ],
)
def test_the_threshold_is_the_one_that_was_chosen(
    text: str, method: ThresholdMethod, threshold: float
) -> None:
    items = [scored(s) for s in GOOD] + [scored(s, "spot") for s in (1.6, 7.0, 8.0)]
    found = calibrate(items, SPEC, 0, parse_threshold(text)).threshold
    assert found.method is method
    assert found.image == pytest.approx(threshold, rel=1e-6)
    assert (found.interval is None) == (method is ThresholdMethod.MANUAL)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("recall=0.9", "threshold recall=0.9: no scores of defective images"),
        ("f1", "threshold f1-adaptive: no scores of defective images"),
        (
            "false-reject-rate=0.01",
            "at least 100 good images .*, there are 5; these carry 0.2 at best",
        ),
        ("false-reject-rate=0.01@0.95", r"at least 299 good .* there are 5; these carry 0\.4508"),
        ("miss-rate=0.02@0.95", "at least 149 defective .* there are 0"),
    ],
)
def test_a_threshold_that_the_images_cannot_show_says_what_is_needed(text: str, named: str) -> None:
    with pytest.raises(DataError, match=named):
        calibrate([scored(s) for s in GOOD], SPEC, 0, parse_threshold(text))


@pytest.mark.parametrize(
    "text",
    [
        *("best", "recall", "recall=2", "recall=0.9,1", "false-reject-rate=1", "manual"),
        *("manual=x", "manual=nan", "quantile=0.9,-1", "quantile=0", "f1=3"),
        *("miss-rate=0.1", "false-reject-rate=0.1@1", "false-reject-rate=1@0.9", "recall=0.9@0.9"),
        *("false-reject-rate=0.1@", "manual=1@0.9"),
    ],
)
def test_an_unknown_threshold_lists_those_that_exist(text: str) -> None:
    with pytest.raises(SettingError, match=f"threshold '{text}'"):
        parse_threshold(text)


def test_a_choice_reads_back_as_it_was_written() -> None:
    for text in ("recall=0.99", "quantile=0.95,0.1", "manual=-3.5", "auto", "miss-rate=0.02@0.95"):
        choice = parse_threshold(text)
        assert choice.text == text
        assert parse_threshold(choice.text) == choice


def test_a_guarantee_says_what_it_rests_on_and_what_it_leaves_open() -> None:
    items = [scored(1.0 + n / 60) for n in range(60)]
    found = calibrate(items, SPEC, 0, parse_threshold("false-reject-rate=0.05@0.95")).threshold
    guarantee = found.guarantee
    assert guarantee is not None
    assert (guarantee.of, guarantee.rate, guarantee.confidence) == ("false_reject_rate", 0.05, 0.95)
    assert guarantee.count == 60
    sentence = guarantee_sentence(found, None)
    assert "With a confidence of 95 % at most 5 % of good parts are rejected" in sentence
    assert "stay like those of the 60 good calibration images;" in sentence
    assert "How many defective parts pass is not guaranteed" in sentence

    estimate = calibrate(items, SPEC, 0, parse_threshold("false-reject-rate=0.05")).threshold
    assert estimate.guarantee is None
    assert "Nothing is guaranteed: the threshold is" in guarantee_sentence(estimate, None)


def test_without_defects_the_usual_threshold_says_what_its_images_carry() -> None:
    found = calibrate([scored(1.0 + n / 100) for n in range(100)], SPEC, 0).threshold
    assert found.method is ThresholdMethod.QUANTILE
    sentence = guarantee_sentence(found, None)
    assert "With a confidence of 95 % at most 10.3 % of good parts are rejected" in sentence
    with_defects = [scored(1.0), scored(2.0), scored(5.0, "spot")]
    assert calibrate(with_defects, SPEC, 0).threshold.guarantee is None


def test_a_guarantee_names_the_images_that_it_leaves_out() -> None:
    items = [scored(1.0 + n / 60, peak=0.5 + n / 60) for n in range(60)] + [scored(30.0, peak=50.0)]
    found = calibrate(items, SPEC, 0, parse_threshold("false-reject-rate=0.05@0.95"))
    sentence = guarantee_sentence(found.threshold, make_calibration_check(found))
    assert "1 good image looks like a defect, left out; the guarantee does not" in sentence


def test_synthetic_defects_guarantee_nothing() -> None:
    flawed = Sample(path=Path("a.png"), kind="scratch", flaw=Flaw("synthetic-scratch", 1))
    made = replace(scored(9.0), sample=flawed)
    with pytest.raises(DataError, match="synthetic defects do not show"):
        calibrate([scored(1.0), made], SPEC, 0, parse_threshold("miss-rate=0.9@0.5"))


@pytest.mark.parametrize("count", [5, 20, 60, 200])
def test_nothing_rests_on_a_good_image_that_scores_far_above_the_others(count: int) -> None:
    items = [scored(1.0 + n / count, peak=0.5 + n / count) for n in range(count)]
    clean = calibrate(items, SPEC, seed=0)
    wrong = scored(30.0, peak=50.0)
    found = calibrate([wrong, *items], SPEC, seed=0)

    assert found.suspects == {wrong.sample: 30.0}
    assert found.threshold == clean.threshold
    assert found.normalization == clean.normalization
    assert found.statistics == clean.statistics
    assert found.with_suspects is not None
    assert found.with_suspects[0] != clean.threshold.image
    assert len(found.records) == count + 1  # a later calibration may judge it anew
    assert calibrate([wrong, *items], SPEC, seed=0, check_good=False).suspects == {}


@pytest.mark.parametrize(
    "text", ["auto", "f1", "recall=1.0", "false-reject-rate=0.1", "quantile=0.95,0.1"]
)
def test_no_method_lets_mis_sorted_defects_open_the_threshold(text: str) -> None:
    choice = parse_threshold(text)
    items = [scored(1.0 + n / 60) for n in range(60)]
    items += [scored(s, "spot") for s in (4.0, 5.0, 6.0)]
    wrong = [scored(s) for s in (7.0, 8.0, 9.0)]
    clean = calibrate(items, SPEC, 0, choice).threshold
    assert calibrate([*items, *wrong], SPEC, 0, choice).threshold == clean


def test_an_image_that_is_suspected_beforehand_does_not_count() -> None:
    items = [scored(1.0 + n / 20) for n in range(20)]
    found = calibrate(items, SPEC, 0, suspects=[items[3].sample])
    assert found.suspects == {items[3].sample: items[3].score}
    assert found.threshold.good_count == 19


def test_where_all_good_images_are_suspected_there_is_no_calibration() -> None:
    with pytest.raises(CalibrationError, match="all good images to calibrate on look like"):
        calibrate([scored(1.0)], SPEC, 0, suspects=[scored(1.0).sample])


@pytest.mark.parametrize("count", [4, 6, 10, 20, 60, 100, 300])
def test_even_and_skewed_scores_raise_few_alarms(count: int) -> None:
    random = np.random.default_rng(count)
    draws = {
        "normal": random.normal(5.0, 1.0, (400, count)),
        "gumbel": random.gumbel(5.0, 1.0, (400, count)),  # of a maximum over many places
    }
    for sets in draws.values():
        assert np.mean([bool(far_above(scores)) for scores in sets]) <= 0.05


def test_the_strangest_score_comes_first_and_equal_ones_are_no_suspects() -> None:
    even = np.linspace(1.0, 2.0, 20)
    assert far_above(np.append(even, [20.0, 30.0])) == [21, 20]
    assert far_above(np.ones(9)) == []
    assert far_above(np.append(np.ones(9), 1.001)) == []
    assert far_above(np.append(np.ones(9), 9.0)) == [9]
    assert far_above(np.array([1.0, 1.1, 90.0])) == []  # too few to tell


def test_a_threshold_on_synthetic_defects_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = write(tmp_path / "a.png", good_image(0, 32, 32))
    flawed = Sample(path=image, kind="synthetic-scratch", flaw=Flaw("synthetic-scratch", 1))
    items = [scored(s) for s in GOOD]
    without_map = Scored(
        sample=flawed, frame=(32, 32), score=6.0, anomaly_map=np.full((8, 8), 0.1, np.float32)
    )
    calibrate([*items, without_map], first_sight((32, 32)), seed=0)
    assert "rests on synthetic defects" in caplog.text


def test_figures_quote_intervals_verdicts_and_the_baseline(mask: Path) -> None:
    totals = SplitTotals(SPEC)
    for item in [scored(s, peak=0.1) for s in GOOD] + [scored(5.0, "spot", mask, peak=9.0)] * 2:
        totals.add(item)
    totals.add(scored(1.1, "spot", mask, peak=9.0))
    document = totals.document(threshold=1.9, seed=0)

    assert document["image_auroc"] == pytest.approx(11 / 15)
    assert document["f1_at_threshold"] == pytest.approx(2 * 2 / (3 + 3))
    assert (document["false_rejects"], document["missed"]) == (1, 1)
    assert document["recall_at_1_percent_false_rejects"] == pytest.approx(2 / 3)
    assert FALSE_REJECTS == 0.01
    assert document["f1_reject_all"] == pytest.approx(6 / 11)
    assert document["intervals"]["auroc"]["method"] == "DeLong"
    assert document["intervals"]["missed"]["method"] == "Wilson"
    assert document["pixel_auroc_error"] < 1e-3
    for name in ("auroc", "f1_max", "average_precision"):
        interval = document["intervals"][name]
        assert 0 <= interval["low"] <= interval["high"] <= 1


def test_a_score_of_the_whole_image_has_no_pixel_metrics(mask: Path) -> None:
    items = [
        Scored(
            sample=Sample(path=Path(f"{score}.png"), kind=kind, mask=where),
            frame=(32, 32),
            score=score,
            anomaly_map=whole(score),
        )
        for score, kind, where in ((0.1, "good", None), (0.7, "good", None), (0.9, "spot", mask))
    ]

    metrics = split_metrics(items, SPEC)

    assert metrics.image_auroc == 1.0
    assert metrics.pixel_auroc is None
    assert metrics.aupro is None


def whole(score: float) -> NDArray[np.float32]:
    return np.full((1, 1), score, np.float32)
