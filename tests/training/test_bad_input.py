"""What users do to it: every message names the cause and the next step, nothing is half-written."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.small_training import (
    defective_image,
    good_image,
    write,
    write_folder,
    write_mvtec,
)
from tests.support.warm_start import Limit
from tests.training.conftest import fit_arguments
from training.checkpoint import load_checkpoint
from training.cli import main

USAGE, FAILED = 78, 70


def failed(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = USAGE) -> str:
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "internal error" not in error
    return error


def test_an_empty_folder_is_named(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    error = failed(fit_arguments(tmp_path / "empty", weights, tmp_path / "m"), capsys)
    assert "empty: no images. Put images of good parts there" in error


def test_one_image_is_too_few_and_counted(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "one" / "1.png", good_image())
    error = failed(fit_arguments(tmp_path / "one", weights, tmp_path / "m"), capsys)
    assert "too few good images, 1 to fit on and 0 to calibrate on" in error
    assert "Add images of good parts" in error


def test_a_corrupt_image_is_named_and_by_choice_left_out(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_mvtec(tmp_path / "set", train=12)
    (root / "train" / "good" / "005.png").write_bytes(b"\x89PNG cut")
    output = tmp_path / "m.safetensors"
    error = failed(fit_arguments(root, weights, output), capsys)
    assert "train/good/005.png: not a complete image" in error
    assert "Copy it again or remove it" in error
    assert not output.exists()

    assert main(fit_arguments(root, weights, output, "--skip-unreadable")) == 0
    training = load_checkpoint(output).description.training
    assert training.good_check is not None
    assert training.good_check.compared == training.validation_good_count == 11
    assert training.fit_count < 11
    assert training.hyperparameters["skip_unreadable"] is True


def test_a_corrupt_test_image_does_not_spoil_a_finished_fit(tmp_path: Path, weights: Path) -> None:
    root = write_mvtec(tmp_path / "set")
    (root / "test" / "good" / "001.png").write_bytes(b"\x89PNG cut")
    output = tmp_path / "m.safetensors"
    assert main(fit_arguments(root, weights, output)) == 0
    page = output.with_suffix(".html").read_text()
    assert "<b>1 image could not be inspected</b>" in page
    assert "001.png: not a complete image" in page


def test_images_of_mixed_sizes_are_fitted(tmp_path: Path, weights: Path) -> None:
    for number in range(12):
        size = (60 + 9 * number, 150 - 7 * number)
        write(tmp_path / "set" / "good" / f"{number}.png", good_image(number, *size))
    assert main(fit_arguments(tmp_path / "set", weights, tmp_path / "m.safetensors")) == 0


def test_a_mask_without_its_image_is_named(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "set")
    write(root / "masks" / "lost.png", np.ones((80, 112), np.uint8))
    error = failed(fit_arguments(root, weights, tmp_path / "m"), capsys)
    assert "masks/lost.png: no image belongs to this mask. Add the image" in error


def test_a_defect_among_the_good_validation_images_is_warned_of(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_mvtec(tmp_path / "set", train=10)
    for number in range(14):
        write(root / "validation" / "good" / f"{number}.png", good_image(300 + number))
    write(root / "validation" / "good" / "wrong.png", defective_image(99)[0])
    assert main(fit_arguments(root, weights, tmp_path / "m.safetensors")) == 0
    assert "1 good image looks like a defect, left out of fit and calib" in caplog.text
    assert "validation/good/wrong.png" in caplog.text


def start(arguments: list[str], limit: Limit | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "training.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=limit,
    )


def test_too_little_memory_names_the_settings_to_lower(tmp_path: Path, weights: Path) -> None:
    data = write_folder(tmp_path / "few", good=4, defective=0)
    output = tmp_path / "m.safetensors"
    arguments = ["fit", "--algorithm", "padim", "--data", data, "--backbone", "small"]
    arguments += ["--weights", weights, "--set", "feature_count=200", "--image-size", 1024]
    little_memory = Limit(resource.RLIMIT_DATA, 4 * 2**30)
    process = start([*map(str, arguments), "-o", str(output)], little_memory)
    _, error = process.communicate(timeout=120)
    assert process.returncode == FAILED, error
    assert "out of memory" in error
    assert "Lower" in error
    assert "--image-size" in error
    assert "Traceback" not in error
    assert not output.exists()


def test_a_disk_that_takes_no_more_leaves_the_older_checkpoint(
    tmp_path: Path, data: Path, weights: Path
) -> None:
    output = tmp_path / "m.safetensors"
    output.write_bytes(b"the older one")
    process = start(fit_arguments(data, weights, output), Limit(resource.RLIMIT_FSIZE, 20_000))
    _, error = process.communicate(timeout=120)
    assert process.returncode == USAGE, error
    assert "m.safetensors: cannot be written" in error
    assert "free space" in error
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    assert output.read_bytes() == b"the older one"


def test_a_killed_fit_leaves_nothing_half_written(tmp_path: Path, weights: Path) -> None:
    root = write_mvtec(tmp_path / "set")
    output = tmp_path / "out" / "m.safetensors"
    output.parent.mkdir()
    output.write_bytes(b"the older one")
    # Images so large that the fit takes far longer than it takes to kill it.
    process = start(fit_arguments(root, weights, output, "--image-size", "512"))
    assert process.stderr is not None
    seen = ""
    deadline = time.monotonic() + 600
    while "cross-validate" not in seen:
        assert time.monotonic() < deadline and process.poll() is None, seen
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in output.parent.iterdir()] == ["m.safetensors"]
    assert output.read_bytes() == b"the older one"


def test_the_notes_of_a_fit_say_how_the_images_were_used(tmp_path: Path, weights: Path) -> None:
    root = write_folder(tmp_path / "parts", good=20, defective=0)
    config = tmp_path / "fit.yaml"
    config.write_text(
        "data:\n  path: parts\n  synthetic_defects: 9\n"
        "  transforms:\n    - RandomHorizontalFlip\n    - ColorJitter: {brightness: 0.05}\n"
        f"backbone: small\nweights: {weights}\nimage_size: 64\n"
        "hyperparameters: {bank_size: 40}\n"
    )
    output, log = tmp_path / "m.safetensors", tmp_path / "log.csv"
    assert main(["fit", "--config", str(config), "-o", str(output), "--track", f"csv:{log}"]) == 0

    training = load_checkpoint(output).description.training
    assert training.dataset == "parts (synthetic defects)"
    assert training.validation_defective_count == 9
    # Scored by cross-validation are those of the fit, too, but none that a test is to judge.
    assert training.fit_count < training.validation_good_count < len(list(root.rglob("*.png")))
    assert training.hyperparameters["synthetic_defects"] == 9
    assert "ColorJitter" in str(training.hyperparameters["transforms"])
    assert "The threshold rests on synthetic defects" in output.with_suffix(".html").read_text()
    assert "image_auroc" in log.read_text()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("  layuot: folder", "line 3: data.layuot is unknown. Did you mean 'layout'?"),
        ("  synthetic_defects: -1", "line 3: data.synthetic_defects: found -1"),
        ("  layout: cifar", "line 3: data.layout: found 'cifar'"),
        ("  transforms: [Flip]", "transforms: 'Flip' does not exist"),
        ("  transforms: [{ColorJitter: 3}]", "line 3: data.transforms"),
        ("threshold: best", "line 3: threshold: found 'best', threshold 'best' does not exist"),
        ("track: [mlflow:x]", "track 'mlflow:x': give csv:FILE"),
    ],
)
def test_a_wrong_line_about_the_data_is_named(
    tmp_path: Path,
    data: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
    named: str,
) -> None:
    config = tmp_path / "fit.yaml"
    config.write_text(f"data:\n  path: {data}\n{line}\n")
    more = ["--backbone", "small", "--weights", str(weights), "-o", str(tmp_path / "m")]
    assert named in failed(["fit", "--config", str(config), *more], capsys)
