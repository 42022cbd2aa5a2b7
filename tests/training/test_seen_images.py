"""Nothing is judged by what a model has seen: at the command line, with renamed copies."""

import json
import shutil
from pathlib import Path

import pytest

from edge.imaging.image_files import read_image
from tests.support.small_training import good_image, write, write_folder, write_mvtec
from tests.training.conftest import fit_arguments
from training.checkpoint import load_checkpoint
from training.cli import main
from training.data.samples import Sample
from training.seen_images import SeenImages, seen

USAGE = 78


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("seen") / "parts", good=24, defective=8)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, folder: Path, weights: Path) -> Path:
    path = tmp_path_factory.mktemp("seen") / "parts.safetensors"
    assert main(fit_arguments(folder, weights, path, "--no-report", "--no-check-good")) == 0
    return path


@pytest.fixture
def renamed(tmp_path: Path, folder: Path) -> Path:
    """The same images under other names, each packed anew."""
    copy = shutil.copytree(folder, tmp_path / "renamed")
    shutil.rmtree(copy / "masks")
    for number, path in enumerate(sorted(copy.rglob("*.png"), reverse=True)):
        write(path.with_name(f"part{number}.bmp"), read_image(path))
        path.unlink()
    return copy


@pytest.fixture
def new(tmp_path: Path) -> Path:
    root = write_folder(tmp_path / "new", good=0, defective=0)
    for number in range(6):
        write(root / "good" / f"{number}.png", good_image(4000 + number))
    return root


def seen_by(path: Path) -> SeenImages:
    known = load_checkpoint(path).seen
    assert known is not None
    return known


def judged(checkpoint: Path, data: Path, json_path: Path) -> dict[str, object]:
    arguments = ["test", str(checkpoint), "--data", str(data), "--json", str(json_path)]
    assert main(arguments) == 0
    document: dict[str, object] = json.loads(json_path.read_text())
    return document


def test_a_checkpoint_knows_what_it_was_fitted_and_calibrated_on(fitted: Path) -> None:
    known, checkpoint = seen_by(fitted), load_checkpoint(fitted)
    training = checkpoint.description.training
    assert len(known.fitted) == training.fit_count
    assert len(known.calibrated) == (
        training.validation_good_count + training.validation_defective_count
    )
    assert known.fitted < known.calibrated  # by cross-validation
    assert known.quantized == known.fitted  # all of so few travel with it
    assert known.stopping == frozenset()
    hashes = checkpoint.validation.hashes
    assert hashes is not None
    assert {row.tobytes() for row in hashes} == known.calibrated - known.fitted


def test_all_of_a_folder_of_new_images_is_judged(fitted: Path, new: Path, tmp_path: Path) -> None:
    figures = judged(fitted, new, tmp_path / "new.json")
    assert (figures["good_count"], figures["left_out"]) == (6, {})


