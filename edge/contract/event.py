"""Events: alarms, and who changed what; schema ``event/1``, journalled like verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from edge.contract.encoding import bounded, new_id, utc_text

SCHEMA = "event/1"
MAX_DETAIL_LENGTH = 300
MAX_VALUE_LENGTH = 200
MAX_DATA = 24

Datum = str | int | float | bool | None


class Severity(StrEnum):
    """``INFO`` is kept as evidence, ``WARNING`` wants a look, ``ALARM`` wants a hand."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened beside the parts.

    Attributes:
        kind: machine-readable, for example ``command`` or ``dead_letter``.
        detail: for people, cause and next step.
        data: the evidence, flat; texts are cut at 200 characters.
    """

    kind: str
    severity: Severity
    detail: str
    data: Mapping[str, Datum] = field(default_factory=dict)


def event_payload(event: Event, utc_ns: int) -> dict[str, Any]:
    """Build the ``event/1`` record (``schemas/event-1.json``), at most 32 KiB as JSON.

    ``seq``, ``journal``, ``session`` and ``replayed`` are of the journal and the connection, and
    not filled in here.

    Args:
        utc_ns: wall-clock time of the event in nanoseconds since 1970.
    """
    return {
        "schema": SCHEMA,
        "id": new_id(utc_ns),
        "seq": None,
        "journal": None,
        "session": None,
        "replayed": False,
        "utc": utc_text(utc_ns),
        "kind": event.kind,
        "severity": event.severity.value,
        "detail": bounded(event.detail, MAX_DETAIL_LENGTH),
        "data": {
            bounded(name, 64): bounded_datum(value)
            for name, value in list(event.data.items())[:MAX_DATA]
        },
    }


def bounded_datum(value: Datum) -> Datum:
    """Return a value of bounded length."""
    return bounded(value, MAX_VALUE_LENGTH) if isinstance(value, str) else value
