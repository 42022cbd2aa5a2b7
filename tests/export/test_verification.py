"""``export-model --verify``: the bundle on this PC is the model that was validated."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.cli import main

USAGE = 78


def copied(bundle: Path, folder: Path) -> Path:
    shutil.copytree(bundle.parent, folder)
    return folder / bundle.name


def test_a_whole_bundle_is_verified_and_every_step_is_reported(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--verify", str(bundle)]) == 0
    printed = capsys.readouterr().out
    for word in ("hashes", "self-test    4 golden images", "parity", "CPU"):
        assert word in printed


@pytest.mark.parametrize(("weights", "batches"), [("fp32", True), ("int8", False)])
def test_a_bundle_is_asked_as_a_station_asks_it(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], weights: str, batches: bool
) -> None:
    """Integer kernels of a batch give other numbers at one call in thirty; only tiles need them."""
    copy = copied(bundle, tmp_path / weights)
    manifest = json.loads(copy.with_suffix(".json").read_text())
    manifest["precision"]["weights"] = weights
    copy.with_suffix(".json").write_text(json.dumps(manifest))
    assert main(["--verify", str(copy)]) == 0
    assert ("in a batch of 4" in capsys.readouterr().out) == batches


def test_weights_that_were_altered_are_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered = copied(bundle, tmp_path / "altered")
    weights = bytearray(altered.with_suffix(".bin").read_bytes())
    weights[len(weights) // 2] ^= 64
    altered.with_suffix(".bin").write_bytes(weights)
    assert main(["--verify", str(altered)]) == USAGE
    assert "SHA-256" in capsys.readouterr().err


def test_a_pc_that_computes_other_numbers_is_named(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copied(bundle, tmp_path / "other")
    manifest = json.loads(other.with_suffix(".json").read_text())
    manifest["self_test"][2]["score"] *= 1.1
    other.with_suffix(".json").write_text(json.dumps(manifest))
    assert main(["--verify", str(other)]) == USAGE
    assert "self-test image 'noise'" in capsys.readouterr().err


def test_verification_loads_neither_torch_nor_what_export_needs(bundle: Path) -> None:
    code = (
        "import sys\n"
        "from export.cli import main\n"
        f"assert main(['--verify', {str(bundle)!r}]) == 0\n"
        "loaded = {'torch', 'torchvision', 'nncf', 'onnx', 'onnxruntime', 'safetensors'}\n"
        "sys.exit(int(bool(loaded & sys.modules.keys())))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    "arguments", [[], ["a.safetensors"], ["a", "--verify", "b.xml", "-o", "c"]]
)
def test_a_command_that_asks_for_nothing_or_two_things_is_explained(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
