"""What a verdict port is, and how its section of the settings opens it."""

from abc import ABC, abstractmethod
from typing import Protocol

from pydantic import Field

from edge.contract.verdict import Verdict
from edge.section import Section


class VerdictPort(Protocol):
    """Hands verdicts on; called by one thread of its own, for which the line never waits."""

    def write(self, verdict: Verdict) -> None:
        """Hand on one verdict.

        Raises:
            StationError: it could not be; the station reports the cause and goes on.
        """


class PortSettings(Section, ABC):
    """A section of the settings that opens a verdict port."""

    queue_bound: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Verdicts that may wait. With a live camera, further ones are left out and "
        "counted.",
    )

    @abstractmethod
    def open_port(self) -> VerdictPort:
        """Open the port before the first part.

        Raises:
            StationError: it cannot be used; names the key.
        """
