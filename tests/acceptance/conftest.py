"""Real images through the whole chain, each step once per session."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from export.cli import main as export_model
from tests.acceptance.shared_data import shared_data
from tests.soak import times
from training.cli import main as train_station


@dataclass(frozen=True)
class Chain:
    """What fit, test and export left behind.

    Attributes:
        rows: of the scores' table, one for each test image.
        metrics: of the test images.
        checkpoint: path of the model as fitted.
        bundle: path of the ``.xml``, in FP32.
        data: folder of the set.
    """

    rows: list[dict[str, str]]
    metrics: dict[str, float]
    checkpoint: Path
    bundle: Path
    data: Path


RunChain = Callable[..., Chain]

# What a fit does beside the model, and this suite does not look at, takes as long as the fit.
FIT_ALONE = () if times(0, 1) else ("--no-report", "--no-check-good")
SIDE = 256 if times(0, 1) else 128


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """On cores that are busy with other things, threads that wait for each other take minutes."""
    torch.set_num_threads(1)


def resnet() -> tuple[str | Path, ...]:
    """Return the options of a backbone that has seen many images."""
    weights = shared_data("weights", "resnet18-imagenet-to-layer3.safetensors")
    return "--backbone", "resnet18", "--weights", weights


def run_command(main: Callable[[list[str]], int], *arguments: str | int | Path) -> None:
    """Run a command to its end, in this process."""
    assert main([*map(str, arguments)]) == 0


@pytest.fixture(scope="session")
def run_chain(tmp_path_factory: pytest.TempPathFactory) -> RunChain:
    """Return a function that fits, tests and exports with the three commands."""

    def run(data: Path, algorithm: str, *options: str | Path) -> Chain:
        folder = tmp_path_factory.mktemp(f"{data.name}-{algorithm}")
        checkpoint, bundle = folder / "part.safetensors", folder / "part.xml"
        scores, metrics = folder / "scores.csv", folder / "metrics.json"
        fit: list[str | int | Path] = ["--algorithm", algorithm, "--data", data, *options]
        fit += ["--image-size", SIDE, *FIT_ALONE]
        run_command(train_station, "fit", *fit, "-o", checkpoint)
        judged = ("test", checkpoint, "--data", data, "--scores", scores, "--json", metrics)
        run_command(train_station, *judged)
        run_command(export_model, checkpoint, "--precision", "fp32", "-o", bundle)
        with scores.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return Chain(rows, json.loads(metrics.read_text()), checkpoint, bundle, data)

    return run
