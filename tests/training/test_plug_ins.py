"""A user's own algorithm, installed beside ours, with every verb."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.cli import main as export_model
from tests.support.small_training import write_mvtec
from training.cli import main as train_station

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


@pytest.fixture(scope="module")
def made(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Fit, test, predict and export where the package is installed; return the folder of it all."""
    folder = tmp_path_factory.mktemp("fit")
    data, checkpoint = write_mvtec(folder / "parts"), folder / "part.safetensors"
    fit = f"--algorithm brightness --data {data} --image-size 64 --set cell_px=16"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(installed)
        for command in (
            f"fit {fit} -o {checkpoint}",
            f"test {checkpoint} --data {data} --json {folder / 'figures.json'}",
            f"predict {checkpoint} {data / 'test' / 'spot'}",
        ):
            assert train_station(command.split()) == 0
        export = f"{checkpoint} --precision fp32 -o {folder / 'part.xml'}"
        assert export_model(export.split()) == 0
    yield folder
    del sys.modules["bright_model"]


def test_fit_test_predict_and_export_take_an_installed_algorithm(made: Path) -> None:
    assert json.loads((made / "figures.json").read_text())["image_auroc"] == 1.0
    manifest = json.loads((made / "part.json").read_text())
    assert manifest["identity"]["algorithm"] == "brightness"
    assert (manifest["output"]["map_height"], manifest["output"]["map_width"]) == (4, 4)


def test_without_the_package_its_checkpoint_says_what_is_missing(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = made / "part.safetensors"
    assert export_model([str(checkpoint), "-o", str(tmp_path / "part.xml")]) == 78
    assert "algorithm 'brightness' does not exist. There are: cflow" in capsys.readouterr().err
