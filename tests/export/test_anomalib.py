"""Models that Anomalib exported become bundles: both generations, proven against themselves."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from edge.bundle.loading import load_bundle
from edge.imaging.frame import Frame
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.inspector import Inspector
from export.anomalib_parity import Imported, prove
from export.cli import main
from export.errors import ImportRefused
from tests.support.detecting import predict_one
from tests.support.foreign_models import RANGE, THRESHOLD, verdicts, write_second_generation

USAGE = 78
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def redness(images: Any) -> Any:
    """Return the raw map of the tiny models of Anomalib 1: pooled redness, ``(1, 1, 8, 8)``."""
    red = ops.gather(images, ops.constant([0]), ops.constant(1))
    return ops.avg_pool(red, [4, 4], [0, 0], [0, 0], [4, 4], exclude_pad=False)


def write_first_generation(folder: Path, score_first: bool = False, **changes: Any) -> Path:
    """Write what Anomalib 1 exports: a raw map, everything else in ``metadata.json``.

    Args:
        score_first: give a score, twice the map's peak, before the map.
    """
    images = ops.parameter([1, 3, 32, 32], np.float32, name="input")
    raw = redness(images)
    raw.output(0).set_names({"output"})
    images.output(0).set_names({"input"})
    peak = ops.multiply(ops.reduce_max(raw, ops.constant([1, 2, 3]), False), np.float32(2.0))
    results = [ops.result(peak)] * score_first + [ops.result(raw)]
    model = ov.Model(results, [images], "first")
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


def read_score(bundle: Path, red: int) -> tuple[object, str]:
    loaded = load_bundle(bundle)
    inspector = Inspector(Detector(CompiledModel(loaded)), loaded.manifest)
    pixels = np.full((64, 48, 3), 90, np.uint8)
    pixels[::2] += 20  # a camera's image is never of one colour
    pixels[16:48, 8:40, 2] = red
    inspection = inspector.inspect(Frame(pixels=pixels, number=0, captured_ns=0, captured_utc_ns=0))
    assert inspection.score is not None, inspection.detail
    return inspection.score, inspection.decision.result.value


def run_import(model: Path, *options: str) -> int:
    return main(["--from-anomalib", str(model), "-o", str(model.with_name("part.xml")), *options])


def reddish(count: int, height: int = 32, width: int = 32) -> list[np.ndarray]:
    """Return frames with a square of rising redness, of a side that pooling and resize keep."""
    frames = []
    for red in np.linspace(130, 250, count).astype(np.uint8):
        pixels = np.full((height, width, 3), 60, np.uint8)
        pixels[:: max(height // 8, 2)] += 20  # a camera's frame is never of one colour
        pixels[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4, 2] = red
        frames.append(pixels)
    return frames


def inspected(bundle: Path, frames: list[np.ndarray]) -> list[bool]:
    loaded = load_bundle(bundle)
    inspector = Inspector(Detector(CompiledModel(loaded)), loaded.manifest)
    found = [
        inspector.inspect(Frame(pixels=pixels, number=0, captured_ns=0, captured_utc_ns=0))
        for pixels in frames
    ]
    assert all(inspection.score is not None for inspection in found)
    return [inspection.decision.result.value == "NOK" for inspection in found]


@pytest.mark.parametrize(
    ("sensitivities", "half"), [((0.5, 0.5), False), ((0.7, 0.4), False), ((0.7, 0.4), True)]
)
def test_the_second_generation_decides_with_its_own_sensitivities(
    tmp_path: Path, sensitivities: tuple[float, float], half: bool
) -> None:
    model = write_second_generation(tmp_path, sensitivities=sensitivities, half=half)
    assert run_import(model) == 0

    manifest = load_bundle(tmp_path / "part.xml").manifest
    for found, sensitivity in zip(
        (manifest.threshold.image, manifest.threshold.pixel), sensitivities, strict=True
    ):
        # The graph rejects what lies above its limit, the station what lies at or above its own.
        limit = np.float32(1.0 - sensitivity)
        assert found == np.nextafter(limit, np.float32(np.inf))
    frames = reddish(30)
    expected = verdicts(model, frames)
    assert 5 < sum(expected) < 25
    assert inspected(tmp_path / "part.xml", frames) == expected


def test_scores_of_a_bundle_are_not_clipped(tmp_path: Path) -> None:
    model = write_second_generation(tmp_path, sensitivities=(0.9, 0.9))
    assert run_import(model) == 0
    raw = 1.0 - 0.5 * 100 / 255
    expected = (raw - THRESHOLD) / RANGE + 0.5
    assert expected > 1.1
    assert read_score(tmp_path / "part.xml", 255) == (pytest.approx(expected, abs=2e-3), "NOK")


def test_a_graph_that_resizes_itself_gets_its_own_size(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_second_generation(tmp_path, shape=(-1, 3, -1, -1), resize=(40, 48))
    assert run_import(model) == 0

    manifest = load_bundle(tmp_path / "part.xml").manifest
    assert (manifest.input.height, manifest.input.width) == (40, 48)
    printed = capfd.readouterr().out
    assert "48×40 before the graph" in printed
    assert "0 verdicts are others" in printed
    frames = reddish(12, 120, 96)
    assert inspected(tmp_path / "part.xml", frames) == verdicts(model, frames)

    assert run_import(model, "--image-size", "64x64") == 0
    assert "resizes 64×64 to its own 48×40 again" in capfd.readouterr().out


def test_a_graph_of_any_size_that_resizes_nothing_needs_a_size(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_second_generation(tmp_path, shape=(1, 3, -1, -1))
    assert run_import(model) == USAGE
    assert "--image-size WIDTHxHEIGHT" in capfd.readouterr().err
    assert not (tmp_path / "part.xml").exists()

    with pytest.raises(SystemExit) as refused:
        run_import(model, "--image-size", "8192x4096")
    assert refused.value.code == 2
    assert "the largest of this shape is 5792x2896" in capfd.readouterr().err
    assert run_import(model, "--image-size", "48x32") == 0
    manifest = load_bundle(tmp_path / "part.xml").manifest
    assert (manifest.input.height, manifest.input.width) == (32, 48)


def test_a_graph_of_a_fixed_size_takes_no_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_import(write_second_generation(tmp_path), "--image-size", "64") == USAGE
    assert "takes images of 32×32 only" in capfd.readouterr().err


def test_a_graph_of_two_images_at_a_time_is_given_each_twice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_second_generation(tmp_path, shape=(2, 3, 32, 32), sensitivities=(0.6, 0.5))
    assert run_import(model) == 0
    assert "an image takes 2 times as long" in capfd.readouterr().out
    frames = reddish(12)
    assert inspected(tmp_path / "part.xml", frames) == verdicts(model, frames)


def test_the_map_of_a_graph_that_crops_lies_where_it_looks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_second_generation(tmp_path, shape=(1, 3, -1, -1), resize=(64, 64), crop=32)
    assert run_import(model) == 0
    assert "looks at the middle 32×32 of 64×64 only" in capfd.readouterr().out
    loaded = load_bundle(tmp_path / "part.xml")
    assert (loaded.manifest.output.map_height, loaded.manifest.output.map_width) == (64, 64)
    image = np.full((64, 64, 3), 60, np.uint8)
    image[20:28, 36:44, 2] = 250
    image[:8, :8, 2] = 255  # outside
    anomaly_map = predict_one(Detector(CompiledModel(loaded)), image).anomaly_map
    row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    assert 20 <= row < 28 and 36 <= column < 44


def test_a_bundle_with_swapped_colours_is_refused(tmp_path: Path) -> None:
    model = write_second_generation(tmp_path)
    assert run_import(model) == 0
    loaded = load_bundle(tmp_path / "part.xml")
    threshold = loaded.manifest.threshold.image
    norm = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    imported = Imported(
        path=model, size=(32, 32), batch=1, free=False, norm=norm, threshold=threshold, unit=1.0
    )
    assert prove(imported, loaded.xml, loaded.weights).largest_score_difference < 1e-4

    graph = ov.Core().read_model(loaded.xml, ov.Tensor(np.frombuffer(loaded.weights, np.uint8)))
    colours = next(node for node in graph.get_ordered_ops() if node.get_type_name() == "Gather")
    colours.input(1).replace_source_output(ops.constant([0, 1, 2]).output(0))
    ov.save_model(graph, tmp_path / "swapped.xml", compress_to_fp16=False)
    swapped = [(tmp_path / f"swapped.{kind}").read_bytes() for kind in ("xml", "bin")]
    with pytest.raises(ImportRefused, match="largest score difference"):
        prove(imported, *swapped)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"constant": True}, "1 different score,"),
        ({"sensitivities": (0.0, 0.5)}, "image_sensitivity above 0"),
        ({"sensitivities": (0.5, 1.2)}, "pixel_sensitivity above 0"),
        ({"outputs": ("pred_score", "anomaly_map")}, "gives no pred_label"),
    ],
)
def test_what_cannot_be_shown_to_decide_alike_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, Any], named: str
) -> None:
    assert run_import(write_second_generation(tmp_path, **changes)) == USAGE
    assert named in capfd.readouterr().err
    assert not (tmp_path / "part.xml").exists()


def test_another_resize_is_judged_on_images_of_ones_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_second_generation(tmp_path, shape=(1, 3, -1, -1), resize=(32, 32))
    for number, frame in enumerate(reddish(24, 128, 128)):
        # Stripes of two pixels: of every four the middle ones are taken, or all are averaged.
        frame[:, 0::4, 2] = frame[:, 3::4, 2] = 60
        kind = "good" if number < 12 else "spot"
        path = tmp_path / "data" / "test" / kind / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), frame)
        train = tmp_path / "data" / "train" / "good" / f"{number:02d}.png"
        train.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(train), np.roll(frame, number + 1, 0))

    judge = ("--judge-on", str(tmp_path / "data"))
    capfd.readouterr()
    code = run_import(model, *judge, "--max-verdict-flips", "1")
    printed = capfd.readouterr().out
    assert code == 0
    gate = load_bundle(tmp_path / "part.xml").manifest.precision.gate
    assert gate.images == 24
    assert f"{round(gate.verdict_flips * 24)} of 24" in printed
    (tmp_path / "part.xml").unlink()
    assert (run_import(model, *judge), gate.verdict_flips > 0.2) == (USAGE, True)
    assert "--max-verdict-flips 0.01" in capfd.readouterr().err
    assert not (tmp_path / "part.xml").exists()


def test_options_that_an_import_does_not_know_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_import(write_second_generation(tmp_path), "--no-fallback")
    assert "--no-fallback cannot be combined with --from-anomalib" in capfd.readouterr().err


def test_the_first_generation_takes_thresholds_and_normalization_from_its_metadata(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_first_generation(tmp_path)
    bundle = tmp_path / "part.xml"
    assert main(["--from-anomalib", str(model), "-o", str(bundle)]) == 0

    assert "mean and standard deviation of metadata.json" in capfd.readouterr().out
    manifest = load_bundle(bundle).manifest
    assert (manifest.threshold.image, manifest.threshold.pixel) == (1.5, 1.25)
    assert manifest.normalization.image.max == 2.5
    expected = (1.0 - MEAN[0]) / DEVIATION[0]
    assert read_score(bundle, 255) == (pytest.approx(expected, abs=1e-3), "NOK")
    assert read_score(bundle, 110)[1] == "OK"


def test_an_onnx_file_without_metadata_and_without_scores_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_first_generation(tmp_path)
    (tmp_path / "metadata.json").unlink()
    assert main(["--from-anomalib", str(model), "-o", str(tmp_path / "part.xml")]) == USAGE
    assert "metadata.json" in capfd.readouterr().err
    assert not (tmp_path / "part.xml").exists()


def test_the_first_generation_decides_by_its_first_output(tmp_path: Path) -> None:
    model = write_first_generation(tmp_path, score_first=True)
    assert run_import(model) == 0
    expected = 2.0 * (1.0 - MEAN[0]) / DEVIATION[0]
    assert read_score(tmp_path / "part.xml", 255)[0] == pytest.approx(expected, abs=2e-3)


def test_a_metadata_without_a_threshold_names_the_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_first_generation(tmp_path, image_threshold=None)
    assert main(["--from-anomalib", str(model), "-o", str(tmp_path / "part.xml")]) == USAGE
    assert "image_threshold is None" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt"])
def test_a_file_that_runs_code_when_loaded_is_refused_with_the_command_to_use(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_bytes(b"pickle")
    arguments = ["--from-anomalib", str(tmp_path / name), "-o", str(tmp_path / "part.xml")]
    assert main(arguments) == USAGE
    assert "anomalib export" in capfd.readouterr().err
