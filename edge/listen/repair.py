"""What to do about gaps: wait a moment, ask, ask again, give up. Pure, with a clock passed in."""

from collections.abc import Sequence
from dataclasses import dataclass

from edge.listen.sequence_ranges import Stretch

MAX_ASKED = 5
# Numbers of one request, as stations take it.
MAX_AT_ONCE = 10_000
# Verdicts that a station may be ahead of what its state says; it says so every half a minute.
MAX_AHEAD = 10_000


def believed(gaps: Sequence[Stretch], said: int) -> list[Stretch]:
    """Return the gaps that can be: one number that is forged far ahead makes no gap before it.

    Args:
        gaps: what is missing, in order.
        said: the highest number that the station itself names.
    """
    found: list[Stretch] = []
    for gap in gaps:
        if gap.last > said and len(gap) > MAX_AHEAD:
            if gap.first <= said:
                found.append(Stretch(gap.first, said))
            break  # what lies beyond hangs on the same number
        found.append(gap)
    return found


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the station for these again; ``first_time`` is worth a word to the user."""

    gap: Stretch
    first_time: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The station does not have these any more, or does not answer."""

    gap: Stretch


@dataclass(slots=True)
class _Case:
    first: int
    due_s: float
    asked: int = 0
    told: bool = False


class Repair:
    """Follows the gaps of one journal of one station."""

    def __init__(self, grace_s: float = 1.0, again_s: float = 5.0) -> None:
        """Args:
        grace_s: a gap younger than this may be about to close.
        again_s: between the first two requests; twice as long each time after that.
        """
        self._grace_s = grace_s
        self._again_s = again_s
        self._cases: dict[int, _Case] = {}

    def decide(self, gaps: list[Stretch], now_s: float, current: bool) -> list[Ask | GiveUp]:
        """Return what to do now.

        Args:
            gaps: what is missing at present.
            now_s: monotonic.
            current: the station still writes this journal; of an older one it has nothing.
        """
        ends = {gap.last for gap in gaps}
        self._cases = {last: case for last, case in self._cases.items() if last in ends}
        steps: list[Ask | GiveUp] = []
        for gap in gaps:
            # Gaps close from their first number on, so that the last one names them.
            case = self._cases.setdefault(gap.last, _Case(gap.first, now_s + self._grace_s))
            if gap.first > case.first:  # it is closing
                case.first, case.asked, case.due_s = gap.first, 0, now_s + self._again_s
            if now_s < case.due_s:
                continue
            if not current or case.asked >= MAX_ASKED:
                steps.append(GiveUp(gap))
                continue
            steps.append(Ask(_beginning(gap), case.asked == 0 and not case.told))
            case.told = True
            case.due_s = now_s + self._again_s * 2**case.asked
            case.asked += 1
        return steps


def _beginning(gap: Stretch) -> Stretch:
    return Stretch(gap.first, min(gap.last, gap.first + MAX_AT_ONCE - 1))
