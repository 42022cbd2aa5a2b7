"""Figures of a capability study, against published examples and counts done by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from edge.inspection.attribute_agreement import (
    Judgement,
    PartResults,
    attribute_agreement,
    cohen_kappa,
    criteria,
    fleiss_kappa,
    worst,
)
from edge.inspection.decision import Result

OK, NOK = Result.OK, Result.NOK
NOT_DECIDABLE, ERROR = Result.NOT_DECIDABLE, Result.ERROR

# Ten subjects, fourteen raters, five categories.
FLEISS_TABLE = (
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
)


def good(*results: Result, count: int = 1) -> list[PartResults]:
    return [PartResults(defective=False, results=results)] * count


def defective(*results: Result, count: int = 1) -> list[PartResults]:
    return [PartResults(defective=True, results=results)] * count


def test_fleiss_kappa_is_that_of_the_published_example() -> None:
    """https://en.wikipedia.org/wiki/Fleiss%27_kappa: 0.210."""
    ratings = [["abcde"[n] for n, c in enumerate(row) for _ in range(c)] for row in FLEISS_TABLE]
    assert fleiss_kappa(ratings) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_done_by_hand() -> None:
    """Two alike, one 2 to 1: P = (1 + 1 + 1/3) / 3 = 7/9; chance (4² + 5²) / 81 = 41/81."""
    assert fleiss_kappa(["aaa", "bbb", "bba"]) == pytest.approx((7 / 9 - 41 / 81) / (1 - 41 / 81))
    assert fleiss_kappa(["aaa", "aaa"]) is None
    assert fleiss_kappa(["a", "b"]) is None


def test_cohen_kappa_is_that_of_the_published_example() -> None:
    """https://en.wikipedia.org/wiki/Cohen%27s_kappa: 20 and 15 agreed, 5 and 10 not: 0.4."""
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)
    assert cohen_kappa([("y", "y")] * 3) is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("abc")), min_size=2))
def test_cohen_kappa_is_that_of_another_library(pairs: list[tuple[str, str]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    if len({*first, *second}) > 1:
        assert cohen_kappa(pairs) == pytest.approx(cohen_kappa_score(first, second))


def test_the_figures_are_those_counted_by_hand() -> None:
    parts = [
        *good(OK, OK, count=3),
        *good(OK, NOK),
        *defective(NOK, NOK, count=4),
        *defective(OK, OK),
        *defective(NOK, NOT_DECIDABLE),
    ]
    found = attribute_agreement(parts)
    assert (found.effectiveness.hits, found.effectiveness.parts) == (7, 10)
    assert (found.miss_rate.hits, found.miss_rate.showings, found.miss_rate.parts) == (2, 12, 6)
    assert (found.false_alarm_rate.hits, found.false_alarm_rate.showings) == (1, 8)
    assert (found.alike.hits, found.not_decidable, found.errors) == (8, 1, 0)
    # Of 20 showings 16 agree; 8 good against 9 OK, 12 defective against 10 NOK.
    chance = (8 * 9 + 12 * 10) / 400
    assert found.reference_kappa == pytest.approx((0.8 - chance) / (1 - chance))


def test_an_error_or_an_undecided_part_is_right_for_neither_class() -> None:
    parts = [*good(ERROR), *good(NOT_DECIDABLE), *defective(ERROR), *defective(NOT_DECIDABLE)]
    found = attribute_agreement(parts)
    assert (found.effectiveness.hits, found.not_decidable, found.errors) == (0, 2, 2)
    assert found.miss_rate.hits == found.false_alarm_rate.hits == 0
    assert worst(criteria(found)) is Judgement.NOT_ACCEPTABLE


def test_an_interval_counts_parts_however_often_each_was_shown() -> None:
    """0 of 10 parts: at most 30.85 %; one part in ten missed once: 0 to 44.5 %."""
    rounds = (NOK,) * 50
    every = attribute_agreement([*good(*(OK,) * 50), *defective(*rounds, count=10)])
    assert every.miss_rate.interval == pytest.approx((0.0, 0.3085), abs=5e-5)
    once = attribute_agreement(
        [*good(*(OK,) * 50), *defective(*rounds, count=9), *defective(OK, *rounds[1:])]
    )
    assert once.miss_rate.value == 1 / 500
    assert once.miss_rate.interval == pytest.approx((0.0, 0.4450), abs=5e-5)


@pytest.mark.parametrize(
    ("missed", "false", "judgement"),
    [
        (2, 5, Judgement.ACCEPTABLE),
        (3, 5, Judgement.MARGINAL),
        (2, 6, Judgement.MARGINAL),
        (5, 10, Judgement.MARGINAL),
        (6, 0, Judgement.NOT_ACCEPTABLE),
        (0, 11, Judgement.NOT_ACCEPTABLE),
    ],
)
def test_the_worst_figure_is_the_judgement(missed: int, false: int, judgement: Judgement) -> None:
    parts = good(OK, count=100 - false) + good(NOK, count=false)
    parts += defective(NOK, count=100 - missed) + defective(OK, count=missed)
    assert worst(criteria(attribute_agreement(parts))) is judgement


@pytest.mark.parametrize(("right", "judgement"), [(9, "acceptable"), (8, "marginal")])
def test_effectiveness_counts_the_parts_that_were_right_in_every_round(
    right: int, judgement: str
) -> None:
    parts = good(OK, OK, count=right - 1) + good(OK, NOT_DECIDABLE, count=10 - right)
    effectiveness, *_ = criteria(attribute_agreement(parts + defective(NOK, NOK)))
    assert (effectiveness.rate.hits, effectiveness.judgement) == (right, judgement)


def test_what_too_few_parts_cannot_support_is_named_with_the_number_that_could() -> None:
    few = criteria(attribute_agreement(good(OK, count=10) + defective(NOK, count=10)))
    assert [one.judgement for one in few] == ["acceptable"] * 3
    assert [one.supported for one in few] == [False] * 3
    assert [one.needed for one in few] == [36, 183, 72]

    enough = criteria(attribute_agreement(good(OK, count=72) + defective(NOK, count=183)))
    assert [one.supported for one in enough] == [True] * 3
    short = criteria(attribute_agreement(good(OK, count=71) + defective(NOK, count=182)))
    assert [one.supported for one in short] == [True, False, False]


def test_a_study_that_fails_by_far_is_supported_by_few_parts() -> None:
    found = criteria(attribute_agreement(good(NOK, count=5) + defective(OK, count=5)))
    assert [one.judgement for one in found] == ["not_acceptable"] * 3
    assert [one.supported for one in found] == [True] * 3
    narrow = criteria(attribute_agreement(good(OK, count=5) + good(NOK) + defective(NOK)))
    assert (narrow[2].judgement, narrow[2].supported) == ("not_acceptable", False)


def test_a_study_without_one_class_or_with_uneven_rounds_is_none() -> None:
    with pytest.raises(ValueError, match="good and defective"):
        attribute_agreement(good(OK))
    with pytest.raises(ValueError, match="equally often"):
        attribute_agreement([*good(OK), *defective(NOK, NOK)])
