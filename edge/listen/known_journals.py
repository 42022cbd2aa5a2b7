"""What a listener knows of the journals of stations: numbers, what was given up, what follows."""

from dataclasses import dataclass

from edge.listen.sequence_ranges import SequenceRanges, Stretch, without


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedJournal:
    """What a station's state says of its journal.

    Attributes:
        first_seq: number with which its verdicts begin.
        follows: the journal that went on as this one; None where there was none.
        position, seq: of the newest record and the newest verdict; 0 where the state names none.
        head: the end of the hash chain at that record; empty where the state names none.
    """

    station: str
    journal: str
    first_seq: int = 1
    follows: str | None = None
    position: int = 0
    seq: int = 0
    head: str = ""

    def agrees_with(self, older: "ReportedJournal") -> bool:
        """Return whether a report that is no newer can be of the same chain."""
        return self.position > older.position or not older.head or self.head == older.head


class KnownJournals:
    """The numbers of each journal that arrived, and what its station says of it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], SequenceRanges] = {}
        self._lost: dict[tuple[str, str], list[Stretch]] = {}
        self._reported: dict[tuple[str, str], ReportedJournal] = {}

    def journals(self) -> list[tuple[str, str]]:
        """Return station and journal of everything known."""
        return list(self._known)

    def numbers(self, station: str, journal: str) -> SequenceRanges:
        return self._known.get((station, journal), SequenceRanges())

    def missing(self, station: str, journal: str, up_to: int) -> list[Stretch]:
        """Return what is missing between the first number and ``up_to``, but for the given up.

        Numbers are of this journal from its first one to that with which another follows it. A
        verdict below the first one shows that whoever named it is not to be believed.
        """
        gaps = self.numbers(station, journal).gaps(max(up_to, self.followed_at(station, journal)))
        key = (station, journal)
        reported = self._reported.get(key)
        before = []
        if reported and not any(0 < one.first < reported.first_seq for one in self.numbers(*key)):
            before.append(Stretch(0, reported.first_seq - 1))
        return without(gaps, self._lost.get((station, journal), []) + before)

    def followed_at(self, station: str, journal: str) -> int:
        """Return the number with which another journal follows; 0 where none does."""
        followers = (
            one.first_seq - 1
            for one in self._reported.values()
            if one.station == station and one.follows == journal
        )
        return max(followers, default=0)

    def reported(self, station: str, journal: str) -> ReportedJournal | None:
        """Return the newest that is known of a journal; None before its station said a word."""
        return self._reported.get((station, journal))

    def goes_on_as(self, station: str, journal: str, newest: str) -> bool:
        """Tell whether a station writes a journal still, by that or a later identity."""
        seen = set()
        while newest != journal and newest not in seen:
            seen.add(newest)
            reported = self._reported.get((station, newest))
            if reported is None or reported.follows is None:
                return False
            newest = reported.follows
        return newest == journal

    def lost(self, station: str, journal: str) -> list[Stretch]:
        """Return what was given up and did not come after all."""
        given_up = self._lost.get((station, journal), [])
        return without(given_up, list(self.numbers(station, journal)))
