"""The state of a station: retained record ``state/1``, and the will that replaces it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SCHEMA = "state/1"


class Condition(StrEnum):
    """What a station is doing; ``offline`` is only ever said by the broker, from the will."""

    STARTING = "starting"
    ONLINE = "online"
    DEGRADED = "degraded"
    STOPPED = "stopped"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class State:
    """Condition of a station and why.

    Attributes:
        since_utc: RFC 3339 time at which the condition began.
        reasons: machine-readable causes, empty when all is well.
        camera: redacted URI; None before it is known.
        model: name of the bundle; None before it is known.
    """

    condition: Condition
    since_utc: str
    reasons: tuple[str, ...] = ()
    camera: str | None = None
    model: str | None = None


def state_payload(state: State, session: str) -> dict[str, Any]:
    """Build the ``state/1`` payload; what later parts of the system measure is null.

    Args:
        session: identity of this MQTT connection; the will of the same connection carries it too.
    """
    return {
        "schema": SCHEMA,
        "state": state.condition.value,
        "session": session,
        "will": False,
        "since_utc": state.since_utc,
        "reasons": list(state.reasons),
        "camera": {"id": state.camera, "model": None, "temp_c": None},
        "model": {"name": state.model},
        "journal": None,
        "disk_free_bytes": None,
        "restarts_1h": None,
        "clock_sync": "unknown",
    }


def will_payload(session: str) -> dict[str, Any]:
    """Build the will. A consumer ignores one whose session is not the newest it has seen."""
    return {
        "schema": SCHEMA,
        "state": Condition.OFFLINE.value,
        "session": session,
        "will": True,
        "reasons": ["connection_lost"],
    }
