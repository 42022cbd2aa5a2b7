"""For which stations a file of a release is meant."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, StringConstraints

from edge.recipes.content import MAX_VERSION
from edge.recipes.errors import ArchiveRefused
from edge.recipes.names import RecipeName
from edge.section import Section

MAX_STATIONS = 1000
_PATTERN = r"^([a-z0-9_-]{1,32}|\+)(/([a-z0-9_-]{1,32}|\+)){3}$"
StationPattern = Annotated[str, StringConstraints(pattern=_PATTERN)]


class ReleaseManifest(Section):
    """What the manifest of every such file says.

    Attributes:
        stations: that it is meant for, ``+`` for any name at a place; None for all.
    """

    schema_version: str
    name: RecipeName
    version: int = Field(ge=1, le=MAX_VERSION)
    stations: tuple[StationPattern, ...] | None = Field(
        default=None, strict=False, min_length=1, max_length=MAX_STATIONS
    )

    def meant_for(self, station: str) -> bool:
        """Tell whether a station, SITE/LINE/STATION/CAMERA, may accept it from a roll-out."""
        return self.stations is None or any(matches_station(one, station) for one in self.stations)


def check_patterns(stations: Iterable[str]) -> None:
    """Check patterns that somebody typed.

    Raises:
        ArchiveRefused: names the first that names no stations.
    """
    for pattern in stations:
        if not re.fullmatch(_PATTERN, pattern):
            raise ArchiveRefused(f"{pattern!r} is not SITE/LINE/STATION/CAMERA, each a name or +.")


def matches_station(pattern: str, station: str) -> bool:
    """Tell whether a pattern, ``+`` for any name at a place, means a station."""
    wanted, given = pattern.split("/"), station.split("/")
    return len(wanted) == len(given) and all(
        one in ("+", other) for one, other in zip(wanted, given, strict=True)
    )
