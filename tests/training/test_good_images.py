"""Defects that were sorted as good: found, named, and neither learned nor calibrated on."""

from pathlib import Path

import cv2
import pytest

from edge.errors import ConfigurationError
from tests.acceptance.shared_data import shared_data
from tests.support.decoding import decode_file
from tests.support.small_training import FEW, STATISTICAL, defective_image, good_image, write
from tests.training.conftest import fit_arguments
from training.benchmark import plan
from training.calibrated_fit import fitted
from training.checkpoint import Checkpoint, Description, load_checkpoint
from training.cli import main
from training.config import FitConfig, load_fit_config
from training.cross_validation import make_folds
from training.data.open_data_set import open_splits
from training.data.samples import GOOD, Sample
from training.data.splitting import split_off


def good_folder(root: Path, count: int) -> Path:
    for number in range(count):
        write(root / "good" / f"{number:03d}.png", good_image(number))
    return root


def mis_sorted(root: Path, number: int = 3) -> Path:
    """Put a defect among the good images."""
    return write(root / "good" / f"wrong{number}.png", defective_image(number)[0])


def fit(root: Path, weights: Path, *more: str) -> Checkpoint:
    output = root.parent / "m.safetensors"
    assert main(fit_arguments(root, weights, output, *more)) == 0
    return load_checkpoint(output)


def fit_as(algorithm: str, root: Path, weights: Path) -> Description:
    chosen = {**FEW[algorithm], **({} if algorithm in STATISTICAL else {"epochs": 1})}
    hyperparameters = {k: list(v) if isinstance(v, tuple) else v for k, v in chosen.items()}
    config = FitConfig.model_validate(
        {
            "data": {"path": root},
            "algorithm": algorithm,
            "backbone": "small",
            "weights": str(weights),
            "image_size": 64,
            "hyperparameters": hyperparameters,
        }
    )
    return fitted(config).description


@pytest.mark.parametrize("algorithm", sorted(FEW))
def test_a_mis_sorted_defect_does_not_open_the_threshold(
    algorithm: str, tmp_path: Path, weights: Path
) -> None:
    root = good_folder(tmp_path / "set", 16)
    clean = fit_as(algorithm, root, weights)
    wrong = {str(mis_sorted(root, number)) for number in (3, 4)}
    found = fit_as(algorithm, root, weights)

    assert clean.training.good_check is not None
    assert clean.training.good_check.suspect_count == 0
    if algorithm != "ganomaly":  # of one epoch: its scores tell nothing yet
        spread = clean.normalization.image.max - clean.normalization.image.min
        assert found.threshold.image < clean.threshold.image + 0.5 * spread
    check = found.training.good_check
    assert check is not None
    assert set(check.suspects) <= wrong


