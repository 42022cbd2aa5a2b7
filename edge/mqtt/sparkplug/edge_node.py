"""The messages of an edge node in their order; pure, whoever sends them has connection and clock.

Source: Eclipse Sparkplug 3.0; statements of the specification are named by their ids (tck-id-…).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edge.contract.encoding import bounded
from edge.mqtt.sparkplug.metrics import (
    ALIASES,
    BD_SEQ,
    NODE_METRICS,
    REBIRTH,
    Definition,
    NodeCondition,
    decided_ms,
    verdict_values,
)
from edge.mqtt.sparkplug.payload import DataType, Metric, ReceivedMetric, Value, encode
from edge.settings.sparkplug import STATE, SparkplugSettings

NAMESPACE = "spBv1.0"
# Numbers of messages, and of connections, go from 0 to 255 and start over.
NUMBERS = 256
# A text that is longer is cut: a name of a file may be of any length.
MAX_TEXT = 1000


@dataclass(frozen=True, slots=True)
class NodeTopics:
    """Where a node and its one device publish and listen."""

    group: str
    node: str
    device: str
    host: str | None

    @classmethod
    def of(cls, settings: SparkplugSettings, camera: str) -> "NodeTopics":
        """Return the topics of a node that the settings name.

        Args:
            camera: names the device where the settings do not.
        """
        return cls(settings.group, settings.node, settings.device or camera, settings.primary_host)

    def of_node(self, kind: str) -> str:
        return f"{NAMESPACE}/{self.group}/{kind}/{self.node}"

    def of_device(self, kind: str) -> str:
        return f"{self.of_node(kind)}/{self.device}"

    @property
    def command(self) -> str:
        return self.of_node("NCMD")

    @property
    def host_state(self) -> str | None:
        """Where the primary host tells its state; None without one."""
        return None if self.host is None else f"{NAMESPACE}/{STATE}/{self.host}"


@dataclass(frozen=True, slots=True)
class Message:
    """A message to be published at QoS 0, not retained."""

    topic: str
    content: bytes


class EdgeNode:
    """Builds what a node publishes; each message takes the next number of the session.

    Attributes:
        device_born: the device was born and has not died since.
    """

    def __init__(self, topics: NodeTopics, *, station: str, software: str, aliases: bool) -> None:
        """Begin before the first session.

        Args:
            station: SITE/LINE/STATION/CAMERA, below which the station's own topics are.
            aliases: name metrics by numbers after their birth.
        """
        self.device_born = False
        self._topics = topics
        self._fixed: dict[str, Value] = {"Station/Name": station, "Station/Software": software}
        self._aliases = aliases
        self._seq = 0

    def death(self, bd_seq: int, now_ms: int) -> Message:
        """Return the NDEATH of a connection, its will."""
        metric = Metric(name=BD_SEQ, datatype=DataType.INT64, value=bd_seq, timestamp_ms=now_ms)
        content = encode([metric], now_ms, None, datatypes=True)
        return Message(self._topics.of_node("NDEATH"), content)

    def birth(self, bd_seq: int, condition: NodeCondition, now_ms: int) -> Message:
        """Return the NBIRTH: numbers start over, and every metric of the node has its value."""
        self._seq = 0
        self.device_born = False
        bd_seq_definition = Definition(BD_SEQ, DataType.INT64)
        rebirth = Metric(
            name=REBIRTH, datatype=DataType.BOOLEAN, value=False, timestamp_ms=now_ms
        )  # without an alias: a host asks for it that knows none
        values = {**self._fixed, **condition.values()}
        metrics = [
            self._announced(bd_seq_definition, bd_seq, now_ms),
            rebirth,
            *(self._announced(one, values[one.name], now_ms) for one in NODE_METRICS),
        ]
        return self._numbered(self._topics.of_node("NBIRTH"), metrics, now_ms, datatypes=True)

    def node_data(self, condition: NodeCondition, now_ms: int) -> Message:
        """Return the NDATA of a condition that has changed."""
        values = condition.values()
        metrics = [
            self._later(one, values[one.name], now_ms, historical=False)
            for one in NODE_METRICS
            if one.name in values
        ]
        return self._numbered(self._topics.of_node("NDATA"), metrics, now_ms)

    def device_birth(self, newest: Mapping[str, Any] | None, now_ms: int) -> Message:
        """Return the DBIRTH.

        Args:
            newest: the newest verdict on record; None before the first.
        """
        self.device_born = True
        at_ms = now_ms if newest is None else decided_ms(newest)
        metrics = [self._announced(one, value, at_ms) for one, value in verdict_values(newest)]
        return self._numbered(self._topics.of_device("DBIRTH"), metrics, now_ms, datatypes=True)

    def device_data(self, record: Mapping[str, Any], now_ms: int, *, historical: bool) -> Message:
        """Return the DDATA of one verdict: all of it, as each part has its own values."""
        at_ms = decided_ms(record)
        metrics = [
            self._later(one, value, at_ms, historical=historical)
            for one, value in verdict_values(record)
        ]
        return self._numbered(self._topics.of_device("DDATA"), metrics, now_ms)

    def device_death(self, now_ms: int) -> Message:
        """Return the DDEATH."""
        self.device_born = False
        return self._numbered(self._topics.of_device("DDEATH"), [], now_ms)

    def withdraw(self) -> None:
        """Take back the number of the message that was built last: it was not sent."""
        self._seq = (self._seq - 1) % NUMBERS

    def _announced(self, definition: Definition, value: Value, at_ms: int) -> Metric:
        return Metric(
            name=definition.name,
            datatype=definition.datatype,
            value=_shown(value),
            timestamp_ms=at_ms,
            alias=ALIASES[definition.name] if self._aliases else None,
        )

    def _later(
        self, definition: Definition, value: Value, at_ms: int, *, historical: bool
    ) -> Metric:
        return Metric(
            name=None if self._aliases else definition.name,
            datatype=definition.datatype,
            value=_shown(value),
            timestamp_ms=at_ms,
            alias=ALIASES[definition.name] if self._aliases else None,
            historical=historical,
        )

    def _numbered(
        self, topic: str, metrics: Iterable[Metric], now_ms: int, *, datatypes: bool = False
    ) -> Message:
        content = encode(metrics, now_ms, self._seq, datatypes=datatypes)
        self._seq = (self._seq + 1) % NUMBERS
        return Message(topic, content)


def asks_for_rebirth(metrics: Iterable[ReceivedMetric]) -> bool:
    """Tell whether a command to the node asks for its births."""
    return any(one.name == REBIRTH and one.value is True for one in metrics)


def _shown(value: Value) -> Value:
    return bounded(value, MAX_TEXT) if isinstance(value, str) else value
