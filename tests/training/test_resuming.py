"""A killed fit goes on only where all that its result depends on is the same."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.small_training import SIDE, good_image, write, write_mvtec, write_weights
from training.components.backbones import build_backbone
from training.config import FitConfig
from training.fit_pipeline import fit_checkpoint


def stfpm(root: Path, **changes: object) -> FitConfig:
    return FitConfig.model_validate(
        {
            "data": {"path": root / "parts"},
            "algorithm": "stfpm",
            "backbone": "small",
            "weights": str(root / "small.safetensors"),
            "weights_licence": "first",
            "image_size": SIDE,
            "hyperparameters": {"epochs": 1, "batch_size": 4},
            **changes,
        }
    )


def other_weights(root: Path) -> FitConfig:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        torch.save(build_backbone("small").state_dict(), root / "other.pth")
    return stfpm(root, weights=str(root / "other.pth"), weights_licence="second")


def other_backbone(root: Path) -> FitConfig:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        torch.save(build_backbone("resnet18").state_dict(), root / "resnet18.pth")
    return stfpm(root, backbone="resnet18", weights=str(root / "resnet18.pth"))


def transforms(root: Path) -> FitConfig:
    steps = ["RandomHorizontalFlip"]
    return stfpm(root, data={"path": root / "parts", "transforms": steps})


def other_image(root: Path) -> FitConfig:
    write(root / "parts" / "train" / "good" / "000.png", good_image(99))
    return stfpm(root)


def other_order(root: Path) -> FitConfig:
    (root / "parts" / "train" / "good" / "000.png").rename(
        root / "parts" / "train" / "good" / "last.png"
    )
    return stfpm(root)


@pytest.mark.parametrize(
    "changed", [other_weights, other_backbone, transforms, other_image, other_order]
)
def test_what_the_result_depends_on_makes_a_training_start_anew(
    tmp_path: Path, changed: Callable[[Path], FitConfig], caplog: pytest.LogCaptureFixture
) -> None:
    write_mvtec(tmp_path / "parts", train=6, good=2, defective=1)
    write_weights(tmp_path / "small.safetensors")
    state = tmp_path / "state"
    fit_checkpoint(stfpm(tmp_path), state)
    shutil.copy(state, tmp_path / "kept")
    fit_checkpoint(stfpm(tmp_path), state)
    assert "training starts again" not in caplog.text

    shutil.copy(tmp_path / "kept", state)
    config = changed(tmp_path)
    found, expected = fit_checkpoint(config, state), fit_checkpoint(config)
    assert "belongs to a fit of other data, weights or settings" in caplog.text
    assert found.description == expected.description
    tensors = found.model.state_dict()
    assert all(torch.equal(t, tensors[name]) for name, t in expected.model.state_dict().items())
