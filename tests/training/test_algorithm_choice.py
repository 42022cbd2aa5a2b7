"""``--algorithm auto``: few models are compared, and the default stays unless one is better."""

from html import unescape
from pathlib import Path

import numpy as np
import pytest

from tests.support.small_training import good_image, write
from tests.training.conftest import fit_arguments
from training.algorithm_choice import (
    LARGER,
    Candidate,
    Trial,
    choice_lines,
    decide,
)
from training.checkpoint import load_checkpoint
from training.cli import main
from training.config import load_fit_config
from training.metrics.clustered import (
    ClusteredScores,
    auroc_gain,
    clustered_auroc,
    student_quantile,
)

CONFIG = load_fit_config(None, {"data": [Path("images")]})
AUTO = ["--algorithm", "auto", "--image-size", "48", "--set", "feature_count=12"]


def trial(name: str, shift: float, count: int = 30) -> Trial:
    """Return a model whose scores of defects lie so far above those of good images."""
    random = np.random.default_rng(sum(map(ord, name)))
    scores = ClusteredScores(
        random.normal(0, 1, count), random.normal(0, 1, (count, 3)) + np.float64(shift)
    )
    return Trial(Candidate(name, CONFIG), (64, 64), scores)


def test_a_model_that_is_clearly_better_is_taken_and_the_next_one_named() -> None:
    choice = decide([trial("patchcore", 1.0), trial("dfm", 4.0), trial("padim", 2.0)], 30)
    assert (choice.chosen, choice.shown_better) == ("dfm", True)
    assert (choice.good_count, choice.synthetic_count) == (30, 90)
    assert choice.confidence == pytest.approx(0.975)  # each of two, so that both hold with 95 %
    lines = choice_lines(choice)
    assert lines[0].startswith("algorithm dfm at 64×64: AUROC 0.99")
    assert "the default patchcore has 0." in lines[0]
    assert lines[1].startswith("runner-up: padim at 64×64")


def test_the_default_stays_where_nothing_is_shown_to_be_better() -> None:
    choice = decide([trial("patchcore", 3.0), trial("dfm", 3.2)], 30, [f"{LARGER}: no pixels"])
    assert (choice.chosen, choice.shown_better) == ("patchcore", False)
    lines = choice_lines(choice)
    assert "the default: none of the others is proven better" in lines[0]
    assert lines[1].startswith("runner-up: dfm")
    assert lines[-1] == "not tried: patchcore, larger input: no pixels"


def test_of_few_images_nothing_is_chosen_whatever_they_show() -> None:
    choice = decide([trial("patchcore", 0.0, 9), trial("dfm", 9.0, 9)], 9)
    assert (choice.chosen, choice.tried) == ("patchcore", ())
    assert "too few to compare models by: 9 good images held out" in choice_lines(choice)[0]
    assert "there is nothing" in choice_lines(decide([], 20))[0]


def test_an_equal_model_is_taken_for_better_as_seldom_as_promised() -> None:
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(600):
        # Part of a score is the image's own, in both models and in its defects.
        own = random.normal(0, 1, (20, 1))
        first, second = (
            ClusteredScores(scores[:, 0], scores[:, 1:] + 1.5)
            for scores in (own + random.normal(0, 1, (20, 4)) for _ in range(2))
        )
        wrong += auroc_gain(first, second, 0.95).low > 0.0
    assert wrong / 600 == pytest.approx(0.025, abs=0.02)


def test_the_gain_is_that_of_the_areas_and_none_of_the_same_scores() -> None:
    first, second = trial("a", 0.5).scores, trial("b", 1.5).scores
    found = auroc_gain(first, second, 0.95)
    pairs = first.defective.ravel()[:, None] > first.good[None]
    assert clustered_auroc(first) == pytest.approx(pairs.mean())
    assert found.gain == pytest.approx(clustered_auroc(second) - clustered_auroc(first))
    assert found.low < found.gain < found.high
    assert auroc_gain(first, first, 0.95) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [(0.975, 9, 2.2622), (0.995, 19, 2.8609), (0.995, 9, 3.2498), (0.975, 49, 2.0096)],
)
def test_students_quantiles_are_those_of_the_tables(
    probability: float, freedom: int, value: float
) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(value, abs=2e-4)


def test_a_fit_chooses_and_says_why_in_log_report_and_checkpoint(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(40):
        write(tmp_path / "parts" / f"{number}.png", good_image(number))
    output = tmp_path / "a.safetensors"
    caplog.set_level("INFO")
    assert main(fit_arguments(tmp_path / "parts", weights, output, *AUTO)) == 0

    description = load_checkpoint(output).description
    choice = description.training.choice
    assert choice is not None
    assert [one.name for one in choice.tried] == ["patchcore", "dfm", "padim", LARGER]
    assert [one.width for one in choice.tried] == [48, 48, 48, 64]  # 72 in steps of 16
    assert choice.good_count >= 10
    assert choice.synthetic_count == 3 * choice.good_count
    assert description.algorithm == choice.chosen.partition(",")[0]
    page = unescape(output.with_suffix(".html").read_text())
    for line in choice_lines(choice):
        assert line in caplog.text
        assert line in page


def test_few_images_and_what_the_threshold_lacks_are_reported_before_anything_is_compared(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.safetensors"
    arguments = fit_arguments(data, weights, output, *AUTO, "--no-report")
    assert main(arguments) == 0
    printed = "good images held out of the fit; 10 are needed"
    assert printed in capsys.readouterr().out
    choice = load_checkpoint(output).description.training.choice
    assert choice is not None and choice.chosen == "patchcore" and not choice.tried

    assert main([*arguments, "--threshold", "false-reject-rate=0.01@0.95"]) == 78
    assert "needs at least 299 good images" in capsys.readouterr().err
    assert main([*arguments, "--set", "epochs=3"]) == 78
    assert "--set epochs: none of patchcore, dfm, padim" in capsys.readouterr().err
    assert main([*arguments, "--mask", str(write(tmp_path / "m.png", good_image()))]) == 78
    assert "--mask cannot be combined with --algorithm auto" in capsys.readouterr().err
