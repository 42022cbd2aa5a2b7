"""Checkpoints that lie: hashes that fit, numbers that do not. Each is refused in a sentence."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.soak import times
from tests.training.conftest import checkpoint, data, weights
from training.checkpoint import load_checkpoint
from training.errors import CheckpointError
from training.tensor_hash import tensors_sha256

__all__ = ["checkpoint", "data", "weights"]

Tensors = dict[str, torch.Tensor]
Document = dict[str, Any]
NUMBERS: list[Any] = [-1, 0, 10**6, 10**30, 1e300]
VALUES = [None, *NUMBERS, "x", "\x00", "x" * 10**5, [], {}, True, [[]] * 3]


def forged(source: Path, target: Path, change: Callable[[Tensors, Document], object]) -> Path:
    """Copy a checkpoint with other content; the hash is that of the new tensors."""
    with safe_open(source, framework="pt") as file:
        document = json.loads(file.metadata()["checkpoint"])
    tensors = load_file(source)
    change(tensors, document)
    if document.get("tensors_sha256"):
        document["tensors_sha256"] = tensors_sha256(tensors)
    save_file(tensors, target, {"checkpoint": json.dumps(document)})
    return target


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t, d: t.pop("validation.pictures"), r"holds no validation\.pictures"),
        (lambda t, d: t.pop("validation.defective"), r"holds no validation\.defective"),
        (
            lambda t, d: t.update({"validation.pictures": torch.zeros(3)}),
            r"validation\.pictures is torch\.float32 \(3,\), not torch\.uint8 \(3, 64, 64, 3\)",
        ),
        (
            lambda t, d: t.update({"validation.defective": torch.zeros(1, dtype=torch.bool)}),
            r"validation\.defective is torch\.bool \(1,\), not torch\.bool",
        ),
        (
            lambda t, d: t.update(
                {"calibration.pictures": torch.zeros((1, 9, 9, 3), dtype=torch.uint8)}
            ),
            r"not torch\.uint8 \(1, 64, 64, 3\)",
        ),
        (
            lambda t, d: t.update({"calibrated.scores": torch.zeros(7)}),
            r"calibrated\.scores is torch\.float32 \(7,\), not",
        ),
        (
            lambda t, d: [
                t.update({"odd": torch.zeros(1, dtype=torch.bfloat16)}),
                d.update(tensors_sha256=""),
            ],
            "bfloat16",
        ),
        (
            lambda t, d: t.update({"bank": torch.zeros((5, 3))}),
            r"do not fit|can be built and run|does not fit",
        ),
        (lambda t, d: d["description"]["input"].update(height=100_000, width=100_000), "input"),
        (
            lambda t, d: d["description"]["input"].update(height=4096, width=4095),
            r"not torch\.uint8 \(\d+, 4096, 4095, 3\)",
        ),
        (lambda t, d: d["description"].update(seed=10**30), "seed"),
        (lambda t, d: d["description"]["settings"].update(bank_size="40"), "bank_size"),
        (lambda t, d: d["description"]["training"].update(dataset="\x1b[2J"), "dataset"),
        (lambda t, d: d.update(tensors_sha256=""), "tensors_sha256"),
    ],
)
def test_a_lie_is_named(
    tmp_path: Path, checkpoint: Path, change: Callable[[Tensors, Document], object], named: str
) -> None:
    path = forged(checkpoint, tmp_path / "forged.safetensors", change)
    with pytest.raises(CheckpointError, match=rf"(?s)forged\.safetensors: .*({named})"):
        load_checkpoint(path)


def test_deep_json_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "deep.safetensors"
    save_file(load_file(checkpoint), path, {"checkpoint": '{"a":' * 100_000 + "}" * 100_000})
    with pytest.raises(CheckpointError, match=r"deep\.safetensors: its description is damaged"):
        load_checkpoint(path)


def test_a_sparse_file_of_terabytes_is_not_read(tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "sparse.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    with path.open("r+b") as file:
        file.truncate(10**12)
    with pytest.raises(CheckpointError, match="1000000000000 bytes"):
        load_checkpoint(path)


def test_whatever_is_changed_a_checkpoint_loads_or_is_refused(
    tmp_path: Path, checkpoint: Path
) -> None:
    """Values of the description, and shapes and types of the tensors, are changed at random."""
    for seed in range(times(60, 5000)):
        source = random.Random(seed)

        def change(tensors: Tensors, document: Document, source: random.Random = source) -> None:
            if source.random() < 0.6:
                place = document
                while True:
                    key = source.choice(sorted(place))
                    if isinstance(place[key], dict) and place[key] and source.random() < 0.8:
                        place = place[key]
                        continue
                    place[key] = source.choice(VALUES)
                    return
            name = source.choice(sorted(tensors))
            tensor = tensors[name]
            changes: list[Callable[[], torch.Tensor]] = [
                lambda: tensor[:0].clone() if tensor.ndim else tensor[None].clone(),
                lambda: tensor.unsqueeze(0).clone(),
                lambda: tensor.flatten().clone(),
                lambda: tensor.to(torch.int64),
                lambda: torch.cat([tensor, tensor]) if tensor.ndim else tensor.clone(),
                lambda: torch.zeros(1),
            ]
            tensors[name] = source.choice(changes)()

        path = forged(checkpoint, tmp_path / "forged.safetensors", change)
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            assert str(error).startswith(f"{path}: ")
