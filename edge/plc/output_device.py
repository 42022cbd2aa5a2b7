"""What has digital output lines: a remote I/O module, a camera, a GPIO chip."""

from collections.abc import Mapping
from typing import Protocol

from edge.errors import ConfigurationError, StationError

Line = int | str
# Line → high or low.
Levels = Mapping[Line, bool]


class OutputDeviceAway(StationError):
    """The device of outputs does not answer; it is tried again.

    Attributes:
        asked: some of its lines may have switched, for all that is known.
    """

    exit_code = 69

    def __init__(self, message: str, *, asked: bool = True) -> None:
        super().__init__(message)
        self.asked = asked


class OutputDeviceClosed(OutputDeviceAway):
    """The station ends and has closed the device, its lines at their fail-safe level."""


class OutputRefused(ConfigurationError):
    """A device does not have a line, or does not let this program switch it."""


class OutputDevice(Protocol):
    """Switches lines; one thread calls.

    Attributes:
        refresh_s: how often all lines are to be written; None where nothing wants it.
    """

    refresh_s: float | None

    def open(self, levels: Levels) -> None:
        """Connect, and give every line its level; also after it was away.

        Raises:
            OutputDeviceAway: it does not answer now.
            OutputRefused: it never will take these lines.
        """

    def write(self, levels: Levels) -> None:
        """Switch lines; returns when the device has confirmed all of them.

        Raises:
            OutputDeviceAway: it did not.
        """

    def close(self) -> None:
        """Let go of it; what level lines keep is the device's own affair."""
