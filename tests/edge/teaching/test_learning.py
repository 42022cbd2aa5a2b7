"""What is learned from marks: the parts beside them, and the threshold that they ask for."""

from dataclasses import dataclass

import numpy as np
import pytest

from edge.inspection.decision import Result
from edge.teaching.learning import WrongBefore, no_worse_than, parts_beside_marks


@dataclass(frozen=True)
class Judged:
    number: int
    result: Result


def line(passed: int, rejected: int) -> list[Judged]:
    results = [Result.OK] * passed + [Result.NOK] * rejected + [Result.ERROR] * 5
    return [Judged(number, result) for number, result in enumerate(results)]


@pytest.mark.parametrize(
    ("passed", "rejected", "room", "chosen"),
    [
        (300, 80, 88, (66, 22)),
        (300, 4, 88, (84, 4)),
        (10, 80, 88, (10, 22)),
        (300, 80, 1000, (150, 50)),
        (3, 2, 88, (3, 2)),
        (300, 80, 0, (0, 0)),
    ],
)
def test_unmarked_parts_stand_beside_the_marks_as_far_as_there_is_room(
    passed: int, rejected: int, room: int, chosen: tuple[int, int]
) -> None:
    good, bad = parts_beside_marks(line(passed, rejected), room)
    assert (len(good), len(bad)) == chosen
    assert {part.result for part in good} <= {Result.OK}
    assert {part.result for part in bad} <= {Result.NOK}
    if chosen[0] == 66:  # not the newest alone
        assert good[-1].number - good[0].number > 250


@pytest.mark.parametrize(
    ("rejected", "missed", "now_rejected", "now_missed"),
    [
        (20, 60, 10, 29),  # between 20 rejected and 19 missed, and none rejected and 39 missed
        (20, 30, 15, 25),
        (20, 25, 17, 22),
        (4, 40, 2, 37),
        (0, 40, 0, 39),
        (0, 38, 1, 38),  # no more misses goes before no more false rejects
        (0, 0, 5, 34),  # but for one good part in twenty at most
    ],
)
def test_a_candidate_is_no_worse_than_the_model_in_force_on_either_side(
    rejected: int, missed: int, now_rejected: int, now_missed: int
) -> None:
    good, defective = np.arange(100.0), np.arange(60.5, 160.5)
    choice = no_worse_than(WrongBefore(rejected, missed), good, defective)
    threshold = choice.threshold(good, defective)
    wrong = int((good >= threshold).sum()), int((defective < threshold).sum())
    assert wrong == (now_rejected, now_missed)
