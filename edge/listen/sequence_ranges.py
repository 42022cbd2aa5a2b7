"""Which sequence numbers have arrived: stretches, so that millions take the room of their gaps."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stretch:
    """Numbers without a gap, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    def __len__(self) -> int:
        return self.last - self.first + 1


class SequenceRanges:
    """A set of numbers as sorted stretches that neither touch nor overlap."""

    def __init__(self, stretches: list[Stretch] | None = None) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for stretch in sorted(stretches or [], key=lambda one: one.first):
            self._firsts.append(stretch.first)
            self._lasts.append(stretch.last)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]

    def __iter__(self) -> Iterator[Stretch]:
        return (Stretch(*ends) for ends in zip(self._firsts, self._lasts, strict=True))

    @property
    def last(self) -> int:
        """The highest number; 0 of an empty set."""
        return self._lasts[-1] if self._lasts else 0

    def add(self, number: int) -> tuple[list[Stretch], Stretch] | None:
        """Add a number; None when it is known.

        Returns:
            The stretches that are no longer, and the one that takes their place.
        """
        if number in self:
            return None
        place = bisect_right(self._firsts, number)
        first = last = number
        gone = []
        if place < len(self._firsts) and self._firsts[place] == number + 1:
            last = self._lasts[place]
            gone.append(Stretch(self._firsts.pop(place), self._lasts.pop(place)))
        if place > 0 and self._lasts[place - 1] == number - 1:
            place -= 1
            first = self._firsts[place]
            gone.append(Stretch(self._firsts.pop(place), self._lasts.pop(place)))
        self._firsts.insert(place, first)
        self._lasts.insert(place, last)
        return gone, Stretch(first, last)

    def gaps(self, up_to: int = 0) -> list[Stretch]:
        """Return what is missing between the stretches, and behind the last one ``up_to``."""
        between = [
            Stretch(last + 1, first - 1)
            for last, first in zip(self._lasts, self._firsts[1:], strict=False)
        ]
        behind = [Stretch(self.last + 1, up_to)] if self._lasts and up_to > self.last else []
        return between + behind


def without(gaps: list[Stretch], given_up: list[Stretch]) -> list[Stretch]:
    """Return the gaps less what was given up."""
    left = gaps
    for lost in given_up:
        cut = []
        for gap in left:
            if lost.last < gap.first or lost.first > gap.last:
                cut.append(gap)
                continue
            if gap.first < lost.first:
                cut.append(Stretch(gap.first, lost.first - 1))
            if lost.last < gap.last:
                cut.append(Stretch(lost.last + 1, gap.last))
        left = cut
    return left
