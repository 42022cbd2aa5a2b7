"""Typed messages to a station, and the answers to its commands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from edge.contract.encoding import bounded
from edge.contract.event import MAX_DATA, MAX_DETAIL_LENGTH, Datum, bounded_datum
from edge.contract.verdict import Recipe

RESPONSE_SCHEMA = "response/1"

RecordKind = Literal["verdict", "event"]

# Ways on which triggers and acknowledgements come.
PortName = Literal["mqtt", "modbus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRequest:
    """Who asked for a command, and where the answer goes.

    Attributes:
        name: of the command, as in its topic.
        sender: who the sender says it is, unverified; None where it says nothing.
        response_topic: None is the station's own ``cmd/<name>/res``.
        correlation: handed back with the answer.
        answered: over MQTT; who asked on another way finds out from the event.
    """

    name: str
    sender: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    answered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """Expose for one part, or announce one that the hardware will expose.

    Attributes:
        recipe_id: what to inspect for; None for whatever is set.
        recipe_version: None for any.
        deadline_ms: from this trigger to the decision; None takes the station's own.
        received_ns: monotonic time of arrival.
        expires_ns: monotonic time after which it must not be carried out; None without end.
        port: on which it came.
    """

    trigger_id: str
    part_id: str | None
    recipe_id: str | None
    recipe_version: int | str | None
    deadline_ms: float | None
    received_ns: int
    expires_ns: int | None = None
    port: PortName = "mqtt"


@dataclass(frozen=True, slots=True)
class Ack:
    """A consumer has the verdict; ``journal`` None is the current one."""

    seq: int
    journal: str | None
    port: PortName = "mqtt"


@dataclass(frozen=True, slots=True)
class Resend:
    """Send records again, both ends included."""

    request: CommandRequest
    kind: RecordKind
    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again."""

    request: CommandRequest


@dataclass(frozen=True, slots=True)
class SetRecipe:
    """Inspect for this recipe from the next part on."""

    request: CommandRequest
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Keep the image of the next part."""

    request: CommandRequest


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Inspect the bundle's golden frames."""

    request: CommandRequest


Command = Resend | Reload | SetRecipe | Snapshot | SelfTest
ControlMessage = Trigger | Ack | Command


class Status(StrEnum):
    """How a command ended; ``ACCEPTED`` is followed by one of the others."""

    ACCEPTED = "accepted"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAnswer:
    """What the sender of a command is told.

    Attributes:
        reason: machine-readable; None unless refused or failed.
        detail: for people.
        data: what the command gave, flat.
    """

    request: CommandRequest
    status: Status
    detail: str = ""
    reason: str | None = None
    data: Mapping[str, Datum] = field(default_factory=dict)


def answer_payloads(answer: CommandAnswer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the ``response/1`` payload (``schemas/response-1.json``), and the one without words."""
    whole = {
        "schema": RESPONSE_SCHEMA,
        "command": answer.request.name,
        "status": answer.status.value,
        "reason": answer.reason,
        "detail": bounded(answer.detail, MAX_DETAIL_LENGTH),
        "data": {
            bounded(name, 64): bounded_datum(value)
            for name, value in list(answer.data.items())[:MAX_DATA]
        },
    }
    return whole, {**whole, "detail": "", "data": {}}
