"""The Python API: the code of docs/api.md runs, and its names are there and lean."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge
import export
import training
from tests.support.small_training import defective_image, write_folder, write_weights

GUIDE = Path(__file__).parents[1] / "docs" / "api.md"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Run the guide's code in a folder, as one program; return the folder and its names.

    Of the code only the backbone is exchanged: the weights of a large one are not kept here.
    """
    folder = tmp_path_factory.mktemp("api")
    write_folder(folder / "images" / "bottle", good=16, defective=4)
    write_folder(folder / "images" / "bottle-new", good=18, defective=6)
    weights = write_weights(folder / "small.safetensors")
    code = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL))
    small = f'backbone="small", settings={{"weights": "{weights}", "image_size": 64}}'
    assert code.count('backbone="resnet18"') == 1
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(code.replace('backbone="resnet18"', small), str(GUIDE), "exec"), names)
    return folder, names


def test_the_guides_code_trains_tests_exports_and_inspects(
    ran: tuple[Path, dict[str, Any]],
) -> None:
    folder, names = ran
    assert names["figures"].image_auroc == 1.0
    # Images that the model has seen are in the new folder again, and judge nothing.
    assert 2 <= names["figures"].good_count < 16
    assert 2 <= names["figures"].defective_count < 6
    assert names["inspection"].decision.result in edge.Result
    assert names["manifest"] == edge.load_bundle(folder / "bottle.xml").manifest
    assert len(names["rejected"]) == 6
    assert edge.read_image(folder / "overlay.jpg").shape[2] == 3


def test_what_cannot_be_inspected_is_an_error_and_never_ok(
    ran: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    model = edge.load_model(ran[0] / "bottle.xml", limits=edge.Limits(image_threshold=1e9))
    (tmp_path / "damaged.png").write_bytes(b"no image")
    ((path, inspection),) = model.inspect_folder(tmp_path)
    assert (path.name, inspection.decision.result) == ("damaged.png", edge.Result.ERROR)
    assert "damaged.png" in inspection.detail
    assert model.inspect(np.zeros((0, 0), np.uint8)).decision.result is edge.Result.ERROR
    assert model.inspect(defective_image()[0]).decision.result is edge.Result.OK


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(edge.StationError, match="data_set: colour is unknown"):
        training.data_set(tmp_path, colour="red")
    with pytest.raises(edge.StationError, match="algorithm 'padin' does not exist"):
        training.Model("padin").fit(training.data_set(write_folder(tmp_path)))


@pytest.mark.parametrize("package", [edge, training, export])
def test_every_public_name_is_there(package: Any) -> None:
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize("package", ["training", "export"])
def test_importing_a_package_loads_no_heavy_library(package: str) -> None:
    code = f"import {package}, sys; print(*({{'torch', 'openvino', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("", 0)
