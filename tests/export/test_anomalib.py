"""Models that Anomalib exported become bundles: both generations, with what differs named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from edge.frame import Frame
from edge.inspection.detector import Detector, Network
from edge.inspection.inspector import Inspector
from edge.manifest import load_bundle
from export.cli import main

USAGE = 78
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def difference(pictures: Any) -> Any:
    """Return the raw map of the tiny models here: pooled redness, ``(1, 1, 8, 8)``."""
    red = ops.gather(pictures, ops.constant([0]), ops.constant(1))
    return ops.avg_pool(red, [4, 4], [0, 0], [0, 0], [4, 4], exclude_pad=False)


def write_second_generation(folder: Path, shape: list[int]) -> Path:
    """Write what Anomalib 2 exports: normalization and thresholds are inside the graph."""
    pictures = ops.parameter(ov.PartialShape(shape), np.float32, name="input")
    raw = difference(pictures)
    unit = ops.clamp(ops.add(ops.subtract(raw, np.float32(0.6)), np.float32(0.5)), 0.0, 1.0)
    score = ops.reduce_max(unit, ops.constant([1, 2, 3]), False)
    outputs = {
        "pred_score": score,
        "pred_label": ops.greater(score, np.float32(0.5)),
        "anomaly_map": unit,
        "pred_mask": ops.greater(unit, np.float32(0.5)),
    }
    for name, node in outputs.items():
        node.output(0).set_names({name})
    pictures.output(0).set_names({"input"})
    model = ov.Model([ops.result(node) for node in outputs.values()], [pictures], "second")
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


def write_first_generation(folder: Path, **changes: Any) -> Path:
    """Write what Anomalib 1 exports: a raw map, everything else in ``metadata.json``."""
    pictures = ops.parameter([1, 3, 32, 32], np.float32, name="input")
    raw = difference(pictures)
    raw.output(0).set_names({"output"})
    pictures.output(0).set_names({"input"})
    model = ov.Model([ops.result(raw)], [pictures], "first")
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    steps = [
        {"__class_fullname__": "Resize", "height": 32, "width": 32},
        {"__class_fullname__": "Normalize", "mean": MEAN, "std": DEVIATION},
    ]
    metadata = {
        "task": "segmentation",
        "transform": {"transform": {"__class_fullname__": "Compose", "transforms": steps}},
        "image_threshold": 1.5,
        "pixel_threshold": 1.25,
        "min": -2.0,
        "max": 2.5,
    }
    text = json.dumps({key: v for key, v in (metadata | changes).items() if v is not None})
    (folder / "metadata.json").write_text(text)
    return folder / "model.xml"


def score_of(bundle: Path, red: int) -> tuple[float, str]:
    loaded = load_bundle(bundle)
    inspector = Inspector(Detector(Network(loaded)), loaded.manifest)
    pixels = np.full((64, 48, 3), 90, np.uint8)
    pixels[::2] += 20  # a camera's picture is never of one colour
    pixels[16:48, 8:40, 2] = red
    inspection = inspector.inspect(Frame(pixels, 0, 0, 0))
    assert inspection.score is not None, inspection.detail
    return inspection.score, inspection.decision.result.value


@pytest.mark.parametrize("shape", [[1, 3, 32, 32], [-1, 3, -1, -1]])
def test_the_second_generation_keeps_its_own_scale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: list[int]
) -> None:
    model = write_second_generation(tmp_path, shape)
    bundle = tmp_path / "part.xml"
    assert main(["--from-anomalib", str(model), "-o", str(bundle)]) == 0

    said = capsys.readouterr().out
    assert "resize: area-averaging" in said
    assert "the threshold is 0.5" in said
    assert ("takes any size" in said) == (shape[2] == -1)
    manifest = load_bundle(bundle).manifest
    assert (manifest.threshold.image, manifest.threshold.pixel) == (0.5, 0.5)
    assert score_of(bundle, 255) == (pytest.approx(0.9, abs=1e-3), "NOK")
    assert score_of(bundle, 110)[1] == "OK"


def test_the_first_generation_takes_thresholds_and_normalization_from_its_metadata(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_first_generation(tmp_path)
    bundle = tmp_path / "part.xml"
    assert main(["--from-anomalib", str(model), "-o", str(bundle)]) == 0

    assert "mean and standard deviation of metadata.json" in capsys.readouterr().out
    manifest = load_bundle(bundle).manifest
    assert (manifest.threshold.image, manifest.threshold.pixel) == (1.5, 1.25)
    assert manifest.normalization.image.max == 2.5
    expected = (1.0 - MEAN[0]) / DEVIATION[0]
    assert score_of(bundle, 255) == (pytest.approx(expected, abs=1e-3), "NOK")
    assert score_of(bundle, 110)[1] == "OK"


def test_an_onnx_file_without_metadata_and_without_scores_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_first_generation(tmp_path)
    (tmp_path / "metadata.json").unlink()
    assert main(["--from-anomalib", str(model), "-o", str(tmp_path / "part.xml")]) == USAGE
    assert "metadata.json" in capsys.readouterr().err
    assert not (tmp_path / "part.xml").exists()


def test_a_metadata_without_a_threshold_names_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_first_generation(tmp_path, image_threshold=None)
    assert main(["--from-anomalib", str(model), "-o", str(tmp_path / "part.xml")]) == USAGE
    assert "image_threshold is None" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt"])
def test_a_file_that_runs_code_when_loaded_is_refused_with_the_command_to_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_bytes(b"pickle")
    arguments = ["--from-anomalib", str(tmp_path / name), "-o", str(tmp_path / "part.xml")]
    assert main(arguments) == USAGE
    assert "anomalib export" in capsys.readouterr().err
