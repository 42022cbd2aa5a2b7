"""Real images through the whole chain, each step once per session."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.shared_data import shared_data


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


def run_command(module: str, *arguments: str | int | Path) -> None:
    """Run a command as a user does, as a process."""
    # On cores that are busy with other things, threads that wait for each other take minutes.
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def run_chain(tmp_path_factory: pytest.TempPathFactory) -> RunChain:
    """Return a function that runs the three commands as a user does, each as a process."""

    def run(data: Path, algorithm: str, *options: str) -> Chain:
        folder = tmp_path_factory.mktemp(f"{data.name}-{algorithm}")
        weights = shared_data("weights", "resnet18-imagenet-to-layer3.safetensors")
        checkpoint, bundle = folder / "part.safetensors", folder / "part.xml"
        scores, metrics = folder / "scores.csv", folder / "metrics.json"
        fit: list[str | int | Path] = ["--algorithm", algorithm, "--data", data, *options]
        fit += ["--backbone", "resnet18", "--weights", weights, "--image-size", 256]
        run_command("training.cli", "fit", *fit, "-o", checkpoint)
        run_command(
            "training.cli",
            *("test", checkpoint, "--data", data, "--scores", scores, "--json", metrics),
        )
        run_command("export.cli", checkpoint, "--precision", "fp32", "-o", bundle)
        with scores.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return Chain(rows, json.loads(metrics.read_text()), checkpoint, bundle, data)

    return run
