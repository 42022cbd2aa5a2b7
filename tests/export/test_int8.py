"""INT8 by default: a checked, reproducible bundle, or a refusal that leaves nothing behind."""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest

from edge.bundle.loading import load_bundle
from edge.imaging.image_files import read_image
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.openvino_core import openvino_core
from edge.inspection.self_test import self_test
from edge.teaching.used_images import used_images
from export import bundle as bundles
from export import engines, int8_search, variants
from export.accuracy_gate import AccuracyBudget
from export.bundle import ExportRequest, export_bundle, summary
from export.calibration_images import usable_images, with_patches
from export.cli import main
from export.engines import computes_in, onnx_engine, openvino_engine
from export.errors import CalibrationUnusable
from export.ir import to_onnx
from export.quantization import quantize
from export.variants import ExportPrecision
from tests.soak import times
from tests.support.once import QuantizedOnce
from tests.support.small_training import defective_image, good_image, write
from training.checkpoint import load_checkpoint
from training.data.loading import first_sight
from training.models.patchcore import PatchCore

USAGE = 78
REFUSED = 65

# Of a few random channels rounding takes away more than of a real backbone's.
LENIENT = ["--max-auroc-drop", "0.1", "--max-verdict-flips", "0.3"]

# All layers in three ways, and all but the cheapest group.
FEW_ATTEMPTS = 6


@pytest.fixture(scope="module", autouse=True)
def quantized_once() -> Iterator[None]:
    """Searches of different outcomes begin with the same candidates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_search, "quantize", QuantizedOnce())
        yield


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    path = tmp_path_factory.mktemp("int8") / "slopes.xml"
    arguments = ["--precision", "int8", "--report", "--onnx", *LENIENT]
    assert main([str(checkpoint), "-o", str(path), *arguments]) == 0
    return path


def test_the_manifest_says_what_int8_changed(int8: Path) -> None:
    precision = load_bundle(int8).manifest.precision
    assert precision.weights == "int8"
    assert precision.inference == "f32"
    assert precision.gate.images == 8
    assert precision.gate.auroc_after is not None
    assert "nncf" in load_bundle(int8).manifest.identity.made_with


def test_an_int8_bundle_is_smaller_and_passes_its_self_test(int8: Path, bundle: Path) -> None:
    loaded = load_bundle(int8)
    self_test(Detector(CompiledModel(loaded)), loaded.manifest)
    assert len(loaded.weights) < 0.6 * len(load_bundle(bundle).weights)
    assert 'element_type="i8"' in int8.read_text()


def test_no_table_of_an_int8_bundle_takes_32_bits_a_number(int8: Path) -> None:
    operations = openvino_core().read_model(int8).get_ordered_ops()
    constants = [one for one in operations if one.get_type_name() == "Constant"]
    tables = [one for one in constants if one.get_output_size() and np.size(one.data) >= 1024]
    assert ov.Type.i8 in {one.get_element_type() for one in tables} <= {ov.Type.i8, ov.Type.f16}


@pytest.mark.parametrize("checkpoint", ["patchcore"], indirect=True)
def test_layers_read_eight_bits_and_so_do_projection_and_search(
    int8: Path, checkpoint: Path
) -> None:
    operations = openvino_core().read_model(int8).get_ordered_ops()
    layers = [one for one in operations if one.get_type_name() == "Convolution"]
    read = [one.input_value(0).get_node().get_type_name() for one in layers]
    assert set(read) == {"FakeQuantize"}
    model = load_checkpoint(checkpoint).model
    assert isinstance(model, PatchCore)
    channels = [one.get_output_partial_shape(0)[1].get_length() for one in layers]
    assert channels.count(model.axes.shape[1]) == 2  # one projection of each layer of the backbone
    assert channels[-1] >= len(model.bank)


def test_no_pixel_is_moved_to_turn_the_colours_round(int8: Path, bundle: Path) -> None:
    """The first layer's weights are turned round instead."""
    for path in (int8, bundle):
        model = openvino_core().compile_model(path, "CPU").get_runtime_model()
        kinds = [one.get_rt_info()["layerType"].astype(str) for one in model.get_ordered_ops()]
        before = set(kinds[: kinds.index("Convolution")])
        assert not before & {"Concat", "Gather", "Split", "StridedSlice"}


