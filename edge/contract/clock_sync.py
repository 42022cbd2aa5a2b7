"""What keeps the wall clock of a PC right, as its kernel knows it (``adjtimex(2)``)."""

from dataclasses import dataclass
from enum import StrEnum

STA_UNSYNC = 0x0040
TIME_ERROR = 5


class ClockSource(StrEnum):
    """``FREE``: nothing corrects the clock; ``UNKNOWN``: the kernel does not tell."""

    NTP = "ntp"
    PTP = "ptp"
    FREE = "free"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ClockSync:
    """Source of the wall-clock time and the bound of its error; None where unknown."""

    source: ClockSource = ClockSource.UNKNOWN
    error_ms: float | None = None


def read_timex(state: int, status: int, maxerror_us: int, under_ptp: bool) -> ClockSync:
    """Judge what ``adjtimex`` said.

    The kernel lets ``maxerror`` grow by 0.5 ms a second and sets ``STA_UNSYNC`` at 16 s, so a
    daemon that stopped is noticed too.

    Args:
        state: its return value.
        status, maxerror_us: of ``struct timex``.
        under_ptp: traces of a PTP daemon were found.
    """
    if state == TIME_ERROR or status & STA_UNSYNC:
        # phc2sys steers the clock without telling the kernel that it is in sync.
        return ClockSync(ClockSource.PTP if under_ptp else ClockSource.FREE)
    source = ClockSource.PTP if under_ptp else ClockSource.NTP
    return ClockSync(source, round(maxerror_us / 1e3, 3))
