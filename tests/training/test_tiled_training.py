"""Tiles: the same plan in fit, calibration, export and on the line."""

from pathlib import Path

import pytest

from edge.bundle.input_spec import TileSpec
from edge.bundle.loading import Bundle, load_bundle
from edge.imaging.frame import Frame
from edge.imaging.image_files import read_image
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspector
from export.bundle import export_bundle
from tests.support.small_training import write_mvtec, write_weights
from training.checkpoint import Checkpoint
from training.config import FitConfig
from training.data.open_data_set import open_splits
from training.errors import DataError, SettingError
from training.evaluation import TorchPredictor, score_samples
from training.fit_pipeline import find_device, fit_checkpoint

TILE = 48


def fit_config(folder: Path, **changes: object) -> FitConfig:
    return FitConfig.model_validate(
        {
            "data": folder / "parts",
            "backbone": "small",
            "weights": str(folder / "weights.safetensors"),
            "image_size": 64,
            "tile": TILE,
            "hyperparameters": {"bank_size": 48},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiled")
    write_mvtec(folder / "parts")
    write_weights(folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return fit_checkpoint(fit_config(folder))


def test_the_plan_travels_with_the_model(checkpoint: Checkpoint) -> None:
    plan = TileSpec(height=TILE, width=TILE, overlap=0.25)
    assert checkpoint.description.input.tile_plan == plan


def test_the_threshold_is_that_of_the_highest_tile(checkpoint: Checkpoint, folder: Path) -> None:
    """The largest of many scores is larger: calibrated on the same plan, good parts pass."""
    description = checkpoint.description
    predictor = TorchPredictor(checkpoint.model, description.input, find_device("cpu"))
    splits = open_splits(folder / "parts", seed=description.seed)
    scored = score_samples(predictor, splits.validation, description.input, "test")
    assert sum(item.score < description.threshold.image for item in scored) >= len(scored) - 1


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, folder: Path) -> Bundle:
    export_bundle(checkpoint, folder / "tiled.xml")
    return load_bundle(folder / "tiled.xml")


@pytest.mark.parametrize("plan", [RunPlan(), RunPlan(batch=4, streams=2)])
def test_the_line_gives_the_scores_of_training(
    checkpoint: Checkpoint, bundle: Bundle, folder: Path, plan: RunPlan
) -> None:
    inspector = Inspector(Detector(CompiledModel(bundle, plan=plan), plan.streams), bundle.manifest)
    description = checkpoint.description
    predictor = TorchPredictor(checkpoint.model, description.input, find_device("cpu"))
    test = open_splits(folder / "parts", seed=description.seed).test
    scored = score_samples(predictor, test, description.input, "test")
    spread = max(item.score for item in scored) - min(item.score for item in scored)

    for item in scored:
        frame = Frame(
            pixels=read_image(item.sample.path), number=1, captured_ns=0, captured_utc_ns=0
        )
        score = inspector.inspect(frame).score
        assert score is not None
        assert abs(score - item.score) <= 1e-3 * spread


def test_a_model_of_positions_says_that_it_cannot_be_tiled(folder: Path) -> None:
    config = fit_config(folder, algorithm="padim", hyperparameters={})
    with pytest.raises(SettingError, match=r"padim .* cannot be tiled.*Use patchcore"):
        fit_checkpoint(config)


def test_an_image_smaller_than_a_tile_is_named_before_the_fit(folder: Path) -> None:
    with pytest.raises(DataError, match=r"\.png: 112×80 .*smaller than one 200×200 tile"):
        fit_checkpoint(fit_config(folder, tile=200))


@pytest.mark.parametrize("overlap", [1.0, -0.1])
def test_an_overlap_that_leaves_nothing_is_refused(folder: Path, overlap: float) -> None:
    with pytest.raises(ValueError, match="overlap"):
        fit_config(folder, overlap=overlap)
