"""Records as they came to edge-listen, and what it needs of a place that keeps them."""

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from edge.contract.commands import RecordKind
from edge.errors import OutputNotWritable
from edge.listen.known_journals import ReportedJournal
from edge.listen.sequence_ranges import SequenceRanges, Stretch


class NotStoredNow(OutputNotWritable):
    """Records are not kept, and may be at another attempt: a full disk, somebody else's lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A record as it came.

    Attributes:
        kind: a verdict, or an event.
    """

    station: str
    journal: str
    seq: int
    content: dict[str, Any]
    payload: str
    arrived_utc: str
    kind: RecordKind = "verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedState:
    """The state of a station as it came."""

    station: str
    content: dict[str, Any]
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is kept in one transaction.

    Attributes:
        arrived: verdicts, and events where they are kept.
        reported_journals: what states say of journals.
        states: the states themselves.
    """

    arrived: tuple[Arrived, ...] = ()
    reported_journals: tuple[ReportedJournal, ...] = ()
    states: tuple[ReportedState, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """What a batch brought.

    Attributes:
        fresh: verdicts that were not there yet; those in conflict are among them.
        conflicts: verdicts under a number that another one has.
        other_heads: notes whose head differs from that reported before for the same record.
    """

    fresh: int
    conflicts: list[Arrived]
    other_heads: list[ReportedJournal]


class RecordStore(Protocol):
    """What a listener needs of where records are kept.

    Attributes:
        look_every_s: so often ``keep_batch`` is called without a batch, too; such a store may be
            away for a time, and is tried again whatever it reports. None for one that ends all
            unless it reports ``NotStoredNow``.
        keeps_events: events and states have a place there.
        may_repair: this listener asks stations for what is missing; of several one does.
    """

    look_every_s: float | None
    keeps_events: bool
    may_repair: bool

    def keep_batch(self, batch: Batch) -> Kept: ...
    def journals(self) -> list[tuple[str, str]]: ...
    def numbers(self, station: str, journal: str) -> SequenceRanges: ...
    def missing(self, station: str, journal: str, up_to: int) -> list[Stretch]: ...
    def followed_at(self, station: str, journal: str) -> int: ...
    def conflicts(self, station: str, journal: str) -> list[Stretch]: ...
    def reported(self, station: str, journal: str) -> ReportedJournal | None: ...
    def goes_on_as(self, station: str, journal: str, newest: str) -> bool: ...
    def lost(self, station: str, journal: str) -> list[Stretch]: ...
    def event_gaps(self) -> list[tuple[str, str, list[Stretch]]]: ...
    def give_up(
        self, station: str, journal: str, gap: Stretch, kind: RecordKind = "verdict"
    ) -> None: ...
    def close(self) -> None: ...


def short_id(identity: Any) -> bytes:
    """Return the id of a verdict in as few bytes as it takes."""
    try:
        return UUID(str(identity)).bytes
    except ValueError:
        return str(identity).encode()
