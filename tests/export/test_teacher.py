"""export-model --teacher: a teacher teaches what a fit of the same images fits."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.loading import load_bundle
from edge.bundle.teacher import load_teacher
from edge.cli.main import main as edge_run
from export import teacher as teachers
from export.cli import main as export_model
from export.teacher import TeacherRequest, export_teacher
from export.teacher_gate import GateImages
from tests.acceptance.shared_data import shared_data
from tests.soak import times
from tests.support.once import make_onnx_once
from tests.support.small_training import write_mvtec, write_weights
from training.checkpoint import load_checkpoint
from training.cli import main as train_station

SIDE = 64
HEAD = ["--set", "bank_size=40"]


@pytest.fixture(scope="module", autouse=True)
def converted_once(shared: Path) -> Iterator[None]:
    """The teachers of these tests have one graph; its conversion takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teachers, "make_onnx", partial(make_onnx_once, shared=shared))
        yield


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
    assert "--onnx cannot be combined with --teacher" in capsys.readouterr().err


def test_a_teacher_in_int8_ranks_products_as_in_floating_point_and_teaches(
    weights: Path, tmp_path: Path
) -> None:
    output, taught = tmp_path / "rounded.xml", tmp_path / "taught.xml"
    request = TeacherRequest(
        backbone="small",
        weights=str(weights),
        size=(SIDE, SIDE),
        hyperparameters={"bank_size": 40},
        gate=GateImages(
            range_designs=2,
            range_images=4,
            products=2,
            taught=3,
            good=5,
            flawed=5,
            min_rank_correlation=0.5,  # ten images of a backbone that was never trained
            max_auroc_drop=0.2,
        ),
    )
    manifest = export_teacher(output, request)
    assert manifest.weights == "int8"
    assert manifest.gate is not None
    assert (manifest.gate.products, manifest.gate.images) == (2, 20)
    assert "nncf" in manifest.identity.made_with
    assert 'element_type="i8"' in output.read_text()

    data = write_mvtec(tmp_path / "slopes", train=8)
    options = ["--from", str(data / "train" / "good"), "--teacher", str(output)]
    assert edge_run(["--teach", "slopes", *options, "-o", str(taught)]) == 0
    assert load_bundle(taught).manifest.precision.weights == "int8"
    assert 'element_type="i8"' in taught.read_text()  # weights stay integers beside the bank


@pytest.mark.skipif(not times(0, 1), reason="make soak runs it: ResNet-18 takes minutes")
def test_a_resnet_is_made_in_int8_unless_asked_otherwise(tmp_path: Path) -> None:
    weights = shared_data("weights") / "resnet18-imagenet-to-layer3.safetensors"
    output = tmp_path / "resnet.xml"
    options = ["--backbone", "resnet18", "--weights", str(weights), "--image-size", "128"]
    options += ["--weights-licence", "BSD-3-Clause"]
    assert export_model(["--teacher", *options, "-o", str(output)]) == 0
    gate = load_teacher(output).manifest.gate
    assert gate is not None
    assert (gate.products, gate.images) == (4, 96)
    assert 'element_type="i8"' in output.read_text()
