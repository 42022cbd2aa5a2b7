"""train-station as its users run it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.small_training import good_image, write, write_folder, write_mvtec
from tests.training.conftest import fit_arguments
from training.cli import main
from training.errors import SettingError
from training.models.registry import ALGORITHMS
from training.threshold_option import parse_threshold

USAGE = 78


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_fit_prints_the_threshold_and_what_it_rests_on(
    tmp_path: Path, data: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(fit_arguments(data, weights, tmp_path / "m.safetensors")) == 0
    out = capsys.readouterr().out
    assert "m.safetensors: patchcore, threshold" in out
    assert "quantile" in out
    assert "0 defective images" in out


def test_test_prints_metrics_beside_the_baseline(
    data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", str(checkpoint), "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert "patchcore small on slopes" in out
    assert "4 good, 4 defective" in out
    assert "image AUROC     1.0000" in out
    assert "rejecting everything: 0.6667" in out


def test_test_writes_every_score_and_the_metrics(
    tmp_path: Path, data: Path, checkpoint: Path
) -> None:
    scores, metrics = tmp_path / "scores.csv", tmp_path / "metrics.json"
    arguments = ["--data", str(data), "--scores", str(scores), "--json", str(metrics)]
    assert main(["test", str(checkpoint), *arguments]) == 0

    table = rows(scores)
    assert len(table) == 8
    assert {row["kind"] for row in table} == {"good", "spot"}
    assert all(row["result"] == "NOK" for row in table if row["kind"] == "spot")
    assert json.loads(metrics.read_text())["image_auroc"] == 1.0


def test_a_test_image_that_shows_nothing_is_reported_and_in_no_figure(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_mvtec(tmp_path / "set")
    write(root / "test" / "good" / "dark.png", np.zeros((80, 112, 3), np.uint8))
    scores = tmp_path / "scores.csv"
    assert main(["test", str(checkpoint), "--data", str(root), "--scores", str(scores)]) == 0

    out = capsys.readouterr().out
    assert "4 good, 4 defective" in out
    assert "not inspected   1, in no figure above" in out
    (dark,) = [row for row in rows(scores) if row["picture"].endswith("dark.png")]
    assert (dark["result"], dark["raw_score"]) == ("ERROR", "")


def test_predict_prints_a_line_and_writes_an_overlay_for_every_image(
    tmp_path: Path, data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(data / "test" / "good"), str(data / "test" / "spot")]
    assert main(["predict", str(checkpoint), *folders, "-o", str(tmp_path / "maps")]) == 0

    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 8
    assert [line[1] for line in lines[4:]] == ["NOK"] * 4
    overlays = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert overlays == [
        *("000-2.png", "000.png", "001-2.png", "001.png"),
        *("002-2.png", "002.png", "003-2.png", "003.png"),
    ]
    assert cv2.imread(str(tmp_path / "maps" / "000.png")) is not None


def test_predict_says_error_for_an_image_that_shows_nothing(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = write(tmp_path / "dark.png", np.zeros((80, 112, 3), np.uint8))
    good = write(tmp_path / "good.png", good_image(3))
    assert main(["predict", str(checkpoint), str(dark), str(good)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "\tERROR\t" in first
    assert "\tERROR\t" not in second


def test_a_yaml_gives_what_the_command_line_does_not(
    tmp_path: Path, data: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    config = folder / "fit.yaml"
    relative = os.path.relpath(data, folder)
    config.write_text(
        f"data: {relative}\nbackbone: small\nweights: {weights}\nimage_size: 64\n"
        "algorithm: patchcore\nhyperparameters:\n  feature_count: 10\n"
    )
    output = str(tmp_path / "m.safetensors")
    # The command line goes first: an algorithm that has this hyperparameter.
    assert main(["fit", "--config", str(config), "--algorithm", "padim", "-o", output]) == 0
    assert "padim" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("image_sise: 64", r"line 2: image_sise is unknown. Did you mean 'image_size'?"),
        ("image_size: big", "line 2: image_size: found 'big'"),
        ("image_size: 8", "line 2: image_size: found 8, must be greater than or equal to 32"),
        ("image_size: 64.5", "line 2: image_size: found 64.5"),
        ("validate_on: everything", "line 2: validate_on: found 'everything'"),
        ("crop: {x: 1, y: 1, width: 9, hight: 9}", "Did you mean 'height'?"),
        ("crop: {x: 1, y: 1, width: 9}", "crop.height is missing"),
        ("levels: {black: 9, white: 2}", "black (9) must lie below white (2)"),
        ("hyperparameters: [1]", "line 2: hyperparameters: found [1], must hold keys"),
        ("hyperparameters: {bank_size: {a: 1}}", "hyperparameters.bank_size"),
        ("hyperparameters: {bank: 3}", "patchcore has no hyperparameter 'bank'"),
        ("algorithm: nearest", "algorithm 'nearest' does not exist. There are: "),
        ("backbone: resnet", "backbone 'resnet' does not exist"),
        ("seed: -1", "line 2: seed: found -1"),
        ("data: [", "not valid YAML"),
        ("data: nowhere", "nowhere: not a folder"),
    ],
)
def test_a_wrong_setting_is_named_with_file_line_and_remedy(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], line: str, named: str
) -> None:
    config = tmp_path / "fit.yaml"
    first = "image_size: 64" if line.startswith("data") else f"data: {data}"
    config.write_text(f"{first}\n{line}\n")
    output = tmp_path / "m.safetensors"
    weights = ["--weights", "unused"] if "backbone" in line else []

    assert main(["fit", "--config", str(config), *weights, "-o", str(output)]) == USAGE
    error = capsys.readouterr().err
    assert named in error
    if "line 2" in named:
        assert "fit.yaml, line 2" in error
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--data", "nowhere"], "nowhere: not a folder"),
        (["--weights", "nowhere.pth"], "nowhere.pth: cannot be read as weights"),
        (["--weights", "cache"], "no published weights"),
        (["--backbone", "resnet18"], "which ResNet does not have"),
        (["--set", "bank_size"], "--set bank_size: write NAME=VALUE"),
        (["--set", "bank_size=0"], "give a whole number from 1"),
        (["--set", "layers=layer9"], "layer 'layer9' does not exist"),
        (["--image-size", "7"], "command line: image_size: found 7"),
        (["--crop", "0", "0", "500", "20"], "the crop 500×20+0+0 does not fit"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_written(
    tmp_path: Path,
    data: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    named: str,
) -> None:
    output = tmp_path / "m.safetensors"
    assert main(fit_arguments(data, weights, output, *options)) == USAGE
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_missing_data_folder_setting_names_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "-o", str(tmp_path / "m.safetensors")]) == USAGE
    assert "data is missing. Give --data" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["train/good/003.png", "test/good/001.png"])
def test_a_corrupt_image_is_named_and_nothing_is_written(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    root = write_mvtec(tmp_path / "set")
    (root / place).write_bytes(b"\x89PNG cut")
    output = tmp_path / "m.safetensors"
    arguments = fit_arguments(root, weights, output, "--validate-on", "test")
    assert main(arguments) == USAGE
    assert f"{place}: not a complete image" in capsys.readouterr().err
    assert not output.exists()


def test_a_mask_of_another_size_is_found_before_the_fit(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_mvtec(tmp_path / "set")
    write(root / "ground_truth" / "spot" / "000_mask.png", np.zeros((9, 9), np.uint8))
    arguments = fit_arguments(root, weights, tmp_path / "m", "--validate-on", "test")
    assert main(arguments) == USAGE
    error = capsys.readouterr().err
    assert "000_mask.png: 9×9 pixels, but its image" in error
    assert "features" not in error


@pytest.mark.parametrize("output", ["nowhere/m.safetensors", "taken"])
def test_an_output_that_cannot_be_written_is_found_before_the_fit(
    tmp_path: Path,
    data: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    output: str,
) -> None:
    (tmp_path / "taken").mkdir()
    assert main(fit_arguments(data, weights, tmp_path / output)) == USAGE
    error = capsys.readouterr().err
    assert output in error
    assert "features" not in error


def test_an_older_checkpoint_survives_a_fit_that_fails(
    tmp_path: Path, data: Path, weights: Path
) -> None:
    output = tmp_path / "m.safetensors"
    output.write_bytes(b"the older one")
    assert main(fit_arguments(data, weights, output, "--set", "layers=layer9")) == USAGE
    assert output.read_bytes() == b"the older one"


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_a_damaged_checkpoint_is_a_sentence(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"?")
    place = ["--data", str(data)] if verb == "test" else [str(data / "test" / "good")]
    assert main([verb, str(tmp_path / "bad.safetensors"), *place]) == USAGE
    assert "bad.safetensors: cannot be read as a checkpoint" in capsys.readouterr().err


def test_predict_names_a_missing_image_and_an_empty_folder(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("none.png", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert main(["predict", str(checkpoint), str(tmp_path / place)]) == USAGE
        assert f"{place}: no such image" in capsys.readouterr().err


def test_predict_names_an_output_folder_that_cannot_be_made(
    tmp_path: Path, data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    image = str(data / "test" / "good" / "000.png")
    output = str(tmp_path / "file" / "maps")
    assert main(["predict", str(checkpoint), image, "-o", output]) == USAGE
    assert "cannot be made" in capsys.readouterr().err


def test_a_plain_folder_with_defects_goes_the_whole_way(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "parts", good=20, defective=8)
    output = tmp_path / "m.safetensors"
    assert main(fit_arguments(root, weights, output)) == 0
    assert "f1_adaptive" in capsys.readouterr().out
    assert main(["test", str(output), "--data", str(root)]) == 0
    assert "missed defects  0 of" in capsys.readouterr().out


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_help_of_a_fit_names_every_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])

    reported = "".join(capsys.readouterr().out.split())
    assert all(f"{name}," in reported for name in ALGORITHMS)


@pytest.mark.parametrize("verb", ["fit", "calibrate"])
def test_the_help_names_every_form_of_threshold(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])

    reported = "".join(capsys.readouterr().out.split())
    with pytest.raises(SettingError) as refused:
        parse_threshold("unknown")
    forms = str(refused.value).partition("Give ")[2].removesuffix(".")
    assert "".join(forms.split()) in reported
    assert all(f"{method}=" in reported for method in ("balanced", "miss-rate", "quantile"))


@pytest.mark.parametrize(
    "verb", [[], ["fit"], ["test"], ["predict"], ["calibrate"], ["benchmark"], ["sweep"]]
)
def test_help_loads_no_library_that_takes_its_time(verb: list[str]) -> None:
    code = (
        "import sys\n"
        "from training.cli import main\n"
        "try:\n"
        f"    main({[*verb, '--help']!r})\n"
        "finally:\n"
        "    slow = {'torch', 'numpy', 'cv2', 'openvino', 'pydantic', 'optuna'}\n"
        "    sys.exit(', '.join(slow & set(sys.modules)) or 0)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr


def test_the_process_ends_with_78_and_one_sentence(tmp_path: Path) -> None:
    done = run("fit", "--data", str(tmp_path / "none"), "-o", str(tmp_path / "m.safetensors"))
    assert done.returncode == USAGE
    assert done.stderr.startswith("train-station: ")
    assert "none: not a folder" in done.stderr
    assert done.stdout == ""


def test_without_the_training_libraries_the_extra_is_named() -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from training.cli import main\n"
        "sys.exit(main(['test', 'm', '--data', 'd']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == USAGE
    assert "torch is not installed. Run: pip install 'inspection-station[train]'" in done.stderr
