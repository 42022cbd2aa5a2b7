"""export-model --teacher: a teacher teaches what a fit of the same images fits."""

from pathlib import Path

import numpy as np
import pytest

from edge.bundle.manifest import load_bundle
from edge.cli.main import main as edge_run
from export.cli import main as export_model
from tests.support.small_training import write_mvtec, write_weights
from training.checkpoint import load_checkpoint
from training.cli import main as train_station

SIDE = 64
HEAD = ["--set", "bank_size=40"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    output = tmp_path_factory.mktemp("teacher") / "teacher.xml"
    backbone = ["--backbone", "small", "--weights", str(weights)]
    options = ["--teacher", *backbone, "--image-size", str(SIDE), "--precision", "fp32", *HEAD]
    assert export_model([*options, "-o", str(output)]) == 0
    return output


def test_a_taught_model_is_the_one_that_a_fit_of_the_same_images_makes(
    teacher: Path, weights: Path, tmp_path: Path
) -> None:
    data = write_mvtec(tmp_path / "slopes", train=12)
    fitted, taught = tmp_path / "fitted.safetensors", tmp_path / "taught.xml"
    options = ["--algorithm", "patchcore", "--backbone", "small", "--weights", str(weights)]
    options += ["--data", str(data), "--image-size", str(SIDE), *HEAD, "--no-report"]
    assert train_station(["fit", *options, "-o", str(fitted)]) == 0
    options = ["--from", str(data / "train" / "good"), "--teacher", str(teacher)]
    assert edge_run(["--teach", "slopes", *options, "-o", str(taught)]) == 0

    expected, found = load_checkpoint(fitted).description, load_bundle(taught).manifest
    assert found.threshold.image == pytest.approx(expected.threshold.image, rel=1e-3)
    assert found.threshold.pixel == pytest.approx(expected.threshold.pixel, rel=1e-3)
    assert found.threshold.guarantee == expected.threshold.guarantee
    assert found.threshold.cross_validated_count == expected.threshold.cross_validated_count
    scores = np.array(found.statistics.scores)
    assert scores == pytest.approx(np.array(expected.statistics.scores), rel=1e-3)
    assert found.training.fit_count == expected.training.fit_count
    assert found.training.dataset_fingerprint == expected.training.dataset_fingerprint


def test_a_checkpoints_own_options_do_not_go_with_a_teacher(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        export_model(["--teacher", "--backbone", "small", "-o", "t.xml"])
    assert "--teacher needs --backbone NAME and --weights" in capsys.readouterr().err
    whole = ["--teacher", "--backbone", "small", "--weights", "w", "--precision", "fp32"]
    with pytest.raises(SystemExit):
        export_model([*whole, "--onnx", "-o", "t.xml"])
    assert "--onnx does not go with --teacher" in capsys.readouterr().err
