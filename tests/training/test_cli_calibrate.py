"""train-station calibrate: a threshold from new images, without a fit."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from edge.bundle.manifest import ThresholdMethod
from tests.support.small_training import good_image, write, write_folder, write_mvtec
from tests.training.conftest import fit_arguments
from training.checkpoint import load_checkpoint
from training.cli import main

USAGE = 78


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calibrate") / "november"
    write_folder(root, good=0, defective=6)
    for number in range(12):
        write(root / "good" / f"{number}.png", good_image(3000 + number))
    return root


def calibrate(checkpoint: Path, data: Path, output: Path, *more: str) -> int:
    return main(["calibrate", str(checkpoint), "--data", str(data), "-o", str(output), *more])


def test_the_new_checkpoint_has_the_new_threshold_and_the_same_network(
    tmp_path: Path, checkpoint: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = checkpoint.read_bytes()
    output = tmp_path / "new.safetensors"
    assert calibrate(checkpoint, new, output, "--replace") == 0

    old, changed = load_checkpoint(checkpoint), load_checkpoint(output)
    assert checkpoint.read_bytes() == before
    assert changed.description.threshold.method is ThresholdMethod.F1_ADAPTIVE
    assert old.description.threshold.method is ThresholdMethod.QUANTILE
    threshold = changed.description.threshold
    assert (threshold.good_count, threshold.defective_count) == (12, 6)
    tensors = changed.model.state_dict()
    assert all(torch.equal(t, tensors[name]) for name, t in old.model.state_dict().items())
    notes = changed.description.training.hyperparameters
    assert notes["calibrated_on"] == "november"
    assert len(str(notes["calibration_fingerprint"])) == 64
    assert changed.validation.defective.sum() == 6
    reported = f"{old.description.threshold.image:.4f} → {threshold.image:.4f} (auto: f1_adaptive"
    assert reported in capsys.readouterr().out


def test_marked_images_are_added_to_what_the_calibration_rests_on(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two folders of marked parts, one image in both, beside those of the fit's calibration."""
    before = load_checkpoint(checkpoint)
    assert before.records is not None
    first = write_folder(tmp_path / "monday", good=0, defective=2)
    write(first / "good" / "marked.png", good_image(3000))
    second = write_folder(tmp_path / "tuesday", good=0, defective=3)
    write(second / "good" / "marked.png", good_image(3001))
    output = tmp_path / "new.safetensors"
    assert calibrate(checkpoint, first, output, "--data", str(second)) == 0

    changed = load_checkpoint(output)
    assert changed.records is not None
    threshold = changed.description.threshold
    good = before.description.threshold.good_count + 2
    assert (threshold.good_count, threshold.defective_count) == (good, 3)
    assert len(changed.records) == good + 3
    # Exports are judged by images that no model has learned: not by cross-validated ones.
    assert len(changed.validation.images) == good + 3 - threshold.cross_validated_count
    reported = capsys.readouterr().out
    assert f"{good} good and 3 defective images, 5 of them new from monday and tuesday" in reported
    for when, value in (("before", before.description.threshold.image), ("now", threshold.image)):
        rejected, missed = changed.records.wrong_at(value)
        assert f"  {when:<6} rejects {rejected} of {good}, " in reported
        assert f"misses {missed} of 3, " in reported

    # Once more the same images, under other names: nothing is counted twice.
    again = tmp_path / "again.safetensors"
    copied = write_folder(tmp_path / "copy", good=0, defective=3)
    write(copied / "good" / "another_name.bmp", good_image(3000))
    assert calibrate(output, copied, again) == 0
    assert load_checkpoint(again).description.threshold.image == threshold.image


