"""Checkpoints: whole, verified, the same bytes for the same fit, and no code in them."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edge.errors import OutputNotWritable
from tests.support.small_training import ALGORITHMS, spotted
from tests.training.conftest import fit_arguments
from training.checkpoint import load_checkpoint, save_checkpoint
from training.cli import main
from training.errors import CheckpointError
from training.models.patchcore import PatchCoreSettings


def with_description(source: Path, target: Path, **changes: Any) -> Path:
    """Copy a checkpoint with another description, its tensors unchanged."""
    with safe_open(source, framework="pt") as file:
        document = json.loads(file.metadata()["checkpoint"])
    for key, value in changes.items():
        place = document["description"] if key in document["description"] else document
        place[key] = value
    save_file(load_file(source), target, {"checkpoint": json.dumps(document)})
    return target


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_fits_write_the_same_bytes(
    tmp_path: Path, data: Path, weights: Path, algorithm: str
) -> None:
    few = "bank_size=40" if algorithm == "patchcore" else "feature_count=10"
    for name in ("a", "b"):
        arguments = fit_arguments(data, weights, tmp_path / name, "--algorithm", algorithm)
        arguments[arguments.index("--set") + 1] = few
        assert main(arguments) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_loaded_checkpoint_scores_as_the_fitted_model_and_saves_as_the_same_bytes(
    tmp_path: Path, checkpoint: Path
) -> None:
    loaded = load_checkpoint(checkpoint)
    save_checkpoint(tmp_path / "again.safetensors", loaded)
    again = load_checkpoint(tmp_path / "again.safetensors")
    with torch.inference_mode():
        first, second = loaded.model(spotted(3)), again.model(spotted(3))

    assert torch.equal(first.score, second.score)
    assert torch.equal(first.anomaly_map, second.anomaly_map)
    assert (tmp_path / "again.safetensors").read_bytes() == checkpoint.read_bytes()


def test_the_description_names_where_the_model_came_from(checkpoint: Path) -> None:
    description = load_checkpoint(checkpoint).description

    assert (description.algorithm, description.backbone) == ("patchcore", "small")
    assert description.weights_licence == "not stated"
    assert description.training.dataset == "slopes"
    assert description.training.fit_count == 7
    assert description.training.validation_good_count == 10  # all, by cross-validation
    assert description.training.hyperparameters["bank_size"] == 40
    assert description.training.hyperparameters["validate_on"] == "held-out"
    assert description.training.metrics.keys() == {"validation"}


def test_validation_images_travel_with_the_model(checkpoint: Path) -> None:
    validation = load_checkpoint(checkpoint).validation
    assert validation.images.shape[1:] == (64, 64, 3)
    assert validation.images.dtype == np.uint8
    assert len(validation.images) == len(validation.defective) >= 1


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.safetensors: no such file"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_cut_checkpoint_is_refused(tmp_path: Path, checkpoint: Path, share: float) -> None:
    content = checkpoint.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: cannot be read"):
        load_checkpoint(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("place", [0.5, 0.9, 1.0])
def test_a_flipped_bit_among_the_tensors_is_found(
    tmp_path: Path, checkpoint: Path, place: float
) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged, its tensors do not match"):
        load_checkpoint(tmp_path / "flipped.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        b"not a checkpoint",
        b"\x80\x04K\x01.",
        struct.pack("<Q", 2**40),
        struct.pack("<Q", 2) + b"{}",
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(CheckpointError, match="foreign: "):
        load_checkpoint(tmp_path / "foreign")


def test_backbone_weights_are_not_confused_with_a_checkpoint(weights: Path) -> None:
    with pytest.raises(CheckpointError, match="These may be backbone weights"):
        load_checkpoint(weights)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    path = with_description(checkpoint, tmp_path / "old", schema_version="checkpoint/0")
    with pytest.raises(CheckpointError, match=r"schema 'checkpoint/0'.*Fit the model again"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"algorithm": "gone"}, "algorithm 'gone' does not exist"),
        ({"backbone": "gone"}, "backbone 'gone' does not exist"),
        ({"backbone": "resnet18"}, "differ in"),
        ({"algorithm": "padim"}, "no hyperparameter"),
        ({"settings": {"bank": 3}}, "no hyperparameter 'bank'"),
        ({"map_width": 3}, "its map is 3×.* fit again"),
        ({"seed": "x"}, "description is damaged .*seed"),
        ({"extra": 1}, "description is damaged .*extra"),
        ({"threshold": None}, "description is damaged .*threshold"),
    ],
)
def test_a_description_that_does_not_fit_names_file_and_fault(
    tmp_path: Path, checkpoint: Path, change: dict[str, Any], named: str
) -> None:
    path = with_description(checkpoint, tmp_path / "odd.safetensors", **change)
    with pytest.raises(CheckpointError, match=rf"odd\.safetensors: .*{named}"):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"schema_version": 1}'])
def test_broken_metadata_is_refused(tmp_path: Path, checkpoint: Path, text: str) -> None:
    save_file(load_file(checkpoint), tmp_path / "odd", {"checkpoint": text})
    with pytest.raises(CheckpointError, match="odd: "):
        load_checkpoint(tmp_path / "odd")


def test_an_output_in_a_missing_folder_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(OutputNotWritable, match="nowhere"):
        save_checkpoint(tmp_path / "nowhere" / "a", load_checkpoint(checkpoint))


def test_a_checkpoint_of_version_0_2_is_loaded_as_it_was() -> None:
    kept = load_checkpoint(Path(__file__).parents[1] / "data" / "kept" / "checkpoint.safetensors")

    assert kept.description.threshold.image == pytest.approx(0.2952, abs=1e-4)


def test_a_patchcore_from_before_its_map_gave_the_score_keeps_the_scores_it_was_calibrated_on(
    tmp_path: Path, data: Path, weights: Path
) -> None:
    paper = ["variance=1", "score=reweighted", "sigma=4"]
    options = [word for setting in paper for word in ("--set", setting)]
    arguments = fit_arguments(data, weights, tmp_path / "paper", *options)
    assert main(arguments) == 0
    fitted = load_checkpoint(tmp_path / "paper")
    recorded = fitted.description.settings
    settings = {k: v for k, v in recorded.items() if k not in PatchCoreSettings.BEFORE}
    kept = with_description(tmp_path / "paper", tmp_path / "kept", settings=settings)

    before = load_checkpoint(kept)

    with torch.inference_mode():
        expected, found = fitted.model(spotted(3)), before.model(spotted(3))
    assert torch.equal(found.score, expected.score)
    assert torch.equal(found.anomaly_map, expected.anomaly_map)
    # Not today's head: that takes its score from the map.
    assert (found.score > found.anomaly_map.flatten(1).amax(1)).any()
