"""A checkpoint becomes a bundle: verified, reproducible, and with the checkpoint's numbers."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import openvino as ov
import pytest
import torch

import edge
from edge.bundle.loading import load_bundle
from edge.bundle.manifest import parse_manifest
from edge.imaging.frame import Frame
from edge.imaging.image_files import read_image
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.inspector import Inspector
from edge.inspection.openvino_core import openvino_core
from export.cli import main
from export.engines import openvino_engine
from tests.support.small_training import write_weights
from training.checkpoint import load_checkpoint
from training.cli import main as train_station

USAGE = 78


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_bundle_is_three_files_whose_hashes_match(bundle: Path) -> None:
    assert sorted(files(bundle.parent)) == ["slopes.bin", "slopes.json", "slopes.xml"]
    assert load_bundle(bundle).manifest.identity.name == "slopes"


def test_the_manifest_carries_the_description_of_the_checkpoint(
    bundle: Path, checkpoint: Path
) -> None:
    manifest, description = load_bundle(bundle).manifest, load_checkpoint(checkpoint).description

    assert manifest.identity.algorithm == description.algorithm
    assert manifest.identity.backbone == "small"
    assert manifest.identity.made_with["inspection-station"] == edge.__version__
    assert manifest.identity.made_with["torch"] == torch.__version__
    assert manifest.input == description.input
    assert manifest.normalization == description.normalization
    assert manifest.threshold == description.threshold
    assert manifest.statistics == description.statistics
    assert manifest.training == description.training
    assert manifest.precision.inference == "f32"


def test_the_manifest_survives_a_round_trip(bundle: Path) -> None:
    path = bundle.with_suffix(".json")
    manifest = parse_manifest(path.read_bytes(), path)
    assert parse_manifest(manifest.model_dump_json().encode(), path) == manifest


def test_the_gate_report_is_in_the_manifest(bundle: Path) -> None:
    gate = load_bundle(bundle).manifest.precision.gate
    assert gate.images == 9 + 8
    assert gate.largest_score_difference < 1e-3
    assert gate.smallest_map_correlation > 0.9999
    assert gate.verdict_flips == 0.0
    assert gate.auroc_before == gate.auroc_after == 1.0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_patches_that_are_sought_together_are_measured_alike_by_every_engine(
    tmp_path: Path, data: Path, precision: str
) -> None:
    fitted, output = tmp_path / "a.safetensors", tmp_path / "a.xml"
    weights = write_weights(tmp_path / "small.safetensors")
    words = ["fit", "--data", data, "--backbone", "small", "--weights", weights, "--no-report"]
    words += ["--image-size", "160", "--set", "bank_size=100", "-o", fitted]
    assert train_station(list(map(str, words))) == 0
    (tmp_path / "good").mkdir()
    for number, path in enumerate(sorted(data.glob("*/good/*.png"))):
        shutil.copy(path, tmp_path / "good" / f"{number}.png")
    asked = ["--precision", precision, "--calibrate-on", str(tmp_path / "good")]
    lenient = ["--max-auroc-drop", "0.5", "--max-verdict-flips", "0.5"]
    assert main([str(fitted), "-o", str(output), *asked, *lenient]) == 0
    manifest = load_bundle(output).manifest
    assert manifest.output.map_height * manifest.output.map_width > 256
    gate = manifest.precision.gate
    assert gate.smallest_map_correlation > (0.9999 if precision == "fp32" else 0.9)
    assert gate.largest_score_difference < (1e-3 if precision == "fp32" else 0.3)


def test_the_edge_gives_the_score_and_result_of_train_station_for_every_image(
    tmp_path: Path, data: Path, bundle: Path, checkpoint: Path
) -> None:
    table = tmp_path / "scores.csv"
    arguments = [str(checkpoint), "--data", str(data), "--scores", str(table)]
    assert train_station(["test", *arguments]) == 0
    loaded = load_bundle(bundle)
    inspector = Inspector(Detector(CompiledModel(loaded)), loaded.manifest)
    extent = loaded.manifest.normalization.image
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert len(rows) == 8
    for number, row in enumerate(rows):
        inspection = inspector.inspect(
            Frame(
                pixels=read_image(Path(row["picture"])),
                number=number,
                captured_ns=0,
                captured_utc_ns=0,
            )
        )
        difference = abs((inspection.score or 0.0) - float(row["raw_score"]))
        assert difference <= 1e-3 * (extent.max - extent.min)
        assert inspection.decision.result.value == row["result"]


def test_exporting_twice_gives_the_same_graph_and_weights(
    tmp_path: Path, bundle: Path, checkpoint: Path
) -> None:
    again = tmp_path / "slopes.xml"
    assert main([str(checkpoint), "--precision", "fp32", "-o", str(again)]) == 0
    assert again.read_bytes() == bundle.read_bytes()
    assert again.with_suffix(".bin").read_bytes() == bundle.with_suffix(".bin").read_bytes()


def test_the_graph_names_no_place_on_the_disk(bundle: Path, checkpoint: Path) -> None:
    xml = bundle.read_text()
    assert "pictures" in xml
    for place in (checkpoint.parent, Path.home() / "any", Path.cwd(), gettempdir()):
        assert str(place).removesuffix("any") not in xml


def test_the_graph_takes_one_uint8_image_and_gives_raw_score_and_map(bundle: Path) -> None:
    model = openvino_core().read_model(bundle)
    output = load_bundle(bundle).manifest.output
    ports = {next(iter(port.names)): port for port in [*model.inputs, *model.outputs]}

    assert ports["pictures"].element_type == ov.Type.u8
    assert list(ports["pictures"].shape) == [1, 64, 64, 3]
    assert list(ports["score"].shape) == [1]
    assert list(ports["anomaly_map"].shape) == [1, output.map_height, output.map_width]


@pytest.mark.parametrize("count", [2, 5])
def test_the_graph_can_be_reshaped_to_more_images(
    bundle: Path, checkpoint: Path, count: int
) -> None:
    engine = openvino_engine(bundle.read_bytes(), bundle.with_suffix(".bin").read_bytes(), "f32")
    loaded = load_checkpoint(checkpoint)
    images = loaded.validation.images[:count]
    with torch.inference_mode():
        expected = loaded.model(torch.from_numpy(images))
    found = engine(images)

    assert len(found) == count
    assert [p.score for p in found] == pytest.approx(expected.score.tolist(), rel=1e-4)
    maps = np.stack([p.anomaly_map for p in found])
    assert maps == pytest.approx(expected.anomaly_map.numpy(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["slopes", "slopes.onnx", "slopes.json", f"{'n' * 101}.xml"])
def test_a_name_that_no_bundle_may_have_is_refused(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main([str(checkpoint), "-o", str(tmp_path / name)]) == USAGE
    assert "the bundle's name" in capsys.readouterr().err
    assert files(tmp_path) == {}


@pytest.mark.parametrize("taken", ["slopes.xml", "slopes.bin", "slopes.json"])
def test_an_output_that_cannot_be_written_is_found_before_the_conversion(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    (tmp_path / taken).mkdir()
    assert main([str(checkpoint), "-o", str(tmp_path / "slopes.xml")]) == USAGE
    error = capsys.readouterr().err
    assert f"{taken}: is a folder" in error
    assert "converting" not in error


def test_a_missing_output_folder_is_named(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), "-o", str(tmp_path / "nowhere" / "a.xml")]) == USAGE
    assert "nowhere/a.xml: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_what_is_no_checkpoint_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "m.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path), "-o", str(tmp_path / "m.xml")]) == USAGE
    assert "m.safetensors: " in capsys.readouterr().err
    assert not (tmp_path / "m.xml").exists()


def test_a_checkpoint_that_no_longer_fits_leaves_the_older_bundle_usable(
    tmp_path: Path, bundle: Path, checkpoint: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.parent, folder)
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 255
    damaged.write_bytes(content)

    assert main([str(damaged), "-o", str(folder / "slopes.xml")]) == USAGE
    assert files(folder) == files(bundle.parent)


def test_nothing_but_the_bundle_is_left_beside_it(bundle: Path) -> None:
    manifest = json.loads(bundle.with_suffix(".json").read_text())
    assert manifest["schema_version"] == "bundle/1"
    assert not [path for path in bundle.parent.iterdir() if path.name.startswith(".")]


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from export.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        "    sys.exit(int(bool({'torch', 'openvino', 'numpy'} & sys.modules.keys())))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0


def test_a_bundle_whose_name_is_no_utf_8_is_written_and_verified(
    tmp_path: Path, checkpoint: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"\xbe\xe7")
    folder.mkdir()
    path = folder / os.fsdecode("양품.xml".encode("cp949"))
    assert main([str(checkpoint), "--precision", "fp32", "-o", str(path)]) == 0
    assert load_bundle(path).manifest.identity.name == "\\xbe\\xe7ǰ"
    assert main(["--verify", str(path)]) == 0


def test_a_bundle_is_never_written_through_a_link(
    tmp_path: Path, bundle: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim, shared = tmp_path / "victim", tmp_path / "shared"
    victim.write_text("precious")
    shared.mkdir()
    own = tmp_path / "own.xml"
    for place in (own, shared / "part.xml"):
        for suffix in (".xml", ".bin", ".json"):
            place.with_suffix(suffix).symlink_to(victim)
    shared.chmod(0o1777)

    arguments = [str(checkpoint), "--precision", "fp32", "-o"]
    assert main([*arguments, str(shared / "part.xml")]) == USAGE
    assert "symbolic link in a folder that others may write" in capsys.readouterr().err
    assert main([*arguments, str(own)]) == 0

    assert victim.read_text() == "precious"
    assert not own.is_symlink()
    assert main(["--verify", str(own)]) == 0
