"""Defects among the good images of the fit: found by comparing each with all others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.small_training import defective_image, good_image, small_weights, write
from training.components.backbones import Weights, build_backbone, load_weights
from training.components.feature_extractor import FeatureExtractor
from training.data.loading import first_sight
from training.data.samples import GOOD, Sample
from training.leave_one_out import leave_one_out_scores, suspicious_good

CPU = torch.device("cpu")
SPEC = first_sight((64, 64))


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    network = build_backbone("small")
    found = FeatureExtractor(network, ("layer2", "layer3"))
    load_weights(network, Weights(small_weights(), "none"), found.body.state_dict().keys())
    return found


def good_samples(folder: Path, count: int) -> list[Sample]:
    return [
        Sample(path=write(folder / f"{number:02d}.png", good_image(number)), kind=GOOD)
        for number in range(count)
    ]


def test_a_defect_among_good_images_is_the_strangest(
    tmp_path: Path, extractor: FeatureExtractor
) -> None:
    samples = good_samples(tmp_path, 20)
    wrong = Sample(path=write(tmp_path / "wrong.png", defective_image(3)[0]), kind=GOOD)
    scores = leave_one_out_scores(extractor, [*samples[:9], wrong, *samples[9:]], SPEC, CPU)
    assert int(np.argmax(scores)) == 9
    assert suspicious_good(extractor, [*samples, wrong], SPEC, CPU) == [wrong]


def test_good_images_alone_raise_no_alarm(tmp_path: Path, extractor: FeatureExtractor) -> None:
    assert suspicious_good(extractor, good_samples(tmp_path, 20), SPEC, CPU) == []


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_cannot_be_compared(
    tmp_path: Path, extractor: FeatureExtractor, count: int
) -> None:
    assert suspicious_good(extractor, good_samples(tmp_path, count), SPEC, CPU) == []


def test_equal_images_can_be_compared(tmp_path: Path, extractor: FeatureExtractor) -> None:
    sample = Sample(path=write(tmp_path / "same.png", good_image(1)), kind=GOOD)
    assert np.isfinite(leave_one_out_scores(extractor, [sample] * 12, SPEC, CPU)).all()
