"""What is found before a long fit begins, and not at its end."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.small_training import good_image, write, write_folder, write_mvtec
from tests.training.conftest import fit_arguments
from tests.training.test_bad_input import failed
from training.cli import main
from training.data.data_notices import report_unused
from training.data.near_duplicates import same_images
from training.data.settings import DataSettings


@pytest.mark.parametrize("more", [[], ["--report", "sub/../m.html"]])
def test_a_report_never_takes_the_place_of_the_checkpoint(
    tmp_path: Path,
    weights: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    output = tmp_path / "m.html"
    output.write_bytes(b"the older one")
    error = failed(fit_arguments(data, weights, output, *more), capsys)
    assert "the report would take the place of the checkpoint" in error
    assert output.read_bytes() == b"the older one"


def test_no_output_takes_the_place_of_another_one(
    tmp_path: Path, checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = checkpoint.read_bytes()
    table = str(tmp_path / "t")
    test = ["test", str(checkpoint), "--data", str(data)]
    calibrate = ["calibrate", str(checkpoint), "--data", str(data), "-o", str(tmp_path / "c")]
    for arguments, printed in (
        ([*test, "--report", str(checkpoint)], "the report would take the place of the file that"),
        ([*test, "--scores", table, "--json", table], "the metrics would take the place of"),
        ([*calibrate, "--histogram", str(tmp_path / "c")], "place of the checkpoint"),
        ([*calibrate, "--report", str(checkpoint)], "place of the file that is read"),
        (["benchmark", "--data", str(data), "-o", str(tmp_path / "b.md")], "of the .md beside it"),
    ):
        assert printed in failed(arguments, capsys)
    assert checkpoint.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threshold", ["recall=0.99", "f1"])
def test_a_threshold_that_needs_defects_is_refused_before_the_fit(
    tmp_path: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    threshold: str,
) -> None:
    caplog.set_level("INFO")
    root = write_folder(tmp_path / "set", good=9, defective=0)
    arguments = fit_arguments(root, weights, tmp_path / "m.safetensors", "--threshold", threshold)
    assert f"threshold {threshold.replace('f1', 'f1-adaptive')}: " in failed(arguments, capsys)
    assert "fitting" not in caplog.text


@pytest.mark.parametrize(("white", "warned"), [(65535, True), (4095, False)])
def test_levels_that_leave_few_grey_levels_are_warned_of_before_the_fit(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture, white: int, warned: bool
) -> None:
    root = tmp_path / "set" / "good"
    for number in range(6):
        pixels = good_image(number)[:, :, 1].astype(np.uint16) * 16
        pixels[:20], pixels[20:30] = 0, 4095
        write(root / f"{number}.png", pixels)
    caplog.set_level("INFO")
    options = ["--levels", "0", str(white), "--no-report", "--no-check-good"]
    assert main(fit_arguments(root, weights, tmp_path / "m.safetensors", *options)) == 0
    printed = [record.getMessage() for record in caplog.records]
    found = [text for text in printed if "grey levels are left" in text]
    assert bool(found) == warned
    if warned:
        assert "For a camera of 12 bits give --levels 0 4095" in found[0]
        fitting = next(number for number, text in enumerate(printed) if text.startswith("fitting"))
        assert printed.index(found[0]) < fitting


def test_levels_are_named_where_they_are_why_nothing_can_be_seen(
    tmp_path: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(6):
        pixels = good_image(number)[:, :, 1].astype(np.uint16) * 8
        write(tmp_path / "set" / "good" / f"{number}.png", pixels)
    arguments = fit_arguments(tmp_path / "set", weights, tmp_path / "m", "--levels", "0", "65535")
    assert "the image is all dark" in failed(arguments, capsys)
    assert (
        "of 256 grey levels are left. For a camera of 11 bits give --levels 0 2047" in caplog.text
    )


def test_an_image_that_is_there_as_png_and_jpeg_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_mvtec(tmp_path / "set", train=10, good=4, defective=0)
    copy = root / "test" / "good" / "renamed.jpg"
    write(copy, good_image(3))
    write(root / "test" / "good" / "other.jpg", good_image(77))
    plain = write(root / "train" / "good" / "plain.bmp", good_image(5))
    first = root / "train" / "good"
    report_unused(DataSettings(path=root))
    assert (
        f"2 images seem to be there twice, as files of several types: {copy} and {first}/003.png"
        f", {plain} and {first}/005.png. One of each" in caplog.text
    )


def test_parts_in_one_fixture_are_no_duplicates(tmp_path: Path) -> None:
    """Nearly the same pixels, each with the noise of its own exposure."""
    scene = cv2.GaussianBlur(good_image(0, 480, 640), (0, 0), 2).astype(np.float32)
    random = np.random.default_rng(2)
    paths = []
    for number in range(12):
        pixels = np.clip(scene + random.normal(0, 4, scene.shape), 0, 255).astype(np.uint8)
        suffix = ".jpg" if number % 2 else ".png"
        paths.append(write(tmp_path / f"{number}{suffix}", pixels))
    assert same_images(paths) == []
