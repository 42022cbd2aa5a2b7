"""The vision system of OPC 40100-1 (OPC UA for Machine Vision, Part 1), as far as a station has it.

State machine, results with their events, and recipes. Types come from the specification's own
nodeset. A client controls nothing but the recipe: parts come from the line.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.common.instantiate_util import instantiate

from edge.journal.entries import JournalError, JournalRow
from edge.plc.opcua.events import emit
from edge.plc.opcua.messages import OfferedRecipe, StationChanged
from edge.plc.opcua.station_nodes import NAMESPACE, Recorded
from edge.plc.opcua.vision_state import AUTOMATIC, VISION, VisionState, VisionStates, vision_states

NODESET = Path(__file__).parent / "nodesets" / "Opc.Ua.MachineVision.NodeSet2.xml"
MACHINE_VISION = "http://opcfoundation.org/UA/MachineVision"
# Node ids of types in that namespace.
VISION_SYSTEM, RECIPE_MANAGEMENT, RESULT_MANAGEMENT, AUTOMATIC_MODE = 1003, 1004, 1007, 1021
RESULT_READY, STATE_CHANGED, RECIPE_PREPARED, READY = 1024, 1018, 1022, 1023
SYSTEM_STATE = 3024

# ResultStateDataType (12.19).
COMPLETED, FAILED = 1, 4
# The ``Error`` of methods: 0 is none, those below are a server's own.
NO_ERROR, UNKNOWN, NOT_READABLE = 0, -1, -2
# Of GetResultListFiltered: answered at a time, and looked at for one answer.
MAX_RESULTS, MAX_EXAMINED = 100, 2_000

# Reads verdicts by number, both ends included.
ReadRows = Callable[[int, int], Sequence[JournalRow]]


class MachineVision:
    """The object ``VisionSystem``."""

    def __init__(
        self,
        *,
        server: Any,
        types: int,
        nodes: dict[str, Any],
        events: dict[int, Any],
        may_choose: bool,
        ask_for_recipe: Callable[[OfferedRecipe], None],
        read_rows: ReadRows,
    ) -> None:
        """Make it of the nodes of a server.

        Args:
            types: index of the specification's namespace.
            nodes: what changes, by name.
            events: generators, by type.
            may_choose: clients may change over to another recipe.
        """
        self._server = server
        self._types = types
        self._nodes = nodes
        self._events = events
        self._may_choose = may_choose
        self._ask_for_recipe = ask_for_recipe
        self._read_rows = read_rows
        self._station: StationChanged | None = None
        self._states = VisionStates()
        self._newest: Recorded | None = None

    @classmethod
    async def build(
        cls,
        server: Any,
        *,
        may_choose: bool,
        ask_for_recipe: Callable[[OfferedRecipe], None],
        read_rows: ReadRows,
    ) -> "MachineVision":
        """Load the types, and put the vision system beside ``Station``."""
        await server.import_xml(xmlstring=nodeset())
        types = await server.get_namespace_index(MACHINE_VISION)
        space = await server.get_namespace_index(NAMESPACE)

        async def new(parent: Any, kind: int, path: str, names: int = types) -> Any:
            made = await instantiate(
                parent,
                server.get_node(ua.NodeId(ua.Int32(kind), ua.Int16(types))),
                nodeid=ua.NodeId.from_string(f"ns={space};s={path}"),
                bname=ua.QualifiedName(path.rpartition(".")[2], ua.Int16(names)),
                instantiate_optional=False,
            )
            return made[0]

        system = await new(server.nodes.objects, VISION_SYSTEM, "VisionSystem", space)
        recipes = await new(system, RECIPE_MANAGEMENT, "VisionSystem.RecipeManagement")
        results = await new(system, RESULT_MANAGEMENT, "VisionSystem.ResultManagement")
        machine = server.get_node(f"ns={space};s=VisionSystem.VisionStateMachine")
        automatic = await new(
            machine, AUTOMATIC_MODE, "VisionSystem.VisionStateMachine.AutomaticModeStateMachine"
        )
        system_state = await system.add_variable(
            ua.NodeId.from_string(f"ns={space};s=VisionSystem.SystemState"),
            ua.QualifiedName("SystemState", ua.Int16(types)),
            ua.Variant(None, ua.VariantType.Null),
            datatype=ua.NodeId(ua.Int32(SYSTEM_STATE), ua.Int16(types)),
        )
        nodes = {"SystemState": system_state, VISION: machine, AUTOMATIC: automatic}
        events = {
            kind: await server.get_event_generator(
                server.get_node(ua.NodeId(ua.Int32(kind), ua.Int16(types))), system
            )
            for kind in (RESULT_READY, STATE_CHANGED, RECIPE_PREPARED, READY)
        }
        one = cls(
            server=server,
            types=types,
            nodes=nodes,
            events=events,
            may_choose=may_choose,
            ask_for_recipe=ask_for_recipe,
            read_rows=read_rows,
        )
        methods = {
            (results, "GetResultById"): one._result_by_id,
            (results, "GetResultComponentsById"): one._components_by_id,
            (results, "GetResultListFiltered"): one._result_list,
            (recipes, "GetRecipeListFiltered"): one._recipe_list,
            (recipes, "PrepareRecipe"): one._prepare_recipe,
            (recipes, "UnprepareRecipe"): _not_supported,
            **{(machine, name): _not_supported for name in ("Halt", "Reset")},
            **{
                (automatic, name): _not_supported
                for name in ("StartSingleJob", "StartContinuous", "Stop", "Abort")
            },
        }
        for (owner, name), body in methods.items():
            server.link_method(await owner.get_child(f"{types}:{name}"), body)
        return one

    # What happens.

    async def show(self, verdict: Recorded) -> None:
        """Note the newest verdict."""
        self._newest = verdict

    async def notify(self, verdict: Recorded) -> None:
        """Send ResultReady (8.3.8.4)."""
        generator = self._events[RESULT_READY]
        event, result = generator.event, self._result(verdict)
        for name, kind in _RESULT_FIELDS.items():
            event.add_property(name, getattr(result, name), kind)
        event.Severity = 1 if verdict.row.result == "OK" else 500
        await emit(generator, verdict.decided, f"result {verdict.row.seq} {verdict.row.result}")

    async def show_station(self, station: StationChanged, now: datetime) -> None:
        """Show state and recipe, with an event for what has changed now."""
        before = self._station
        self._station = station
        states = vision_states(station.condition, station.reasons, station.triggered)
        steps = self._states.to(states)
        self._states = states
        description = ua.SystemStateDescriptionDataType(  # type: ignore[attr-defined]
            State=ua.SystemStateDataType(states.system_state),  # type: ignore[attr-defined]
            StateDescription=", ".join(station.reasons) or None,
        )
        await self._write(self._nodes["SystemState"], description, ua.VariantType.ExtensionObject)
        await self._show_state(VISION, states.vision)
        await self._show_state(AUTOMATIC, states.automatic)
        for step in steps:
            await self._notify_step(step.before, step.after, step.transition, now)
        if states.is_ready and steps:
            await self._notify_ready(now)
        recipe = station.recipe
        if recipe is not None and (before is None or before.recipe != recipe):
            await self._notify_prepared(recipe, now)

    async def _show_state(self, machine: str, state: VisionState | None) -> None:
        node = self._nodes[machine]
        current = await node.get_child("0:CurrentState")
        identity = await current.get_child("0:Id")
        if state is None:  # of a sub-machine outside of its state (OPC 10000-16, 4.4.4)
            none = ua.DataValue(StatusCode=_status(ua.StatusCodes.BadStateNotActive))
            for one in (current, identity):
                await self._server.write_attribute_value(one.nodeid, none)
            return
        text = ua.LocalizedText(state.name)
        await self._write(current, text, ua.VariantType.LocalizedText)
        await self._write(identity, self._type(state.node), ua.VariantType.NodeId)

    async def _notify_step(
        self, before: VisionState, after: VisionState, transition: VisionState, now: datetime
    ) -> None:
        generator = self._events[STATE_CHANGED]
        event = generator.event
        for name, state in (("FromState", before), ("ToState", after), ("Transition", transition)):
            text = ua.LocalizedText(state.name)
            event.add_property(name, text, ua.VariantType.LocalizedText)
            event.add_property(f"{name}/Id", self._type(state.node), ua.VariantType.NodeId)
        event.Severity = 500 if after.name == "Error" else 100
        await emit(generator, now, f"{before.name} to {after.name}")

    async def _notify_ready(self, now: datetime) -> None:
        generator = self._events[READY]
        job = ua.JobIdDataType()  # type: ignore[attr-defined]
        generator.event.add_property("JobId", job, ua.VariantType.ExtensionObject)
        await emit(generator, now, "ready")

    async def _notify_prepared(self, recipe: OfferedRecipe, now: datetime) -> None:
        generator = self._events[RECIPE_PREPARED]
        for name, value in (("InternalId", _internal(recipe)), ("ExternalId", _external(recipe))):
            generator.event.add_property(name, value, ua.VariantType.ExtensionObject)
        await emit(generator, now, f"recipe {recipe.id} {recipe.version}")

    # Methods of the results (7.10). They answer at once, whatever the timeout.

    async def _result_by_id(self, _parent: Any, asked: Any, _timeout: Any) -> Any:
        found, error = self._find(asked.Value)
        result = self._result(found) if found else _no_result()
        return [_uint32(0), _structure(result), _int32(error)]

    async def _components_by_id(self, _parent: Any, asked: Any, _timeout: Any) -> Any:
        found, error = self._find(asked.Value)
        result = self._result(found) if found else _no_result()
        parts = [ua.Variant(getattr(result, name), kind) for name, kind in _COMPONENTS]
        return [*parts[:1], _uint32(0), *parts[1:], _int32(error)]

    async def _result_list(self, _parent: Any, *asked: Any) -> Any:
        state, meas, part, external, internal, *rest = (one.Value for one in asked)
        max_count, start = int(rest[4] or 0), int(rest[5] or 0)
        max_count = min(max_count or MAX_RESULTS, MAX_RESULTS)
        wanted = {
            "ResultState": int(state or 0),
            "MeasId": _id(meas),
            "PartId": _id(part),
            "ExternalRecipeId": _id(external),
            "InternalRecipeId": _id(internal),
            "ExternalConfigurationId": _id(rest[0]),
            "InternalConfigurationId": _id(rest[1]),
            "ProductId": _id(rest[2]),
            "JobId": _id(rest[3]),
        }
        wanted = {name: value for name, value in wanted.items() if value}
        try:
            found, complete = await self._matching(wanted, start + max_count)
        except JournalError:
            return [_boolean(False), _uint32(0), _uint32(0), _structures([]), _int32(NOT_READABLE)]
        chosen = [self._result(one) for one in found[start : start + max_count]]
        complete = complete and len(found) <= start + max_count
        error = _int32(NO_ERROR)
        return [_boolean(complete), _uint32(len(chosen)), _uint32(0), _structures(chosen), error]

    async def _matching(
        self, wanted: Mapping[str, Any], max_count: int
    ) -> tuple[list[Recorded], bool]:
        """Return the newest verdicts that match, and whether all were looked at.

        Raises:
            JournalError: it cannot be read.
        """
        found: list[Recorded] = []
        last = self._newest.row.seq if self._newest else 0
        upper, lowest = last, max(1, last - MAX_EXAMINED + 1)
        while upper >= lowest:
            lower = max(lowest, upper - MAX_RESULTS + 1)
            for row in reversed(self._read_rows(lower, upper)):
                verdict = Recorded.of(row)
                if wanted.items() <= _searchable(verdict.content).items():
                    found.append(verdict)
            upper = lower - 1
            if len(found) > max_count:
                return found, False
            await asyncio.sleep(0)  # verdicts and other clients have their turn
        return found, lowest == 1

    def _find(self, asked: Any) -> tuple[Recorded | None, int]:
        """Return the verdict with the id of a result, ``JOURNAL/SEQ``."""
        journal, _, number = str(_id(asked)).rpartition("/")
        if not number.isdecimal() or len(number) > 18:
            return None, UNKNOWN
        try:
            rows = self._read_rows(int(number), int(number))
        except JournalError:
            return None, NOT_READABLE
        found = Recorded.of(rows[0]) if rows else None
        if found is None or found.content["journal"] != journal:
            return None, UNKNOWN
        return found, NO_ERROR

    def _result(self, verdict: Recorded) -> Any:
        """Return a verdict as ResultDataType (12.17)."""
        content = verdict.content
        recipe, model = content.get("recipe"), content["model"]
        configuration = _structured(
            "ConfigurationIdDataType",
            Id=model["name"],
            Version=model.get("version"),
            Hash=bytes.fromhex(model["sha256"]),
            HashAlgorithm="SHA-256",
        )
        offered = OfferedRecipe(id=recipe["id"], version=recipe["version"]) if recipe else None
        total_ms = content["duration_ms"]["total"]
        return _structured(
            "ResultDataType",
            ResultId=_structured("ResultIdDataType", Id=f"{content['journal']}/{content['seq']}"),
            HasTransferableDataOnFile=False,
            IsPartial=False,
            IsSimulated=bool(content["simulated"]),
            ResultState=FAILED if content["result"] == "ERROR" else COMPLETED,
            MeasId=_named("MeasIdDataType", content["trigger_id"]),
            PartId=_named("PartIdDataType", content["part_id"]),
            ExternalRecipeId=_external(offered) if offered else None,
            InternalRecipeId=_internal(offered),
            InternalConfigurationId=configuration,
            JobId=_structured("JobIdDataType", Id=content["id"]),
            CreationTime=verdict.decided,
            ProcessingTimes=_structured(
                "ProcessingTimesDataType",
                StartTime=verdict.decided - timedelta(milliseconds=total_ms or 0.0),
                EndTime=verdict.decided,
                ProcessingDuration=total_ms,
            ),
            ResultContent=_content(verdict),
        )

    # Methods of the recipes (7.5).

    async def _recipe_list(self, _parent: Any, *asked: Any) -> Any:
        external, product, prepared, max_count, start, _timeout = (one.Value for one in asked)
        station = self._station
        offered = _offered(station)
        current = station.recipe if station else None
        found = [
            one
            for one in offered
            if _id(external) in ("", one.id)
            and not _id(product)
            and (int(prepared or 0) == 2 or (int(prepared or 0) == 1) == (one == current))
        ]
        start, max_count = int(start or 0), int(max_count or 0) or len(found)
        chosen = [_internal(one) for one in found[start : start + max_count]]
        complete = len(found) <= start + max_count
        error = _int32(NO_ERROR)
        return [_boolean(complete), _uint32(len(chosen)), _uint32(0), _structures(chosen), error]

    async def _prepare_recipe(self, _parent: Any, external: Any, internal: Any) -> Any:
        """Ask the station for a recipe; RecipePrepared follows once it is the live one."""
        if not self._may_choose:
            return _status(ua.StatusCodes.BadUserAccessDenied)
        station = self._station
        asked = _id(internal.Value)
        found = next(
            (
                one
                for one in _offered(station)
                if asked in ("", f"{one.id}@{one.version}")
                and _id(external.Value) in ("", one.id)
                and (asked or _id(external.Value))
            ),
            None,
        )
        if found is None or station is None:
            return [_structure(_internal(None)), _boolean(False), _int32(UNKNOWN)]
        done = station.recipe == found
        if not done:
            self._ask_for_recipe(found)
        return [_structure(_internal(found)), _boolean(done), _int32(NO_ERROR)]

    async def _write(self, node: Any, value: Any, kind: ua.VariantType) -> None:
        content = ua.DataValue(ua.Variant(value, kind))
        await self._server.write_attribute_value(node.nodeid, content)

    def _type(self, node: int) -> ua.NodeId:
        return ua.NodeId(ua.Int32(node), ua.Int16(self._types))


def nodeset() -> str:
    """Return the specification's nodeset, in which subtypes name the fields that they inherit.

    A definition holds them all (OPC 10000-3, 8.49), but the file leaves it to who loads it; asyncua
    would take ids of recipes and configurations for their common base.
    """
    text = NODESET.read_text("utf-8")
    inherited = re.search(
        r'<Definition Name="1:BinaryIdBaseDataType">(.*?)</Definition>', text, re.S
    )
    assert inherited is not None
    return re.sub(
        r'<Definition Name="1:(\w+)" />',
        lambda found: f'<Definition Name="1:{found[1]}">{inherited[1]}</Definition>',
        text,
    )


_STRUCTURE = ua.VariantType.ExtensionObject
_COMPONENTS = (
    ("HasTransferableDataOnFile", ua.VariantType.Boolean),
    ("IsPartial", ua.VariantType.Boolean),
    ("IsSimulated", ua.VariantType.Boolean),
    ("ResultState", ua.VariantType.Int32),
    ("MeasId", _STRUCTURE),
    ("PartId", _STRUCTURE),
    ("ExternalRecipeId", _STRUCTURE),
    ("InternalRecipeId", _STRUCTURE),
    ("ProductId", _STRUCTURE),
    ("ExternalConfigurationId", _STRUCTURE),
    ("InternalConfigurationId", _STRUCTURE),
    ("JobId", _STRUCTURE),
    ("CreationTime", ua.VariantType.DateTime),
    ("ProcessingTimes", _STRUCTURE),
    ("ResultContent", ua.VariantType.Variant),
)
_RESULT_FIELDS = {"ResultId": _STRUCTURE, **dict(_COMPONENTS[1:])}


async def _not_supported(_parent: Any, *_asked: Any) -> ua.StatusCode:
    return _status(ua.StatusCodes.BadNotSupported)


def _status(code: int) -> ua.StatusCode:
    return ua.StatusCode(ua.UInt32(code))


def _offered(station: StationChanged | None) -> Sequence[OfferedRecipe]:
    """Return the recipes there are: those of the folder, or the one in the settings."""
    if station is None:
        return ()
    if station.offered is not None:
        return station.offered
    return (station.recipe,) if station.recipe else ()


def _structured(kind: str, **fields: Any) -> Any:
    """Return a structure of the specification; asyncua makes its class from the nodeset."""
    return getattr(ua, kind)(**fields)


def _named(kind: str, identity: str | None) -> Any:
    return _structured(kind, Id=identity) if identity else None


def _external(recipe: OfferedRecipe) -> Any:
    version = str(recipe.version) if recipe.version else None
    return _structured("RecipeIdExternalDataType", Id=recipe.id, Version=version)


def _internal(recipe: OfferedRecipe | None) -> Any:
    if recipe is None:
        return _structured("RecipeIdInternalDataType", Id="")
    version = str(recipe.version) if recipe.version else None
    identity = f"{recipe.id}@{recipe.version}"
    return _structured("RecipeIdInternalDataType", Id=identity, Version=version)


def _no_result() -> Any:
    return _structured(
        "ResultDataType",
        ResultId=_structured("ResultIdDataType"),
        InternalRecipeId=_internal(None),
        InternalConfigurationId=_structured("ConfigurationIdDataType"),
        JobId=_structured("JobIdDataType"),
    )


def _content(verdict: Recorded) -> list[ua.Variant]:
    """Return result, reason, normalized score, and the whole record as JSON."""
    content = verdict.content
    score = content["anomaly_score"]
    return [
        ua.Variant(content["result"], ua.VariantType.String),
        ua.Variant(content["reason"], ua.VariantType.String),
        ua.Variant(float("nan") if score is None else float(score), ua.VariantType.Double),
        ua.Variant(verdict.row.payload.decode(), ua.VariantType.String),
    ]


def _id(structure: Any) -> str:
    """Return the text of an id that a client gave; empty for none."""
    return str(getattr(structure, "Id", None) or "")


def _searchable(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a list of results is filtered by, as ``ResultDataType`` has it."""
    recipe = content.get("recipe")
    return {
        "ResultState": FAILED if content["result"] == "ERROR" else COMPLETED,
        "MeasId": content["trigger_id"] or "",
        "PartId": content["part_id"] or "",
        "ExternalRecipeId": recipe["id"] if recipe else "",
        "InternalRecipeId": f"{recipe['id']}@{recipe['version']}" if recipe else "",
        "ExternalConfigurationId": "",
        "InternalConfigurationId": content["model"]["name"],
        "ProductId": "",
        "JobId": content["id"],
    }


def _structure(value: Any) -> ua.Variant:
    return ua.Variant(value, _STRUCTURE)


def _structures(values: list[Any]) -> ua.Variant:
    return ua.Variant(values, _STRUCTURE, is_array=True)


def _boolean(value: bool) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Boolean)


def _int32(value: int) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Int32)


def _uint32(value: int) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.UInt32)