def test_of_a_renamed_copy_only_what_the_model_has_not_seen_is_judged(
    fitted: Path, folder: Path, renamed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = seen_by(fitted)
    own = judged(fitted, folder, tmp_path / "own.json")
    copied = judged(fitted, renamed, tmp_path / "copied.json")
    held_out = known.calibrated - known.fitted
    left_out = {"fitted": len(known.fitted), "calibrated": len(held_out)}
    for figures in (own, copied):
        assert figures["left_out"] == left_out
        counts = (figures["good_count"], figures["defective_count"])
        assert sum(map(int, map(str, counts))) == 32 - sum(left_out.values())
    assert (own["good_count"], own["image_auroc"]) == (
        copied["good_count"],
        copied["image_auroc"],
    )
    reported = (
        f"  left out        {len(known.fitted)} that the model was fitted on and "
        f"{len(held_out)} that its threshold rests on"
    )
    assert capsys.readouterr().out.count(reported) == 2


def test_a_grown_folder_calibrates_by_its_new_images_alone(
    fitted: Path, renamed: Path, new: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    known = seen_by(fitted)
    for path in (new / "good").iterdir():
        shutil.copy(path, renamed / "good" / f"new{path.name}")
    output = tmp_path / "again.safetensors"
    assert main(["calibrate", str(fitted), "--data", str(renamed), "-o", str(output)]) == 0

    again = seen_by(output)
    assert again.fitted == known.fitted
    assert not (again.calibrated - known.calibrated) & known.fitted
    assert again.calibrated > known.calibrated
    assert f"left out {len(known.fitted)} that the model was fitted on; " in caplog.text
    assert "images are kept apart for tests; --all-images takes them, too" in caplog.text


def test_a_test_leaves_out_what_the_threshold_was_calibrated_on(
    fitted: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "calibrated.safetensors"
    assert main(["calibrate", str(fitted), "--data", str(new), "-o", str(output)]) == 0
    assert main(["test", str(output), "--data", str(new)]) == USAGE
    assert "no image is left to judge by: 6 that its threshold" in capsys.readouterr().err
    write(new / "good" / "another.png", good_image(4100))
    figures = judged(output, new, tmp_path / "figures.json")
    assert (figures["good_count"], figures["left_out"]) == (1, {"calibrated": 6})


def test_a_threshold_of_test_images_is_reported_as_optimistic(
    data: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "on_test.safetensors"
    arguments = ["calibrate", str(checkpoint), "--data", str(data), "-o", str(output), "--replace"]
    assert main([*arguments, "--validate-on", "test"]) == 0
    figures = judged(output, data, tmp_path / "figures.json")
    assert (figures["threshold_rests_on"], figures["left_out"]) == (8, {})
    reported = capsys.readouterr().out
    assert "  optimistic      the threshold rests on 8 of these images (--validate-on" in reported


def test_of_a_set_that_the_model_was_not_fitted_on_its_own_images_to_fit_on_are_named(
    data: Path, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = write_mvtec(tmp_path / "other", train=0)
    for number in range(7):
        write(other / "train" / "good" / f"{number}.png", good_image(5000 + number))

    own = judged(checkpoint, data, tmp_path / "own.json")
    assert (own["not_judged"], "not the set of the fit" in caplog.text) == (0, False)
    figures = judged(checkpoint, other, tmp_path / "other.json")

    assert (figures["not_judged"], figures["good_count"], figures["defective_count"]) == (7, 4, 4)
    assert (
        f"{other}: the model has not seen the 7 images that this set has to fit on" in caplog.text
    )


def test_the_images_that_stopped_a_training_are_known(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "ganomaly.safetensors"
    arguments = ["fit", "--data", str(data), "--algorithm", "ganomaly", "--image-size", "64"]
    few = ["channels=4", "latent=4", "epochs=1", "batch_size=4"]
    sets = [word for setting in few for word in ("--set", setting)]
    more = ["-o", str(path), "--no-report", "--validate-on", "test"]
    assert main([*arguments, *sets, *more]) == 0
    known = seen_by(path)
    assert len(known.fitted) + len(known.stopping) == 10
    assert len(known.stopping) >= 1
    assert not known.fitted & known.stopping
    assert len(known.calibrated) == 8


def test_a_fit_adds_folders_and_an_image_counts_once_as_the_last_one_has_it(
    folder: Path,
    weights: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Marked parts: a missed defect that was sorted as good, a good part that was rejected."""
    caplog.set_level("INFO")
    marked = tmp_path / "marked"
    write(marked / "defect" / "missed.bmp", read_image(folder / "good" / "good_003.png"))
    write(marked / "good" / "rejected.png", good_image(5000))
    yaml = tmp_path / "fit.yaml"
    yaml.write_text(f"data:\n  path: {folder}\n  also: [marked]\n")
    first, second = tmp_path / "options.safetensors", tmp_path / "yaml.safetensors"
    quick = ["--no-report", "--no-check-good"]
    assert main(fit_arguments(folder, weights, first, "--data", str(marked), *quick)) == 0
    arguments = fit_arguments(folder, weights, second, "--config", str(yaml), *quick)
    assert main([arguments[0], *arguments[3:]]) == 0

    training = load_checkpoint(first).description.training
    assert load_checkpoint(second).description.training == training
    assert training.dataset == "parts and marked"
    assert "parts: 1 image counts as a later folder has them" in caplog.text
    missed = next(iter(seen([Sample(path=marked / "defect" / "missed.bmp", kind="defect")])))
    known = seen_by(first)
    assert missed not in known.fitted
    figures = judged(first, folder, tmp_path / "figures.json")
    left_out = figures["left_out"]
    assert isinstance(left_out, dict)
    assert left_out["fitted"] in (len(known.fitted), len(known.fitted) - 1)


def test_a_warning_about_the_images_is_logged_once_in_a_fit(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_mvtec(tmp_path / "parts")
    shutil.copy(root / "test" / "good" / "000.png", root / "train" / "good" / "copy.png")
    assert main(fit_arguments(root, weights, tmp_path / "a.safetensors")) == 0
    assert caplog.text.count("1 image is among those kept for judging, too") == 1
