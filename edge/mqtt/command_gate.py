"""The gate that messages to a station pass: parsed, bounded, checked, limited, audited.

Pure: bytes and a clock in, a typed message or a refusal out. Nothing that a sender writes raises.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from edge.contract.commands import (
    Ack,
    Command,
    CommandAnswer,
    CommandRequest,
    ControlMessage,
    Reload,
    Resend,
    SelfTest,
    SetRecipe,
    Snapshot,
    Status,
    Trigger,
)
from edge.contract.encoding import bounded
from edge.contract.event import Datum, Event, Severity
from edge.contract.topics import ROOT, StationTopic
from edge.contract.verdict import Recipe
from edge.mqtt.connection import Incoming
from edge.token_bucket import TokenBucket
from edge.validation import in_words

MAX_BYTES = 4096
MAX_RESENT = 10_000
MAX_SEQ = 2**63 - 1
MAX_DEADLINE_MS = 600_000.0
MAX_RESPONSE_TOPIC_LENGTH = 256
MAX_CORRELATION_BYTES = 256
MAX_SENDER_LENGTH = 100
# Audit records per minute; a flood must not fill the journal.
AUDITS_PER_MINUTE = 60

_NAME = re.compile(r"[a-z0-9_-]{1,32}")

Identifier = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seq = Annotated[int, Field(ge=1, le=MAX_SEQ)]
# Of a recipe: the number has to fit wherever its verdict goes, and Python reads any.
Version = Annotated[int, Field(ge=0, le=MAX_SEQ)] | Identifier


class _Content(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class _WantedRecipe(_Content):
    id: Identifier
    version: Version | None = None


class _SetRecipe(_Content):
    id: Identifier
    version: Version
    schema_: Literal["cmd-set-recipe/1"] = Field("cmd-set-recipe/1", alias="schema")


class _Trigger(_Content):
    trigger_id: Identifier
    part_id: Identifier | None = None
    recipe: _WantedRecipe | None = None
    deadline_ms: float | None = Field(default=None, gt=0, le=MAX_DEADLINE_MS)
    schema_: Literal["trigger/1"] = Field("trigger/1", alias="schema")


class _Ack(_Content):
    seq: Seq
    journal: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
    )
    schema_: Literal["ack/1"] = Field("ack/1", alias="schema")


class _Resend(_Content):
    from_seq: Seq
    to_seq: Seq
    kind: Literal["verdict", "event"] = "verdict"
    schema_: Literal["cmd-resend/1"] = Field("cmd-resend/1", alias="schema")

    @model_validator(mode="after")
    def _range(self) -> Self:
        if not self.from_seq <= self.to_seq < self.from_seq + MAX_RESENT:
            raise ValueError(f"from_seq to to_seq must be a range of 1 to {MAX_RESENT} records")
        return self


class _Reload(_Content):
    schema_: Literal["cmd-reload/1"] = Field("cmd-reload/1", alias="schema")


class _Snapshot(_Content):
    schema_: Literal["cmd-snapshot/1"] = Field("cmd-snapshot/1", alias="schema")


class _SelfTest(_Content):
    schema_: Literal["cmd-selftest/1"] = Field("cmd-selftest/1", alias="schema")


@dataclass(frozen=True, slots=True)
class AcceptedCommand:
    """A message to carry out; ``audit`` None for what is not audited one by one."""

    message: ControlMessage
    audit: Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedCommand:
    """A message that is not carried out; ``answer`` None where there is nobody to tell.

    Attributes:
        trigger_id, part_id: of a refused trigger that can be read so far; its sender is told.
    """

    reason: str
    answer: CommandAnswer | None = None
    audit: Event | None = None
    trigger_id: str | None = None
    part_id: str | None = None


class CommandGate:
    """Decides about each message that arrives; keeps the two rate limits and nothing else."""

    def __init__(
        self,
        topic: StationTopic,
        commands_per_minute: int,
        audits_per_minute: int = AUDITS_PER_MINUTE,
    ) -> None:
        self._topic = topic
        self._commands = TokenBucket(commands_per_minute)
        self._audits = TokenBucket(audits_per_minute)
        self._unaudited = 0

    def examine(self, incoming: Incoming, now_ns: int) -> AcceptedCommand | RefusedCommand:
        """Judge one message at monotonic ``now_ns``."""
        request, fault = self._request(incoming)
        if fault is None and request is not None and not self._commands.try_consume(now_ns):
            fault = _Fault("rate_limited", "More commands than mqtt.commands_per_minute allows.")
        if fault is None:
            try:
                message = self._parse(incoming, request, now_ns)
            except ValidationError as error:
                fault = _Fault("malformed", error)
            else:
                return AcceptedCommand(message, self._audit_accepted(message, now_ns))
        return self._refusal(incoming, request, fault, now_ns)

    def refuse(self, message: ControlMessage, now_ns: int) -> RefusedCommand:
        """Refuse what was accepted, because the station has too much to do already."""
        fault = _Fault("busy", "The station has too many messages waiting. Ask again later.")
        request = None if isinstance(message, Trigger | Ack) else message.request
        name = type(message).__name__.lower() if request is None else f"cmd/{request.name}"
        incoming = Incoming(topic=f"{self._topic.root}/{name}", payload=b"")
        refused = self._refusal(incoming, request, fault, now_ns)
        if isinstance(message, Trigger):
            refused = replace(refused, trigger_id=message.trigger_id, part_id=message.part_id)
        return refused

    def _request(self, incoming: Incoming) -> "tuple[CommandRequest | None, _Fault | None]":
        """Read the envelope; the request is None for triggers and acks."""
        request, fault = None, None
        name = incoming.topic.removeprefix(self._topic.command(""))
        if name != incoming.topic and _NAME.fullmatch(name):
            request = CommandRequest(name=name, sender=_sender(incoming))
            reply_to = incoming.response_topic
            if reply_to is not None and not self._may_answer_on(reply_to, name):
                fault = _Fault(
                    "response_topic", "The station does not accept messages on that topic."
                )
            elif len(incoming.correlation or b"") > MAX_CORRELATION_BYTES:
                fault = _Fault("response_topic", "The correlation data is too long.")
            else:
                request = replace(
                    request, response_topic=reply_to, correlation=incoming.correlation
                )
            if name not in _PARSERS:
                fault = _Fault("unknown_command", f"Known: {', '.join(sorted(_PARSERS))}.")
        elif incoming.topic not in (self._topic.trigger, self._topic.ack):
            fault = _Fault("unknown_topic", "The station accepts nothing on that topic.")
        if incoming.retained:
            fault = _Fault(
                "retained",
                "Retained messages would be carried out at every connection. Publish an empty "
                "retained one to remove it.",
            )
        elif len(incoming.payload) > MAX_BYTES:
            fault = _Fault("too_large", f"At most {MAX_BYTES} bytes.")
        return request, fault

    def _may_answer_on(self, topic: str, name: str) -> bool:
        """Tell whether an answer there can not pass for a message of this or another station."""
        if not 1 <= len(topic) <= MAX_RESPONSE_TOPIC_LENGTH or re.search(r"[+#\x00]|^\$", topic):
            return False
        own = self._topic.response(name)
        below_root = topic == ROOT.partition("/")[0] or topic.startswith(
            ROOT.partition("/")[0] + "/"
        )
        return not below_root or topic == own or topic.startswith(own + "/")

    def _parse(
        self, incoming: Incoming, request: CommandRequest | None, now_ns: int
    ) -> ControlMessage:
        content = incoming.payload
        if request is not None:
            return _PARSERS[request.name](request, content or b"{}")
        if incoming.topic == self._topic.ack:
            ack = _Ack.model_validate_json(content)
            return Ack(ack.seq, ack.journal)
        wanted = _Trigger.model_validate_json(content)
        expires_ns = None
        if incoming.expiry_s is not None:
            expires_ns = now_ns + incoming.expiry_s * 1_000_000_000
        return Trigger(
            trigger_id=wanted.trigger_id,
            part_id=wanted.part_id,
            recipe_id=wanted.recipe.id if wanted.recipe else None,
            recipe_version=wanted.recipe.version if wanted.recipe else None,
            deadline_ms=wanted.deadline_ms,
            received_ns=now_ns,
            expires_ns=expires_ns,
        )

    def _audit_accepted(self, message: ControlMessage, now_ns: int) -> Event | None:
        if isinstance(message, Trigger | Ack):
            return None  # a trigger's record is its verdict
        if not self._may_audit(now_ns):
            return None
        detail = f"Command {message.request.name} accepted."
        data: dict[str, Datum] = {"command": message.request.name, "accepted": True}
        data |= {"who": message.request.sender, **_particulars(message)}
        return self._audited(detail, Severity.INFO, data)

    def _refusal(
        self,
        incoming: Incoming,
        request: CommandRequest | None,
        fault: "_Fault | None",
        now_ns: int,
    ) -> RefusedCommand:
        assert fault is not None
        audit = None
        if self._may_audit(now_ns):
            name = bounded(incoming.topic.removeprefix(self._topic.root + "/"), 100)
            data: dict[str, Datum] = {
                "command": request.name if request else name,
                "accepted": False,
                "who": request.sender if request else _sender(incoming),
                "reason": fault.reason,
            }
            audit = self._audited(f"{name} refused: {fault.detail}", Severity.WARNING, data)
        answer = None
        if request:
            answer = CommandAnswer(
                request=request, status=Status.REFUSED, detail=fault.detail, reason=fault.reason
            )
        triggering = incoming.topic == self._topic.trigger
        trigger_id, part_id = _readable_ids(incoming.payload) if triggering else _NO_IDS
        return RefusedCommand(
            reason=fault.reason,
            answer=answer,
            audit=audit,
            trigger_id=trigger_id,
            part_id=part_id,
        )

    def _may_audit(self, now_ns: int) -> bool:
        """Tell whether one more record is within the rate; beyond it they are counted."""
        allowed = self._audits.try_consume(now_ns)
        self._unaudited += not allowed
        return allowed

    def _audited(self, detail: str, severity: Severity, data: dict[str, Datum]) -> Event:
        unaudited, self._unaudited = self._unaudited, 0
        return Event("command", severity, detail, {**data, "not_recorded_before": unaudited})


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a message is refused; the text of a flood's faults is made for those that are shown."""

    reason: str
    cause: str | ValidationError

    @property
    def detail(self) -> str:
        return self.cause if isinstance(self.cause, str) else _faults_text(self.cause)


