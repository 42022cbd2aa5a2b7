"""Sweeps: what is searched, judged by validation images only, shared like a benchmark."""

import csv
import shutil
from pathlib import Path

import pytest

from tests.support.small_training import defective_image, write, write_folder
from training.cli import main
from training.errors import SettingError, TrialFailed
from training.studies import StudyPlace, open_study
from training.sweep import (
    Choice,
    Span,
    SweepConfig,
    claim_study,
    parse_search,
    search_digest,
    with_parameters,
)

USAGE = 78


def options(root: Path, weights: Path, output: Path, *more: str) -> list[str]:
    given = ["--data", root, "--backbone", "small", "--weights", weights, "--image-size", 64]
    return ["sweep", *map(str, [*given, "--algorithm", "patchcore", "-o", output, *more])]


def test_a_sweep_finds_what_it_looks_for(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "parts", good=20, defective=0)
    table = tmp_path / "out" / "sweep.csv"
    log = tmp_path / "log.csv"
    search = ["--search", "bank_size=16..64:log", "--search", "image_size=48|64"]
    more = [*search, "--trials", "2", "--synthetic-defects", "6", "--track", f"csv:{log}"]
    assert main(options(root, weights, table, *more)) == 0
    out = capsys.readouterr().out
    with table.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 2
    assert all(16 <= int(row["bank_size"]) <= 64 for row in found)
    assert {row["image_size"] for row in found} <= {"48", "64"}
    accuracy = [float(row["image_auroc"]) for row in found]
    assert accuracy == sorted(accuracy, reverse=True)
    assert "best of 2: trial" in out
    assert "Judged by the validation images" in table.with_suffix(".md").read_text()
    assert table.with_suffix(".svg").exists()
    assert "bank_size" in log.read_text()
    # Started again, with more asked for, only what is missing is made.
    more[more.index("2")] = "3"
    assert main(options(root, weights, table, *more)) == 0
    assert "best of 3: trial" in capsys.readouterr().out


def test_a_sweep_without_defects_to_judge_by_says_what_to_add(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "parts", good=20, defective=0)
    given = options(root, weights, tmp_path / "s.csv", "--search", "bank_size=16|32")
    assert main([*given, "--trials", "1"]) == USAGE
    err = capsys.readouterr().err
    assert "the validation images hold no defects. Add validation/<defect>" in err


def test_search_options_are_spans_or_choices() -> None:
    assert parse_search(["a=1..8", "b=0.5..2:log", "c=x|y", "d=1|2.5|true", "e=layer3"]) == {
        "a": {"low": 1, "high": 8, "log": False},
        "b": {"low": 0.5, "high": 2, "log": True},
        "c": {"values": ["x", "y"]},
        "d": {"values": [1, 2.5, True]},
        "e": {"values": ["layer3"]},
    }
    with pytest.raises(SettingError, match="write NAME=VALUE"):
        parse_search(["bank_size"])


def test_spans_are_checked() -> None:
    for wrong in ({"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}):
        with pytest.raises(ValueError, match="low must not lie above high"):
            Span.model_validate(wrong)


def config(root: Path, **changes: object) -> SweepConfig:
    search = {"bank_size": {"low": 1, "high": 9}, "algorithm": {"values": ["padim"]}}
    return SweepConfig.model_validate({"data": root, "search": search, **changes})


def test_parameters_go_where_they_belong(tmp_path: Path) -> None:
    fit = with_parameters(config(tmp_path), {"bank_size": 7, "algorithm": "padim"})
    assert (fit.algorithm, fit.hyperparameters) == ("padim", {"bank_size": 7})
    with pytest.raises(TrialFailed, match="image_size"):
        with_parameters(config(tmp_path), {"image_size": 3})


def test_a_search_of_other_content_is_another_study_and_more_trials_are_not(
    tmp_path: Path, weights: Path
) -> None:
    root = write_folder(tmp_path / "parts", good=6, defective=2)
    own = Path(shutil.copy(weights, tmp_path / "weights.safetensors"))
    given = {"backbone": "small", "weights": str(own)}
    first = config(root, **given)
    assert isinstance(first.search["bank_size"], Span)
    assert isinstance(first.search["algorithm"], Choice)
    digest = search_digest(first)
    assert search_digest(config(root, trials=99, **given)) == digest
    assert search_digest(config(root, seed=1, **given)) != digest
    moved = root.rename(tmp_path / "moved")
    assert search_digest(config(moved, **given)) == digest

    pixels, mask = defective_image(7)
    write(moved / "masks" / "spot_000.png", mask)
    other_mask = search_digest(config(moved, **given))
    write(moved / "defect" / "spot" / "spot_000.png", pixels)
    other_image = search_digest(config(moved, **given))
    own.write_bytes(own.read_bytes() + b" ")
    other_weights = search_digest(config(moved, **given))
    assert len({digest, other_mask, other_image, other_weights}) == 4


def test_a_study_that_holds_another_search_is_refused(tmp_path: Path) -> None:
    opened = open_study(StudyPlace(f"sqlite:///{tmp_path / 'study.db'}", "mine"))
    claim_study(opened, "a" * 8)
    claim_study(opened, "a" * 8)
    with pytest.raises(SettingError, match="--name mine: this study holds trials of other images"):
        claim_study(opened, "b" * 8)


def test_a_data_set_that_is_not_there_is_reported_before_a_study_is_made(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options(tmp_path / "none", weights, tmp_path / "s.csv", "--search", "bank_size=16|32")
    assert main(given) == USAGE
    assert "none: not a folder. Check --data." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_needs_something_to_search(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(tmp_path, weights, tmp_path / "s.csv")) == USAGE
    assert "search is missing" in capsys.readouterr().err
