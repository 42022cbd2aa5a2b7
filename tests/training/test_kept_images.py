"""What a fit needs twice is read and extracted once, and the fit is the same."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge.imaging.frame import PixelFormat
from tests.support.small_training import (
    batch,
    good_image,
    small_weights,
    write,
    write_folder,
    write_weights,
)
from tests.training.test_models import fit_config
from training import fit_pipeline
from training.checkpoint import Checkpoint
from training.components.backbones import Weights, build_backbone, load_weights
from training.components.feature_extractor import FeatureExtractor
from training.components.remembered_features import RememberedFeatures
from training.data.kept_images import KeptImages
from training.data.loading import first_sight, prepared_batches
from training.data.samples import GOOD, Sample
from training.evaluation import score_samples
from training.fit_pipeline import fit_checkpoint

SPEC = first_sight((64, 64))
IMAGE_BYTES = 64 * 64 * 3
ALL_BYTES = 2**29


def good_samples(folder: Path, count: int) -> list[Sample]:
    return [
        Sample(path=write(folder / f"{number}.png", good_image(number)), kind=GOOD)
        for number in range(count)
    ]


def test_images_that_are_kept_are_not_read_again(tmp_path: Path) -> None:
    samples = good_samples(tmp_path, 5)
    kept = KeptImages(3 * IMAGE_BYTES)
    (first, more) = prepared_batches(samples, SPEC, 3, set(), kept=kept)
    for sample in samples[:3]:
        sample.path.unlink()

    formats: set[PixelFormat] = set()
    (again, read_anew) = prepared_batches(samples, SPEC, 3, formats, kept=kept)

    assert torch.equal(again, first)
    assert torch.equal(read_anew, more)
    assert formats == {PixelFormat.BGR8}
    assert kept.get(samples[3], SPEC) is None  # there was no room


def test_an_image_is_kept_for_the_input_that_it_was_prepared_for(tmp_path: Path) -> None:
    samples, kept = good_samples(tmp_path, 1), KeptImages(ALL_BYTES)
    (small,) = prepared_batches(samples, SPEC, 1, set(), kept=kept)
    (large,) = prepared_batches(samples, first_sight((96, 80)), 1, set(), kept=kept)
    assert (small.shape, large.shape) == ((1, 64, 64, 3), (1, 96, 80, 3))


@pytest.mark.parametrize(("room_images", "runs"), [(4, 5), (2, 7), (0, 9)])
def test_features_of_an_image_are_extracted_once_while_there_is_room(
    room_images: int, runs: int
) -> None:
    network = build_backbone("small")
    extractor = FeatureExtractor(network, ("layer2", "layer3"))
    load_weights(network, Weights(small_weights(), "none"), extractor.body.state_dict().keys())
    images = batch(5)
    each = sum(layer[0].numel() * layer.element_size() for layer in extractor(images))
    ran: list[int] = []
    extractor.register_forward_hook(lambda _module, inputs, _outputs: ran.append(len(inputs[0])))
    remembered = RememberedFeatures(extractor, room_images * each)

    before, after = remembered(images), remembered(images[:4])

    assert ran == [1] * runs
    assert all(torch.equal(b[:4], a) for b, a in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("algorithm", "good"), [("patchcore", 130), ("padim", 20)], ids=["compared", "cross-validated"]
)
def test_a_fit_that_remembers_its_images_is_the_same_as_one_that_reads_them_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, good: int
) -> None:
    write_folder(tmp_path / "parts", good=good)
    write_weights(tmp_path / "weights.safetensors")

    def fit(room_bytes: int) -> Checkpoint:
        monkeypatch.setattr(fit_pipeline, "_REMEMBERED_BYTES", room_bytes)
        return fit_checkpoint(fit_config(tmp_path, algorithm))

    remembering, forgetting = fit(ALL_BYTES), fit(0)

    tensors = forgetting.model.state_dict()
    assert tensors.keys() == remembering.model.state_dict().keys()
    assert all(torch.equal(t, tensors[n]) for n, t in remembering.model.state_dict().items())
    assert np.array_equal(remembering.records.scores, forgetting.records.scores)


@pytest.mark.parametrize(
    ("algorithm", "good", "changes", "remembered"),
    [
        ("patchcore", 130, {}, True),
        ("patchcore", 130, {"check_good": False}, False),
        ("patchcore", 130, {"tile": 48}, False),
        ("patchcore", 12, {"tile": 48}, True),
        ("stfpm", 12, {}, False),
    ],
    ids=["compared", "not compared", "compared whole", "cross-validated tiles", "trained"],
)
def test_a_fit_remembers_nothing_where_it_needs_each_image_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    good: int,
    changes: dict[str, Any],
    remembered: bool,
) -> None:
    write_folder(tmp_path / "parts", good=good)
    write_weights(tmp_path / "weights.safetensors")
    memories = memories_made(monkeypatch)
    fit_checkpoint(fit_config(tmp_path, algorithm, **changes))
    assert len(memories) == (2 if remembered else 0)


@pytest.mark.parametrize("good", [130, 12], ids=["compared", "cross-validated"])
def test_a_fit_lets_go_of_what_it_remembers_before_it_calibrates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    write_folder(tmp_path / "parts", good=good)
    write_weights(tmp_path / "weights.safetensors")
    memories = memories_made(monkeypatch)
    left: list[int] = []

    def calibrate(*arguments: Any) -> Any:
        left.append(sum(memory() is not None for memory in memories))
        return score_samples(*arguments)

    monkeypatch.setattr(fit_pipeline, "score_samples", calibrate)
    fit_checkpoint(fit_config(tmp_path, "patchcore"))
    assert (len(memories), left) == (2, [0])


def memories_made(monkeypatch: pytest.MonkeyPatch) -> list["weakref.ref[Any]"]:
    """Return a list to which the memories of images and of features come as fits make them."""
    made: list[weakref.ref[Any]] = []

    def spied(kind: type) -> Any:
        def make(*arguments: Any) -> Any:
            memory = kind(*arguments)
            made.append(weakref.ref(memory))
            return memory

        return make

    for kind in (KeptImages, RememberedFeatures):
        monkeypatch.setattr(fit_pipeline, kind.__name__, spied(kind))
    return made