def _resend(request: CommandRequest, content: bytes) -> Resend:
    wanted = _Resend.model_validate_json(content)
    return Resend(request, wanted.kind, wanted.from_seq, wanted.to_seq)


def _set_recipe(request: CommandRequest, content: bytes) -> SetRecipe:
    wanted = _SetRecipe.model_validate_json(content)
    return SetRecipe(request, Recipe(wanted.id, wanted.version))


def _reload(request: CommandRequest, content: bytes) -> Reload:
    _Reload.model_validate_json(content)
    return Reload(request)


def _snapshot(request: CommandRequest, content: bytes) -> Snapshot:
    _Snapshot.model_validate_json(content)
    return Snapshot(request)


def _selftest(request: CommandRequest, content: bytes) -> SelfTest:
    _SelfTest.model_validate_json(content)
    return SelfTest(request)


_PARSERS: dict[str, Callable[[CommandRequest, bytes], Command]] = {
    "resend": _resend,
    "reload": _reload,
    "set_recipe": _set_recipe,
    "snapshot": _snapshot,
    "selftest": _selftest,
}

COMMAND_NAMES = tuple(sorted(_PARSERS))


def _particulars(command: Command) -> dict[str, Datum]:
    if isinstance(command, Resend):
        return {"kind": command.kind, "from_seq": command.from_seq, "to_seq": command.to_seq}
    if isinstance(command, SetRecipe):
        return {"recipe": command.recipe.id, "version": command.recipe.version}
    return {}


_NO_IDS: tuple[str | None, str | None] = (None, None)
_IDENTIFIER = TypeAdapter(Identifier)


def _readable_ids(content: bytes) -> tuple[str | None, str | None]:
    """Return trigger id and part id of a message that breaks the contract, as far as they do not.

    Whoever waits for the hand-shake of its trigger would else wait for ever.
    """
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):
        return _NO_IDS
    if not isinstance(given, dict):
        return _NO_IDS
    trigger_id = _identifier(given.get("trigger_id"))
    return (trigger_id, _identifier(given.get("part_id"))) if trigger_id else _NO_IDS


def _identifier(found: object) -> str | None:
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)[:64]  # the commonest fault: a number in place of a text
    try:
        return _IDENTIFIER.validate_python(found, strict=True)
    except ValidationError:
        return None


def _sender(incoming: Incoming) -> str | None:
    return bounded(incoming.sender, MAX_SENDER_LENGTH) if incoming.sender else None


def _faults_text(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False, include_context=False)[:3]
    sentences = [
        f"{'.'.join(str(part) for part in fault['loc'])}: {in_words(fault)}".removeprefix(": ")
        for fault in faults
    ]
    return bounded("; ".join(sentences), 250)
