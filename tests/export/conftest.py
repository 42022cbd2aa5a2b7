"""One checkpoint of each algorithm and its bundle; tests only read them."""

from pathlib import Path

import pytest
import torch

from export.cli import main as export_model
from tests.support.small_training import ALGORITHMS, write_mvtec, write_weights
from training.cli import main as train_station


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mvtec(tmp_path_factory.mktemp("data") / "slopes", train=10)


@pytest.fixture(scope="session", params=ALGORITHMS)
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: Path
) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    weights = write_weights(folder / "small.safetensors")
    few = {"padim": "feature_count=10", "patchcore": "bank_size=40"}[request.param]
    options = {
        "--algorithm": request.param,
        "--data": data,
        "--backbone": "small",
        "--weights": weights,
        "--image-size": 64,
        "--validate-on": "test",
        "--set": few,
        "-o": folder / f"{request.param}.safetensors",
    }
    assert train_station(["fit", *(str(part) for item in options.items() for part in item)]) == 0
    return folder / f"{request.param}.safetensors"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "slopes.xml"
    assert export_model([str(checkpoint), "--precision", "fp32", "-o", str(path)]) == 0
    return path
