"""What to do about gaps: wait a moment, ask, ask again, give up. Pure, with a clock passed in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge.listen.sequence_ranges import Stretch

MAX_ASKED = 5
# Numbers of one request, as stations take it.
MAX_AT_ONCE = 10_000
# Gaps with no more numbers between them are asked for in one request: a station sends a thousand
# records again sooner than it takes the next request.
JOINED_WITHIN = 1000
# Of one journal and kind: a station takes 60 commands a minute and keeps eight resends waiting.
ASK_EVERY_S = 2.5
# After a request that the station refused because it has too much to do.
REFUSED_WAIT_S = 10.0
# What a station sends again in a second at least, beside its line.
SENT_AGAIN_PER_S = 500
# Verdicts that a station may be ahead of what its state says; it says so every half a minute.
MAX_AHEAD = 10_000


def believed(gaps: Sequence[Stretch], reported_seq: int) -> list[Stretch]:
    """Return the gaps that can be: one number that is forged far ahead makes no gap before it.

    Args:
        gaps: what is missing, in order.
        said: the highest number that the station itself names.
    """
    found: list[Stretch] = []
    for gap in gaps:
        if gap.last > reported_seq and len(gap) > MAX_AHEAD:
            if gap.first <= reported_seq:
                found.append(Stretch(gap.first, reported_seq))
            break  # what lies beyond hangs on the same number
        found.append(gap)
    return found


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the station for these again.

    Attributes:
        wanted: numbers of the request; some of them may be there.
        gaps: what it is for; the last one may go on behind the request.
        first_time: some of it was not asked for before, which is worth a word to the user.
    """

    wanted: Stretch
    gaps: tuple[Stretch, ...]
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
    reported: bool = False


class Repair:
    """Follows the gaps of one journal of one station."""

    def __init__(
        self,
        *,
        grace_s: float = 1.0,
        again_s: float = 5.0,
        every_s: float = ASK_EVERY_S,
        sent_per_s: float = SENT_AGAIN_PER_S,
        refused_wait_s: float = REFUSED_WAIT_S,
    ) -> None:
        """Begin with no gap.

        Args:
            grace_s: a gap younger than this may be about to close.
            again_s: between the first two requests for a gap; twice as long each time after that.
            every_s: between two requests, whatever for.
            sent_per_s: records that a station sends again in a second at least.
            refused_wait_s: until the next request, after one that the station had no time for.
        """
        self._grace_s = grace_s
        self._again_s = again_s
        self._every_s = every_s
        self._sent_per_s = sent_per_s
        self._refused_wait_s = refused_wait_s
        self._ask_due_s = -math.inf
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
        due: list[Stretch] = []
        for gap in gaps:
            # Gaps close from their first number on, so that the last one names them.
            case = self._cases.setdefault(gap.last, _Case(gap.first, now_s + self._grace_s))
            if gap.first > case.first:  # it is closing
                case.first, case.asked, case.due_s = gap.first, 0, now_s + self._again_s
            if now_s < case.due_s:
                continue
            if not current or case.asked >= MAX_ASKED:
                steps.append(GiveUp(gap))
            else:
                due.append(gap)
        if due and now_s >= self._ask_due_s:
            self._ask_due_s = now_s + self._every_s
            steps.append(self._ask(due, now_s))
        return steps

    def refused(self, ask: Ask, now_s: float) -> None:
        """Take a request for none: the station had no time to look whether it has these."""
        self._ask_due_s = max(self._ask_due_s, now_s + self._refused_wait_s)
        for gap in ask.gaps:
            case = self._cases.get(gap.last)
            if case is not None and case.asked:
                case.asked -= 1
                case.due_s = now_s + self._refused_wait_s

    def _ask(self, due: Sequence[Stretch], now_s: float) -> Ask:
        """Return a request for the first of these gaps, and for those that go with it."""
        wanted, asked = _beginning(due[0]), [due[0]]
        for gap in due[1:]:
            if gap.first - wanted.last > JOINED_WITHIN + 1:
                break
            if gap.last - wanted.first >= MAX_AT_ONCE:
                break
            wanted = Stretch(wanted.first, gap.last)
            asked.append(gap)
        cases = [self._cases[gap.last] for gap in asked]
        first_time = not all(case.reported for case in cases)
        for case in cases:
            case.reported = True
            case.due_s = now_s + self._again_s * 2**case.asked + len(wanted) / self._sent_per_s
            case.asked += 1
        return Ask(wanted, tuple(asked), first_time)


def _beginning(gap: Stretch) -> Stretch:
    return Stretch(gap.first, min(gap.last, gap.first + MAX_AT_ONCE - 1))
