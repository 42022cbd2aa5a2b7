"""Where the records of a station are on their way to the broker."""

from dataclasses import dataclass

from edge.errors import StationError


class VerdictsUndelivered(StationError):
    """The broker did not acknowledge every verdict; they wait in the journal (EX_TEMPFAIL)."""

    exit_code = 75


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often what is said, in seconds."""

    state_s: float = 30.0
    metrics_s: float = 10.0
    last_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Where the records are.

    Attributes:
        connected: there is a connection to the broker.
        complete: the broker has every record, but for dead letters.
        verdicts_complete: the broker has every verdict, but for dead letters.
        events_refused: the broker does not take events at present.
        acknowledged: records the broker took in this run.
        dead_letters: records given up in this run; each is an event.
        nobody_listens: the broker had nobody to give the newest verdict to.
        refusing: the broker does not take records at present.
        hints: what the state says of the connection, such as ``delivery_unproven``.
    """

    connected: bool
    complete: bool
    verdicts_complete: bool
    events_refused: bool
    acknowledged: int
    dead_letters: int
    nobody_listens: bool
    refusing: bool
    hints: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Nothing more is to be waited for: events that are refused stay in the journal."""
        return self.complete or (self.verdicts_complete and self.events_refused)
