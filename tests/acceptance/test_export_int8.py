"""On real pictures: INT8 decides like FP32, and PaDiM's bundle is no larger than a few others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.shared_data import shared_data

# Fitted with the defaults, judged on all test pictures of the set.
FITS = {
    "patchcore-bottle": ("patchcore", ("mvtec", "bottle")),
    "padim-bottle": ("padim", ("mvtec", "bottle")),
    "padim-magnetic_tile": ("padim", ("magnetic_tile",)),
}
MOST_BYTES = 40_000_000


def run(module: str, *arguments: str | int | Path) -> None:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", FITS)
def test_int8_keeps_auroc_verdicts_and_a_small_bundle(name: str, tmp_path: Path) -> None:
    algorithm, place = FITS[name]
    data = shared_data(*place)
    weights = shared_data("weights", "resnet18-imagenet-to-layer3.safetensors")
    checkpoint, bundle = tmp_path / "part.safetensors", tmp_path / "part.xml"
    fit = ["--algorithm", algorithm, "--data", data, "--backbone", "resnet18", "--no-report"]
    fit += ["--weights", weights, "--image-size", 256, "--no-check-good", "-o", checkpoint]
    run("training.cli", "fit", *fit)
    run("export.cli", checkpoint, "-o", bundle, "--judge-on", data)

    precision = json.loads(bundle.with_suffix(".json").read_text())["precision"]
    assert precision["weights"] == "int8"
    gate = precision["gate"]
    assert gate["pictures"] > 100
    assert gate["auroc_before"] - gate["auroc_after"] <= 0.005
    assert gate["verdict_flips"] <= 0.01
    assert precision["floating"] == []
    assert bundle.stat().st_size + bundle.with_suffix(".bin").stat().st_size <= MOST_BYTES
