"""One fit for all tests that need a checkpoint; they only read it."""

import os
from pathlib import Path

import pytest
import torch

from tests.support.shared_files import done_once
from tests.support.small_training import write_mvtec, write_weights


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two cores are shared by many; small networks gain nothing from threads."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that studies fit in


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mvtec(tmp_path_factory.mktemp("data") / "slopes", train=10)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="session")
def checkpoint(shared: Path, data: Path, weights: Path) -> Path:
    from training.cli import main

    def fit(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        assert main(fit_arguments(data, weights, folder / "slopes.safetensors")) == 0

    return done_once(shared, "training-checkpoint", fit) / "slopes.safetensors"


def fit_arguments(data: Path, weights: Path, output: Path, *more: str) -> list[str]:
    options = {
        "--data": data,
        "--backbone": "small",
        "--weights": weights,
        "--image-size": 64,
        "--set": "bank_size=40",
        "-o": output,
    }
    return ["fit", *(str(part) for option in options.items() for part in option), *more]
