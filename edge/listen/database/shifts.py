"""To which shift of the plant a moment belongs."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge.errors import ConfigurationInvalid

_SHIFT = re.compile(r"([\w .-]{1,32})=([01]\d|2[0-3]):([0-5]\d)")
DEFAULT_SHIFTS = "early=06:00,late=14:00,night=22:00"
DEFAULT_ZONE = "UTC"


@dataclass(frozen=True, slots=True)
class Shifts:
    """The shifts of a day, each up to the next; the last one goes on into the next morning.

    Attributes:
        starts: local time of each beginning, ascending.
        names: in the same order.
        zone: of the plant.
    """

    starts: tuple[time, ...]
    names: tuple[str, ...]
    zone: ZoneInfo

    def at(self, moment: datetime) -> tuple[date, str]:
        """Return the day on which the shift of a moment began, and its name."""
        local = moment.astimezone(self.zone)
        place = bisect_right(self.starts, local.time()) - 1
        day = local.date() if place >= 0 else local.date() - timedelta(days=1)
        return day, self.names[place]


def parse_shifts(text: str, zone: str) -> Shifts:
    """Read ``NAME=HH:MM,…`` and the name of a time zone.

    Raises:
        ConfigurationInvalid: one of them is none.
    """
    try:
        found = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationInvalid(
            f"--time-zone {zone!r} is unknown on this system; an example is "
            "Europe/Berlin. If no zones are known, install the package tzdata."
        ) from error
    shifts = []
    for part in text.split(","):
        match = _SHIFT.fullmatch(part.strip())
        if match is None:
            raise ConfigurationInvalid(
                f"--shifts: {part!r} is not a shift; write NAME=HH:MM, with commas between "
                f"them: {DEFAULT_SHIFTS}."
            )
        shifts.append((time(int(match[2]), int(match[3])), match[1]))
    shifts.sort()
    starts, names = zip(*shifts, strict=True)
    if len(set(starts)) < len(starts) or len(set(names)) < len(names):
        raise ConfigurationInvalid(
            "--shifts: two shifts have the same name or start at the same time."
        )
    return Shifts(starts, names, found)
