"""Imported models in other precisions: the fastest that decides as the untouched graph does."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bundle import loading
from edge.bundle.loading import load_bundle
from edge.bundle.manifest import Manifest
from edge.inspection import detector
from export import engines, variants
from export.anomalib_graph import read_graph
from export.anomalib_precision import NO_IMAGES, quantizable
from export.cli import main
from export.engines import BFLOAT16_FEATURES, computes_in
from export.variants import NOT_HERE
from tests.export.test_anomalib import USAGE, inspected, reddish, run_import
from tests.support.foreign_models import verdicts, write_second_generation


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Frames of the input's own size, which any resize keeps; half of them red."""
    folder = tmp_path / "data"
    for number, frame in enumerate(reddish(40)):
        # Of few random colours, so that no two frames are one image.
        frame[::9, ::7] = np.random.default_rng(number).integers(40, 90, 3)
        kind = "test/good" if number < 20 else "test/spot"
        for place in [kind, *(["train/good"] if number % 2 == 0 and number < 20 else [])]:
            # What is quantized with is darker by one level: another image of the same kind.
            pixels = frame - (place == "train/good")
            path = folder / place / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels.astype(np.uint8))
    return folder


def test_auto_takes_the_fastest_and_the_report_has_the_figures_of_the_others(
    tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_second_generation(
        tmp_path, shape=(1, 3, -1, -1), resize=(32, 32), layers=True, sensitivities=(0.5, 0.5)
    )
    good = ("--calibrate-on", str(data / "train" / "good"), "--judge-on", str(data))
    assert run_import(model, "--precision", "auto", *good, "--report") == 0
    printed = capfd.readouterr().out
    assert "the fastest on this PC that passes: fp32 " in printed

    precision = load_bundle(tmp_path / "part.xml").manifest.precision
    rows = {row.name: row for row in precision.compared}
    assert [*rows] == ["fp32", "bf16", "int8"]
    assert rows["fp32"].relative == 1.0
    assert rows["int8"].milliseconds is not None
    assert (rows["bf16"].refused == NOT_HERE) is not computes_in("bf16")
    assert (precision.gate.images, precision.compared_on is not None) == (40, True)
    assert precision.gate.flips_interval is not None

    report = json.loads((tmp_path / "part.report.json").read_text())
    assert report["quantizable"] == ["model.layer1.layer1"]
    assert {"fp32", "fp16", "int8"} <= {
        name for name, found in report["precisions"].items() if "refused" not in found
    }
    page = (tmp_path / "part.report.md").read_text()
    assert "from the imported graph" in page
    assert "no rate of parts follows from them" in page


def test_an_import_in_int8_decides_as_the_graph_does(
    tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_second_generation(tmp_path, layers=True, sensitivities=(0.3, 0.4))
    good = ("--calibrate-on", str(data / "train" / "good"), "--judge-on", str(data))
    assert run_import(model, "--precision", "int8", *good) == 0
    assert "The bundle computes in int8/f32: of 40 images" in capfd.readouterr().out

    loaded = load_bundle(tmp_path / "part.xml")
    assert loaded.manifest.precision.weights == "int8"
    assert "nncf" in loaded.manifest.identity.made_with
    assert b"FakeQuantize" in loaded.xml
    # Away from the threshold, where rounding changes nothing.
    frames = [reddish(30)[n] for n in (0, 5, 24, 29)]
    assert inspected(tmp_path / "part.xml", frames) == verdicts(model, frames)


def test_bfloat16_says_what_it_needs_and_runs_elsewhere_in_f32(
    tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Made on a processor that claims to compute in bf16: OpenVINO computes in f32 all the same."""
    model = write_second_generation(tmp_path, layers=True)
    output = tmp_path / "part.xml"
    with pytest.MonkeyPatch.context() as patch:
        for module in (engines, variants):
            patch.setattr(module, "computes_in", lambda precision: True)
        for module in (loading, detector):
            patch.setattr(module, "processor_features", lambda: frozenset({"amx_bf16"}))
        assert run_import(model, "--precision", "bf16", "--judge-on", str(data)) == 0
    assert "needs a processor with amx_bf16 or avx512_bf16; on others it runs in f32" in (
        capfd.readouterr().out
    )
    written = Manifest.model_validate_json(output.with_suffix(".json").read_bytes())
    assert written.precision.inference == "bf16"
    assert written.precision.cpu_features == BFLOAT16_FEATURES
    assert written.precision.fallback is not None
    if not computes_in("bf16"):
        assert load_bundle(output).manifest.precision.inference == "f32"


def test_a_precision_is_not_taken_on_trust(
    tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_second_generation(tmp_path, layers=True)
    judge = ("--judge-on", str(data))
    assert run_import(model, "--precision", "auto") == USAGE
    assert "give a data set of them with --judge-on" in capfd.readouterr().err
    assert run_import(model, "--calibrate-on", str(data)) == USAGE  # as auto
    assert "give a data set of them with --judge-on" in capfd.readouterr().err
    assert run_import(model, "--precision", "int8", *judge) == USAGE
    assert NO_IMAGES in capfd.readouterr().err
    same = ("--calibrate-on", str(data / "test"), *judge)
    assert run_import(model, "--precision", "int8", *same) == USAGE
    assert "Give others to judge by" in capfd.readouterr().err
    (tmp_path / "integers").mkdir()
    whole = write_second_generation(tmp_path / "integers", integers=True)
    assert run_import(whole, "--precision", "auto", *judge) == USAGE
    assert "computes in integers already" in capfd.readouterr().err
    assert run_import(whole) == 0  # as it is
    assert not (tmp_path / "part.xml").exists()
    for options in (
        ("--precision", "fp16"),
        ("--onnx",),
    ):
        with pytest.raises(SystemExit):
            main(["--from-anomalib", str(model), "-o", str(tmp_path / "part.xml"), *options])


def test_only_layers_become_integers(tmp_path: Path) -> None:
    graph = read_graph(write_second_generation(tmp_path, layers=True))
    graph.reshape([1, 3, 32, 32])
    subject = quantizable(graph)
    kinds = {name.partition("_")[0] for name in subject.layers}
    assert kinds == {"Convolution", "Add", "Relu"}
    # The normalization of scores is an addition, too, and no layer's.
    adds = [op for op in graph.get_ordered_ops() if op.get_type_name() == "Add"]
    assert len(adds) > sum(name.startswith("Add_") for name in subject.layers)
