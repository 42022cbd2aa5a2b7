"""Real pictures through the whole chain, each step once per session."""

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
        rows: of the scores' table, one for each test picture.
        metrics: of the test pictures.
        bundle: path of the ``.xml``.
    """

    rows: list[dict[str, str]]
    metrics: dict[str, float]
    bundle: Path


RunChain = Callable[..., Chain]


@pytest.fixture(scope="session")
def run_chain(tmp_path_factory: pytest.TempPathFactory) -> RunChain:
    """Return a function that runs the three commands as a user does, each as a process."""

    def run(data: Path, algorithm: str, *options: str) -> Chain:
        # On cores that are busy with other things, threads that wait for each other take minutes.
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        folder = tmp_path_factory.mktemp(f"{data.name}-{algorithm}")
        weights = shared_data("weights", "resnet18-imagenet-to-layer3.safetensors")
        checkpoint, bundle = folder / "part.safetensors", folder / "part.xml"
        scores, metrics = folder / "scores.csv", folder / "metrics.json"
        fit = ["--algorithm", algorithm, "--data", data, "--backbone", "resnet18"]
        fit += ["--weights", weights, "--image-size", 256, *options, "-o", checkpoint]
        test = [checkpoint, "--data", data, "--scores", scores, "--json", metrics]
        for module, arguments in (
            ("training.cli", ["fit", *fit]),
            ("training.cli", ["test", *test]),
            ("export.cli", [checkpoint, "--precision", "fp32", "-o", bundle]),
        ):
            command = [sys.executable, "-m", module, *map(str, arguments)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=one_thread
            )
            assert done.returncode == 0, done.stderr
        with scores.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return Chain(rows, json.loads(metrics.read_text()), bundle)

    return run