def test_missed_defects_alone_can_be_added(tmp_path: Path, checkpoint: Path) -> None:
    missed = write_folder(tmp_path / "missed", good=0, defective=2)
    output = tmp_path / "new.safetensors"
    assert calibrate(checkpoint, missed, output) == 0
    assert load_checkpoint(output).description.threshold.defective_count == 2
    assert calibrate(checkpoint, missed, output, "--replace") == USAGE


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("recall=1.0", ThresholdMethod.RECALL),
        ("false-reject-rate=0.1", ThresholdMethod.FALSE_REJECT_RATE),
        ("quantile=0.9,0.2", ThresholdMethod.QUANTILE),
        ("manual=1.25", ThresholdMethod.MANUAL),
    ],
)
def test_every_method_can_be_chosen_and_is_recorded(
    tmp_path: Path, checkpoint: Path, new: Path, text: str, method: ThresholdMethod
) -> None:
    output = tmp_path / "new.safetensors"
    assert calibrate(checkpoint, new, output, "--threshold", text) == 0
    description = load_checkpoint(output).description
    assert description.threshold.method is method
    recorded = description.training.hyperparameters["threshold"]
    assert isinstance(recorded, str)
    assert recorded.startswith(text.split("=")[0])
    if method is ThresholdMethod.MANUAL:
        assert description.threshold.image == 1.25


def test_histogram_and_report_show_the_new_threshold(
    tmp_path: Path, checkpoint: Path, new: Path
) -> None:
    histogram, report = tmp_path / "scores.svg", tmp_path / "report.html"
    more = ["--histogram", str(histogram), "--report", str(report)]
    assert calibrate(checkpoint, new, tmp_path / "new.safetensors", *more) == 0
    threshold = load_checkpoint(tmp_path / "new.safetensors").description.threshold
    text = "".join(ElementTree.parse(histogram).getroot().itertext())
    assert f"threshold {threshold.image:.4g}" in text
    assert "defective (6)" in text
    assert f"{threshold.image:.6g}" in report.read_text()


def test_of_the_set_of_the_fit_only_what_was_kept_out_is_used(
    tmp_path: Path, checkpoint: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    output = tmp_path / "again.safetensors"
    assert calibrate(checkpoint, data, output) == 0
    first, again = load_checkpoint(checkpoint).description, load_checkpoint(output).description
    assert again.threshold == first.threshold
    assert again.normalization == first.normalization
    assert f"left out {first.training.fit_count} that the model was fitted on; " in caplog.text


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--threshold", "best"], "threshold 'best' does not exist. Give auto, f1, recall=0.99"),
        (["--threshold", "false-reject-rate=0.001"], "needs at least 1000 good images"),
        (["--data", "nowhere"], "nowhere: not a folder"),
        (["--category", "cat"], "has no categories"),
        (["--histogram", "no/such/place.svg"], "place.svg: cannot be written"),
    ],
)
def test_what_cannot_be_calibrated_writes_nothing(
    tmp_path: Path,
    checkpoint: Path,
    new: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    named: str,
) -> None:
    assert calibrate(checkpoint, new, tmp_path / "new.safetensors", *options) == USAGE
    assert named in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_recall_without_defects_says_so_and_synthetic_ones_help(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "parts"
    for number in range(10):
        write(root / f"{number}.png", good_image(6000 + number))
    output = tmp_path / "new.safetensors"
    recall = ["--threshold", "recall=0.9", "--replace"]
    assert calibrate(checkpoint, root, output, *recall) == USAGE
    assert "no scores of defective images" in capsys.readouterr().err
    assert calibrate(checkpoint, root, output, *recall, "--synthetic-defects", "9") == 0
    assert "from parts (synthetic defects))" in capsys.readouterr().out


def test_a_fit_with_a_chosen_threshold_has_it(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_mvtec(tmp_path / "set", train=20)
    output = tmp_path / "m.safetensors"
    assert main(fit_arguments(root, weights, output, "--threshold", "quantile=0.5,0")) == 0
    chosen = load_checkpoint(output).description
    assert main(fit_arguments(root, weights, output, "--threshold", "manual=0.75")) == 0
    manual = load_checkpoint(output).description
    assert main(fit_arguments(root, weights, output, "--no-report")) == 0
    automatic = load_checkpoint(output).description
    assert chosen.threshold.image < automatic.threshold.image
    assert (manual.threshold.image, manual.threshold.interval) == (0.75, None)
    assert chosen.training.hyperparameters["threshold"] == "quantile=0.5,0"
    assert main(fit_arguments(root, weights, output, "--threshold", "recall=0.9")) == USAGE
    assert "no scores of defective images" in capsys.readouterr().err
