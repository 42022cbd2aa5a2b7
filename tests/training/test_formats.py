"""Images of several formats in one set, transparency, and files that are to be turned."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.imaging.frame import PixelFormat
from tests.edge.imaging.test_orientation import jpeg
from tests.support.small_training import good_image, write, write_folder, write_mvtec
from tests.training.conftest import fit_arguments
from training.checkpoint import load_checkpoint
from training.cli import main


def with_alpha(pixels: np.ndarray, alpha: int = 255) -> np.ndarray:
    shade = np.full(pixels.shape[:2], alpha, np.uint8)
    shade[:20] = 255
    return np.dstack([pixels, shade])


def formats(path: Path) -> set[str]:
    return {one.value for one in load_checkpoint(path).description.input.pixel_formats}


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("odd", ["grey8", "bgra8"])
def test_an_image_of_another_format_stops_no_fit_and_is_named_before_it(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture, split: str, odd: str
) -> None:
    caplog.set_level("INFO")
    root = write_mvtec(tmp_path / "set", train=6)
    for number in range(3):
        write(root / "validation" / "good" / f"{number}.png", good_image(90 + number))
    pixels = good_image(99)
    path = write(
        root / split / "good" / "odd.png",
        pixels[:, :, 1] if odd == "grey8" else with_alpha(pixels, 128),
    )
    output = tmp_path / "m.safetensors"
    assert main(fit_arguments(root, weights, output, "--no-report", "--no-check-good")) == 0
    printed = [record.getMessage() for record in caplog.records]
    (reported,) = [text for text in printed if "the images are of several formats" in text]
    assert f"bgr8, 1 {odd} ({path})" in reported
    assert printed.index(reported) < next(
        n for n, text in enumerate(printed) if text.startswith("fitting")
    )
    assert formats(output) == {"bgr8", odd}


def test_opaque_transparency_is_no_other_format(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path / "set", good=9, defective=0)
    for number in range(4):
        write(root / "good" / f"alpha_{number}.png", with_alpha(good_image(40 + number)))
    output = tmp_path / "m.safetensors"
    assert main(fit_arguments(root, weights, output, "--no-report", "--no-check-good")) == 0
    assert formats(output) == {"bgr8"}
    assert "several formats" not in caplog.text


def test_a_model_of_transparent_images_takes_the_same_without_transparency(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set" / "good"
    for number in range(8):
        write(root / f"{number}.png", with_alpha(good_image(number), 100))
    output = tmp_path / "m.safetensors"
    fit = fit_arguments(root.parent, weights, output, "--no-report", "--no-check-good")
    assert main(fit) == 0
    assert formats(output) == {PixelFormat.BGRA8.value}
    plain = write(tmp_path / "plain.png", good_image(3))
    capsys.readouterr()
    assert main(["predict", str(output), str(root / "3.png"), str(plain)]) == 0
    scores = [line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()]
    assert scores[0] == scores[1]


def test_an_image_of_a_format_that_was_not_fitted_names_what_to_do_with_the_file(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "set", good=4, defective=0)
    path = write(root / "good" / "grey.png", good_image(3)[:, :, 1])
    arguments = ["--data", str(root), "-o", str(tmp_path / "c.safetensors")]
    assert main(["calibrate", str(checkpoint), *arguments]) == 78
    reported = capsys.readouterr().err
    assert f"{path}: a grey8 image, but the model was fitted on bgr8. Convert or remove" in reported


def test_images_that_are_to_be_turned_are_named_and_read_so(
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = write_folder(tmp_path / "set", good=4, defective=0)
    upright = good_image(3)
    path = root / "good" / "phone.jpg"
    path.write_bytes(jpeg(cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE), 6))
    plain = root / "good" / "upright.jpg"
    plain.write_bytes(jpeg(upright, 1))
    assert main(["test", str(checkpoint), "--data", str(root)]) == 0
    assert "1 of 6 images says that they are to be turned (EXIF) and are read so" in caplog.text
    assert str(path) in caplog.text
    capsys.readouterr()
    assert main(["predict", str(checkpoint), str(path), str(plain)]) == 0
    first, second = (float(line.split("\t")[3]) for line in capsys.readouterr().out.splitlines())
    assert first == pytest.approx(second, rel=0.1)
