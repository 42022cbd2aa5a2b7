"""Ports: what a PLC sees of the hand-shake, whatever carries it."""

from typing import Protocol

from edge.imaging.frame import Frame
from edge.station.handshake.part import Part, PartResult, Rejection, Repeated


class Port(Protocol):
    """One way to the PLC: MQTT, or signals of a fieldbus.

    Called by one thread at a time, in the order of the phases of each part, and returns at once:
    a port that has to wait does so in a thread of its own.
    """

    def ready(self, ready: bool) -> None:
        """A trigger would be accepted now, or no longer."""
        ...

    def accepted(self, part: Part) -> None:
        """The part will have a verdict; the PLC may drop its trigger signal."""
        ...

    def rejected(self, part: Part, rejection: Rejection, recorded: bool) -> None:
        """The trigger was refused; the part passes without inspection.

        Args:
            recorded: it will have an ERROR verdict; else nothing more comes of it.
        """
        ...

    def repeated(self, known: Repeated) -> None:
        """The trigger was seen before; this is known of its part."""
        ...

    def exposed(self, part: Part) -> None:
        """The frame has arrived complete; the part may move."""
        ...

    def unexpected(self, frame: Frame) -> None:
        """A frame is no part's; what it shows passes without inspection."""
        ...

    def result_valid(self, part: Part, seq: int, decided: PartResult) -> None:
        """The verdict is in the journal; the result stands until it is cleared."""
        ...

    def result_cleared(self, part: Part) -> None:
        """The result was acknowledged, or its slot was needed."""
        ...
