"""Plain variables of the newest verdict and an event for each, for simple clients of OPC UA."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from asyncua import ua

from edge.journal.entries import JournalRow
from edge.plc.opcua.events import emit
from edge.plc.opcua.messages import StationChanged

NAMESPACE = "urn:inspection-station:verdict:1"


@dataclass(frozen=True, slots=True)
class VerdictField:
    """A variable, which is also a field of the event.

    Attributes:
        kind: name of an OPC UA type.
        path: keys of a ``verdict/1`` payload.
    """

    name: str
    kind: str
    path: tuple[str, ...]


FIELDS = (
    VerdictField("Result", "String", ("result",)),
    VerdictField("Reason", "String", ("reason",)),
    VerdictField("ReasonCode", "Int32", ("reason_code",)),
    VerdictField("Detail", "String", ("detail",)),
    VerdictField("Score", "Double", ("anomaly_score",)),
    VerdictField("Threshold", "Double", ("threshold",)),
    VerdictField("RawScore", "Double", ("raw_score",)),
    VerdictField("Seq", "Int64", ("seq",)),
    VerdictField("Journal", "String", ("journal",)),
    VerdictField("Id", "String", ("id",)),
    VerdictField("PartId", "String", ("part_id",)),
    VerdictField("TriggerId", "String", ("trigger_id",)),
    VerdictField("RecipeId", "String", ("recipe", "id")),
    VerdictField("RecipeVersion", "String", ("recipe", "version")),
    VerdictField("DurationMs", "Double", ("duration_ms", "total")),
    VerdictField("Simulated", "Boolean", ("simulated",)),
    VerdictField("Image", "String", ("image", "uri")),
    VerdictField("ModelName", "String", ("model", "name")),
    VerdictField("ModelSha256", "String", ("model", "sha256")),
)
# Of a variable that has no value, as before the first verdict; null for texts.
_EMPTY: dict[str, Any] = {"Double": math.nan, "Int32": 0, "Int64": 0, "Boolean": False}


@dataclass(frozen=True, slots=True)
class Recorded:
    """A verdict on record, read once for all who show it.

    Attributes:
        content: as in ``verdict/1``.
    """

    row: JournalRow
    content: Mapping[str, Any]

    @classmethod
    def of(cls, row: JournalRow) -> "Recorded":
        return cls(row, json.loads(row.payload))

    @property
    def decided(self) -> datetime:
        return datetime.fromisoformat(self.content["time"]["decided_utc"])


class StationNodes:
    """The object ``Station`` with its variables, and its event."""

    def __init__(self, server: Any, variables: Mapping[str, Any], event: Any) -> None:
        self._server = server
        self._variables = variables
        self._event = event

    @classmethod
    async def build(cls, server: Any, station: str) -> "StationNodes":
        space = await server.register_namespace(NAMESPACE)
        place = await server.nodes.objects.add_object(
            ua.NodeId.from_string(f"ns={space};s=Station"), ua.QualifiedName("Station", space)
        )
        kinds = {field.name: field.kind for field in FIELDS}
        kinds |= {"DecidedUtc": "DateTime", "Record": "String"}
        texts = {"Name": station, "Recipe": None, "Condition": "starting", "Reasons": ""}
        variables = {}
        for name, kind in (kinds | dict.fromkeys(texts, "String")).items():
            start = texts.get(name, _EMPTY.get(kind))
            variables[name] = await place.add_variable(
                ua.NodeId.from_string(f"ns={space};s=Station.{name}"),
                ua.QualifiedName(name, space),
                ua.Variant(start, ua.VariantType[kind]),
                datatype=ua.NodeId(getattr(ua.ObjectIds, kind)),
            )
        event_type = await server.create_custom_event_type(
            space,
            "VerdictEventType",
            ua.ObjectIds.BaseEventType,
            [(name, ua.VariantType[kind]) for name, kind in kinds.items() if name != "Record"],
        )
        return cls(server, variables, await server.get_event_generator(event_type, place))

    async def show(self, verdict: Recorded) -> None:
        """Give each variable its value of a verdict, with the time of the decision."""
        at = verdict.decided
        for name, (kind, value) in _values(verdict).items():
            await self._write(name, kind, value, at)
        await self._write("Record", "String", verdict.row.payload.decode(), at)

    async def show_station(self, station: StationChanged, now: datetime) -> None:
        """Show condition and recipe, with the time from which they hold."""
        recipe = station.recipe
        await self._write("Condition", "String", station.condition.value, now)
        await self._write("Reasons", "String", ", ".join(station.reasons), now)
        await self._write("Recipe", "String", recipe.id if recipe else None, now)

    async def notify(self, verdict: Recorded) -> None:
        """Send the event of a verdict to everybody who has subscribed."""
        event, result = self._event.event, verdict.row.result
        for name, (_, value) in _values(verdict).items():
            setattr(event, name, value)
        event.Severity = 1 if result == "OK" else 500
        await emit(self._event, verdict.decided, f"verdict {verdict.row.seq} {result}")

    async def _write(self, name: str, kind: str, value: Any, at: datetime) -> None:
        content = ua.DataValue(
            ua.Variant(value, ua.VariantType[kind]), SourceTimestamp=cast(Any, at)
        )
        await self._server.write_attribute_value(self._variables[name].nodeid, content)


def _values(verdict: Recorded) -> dict[str, tuple[str, Any]]:
    """Return kind and value of each field, and when the verdict was decided."""
    found = {field.name: (field.kind, _value(field, verdict.content)) for field in FIELDS}
    return {**found, "DecidedUtc": ("DateTime", verdict.decided)}


def _value(field: VerdictField, record: Mapping[str, Any]) -> Any:
    found: Any = record
    for key in field.path:
        found = found.get(key) if isinstance(found, Mapping) else None
    if found is None:
        return _EMPTY.get(field.kind)
    if field.kind == "Double":
        return float(found)
    return str(found) if field.kind == "String" else found
