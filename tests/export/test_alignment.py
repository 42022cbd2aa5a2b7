"""A part that lies anywhere, from the fit to the line: one preparation, found by one locator."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge.bundle.input_spec import AlignMode, InputSpec
from edge.bundle.loading import load_bundle
from edge.imaging.frame import Frame
from edge.inspection.decision import Reason
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.frame_prediction import predict_frame, view_frame
from edge.inspection.inspector import Inspection, Inspector
from export.cli import main as export_model
from tests.support.small_training import write_weights
from tests.support.turned_part import (
    DEFECT,
    HEIGHT,
    WIDTH,
    Laid,
    bracket,
    placed,
    resized_bracket,
    write_brackets,
)
from training.checkpoint import load_checkpoint
from training.cli import main as train_station
from training.data.loading import prepare_sample, read_sample
from training.data.samples import GOOD, Sample
from training.evaluation import TorchPredictor

USAGE = 78


@pytest.fixture(scope="module")
def brackets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_brackets(tmp_path_factory.mktemp("data") / "brackets")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


def arguments(data: Path, weights: Path, output: Path) -> list[str]:
    options = {
        "--algorithm": "padim",
        "--data": data,
        "--backbone": "small",
        "--weights": weights,
        "--image-size": "96x64",
        "--set": "feature_count=10",
        "-o": output,
    }
    return ["fit", "--no-check-good", *(str(part) for item in options.items() for part in item)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, brackets: Path, weights: Path) -> Path:
    output = tmp_path_factory.mktemp("checkpoint") / "brackets.safetensors"
    options = ["--align", "full-rotation", "--scale", "0.1"]
    assert train_station([*arguments(brackets, weights, output), *options]) == 0
    return output


def test_a_fit_shows_where_it_found_the_parts(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    locator = loaded.description.input.locator
    assert locator is not None
    assert (locator.mode, locator.most_scale) == (AlignMode.FULL_ROTATION, 0.1)
    # Aligned, all images to quantize with show the part alike; as they lay they differ by 20.
    images = loaded.calibration
    assert images is not None
    assert float(images.std(axis=0).mean()) < 8.0
    page = checkpoint.with_suffix(".html").read_text()
    section = page.split("Where the part was found")[1].split("<h2>")[0]
    assert len(re.findall(r"<tr><th>good/\d+\.png", section)) == 14
    assert "full-rotation" in section and "<th>Size</th>" in section


def prepare_file(path: Path, spec: InputSpec) -> NDArray[np.uint8]:
    """Return an image as a fit prepares it."""
    sample = Sample(path=path, kind=GOOD)
    (prepared,) = prepare_sample(sample, read_sample(sample), spec)
    return prepared


def test_the_line_finds_a_turned_part_and_its_defect(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "brackets.xml"
    assert export_model([str(checkpoint), "--precision", "fp32", "-o", str(path)]) == 0
    bundle = load_bundle(path)
    inspector = Inspector(Detector(CompiledModel(bundle)), bundle.manifest)

    def inspect(pixels: NDArray[np.uint8]) -> Inspection:
        return inspector.inspect(Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0))

    laid = Laid(130, 85, -152)
    good = inspect(bracket(laid, seed=91))
    spotted = bracket(laid, True, 92)
    spot = inspect(spotted)
    two = inspect(np.hstack([bracket(laid, seed=93), bracket(laid, seed=94)]))
    none = inspect(np.random.default_rng(0).integers(80, 99, (HEIGHT, WIDTH, 3), np.uint8))
    assert [one.decision.reason for one in (good, spot, two, none)] == [
        Reason.SCORE_BELOW,
        Reason.SCORE_ABOVE,
        Reason.PART_AMBIGUOUS,
        Reason.PART_NOT_FOUND,
    ]
    x, y = placed(laid, DEFECT)
    assert any(
        one.x <= x <= one.x + one.width and one.y <= y <= one.y + one.height for one in spot.regions
    )
    # The checkpoint, through the same preparation, says the same, also of a larger part. Of what is
    # prepared torch, ONNX and OpenVINO say the same, as the gate shows with the aligned images.
    loaded = load_checkpoint(checkpoint)
    spec = loaded.description.input
    assert bundle.manifest.input == spec
    predictor = TorchPredictor(loaded.model, spec, torch.device("cpu"))
    larger = resized_bracket(Laid(125, 88, 64), 1.07, seed=95)
    for pixels, inspection in ((spotted, spot), (larger, inspect(larger))):
        expected = predict_frame(predictor, pixels, spec).prediction.score
        assert inspection.score == pytest.approx(expected, rel=1e-3)
    assert inspection.decision.reason is Reason.SCORE_BELOW
    assert inspection.located is not None
    assert inspection.located.pose.scale == pytest.approx(1.07, abs=0.01)
    file, prepared = tmp_path / "larger.png", np.empty((spec.height, spec.width, 3), np.uint8)
    cv2.imwrite(str(file), larger)
    view_frame(larger, bundle.manifest.input).fill(0, prepared)
    assert np.array_equal(prepare_file(file, spec), prepared)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "0.1"], "--scale is only used when parts are aligned"),
        (["--align", "shift", "--scale", "0.2"], "scale"),
        (["--align", "shift", "--scale", "0.1", "--likeness", "0.6"], "must reach 0.85"),
        (["--roi", "1,2,3,4"], "--roi is only used when parts are aligned"),
        (["--align", "shift", "--roi", "1,2,3"], "x,y,w,h"),
        (["--align", "shift", "--likeness", "0"], "likeness"),
        (["--align", "shift", "--reference", "missing.png"], "missing.png"),
        (["--align", "shift", "--roi", "200,100,90,90"], "does not fit"),
    ],
)
def test_bad_alignments_are_refused_before_the_fit(
    brackets: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    words = arguments(brackets, weights, tmp_path / "m.safetensors")
    assert train_station([*words, *options]) == USAGE
    assert message in capsys.readouterr().err


def test_images_without_the_part_are_named(
    brackets: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = tmp_path / "reference.png"
    cv2.imwrite(str(reference), bracket(Laid(WIDTH / 2, HEIGHT / 2, 0)))
    words = arguments(brackets, weights, tmp_path / "m.safetensors")
    found = ["--align", "shift", "--reference", str(reference), "--roi", "70,56,100,68"]
    assert train_station([*words, *found]) == USAGE  # they are turned
    reported = capsys.readouterr().err
    assert "the part was not found in" in reported
    assert "train/good/" in reported