@pytest.mark.parametrize("count", [6, 12, 40])
def test_a_mis_sorted_defect_is_named_everywhere_whatever_its_split(
    count: int, tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = good_folder(tmp_path / "set", count)
    wrong = mis_sorted(root)
    checkpoint = fit(root, weights)
    check = checkpoint.description.training.good_check
    assert check is not None
    if wrong in [sample.path for sample in open_splits(root).test]:
        pytest.skip("the lot fell on the test images")
    assert check.suspects == (str(wrong),)
    assert len(check.strangest) == 3 and str(wrong) not in check.strangest
    assert check.strangest[0] in (tmp_path / "m.html").read_text()
    assert check.image_with is not None
    assert check.image_with >= checkpoint.description.threshold.image
    page = (tmp_path / "m.html").read_text()
    for text in (caplog.text, page):
        assert str(wrong) in text
        assert "1 good image looks like a defect" in text
        assert f"{check.image_with:.4g}" in text
        assert f"{checkpoint.description.threshold.image:.4g}" in text


def test_a_strict_fit_refuses_a_suspect_and_writes_nothing(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = good_folder(tmp_path / "set", 20)
    output = tmp_path / "m.safetensors"
    assert main(fit_arguments(root, weights, output, "--strict", "--no-report")) == 0
    output.unlink()
    wrong = mis_sorted(root)
    code = main(fit_arguments(root, weights, output, "--strict"))
    assert code == ConfigurationError.exit_code == 78
    assert str(wrong) in capsys.readouterr().err
    assert not output.exists()
    assert not output.with_suffix(".html").exists()
    assert fit(root, weights, "--no-check-good").description.training.good_check is None


def test_what_the_threshold_rests_on_stands_in_checkpoint_and_report(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = good_folder(tmp_path / "set", 24)
    splits = open_splits(root)
    threshold = fit(root, weights).description.threshold
    assert threshold.cross_validated_count == len(splits.fit)
    assert threshold.good_count == len(splits.fit) + len(splits.validation)
    assert f"{len(splits.fit)} of them cross-validated" in capsys.readouterr().out
    page = (tmp_path / "m.html").read_text()
    assert f"{len(splits.fit)} by models fitted without them (cross-validation)" in page
    assert f"{len(splits.validation)} by this model, which was fitted without them" in page


def test_no_image_is_judged_by_a_model_that_learned_it_and_all_models_learn_as_many(
    tmp_path: Path,
) -> None:
    samples = [
        Sample(
            path=write(tmp_path / f"{n}.png", good_image(n)),
            kind=GOOD,
            group=f"g{n // 2}" * (n < 6),
        )
        for n in range(23)
    ]
    samples.append(Sample(path=write(tmp_path / "copy.png", good_image(9)), kind=GOOD))
    beside = [Sample(path=write(tmp_path / "b.png", good_image(99)), kind=GOOD)] * 4
    folds = make_folds(samples, beside)
    assert sorted(s.path for f in folds for s in f.judged) == sorted(s.path for s in samples)
    for fold in folds:
        assert not set(fold.learned) & set(fold.judged)
        judged = {sample.group for sample in fold.judged if sample.group}
        assert not judged & {sample.group for sample in fold.learned}
        assert 23 <= len(fold.learned) <= 25
    (with_copy,) = [f for f in folds if samples[-1] in f.judged]
    assert samples[9] in with_copy.judged
    assert make_folds(samples[:2], []) == []  # a model of one image knows nothing


def test_one_mis_sorted_bottle_does_not_open_the_threshold(tmp_path: Path) -> None:
    bottle = shared_data("mvtec", "bottle")
    weights = shared_data("weights", "resnet18-imagenet-to-layer3.safetensors")
    root, output = tmp_path / "set", tmp_path / "m.safetensors"
    for path in sorted((bottle / "train" / "good").glob("*.png"))[:20]:
        write(root / "good" / path.name, decode_file(path, cv2.IMREAD_REDUCED_COLOR_8))
    arguments = ["fit", "--data", str(root), "--weights", str(weights), "-o", str(output)]
    arguments += ["--image-size", "96", "--set", "bank_size=256", "--no-report"]
    assert main(arguments) == 0
    clean = load_checkpoint(output).description
    for path in sorted((bottle / "test" / "broken_large").glob("*.png")):
        small = decode_file(path, cv2.IMREAD_REDUCED_COLOR_8)
        wrong = write(root / "good" / "z.png", small)
        if wrong not in [sample.path for sample in open_splits(root).test]:
            break
    assert main(arguments) == 0
    found = load_checkpoint(output).description
    assert found.training.good_check is not None
    assert str(wrong) in found.training.good_check.suspects
    assert found.threshold.image < 1.1 * clean.threshold.image
    assert found.normalization.image.max < 1.1 * clean.normalization.image.max
    assert found.threshold.pixel < 1.1 * clean.threshold.pixel


def test_a_suspect_that_is_confirmed_counts_and_is_named_and_the_others_stay_suspects(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    root = good_folder(tmp_path / "set", 40)
    looked_at, other = mis_sorted(root, 3), mis_sorted(root, 4)
    listed = tmp_path / "looked-at.txt"
    listed.write_text(f"{looked_at.relative_to(tmp_path)}\n\n")
    tests = {sample.path for sample in open_splits(root).test}
    assert not {looked_at, other} & tests
    for given in (looked_at, listed):
        caplog.clear()
        check = fit(root, weights, "--confirm-good", str(given)).description.training.good_check

        assert check is not None
        assert check.suspects == (str(other),)
        assert check.confirmed == (str(looked_at),)
        assert str(looked_at) not in check.strangest
        assert f"confirmed as good (1): {looked_at}" in caplog.text


def test_an_image_that_cannot_be_confirmed_is_refused_before_the_fit(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, output = good_folder(tmp_path / "set", 12), tmp_path / "m.safetensors"
    stranger = write(tmp_path / "stranger.png", good_image(99))
    for path, why in ((stranger, "not among the good images"), (tmp_path / "no.png", "no such")):
        arguments = fit_arguments(root, weights, output, "--confirm-good", str(path))
        assert main(arguments) == 78
        error = capsys.readouterr().err
        assert str(path) in error and why in error
    assert not output.exists()


def test_few_images_are_never_split_so_that_one_judges_alone(tmp_path: Path) -> None:
    samples = [
        Sample(path=write(tmp_path / f"{n}.png", good_image(n)), kind=GOOD) for n in range(20)
    ]
    for count in (8, 12, 20):
        for seed in range(60):
            rest, off = split_off(samples[:count], 0.15, seed, "validation")
            assert 2 <= len(off) < len(rest) + len(off) == count


def test_a_faint_defect_is_no_suspect_and_among_those_to_look_at_first(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    root = good_folder(tmp_path / "set", 24)
    for number in range(70, 80):
        pixels = good_image(number)
        pixels[30:36, 50:56] -= pixels[30:36, 50:56] // 4
        path = write(root / "good" / "faint.png", pixels)
        if path not in [sample.path for sample in open_splits(root).test]:
            break  # the lot did not fall on the test images
    faint = str(path)
    check = fit(root, weights).description.training.good_check
    assert check is not None
    assert check.suspects == ()
    assert faint in check.strangest
    assert "look first at those with the highest scores" in caplog.text


def test_a_benchmark_checks_good_images_only_where_its_yaml_says_so(tmp_path: Path) -> None:
    good_folder(tmp_path / "set", 4)
    for text, checked in (("", False), ("check_good: true\n", True), ("strict: true\n", True)):
        yaml = tmp_path / "fits.yaml"
        yaml.write_text(f"data: {tmp_path / 'set'}\n{text}")
        (one,) = plan(load_fit_config(yaml, {}), "patchcore", "resnet18", "0")
        assert one.check_good is checked