def test_thresholds_are_those_of_the_checkpoint_in_every_precision(
    int8: Path, checkpoint: Path
) -> None:
    assert load_bundle(int8).manifest.threshold == load_checkpoint(checkpoint).description.threshold


def test_exporting_int8_twice_gives_the_same_bytes(
    int8: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests convert, quantize and compile once only.
    monkeypatch.setattr(bundles, "to_onnx", to_onnx)
    monkeypatch.setattr(int8_search, "quantize", quantize)
    for module in (bundles, variants):
        monkeypatch.setattr(module, "openvino_engine", openvino_engine)
    again = tmp_path / "slopes.xml"
    chosen = ["--precision", "int8", "--onnx", *LENIENT]  # which is not timed again
    assert main([str(checkpoint), "-o", str(again), *chosen]) == 0
    for suffix in (".xml", ".bin", ".onnx"):
        assert again.with_suffix(suffix).read_bytes() == int8.with_suffix(suffix).read_bytes()


def test_the_report_sets_every_precision_side_by_side(int8: Path) -> None:
    report = json.loads(int8.with_name("slopes.report.json").read_text())
    assert list(report["precisions"]) == ["fp32", "bf16", "fp16", "int8-weights", "int8"]
    if not computes_in("bf16"):
        refused = report["precisions"].pop("bf16")
        assert refused == {"refused": "this processor does not compute in it"}
    for made in report["precisions"].values():
        assert made["latency_ms"] > 0
        assert made["bin_bytes"] > 0
        assert made["accuracy"]["pictures"] == 8
    assert (
        report["precisions"]["fp16"]["bin_bytes"] < 0.6 * report["precisions"]["fp32"]["bin_bytes"]
    )
    assert report["precisions"]["int8"]["attempts"][-1]["faults"] == []
    text = int8.with_name("slopes.report.md").read_text()
    assert "Stay in floating point: smoothing (declared by the model)" in text


def test_the_onnx_file_gives_the_numbers_of_the_fp32_bundle_and_names_no_place(
    int8: Path, bundle: Path, checkpoint: Path
) -> None:
    onnx = int8.with_suffix(".onnx")
    images = load_checkpoint(checkpoint).validation.images[:2]
    loaded = load_bundle(bundle)
    expected = openvino_engine(loaded.xml, loaded.weights, "f32")(images)
    found = onnx_engine(onnx)(images)
    assert [p.score for p in found] == pytest.approx([p.score for p in expected], rel=1e-4)
    assert str(Path.cwd()).encode() not in onnx.read_bytes()


def test_int8_over_budget_is_refused_in_plain_words_and_writes_nothing(
    any_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(int8_search, "_MAX_ATTEMPTS", FEW_ATTEMPTS)
    output = ["-o", str(tmp_path / "a.xml"), "--no-fallback", "--max-verdict-flips", "-1"]
    assert main([str(any_checkpoint), *output]) == REFUSED
    error = capsys.readouterr().err
    assert "INT8 would change what this model decides" in error
    assert "--judge-on" in error
    assert "extractor." not in error
    assert list(tmp_path.iterdir()) == []


def test_int8_over_budget_falls_back_to_fp16_and_says_so_everywhere(
    any_checkpoint: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(int8_search, "_MAX_ATTEMPTS", times(FEW_ATTEMPTS, 12))
    output = tmp_path / "a.xml"
    # The rounding of eight bits changes maps by more, whatever stays in floating point; that of
    # sixteen by less.
    budget = AccuracyBudget(1.0, 1.0, good_shift=1.0, map_correlation=0.99995)
    request = ExportRequest(precision=ExportPrecision.INT8, accuracy=budget, report=True)
    loaded = load_checkpoint(any_checkpoint)
    reported = summary(export_bundle(loaded, output, request), output)
    precision = load_bundle(output).manifest.precision
    assert (precision.weights, precision.requested) == ("fp16", "int8")
    assert "map correlation" in (precision.refused or "")
    assert "int8 was asked for and refused: map correlation" in reported
    assert "INT8 was refused; the bundle is made in FP16" in caplog.text
    assert "extractor." not in reported + caplog.text
    report = output.with_suffix(".report.md").read_text()
    assert "int8 was refused" in report
    assert "Mainly responsible are the layers " in report


def test_images_that_judge_int8_are_not_quantized_with(
    any_checkpoint: Path, tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Four of the eight images that the checkpoint judges by are offered, under other names."""
    caplog.set_level("INFO")
    folder = tmp_path / "calibration"
    folder.mkdir()
    for number, path in enumerate(sorted((data / "test" / "good").iterdir())):
        write(folder / f"copy_{number}.bmp", read_image(path))
    for number, path in enumerate(sorted((data / "train" / "good").iterdir())):
        (folder / f"more_{number}.png").write_bytes(path.read_bytes())
    output = tmp_path / "a.xml"
    arguments = [str(any_checkpoint), "-o", str(output), "--calibrate-on", str(folder), *LENIENT]
    assert main([*arguments, "--precision", "int8"]) == 0
    manifest = load_bundle(output).manifest
    assert manifest.precision.gate.images == 8
    assert manifest.seen_images is not None
    assert manifest.seen_images.quantized.count == 10
    assert "left out 4 that its threshold rests on, because these judge INT8" in caplog.text


def test_images_that_int8_is_quantized_with_do_not_judge_it(
    any_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten new good images are quantized with, and offered to judge it beside a defective one."""
    caplog.set_level("INFO")
    folder, judging = tmp_path / "calibration", tmp_path / "judging"
    for number in range(10):
        write(folder / f"{number}.png", good_image(7000 + number))
        write(judging / "good" / f"{number}.bmp", good_image(7000 + number))
    write(judging / "defect" / "spot.png", defective_image(40)[0])
    output = tmp_path / "a.xml"
    places = ["--calibrate-on", str(folder), "--judge-on", str(judging)]
    asked = ["--precision", "int8", "-o", str(output), *places, *LENIENT]
    assert main([str(any_checkpoint), *asked]) == 0
    assert load_bundle(output).manifest.precision.gate.images == 9
    assert "INT8 is calibrated with these, and not judged by them: 10 images" in caplog.text


def test_a_precision_is_not_judged_by_what_the_model_was_fitted_on(
    any_checkpoint: Path, tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A renamed copy of the fit's images, the validation images again, and two new ones."""
    caplog.set_level("INFO")
    judging = tmp_path / "judging"
    for number, path in enumerate(sorted((data / "train" / "good").iterdir(), reverse=True)):
        write(judging / "good" / f"copy_{number}.bmp", read_image(path))
    for path in (data / "test" / "good").iterdir():
        write(judging / "good" / f"again_{path.name}", read_image(path))
    for number in range(2):
        write(judging / "good" / f"new_{number}.png", good_image(7100 + number))
    output = tmp_path / "a.xml"
    fp16 = ["--precision", "fp16", "-o", str(output), "--judge-on", str(judging)]
    assert main([str(any_checkpoint), *fp16]) == 0
    assert load_bundle(output).manifest.precision.gate.images == 10
    assert "left out 10 that the model was fitted on" in caplog.text
    assert "4 images are stored in the checkpoint and used already" in caplog.text


def test_a_manifest_says_which_images_the_model_has_seen(
    int8: Path, bundle: Path, checkpoint: Path, data: Path
) -> None:
    """As docs/export.md has it: whoever holds an image can look it up."""
    known = load_checkpoint(checkpoint).seen
    seen_images = load_bundle(int8).manifest.seen_images
    assert known is not None
    assert seen_images is not None
    counts = (seen_images.fitted.count, seen_images.calibrated.count, seen_images.quantized.count)
    assert counts == (10, 18, 10)  # cross-validated images count as calibrated with, too
    fp32 = load_bundle(bundle).manifest.seen_images
    assert fp32 is not None
    assert (fp32.quantized.count, fp32.fitted) == (0, seen_images.fitted)

    listed = base64.b64decode(seen_images.fitted.hashes)
    fitted = {listed[start : start + 8] for start in range(0, len(listed), 8)}
    for place, is_seen in (("train", True), ("test", False)):
        for path in (data / place / "good").iterdir():
            pixels = read_image(path)
            digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode() + pixels.tobytes())
            assert (digest.digest()[:8] in fitted) is is_seen


def test_of_very_many_images_a_manifest_keeps_a_digest_only() -> None:
    many = {number.to_bytes(16) for number in range(5_000)}
    assert len(used_images(many).model_dump_json()) < 60_000
    more = used_images({number.to_bytes(16) for number in range(10_001)})
    assert (more.count, more.hashes) == (10_001, "")
    assert more.sha256 != used_images(many).sha256


def test_a_threshold_that_rejects_everything_is_to_blame_and_no_image(
    any_checkpoint: Path, tmp_path: Path
) -> None:
    loaded = load_checkpoint(any_checkpoint)
    threshold = loaded.description.threshold.model_copy(update={"image": -1.0})
    strict = loaded.description.model_copy(update={"threshold": threshold})
    with pytest.raises(CalibrationUnusable, match=r"-1 rejects 10 of 10 .* 4 of 4 good") as refused:
        export_bundle(
            replace(loaded, description=strict),
            tmp_path / "a.xml",
            ExportRequest(precision=ExportPrecision.INT8),
        )
    assert "the images are not to blame" in str(refused.value)
    assert "look defective" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("judged_good", "sentence"),
    [
        ([1.0, 7.0, 8.0, 2.0], "and 2 of 4 good validation images: the images are not to blame"),
        ([1.0, 2.0, 3.0, 4.0], "3 of 10 calibration images look defective"),
        ([], "no good validation image tells whether it is too low or they show defects"),
    ],
)
def test_good_validation_images_show_whether_threshold_or_images_are_to_blame(
    judged_good: list[float], sentence: str
) -> None:
    images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in range(10)])

    brightness = images.mean(axis=(1, 2, 3))
    names = [f"{number}.png" for number in range(10)]
    with pytest.raises(CalibrationUnusable, match=sentence):
        usable_images(images, names, brightness, 6.5, judged_good=np.array(judged_good))


def write_images(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir()
    for number, pixels in enumerate(images):
        cv2.imwrite(str(folder / f"{number:02d}.png"), pixels)
    return folder


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([], "no images"),
        ([good_image(n) for n in range(3)], "at least 8 are needed"),
        (
            [defective_image(n)[0] for n in range(20, 29)],
            "9 of 9 calibration images look defective",
        ),
    ],
)
def test_calibration_images_that_are_too_few_or_defective_are_refused(
    any_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    images: list[np.ndarray],
    sentence: str,
) -> None:
    caplog.set_level("INFO")
    folder = write_images(tmp_path / "calibration", images)
    output = tmp_path / "a.xml"
    arguments = [str(any_checkpoint), "-o", str(output), "--calibrate-on", str(folder)]
    assert main(arguments) == USAGE
    assert sentence in capsys.readouterr().err
    # Whether they look defective is what the converted graph says; the rest is seen before.
    assert ("converting" in caplog.text) is ("look defective" in sentence)
    assert not output.exists()


