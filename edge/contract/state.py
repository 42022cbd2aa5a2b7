"""The state of a station: retained record ``state/1``, and the will that replaces it."""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from edge.contract.clock_sync import ClockSource
from edge.contract.encoding import bounded

SCHEMA = "state/1"
# Of a camera: it says what it likes.
MAX_MODEL_LENGTH = 100
# Reasons with which a degraded station decides no part.
HINDERING = frozenset({"camera_lost", "camera_failed", "journal_unwritable", "journal_full"})


class Condition(StrEnum):
    """What a station is doing; ``offline`` is only ever said by the broker, from the will."""

    STARTING = "starting"
    ONLINE = "online"
    DEGRADED = "degraded"
    STOPPED = "stopped"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The newest row and its value in the hash chain, which rests on all rows before it.

    Attributes:
        position: of the row, over all kinds; 0 before the first.
        seq: of the newest verdict up to it.
        sha256: the value, in hexadecimal digits.
    """

    position: int
    seq: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalReport:
    """How full the journal is.

    Attributes:
        journal: its UUID.
        last_seq: of the newest verdict; 0 before the first.
        backlog: rows the broker has not acknowledged.
        oldest_age_s: of the oldest of them; None without backlog.
        bytes: of its files.
        first_seq: number with which the verdicts of this UUID begin.
        follows: UUID of what was recorded before, where the journal was put back or cloned.
        head: the end of its hash chain, for `edge-run --journal --verify --head`.
    """

    journal: str
    last_seq: int
    backlog: int
    oldest_age_s: float | None
    bytes: int
    first_seq: int = 1
    follows: str | None = None
    head: ChainHead | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationReport:
    """What a station measures about itself, told with its state; None where it does not know.

    Attributes:
        camera_state: a ``CameraState``, such as ``streaming`` or ``lost``.
        camera_model, camera_temperature_c: as the camera says.
        model_version, model_sha256: of the bundle that decides.
        model_precision: weights / arithmetic it computes in, for example ``fp32/f32``.
        model_made_for: the same, of which its export took it for the fastest; another one where
            this processor does not compute in it.
        disk_free_bytes: where the journal lies.
        restarts_1h: starts of this station within the last hour, this one left out.
        clock_sync: what keeps the clock of this PC right.
        trigger_ready: a trigger would be accepted; None for a station that takes none.
    """

    camera_state: str | None = None
    camera_model: str | None = None
    camera_temperature_c: float | None = None
    model_version: str | None = None
    model_sha256: str | None = None
    model_precision: str | None = None
    model_made_for: str | None = None
    journal: JournalReport | None = None
    disk_free_bytes: int | None = None
    restarts_1h: int | None = None
    clock_sync: ClockSource = ClockSource.UNKNOWN
    trigger_ready: bool | None = None


def state_payloads(
    state: State, session: str, report: StationReport = StationReport()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the ``state/1`` payload (``schemas/state-1.json``), and the one that measures nothing.

    Args:
        session: identity of this MQTT connection; the will of the same connection carries it too.
    """
    known = StationReport(trigger_ready=report.trigger_ready)
    return _payload(state, session, report), _payload(replace(state, camera=None), session, known)


def _payload(state: State, session: str, report: StationReport) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "state": state.condition.value,
        "session": session,
        "will": False,
        "since_utc": state.since_utc,
        "reasons": list(state.reasons),
        "trigger_ready": report.trigger_ready,
        "camera": {
            "state": report.camera_state,
            "id": state.camera,
            "model": bounded(report.camera_model, MAX_MODEL_LENGTH)
            if report.camera_model
            else None,
            "temp_c": report.camera_temperature_c,
        },
        "model": {
            "name": state.model,
            "version": report.model_version,
            "sha256": report.model_sha256,
            "precision": report.model_precision,
            "made_for": report.model_made_for,
        },
        "journal": asdict(report.journal) if report.journal else None,
        "disk_free_bytes": report.disk_free_bytes,
        "restarts_1h": report.restarts_1h,
        "clock_sync": report.clock_sync.value,
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
