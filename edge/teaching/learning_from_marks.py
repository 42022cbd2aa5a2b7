"""Learning from marks: which parts of the line count beside them, and the threshold they ask for.

Whoever marks what was judged wrongly leaves unmarked what was judged rightly. So unmarked parts
that passed are good, and unmarked ones that were rejected are defective: not certain enough to be
learned, but the threshold is held against them. Without them it would rest on a handful of
images, and on defects that are all of those that were missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from edge.bundle.manifest import ThresholdMethod
from edge.inspection.decision import Result
from edge.inspection.thresholding import Scores
from edge.teaching.threshold_choice import ThresholdChoice

# Parts of the line that a threshold is held against, at most.
MAX_LINE_PARTS = 200
# Of false rejects, one after the other, where as many as until now miss more defects than now.
_ALLOWED = (0.01, 0.02, 0.05)


class JudgedPart(Protocol):
    """A part of the line, with its verdict."""

    @property
    def result(self) -> Result: ...


Part = TypeVar("Part", bound=JudgedPart)


def parts_beside_marks(unmarked: Sequence[Part], room: int) -> tuple[list[Part], list[Part]]:
    """Choose parts that passed and parts that were rejected, evenly over all that there are.

    Args:
        unmarked: parts that nobody marked.
        room: at most so many; a quarter of it for those that were rejected, because a rate of
            false rejects is small, and few good parts do not show it.
    """
    room = min(room, MAX_LINE_PARTS)
    rejected = [part for part in unmarked if part.result is Result.NOK]
    rejected = _evenly(rejected, room // 4)
    passed = [part for part in unmarked if part.result is Result.OK]
    return _evenly(passed, room - len(rejected)), rejected


@dataclass(frozen=True, slots=True)
class WrongBefore:
    """What the model in force makes of the images that the next one is held against.

    Attributes:
        rejected: good ones that it rejects.
        missed: defective ones that it lets pass.
    """

    rejected: int
    missed: int


def no_worse_than(before: WrongBefore, good: Scores, defective: Scores) -> ThresholdChoice:
    """Return the threshold of a candidate that neither rejects more good nor misses more defects.

    Of all that do neither, it is the middle one. Where each would miss more defects than the model
    in force, 1, 2 or 5 % of the good may be rejected instead: a defect that passes costs more.

    Args:
        before: the model in force on the same images.
        good, defective: ``(N,)`` and ``(M,)`` raw scores of the candidate, N at least 1.
    """
    as_before = min(before.rejected / len(good), 0.5)
    missed = before.missed / max(len(defective), 1)
    rates = (as_before, *(rate for rate in _ALLOWED if rate > as_before))
    choices = [ThresholdChoice(ThresholdMethod.BALANCED, (rate, missed)) for rate in rates]
    for choice in choices:
        threshold = choice.threshold(good, defective)
        if np.count_nonzero(defective < threshold) <= before.missed:
            return choice
    return choices[-1]


def choice_of_rate(rate: float) -> ThresholdChoice:
    """Return the balanced threshold within a share of false rejects."""
    return ThresholdChoice(ThresholdMethod.BALANCED, (rate,))


def _evenly(parts: Sequence[Part], count: int) -> list[Part]:
    if len(parts) <= count:
        return list(parts)
    return [parts[index * len(parts) // count] for index in range(count)]