def test_one_calibration_image_that_looks_defective_is_left_out_by_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in range(10)])

    brightness = images.mean(axis=(1, 2, 3))
    names = [f"{number}.png" for number in range(10)]
    assert len(usable_images(images, names, brightness, 9.0)) == 9
    assert "9.png" in caplog.text


def test_patches_of_extreme_colours_hold_the_ranges_open() -> None:
    grey = np.full((16, 32, 32, 3), 128, np.uint8)
    patched = with_patches(grey, first_sight((32, 32)))
    seen = {tuple(int(v) for v in colour) for colour in patched.reshape(-1, 3)}
    assert len(seen) == 9
    assert float((patched == 128).mean()) > 0.9
    assert (grey == 128).all()


class Interrupted(Exception):
    """Ctrl-C at the worst moment."""


def test_an_interruption_before_the_end_leaves_nothing_and_the_older_bundle(
    any_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "a.xml"
    loaded = load_checkpoint(any_checkpoint)
    export_bundle(loaded, output)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(*_: object) -> Iterator[None]:
        raise Interrupted

    monkeypatch.setattr(bundles, "write_all", interrupted)
    with pytest.raises(Interrupted):
        export_bundle(loaded, output, ExportRequest(precision=ExportPrecision.FP16))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_bfloat16_is_only_given_where_the_gate_ran_in_it(
    any_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Core:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32", "INT8"]

    # Not ov.Core, of which the process may have its one already.
    monkeypatch.setattr(engines, "openvino_core", Core)
    arguments = [str(any_checkpoint), "-o", str(tmp_path / "a.xml"), "--inference", "bf16"]
    assert main(arguments) == USAGE
    assert list(tmp_path.iterdir()) == []
