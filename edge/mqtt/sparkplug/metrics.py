"""Which metrics a station has, and what they are of a recorded verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.contract.state import Condition
from edge.mqtt.sparkplug.payload import DataType, Value

BD_SEQ = "bdSeq"
REBIRTH = "Node Control/Rebirth"
CONDITION = "Station/Condition"
REASONS = "Station/Reasons"


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric as a birth announces it.

    Attributes:
        path: keys of a ``verdict/1`` payload that lead to its value; empty for the node's.
    """

    name: str
    datatype: DataType
    path: tuple[str, ...] = ()


NODE_METRICS = (
    Definition("Station/Name", DataType.STRING),
    Definition("Station/Software", DataType.STRING),
    Definition(CONDITION, DataType.STRING),
    Definition(REASONS, DataType.STRING),
)
DEVICE_METRICS = (
    Definition("Verdict/Result", DataType.STRING, ("result",)),
    Definition("Verdict/Reason", DataType.STRING, ("reason",)),
    Definition("Verdict/Reason Code", DataType.INT32, ("reason_code",)),
    Definition("Verdict/Detail", DataType.STRING, ("detail",)),
    Definition("Verdict/Score", DataType.DOUBLE, ("anomaly_score",)),
    Definition("Verdict/Threshold", DataType.DOUBLE, ("threshold",)),
    Definition("Verdict/Raw Score", DataType.DOUBLE, ("raw_score",)),
    Definition("Verdict/Raw Threshold", DataType.DOUBLE, ("raw_threshold",)),
    Definition("Verdict/Seq", DataType.INT64, ("seq",)),
    Definition("Verdict/Journal", DataType.STRING, ("journal",)),
    Definition("Verdict/Id", DataType.STRING, ("id",)),
    Definition("Verdict/Part Id", DataType.STRING, ("part_id",)),
    Definition("Verdict/Trigger Id", DataType.STRING, ("trigger_id",)),
    Definition("Verdict/Recipe", DataType.STRING, ("recipe", "id")),
    Definition("Verdict/Recipe Version", DataType.STRING, ("recipe", "version")),
    Definition("Verdict/Duration ms", DataType.DOUBLE, ("duration_ms", "total")),
    Definition("Verdict/Deadline Met", DataType.BOOLEAN, ("deadline_met",)),
    Definition("Verdict/Simulated", DataType.BOOLEAN, ("simulated",)),
    Definition("Verdict/Image", DataType.STRING, ("image", "uri")),
    Definition("Model/Name", DataType.STRING, ("model", "name")),
    Definition("Model/Version", DataType.STRING, ("model", "version")),
    Definition("Model/SHA256", DataType.STRING, ("model", "sha256")),
)
# One number for each metric of the node with its device; bdSeq is named by it in births alone.
ALIASES = {
    name: alias
    for alias, name in enumerate((BD_SEQ, *(one.name for one in (*NODE_METRICS, *DEVICE_METRICS))))
}


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """What the station says of itself: condition, and reasons for which it is degraded.

    Attributes:
        camera_there: False kills the device: the camera is lost.
    """

    condition: Condition = Condition.STARTING
    reasons: tuple[str, ...] = ()
    camera_there: bool = True

    def values(self) -> dict[str, Value]:
        return {CONDITION: self.condition.value, REASONS: ", ".join(self.reasons)}


def verdict_values(record: Mapping[str, Any] | None) -> Sequence[tuple[Definition, Value]]:
    """Return the device's metrics with their values of a verdict; null before the first."""
    return [(one, _value(one, record)) for one in DEVICE_METRICS]


def decided_ms(record: Mapping[str, Any]) -> int:
    """Return when a verdict was decided, in milliseconds of UTC since 1970."""
    moment = datetime.fromisoformat(record["time"]["decided_utc"])
    return round(moment.timestamp() * 1000)


def _value(definition: Definition, record: Mapping[str, Any] | None) -> Value:
    found: Any = record
    for key in definition.path:
        found = found.get(key) if isinstance(found, Mapping) else None
    if found is None:
        return None
    return str(found) if definition.datatype is DataType.STRING else found
