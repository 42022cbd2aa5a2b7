"""One fit for all tests that need a checkpoint; they only read it."""

import os
from pathlib import Path

import pytest
import torch

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
def checkpoint(tmp_path_factory: pytest.TempPathFactory, data: Path, weights: Path) -> Path:
    from training.cli import main

    path = tmp_path_factory.mktemp("checkpoint") / "slopes.safetensors"
    assert main(fit_arguments(data, weights, path)) == 0
    return path


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
