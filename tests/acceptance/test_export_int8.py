"""On real pictures: INT8 decides like FP32, several times as fast, or is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.shared_data import shared_data

# Fitted with the defaults, judged on all test pictures of the set.
SETS = {"magnetic_tile": ("magnetic_tile",), "bottle": ("mvtec", "bottle")}


@pytest.fixture(scope="module", params=sorted(SETS))
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    data = shared_data(*SETS[request.param])
    weights = shared_data("weights", "resnet18-imagenet-to-layer3.safetensors")
    folder = tmp_path_factory.mktemp(request.param)
    checkpoint, bundle = folder / "part.safetensors", folder / "part.xml"
    fit = ["--algorithm", "patchcore", "--data", data, "--backbone", "resnet18"]
    fit += ["--weights", weights, "--image-size", 256, "-o", checkpoint]
    export = [checkpoint, "-o", bundle, "--report", "--judge-on", data]
    run("training.cli", "fit", *fit)
    run("export.cli", *export)
    return dict(json.loads(bundle.with_name("part.report.json").read_text()))


def run(module: str, *arguments: str | int | Path) -> None:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    assert done.returncode == 0, done.stderr


def test_int8_keeps_auroc_and_verdicts(report: dict) -> None:
    accuracy = report["precisions"]["int8"]["accuracy"]
    assert accuracy["pictures"] > 100
    assert accuracy["auroc_before"] - accuracy["auroc_after"] <= 0.005
    assert accuracy["verdict_flips"] <= 0.01


def test_int8_takes_three_tenths_of_the_time_with_its_head(report: dict) -> None:
    flags = Path("/proc/cpuinfo").read_text()
    if "amx_int8" not in flags and "vnni" not in flags:
        pytest.skip("this processor has neither AMX nor VNNI")
    assert report["precisions"]["int8"]["latency_relative_to_fp32"] <= 0.3
