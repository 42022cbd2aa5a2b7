"""What keeps the wall clock of this PC right, as the kernel knows it (``adjtimex(2)``)."""

import ctypes
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

STA_UNSYNC = 0x0040
TIME_ERROR = 5
# Daemons that discipline the clock from PTP leave their pid or socket here (linuxptp).
PTP_TRACES = (Path("/run/phc2sys.pid"), Path("/var/run/ptp4l"), Path("/run/ptp4l"))


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


class _Timex(ctypes.Structure):
    """``struct timex`` of Linux on 64 bits; only what stands before ``time`` is read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("rest", ctypes.c_char * 256),
    )


def clock_sync() -> ClockSync:
    """Ask the kernel; changes nothing and needs no rights."""
    timex = _Timex()  # modes 0: read only
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):  # no Linux, or a C library without it
        return ClockSync()
    if state < 0:  # forbidden by a seccomp filter
        return ClockSync()
    under_ptp = any(os.path.lexists(path) for path in PTP_TRACES)
    return read_timex(state, timex.status, timex.maxerror, under_ptp)


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
