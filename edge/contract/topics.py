"""MQTT topics of one station: ``vi/v1/<site>/<line>/<station>/<camera>``."""

import re
from dataclasses import dataclass, field

from edge.errors import ConfigurationError
from edge.wording import counted

ROOT = "vi/v1"
_SEGMENT = re.compile(r"[a-z0-9_-]{1,32}")


class StationNameInvalid(ConfigurationError, ValueError):
    """A station name is not ``site/line/station/camera``."""


@dataclass(frozen=True, slots=True)
class StationTopic:
    """Where one camera of one station publishes; ``v1`` is the major version of the contract.

    Attributes:
        name: as settings give it, ``site/line/station/camera``.
        root: what all topics of the station begin with.

    Raises:
        StationNameInvalid: a segment is not 1 to 32 of ``a-z 0-9 _ -``. So narrow, because
            segments also become client ids, access rules and file names.
    """

    site: str
    line: str
    station: str
    camera: str
    name: str = field(init=False, repr=False, compare=False)
    root: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", "/".join(self._segments))
        object.__setattr__(self, "root", f"{ROOT}/{self.name}")
        for segment in self._segments:
            if not _SEGMENT.fullmatch(segment):
                raise StationNameInvalid(
                    f"{segment!r} in the station name {self.name!r}: each of SITE/LINE/STATION/"
                    "CAMERA is 1 to 32 lower-case letters, digits, _ or -"
                )

    @classmethod
    def parse(cls, name: str) -> "StationTopic":
        """Read ``site/line/station/camera``."""
        segments = name.split("/")
        if len(segments) != 4:
            raise StationNameInvalid(
                f"the station name {name!r} has {counted(len(segments), 'part')}; "
                "it is SITE/LINE/STATION/CAMERA, for example plant-1/line-2/cap/top"
            )
        return cls(*segments)

    @classmethod
    def of_topic(cls, topic: str) -> "StationTopic":
        """Read the station from any topic below its root."""
        segments = topic.split("/")
        if "/".join(segments[:2]) != ROOT or len(segments) < 6:
            raise StationNameInvalid(f"{topic!r} is not a topic below {ROOT}/")
        return cls(*segments[2:6])

    @property
    def verdict(self) -> str:
        return f"{self.root}/verdict"

    @property
    def state(self) -> str:
        return f"{self.root}/state"

    @property
    def event(self) -> str:
        return f"{self.root}/event"

    @property
    def meta(self) -> str:
        return f"{self.root}/meta"

    @property
    def last(self) -> str:
        return f"{self.root}/last"

    @property
    def metrics(self) -> str:
        return f"{self.root}/metrics"

    @property
    def part(self) -> str:
        return f"{self.root}/part"

    @property
    def handshake(self) -> str:
        return f"{self.root}/handshake"

    @property
    def trigger(self) -> str:
        return f"{self.root}/trigger"

    @property
    def ack(self) -> str:
        return f"{self.root}/ack"

    @property
    def fleet_desired(self) -> str:
        return f"{self.root}/fleet/desired"

    @property
    def fleet_report(self) -> str:
        return f"{self.root}/fleet/report"

    def command(self, name: str) -> str:
        return f"{self.root}/cmd/{name}"

    def response(self, name: str) -> str:
        """Where a command is answered that names no place of its own."""
        return f"{self.root}/cmd/{name}/res"

    @property
    def client_id(self) -> str:
        """Name of the session, and of the default journal's folder; no two stations share one.

        With dots where a segment has a ``-`` itself, which would leave open where it ends.
        """
        segments = self._segments
        return ("." if any("-" in one for one in segments) else "-").join(("vi", *segments))

    @property
    def _segments(self) -> tuple[str, str, str, str]:
        return (self.site, self.line, self.station, self.camera)
