"""Where the conveyor is, by the counts of its encoder, and when it will have moved on.

Between two counts the conveyor is taken to move evenly, and for a moment behind the newest one as
it did before it.
"""

from collections import deque
from dataclasses import dataclass

# Counts that are remembered: a part's image, or the moment of its trigger, must not be older.
MAX_COUNTS = 4096


@dataclass(frozen=True, slots=True)
class Count:
    """What the encoder's counter said.

    Attributes:
        at_ns: monotonic time.
        count: without its overflows; grows while parts move on.
        spell: counts of another one do not belong together, as the counter was away between them.
    """

    at_ns: int
    count: int
    spell: int


@dataclass(frozen=True, slots=True)
class EncoderLost:
    """Nobody knows where the conveyor is from now on."""

    at_ns: int


class Conveyor:
    """The counts of one spell; every call takes or returns monotonic times."""

    def __init__(self, ahead_ns: int) -> None:
        """Begin without a count.

        Args:
            ahead_ns: so long after the newest count its speed counts.
        """
        self._ahead_ns = ahead_ns
        self._counts: deque[Count] = deque(maxlen=MAX_COUNTS)

    def moved(self, count: Count) -> bool:
        """Take a count; False where those before it do not belong to it, and are forgotten."""
        same = not self._counts or self._counts[-1].spell == count.spell
        if not same:
            self._counts.clear()
        self._counts.append(count)
        return same

    def lost(self) -> None:
        """Forget everything."""
        self._counts.clear()

    def knows(self, at_ns: int) -> bool:
        """Tell whether ``count_at`` has, or will have, an answer for a moment."""
        return bool(self._counts) and self._counts[0].at_ns <= at_ns

    def count_at(self, at_ns: int) -> float | None:
        """Return the count at a moment that is known; None while no count lies behind it."""
        later: Count | None = None
        for one in reversed(self._counts):
            if one.at_ns <= at_ns:
                if one.at_ns == at_ns:
                    return one.count
                return None if later is None else _between(one, later, at_ns)
            later = one
        return None

    def due_ns(self, target: float) -> int | None:
        """Return when the count was, or will in a moment be, at its target; else None."""
        later: Count | None = None
        for one in reversed(self._counts):
            if one.count < target:
                if later is not None:
                    return _time(one, later, target)
                return self._ahead(one, target)
            later = one
        return None if later is None else later.at_ns

    def _ahead(self, newest: Count, target: float) -> int | None:
        if len(self._counts) < 2:
            return None
        before = self._counts[-2]
        if before.count >= newest.count:
            return None
        due_ns = _time(before, newest, target)
        return due_ns if due_ns - newest.at_ns <= self._ahead_ns else None


def unwrapped(before: int, raw: int, bits: int) -> int:
    """Return a count without overflows.

    Args:
        before: such a count, less than half the counter's range ago.
        raw: what a counter of so many bits says now.
    """
    half = 1 << (bits - 1)
    return before + (raw - before + half) % (2 * half) - half


def _between(one: Count, later: Count, at_ns: int) -> float:
    share = (at_ns - one.at_ns) / (later.at_ns - one.at_ns)
    return one.count + share * (later.count - one.count)


def _time(one: Count, later: Count, target: float) -> int:
    share = (target - one.count) / (later.count - one.count)
    return one.at_ns + round(share * (later.at_ns - one.at_ns))
