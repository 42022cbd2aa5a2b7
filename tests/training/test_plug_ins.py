"""A user's own algorithm, installed beside ours, with every verb."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.network_trace import mains
from tests.support.small_training import write_mvtec

GUIDE = Path(__file__).parents[2] / "docs" / "extend.md"
(MODEL,) = re.findall(
    r"bright_model.py -->\n```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay a package out as pip does, in a folder of its own."""
    folder = tmp_path_factory.mktemp("plug_in")
    (folder / "bright_model.py").write_text(MODEL)
    about = folder / "bright_model-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-model\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[inspection_station.algorithms]\nbrightness = bright_model:Brightness\n"
    )
    return folder


def run(installed: Path, *words: object) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(installed), str(root)])
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mvtec(tmp_path_factory.mktemp("data") / "parts")


@pytest.fixture(scope="module")
def checkpoint(installed: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "part.safetensors"
    fit = ["fit", "--algorithm", "brightness", "--data", data, "--image-size", 64]
    done = run(installed, "-m", "training.cli", *fit, "--set", "cell_px=16", "-o", path)
    assert done.returncode == 0, done.stderr
    return path


def test_fit_test_predict_and_export_take_an_installed_algorithm(
    installed: Path, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    _, *commands = mains(
        f"training.cli test {checkpoint} --data {data} --json {tmp_path / 'figures.json'}",
        f"training.cli predict {checkpoint} {data / 'test' / 'spot'}",
        f"export.cli {checkpoint} --precision fp32 -o {tmp_path / 'part.xml'}",
    )
    done = run(installed, *commands)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["image_auroc"] == 1.0
    manifest = json.loads((tmp_path / "part.json").read_text())
    assert manifest["identity"]["algorithm"] == "brightness"
    assert (manifest["output"]["map_height"], manifest["output"]["map_width"]) == (4, 4)


def test_without_the_package_its_checkpoint_says_what_is_missing(
    checkpoint: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, "-m", "export.cli", checkpoint, "-o", tmp_path / "part.xml")
    assert done.returncode == 78
    assert "algorithm 'brightness' does not exist. There are: cflow" in done.stderr
