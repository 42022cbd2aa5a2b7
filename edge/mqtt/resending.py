"""An order to send records again, and how far it has come."""

from collections import deque
from dataclasses import dataclass, field

from edge.contract.commands import Resend
from edge.journal.entries import JournalRow


@dataclass(slots=True, eq=False, kw_only=True)
class Resending:
    """A resend on its way: rows read and not sent, ``seq`` of rows sent and not acknowledged."""

    order: Resend
    next_seq: int
    rows: deque[JournalRow] = field(default_factory=deque)
    in_flight: set[int] = field(default_factory=set)
    delivered: int = 0
    interrupted: int = 0

    def start_over(self) -> None:
        """Go back to the oldest row that is not acknowledged."""
        self.interrupted += 1
        self.next_seq = min((*self.in_flight, *(row.seq for row in self.rows), self.next_seq))
        self.rows.clear()
        self.in_flight.clear()

    @property
    def ended(self) -> bool:
        return self.next_seq > self.order.to_seq and not self.rows and not self.in_flight
