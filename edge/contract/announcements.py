"""What a station tells beside verdicts, events and its state: meta, last, metrics, hand-shake."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import edge
from edge.contract.encoding import utc_text
from edge.contract.fleet import DESIRED_SCHEMA, REPORT_SCHEMA
from edge.contract.topics import StationTopic

META_SCHEMA = "meta/1"
LAST_SCHEMA = "last/1"
METRICS_SCHEMA = "metrics/1"
HANDSHAKE_SCHEMA = "handshake/1"

# Fields of a verdict that a dashboard shows; never to be controlled by.
LAST_FIELDS = (
    "id", "seq", "journal", "session", "replayed", "simulated", "part_id", "trigger_id",
    "result", "reason", "reason_code", "anomaly_score", "threshold",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdGuarantee:
    """What a threshold guarantees of parts like those that it was calibrated with.

    Attributes:
        of: ``false_reject_rate`` or ``miss_rate``.
        rate: at most this share, with this confidence.
        count: calibration images of that kind that it rests on.
    """

    of: str
    rate: float
    confidence: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What a station is, for consumers that configure themselves; None where it is not known.

    Attributes:
        camera: redacted URI.
        simulated: its images come from files or a fake camera.
        model_name, model_version, model_sha256: of the bundle that decides.
        guarantee: of its threshold, while the station decides by it.
        config_sha256: of the effective configuration.
        journal: UUID of the journal that ``seq`` counts in.
        trigger_mode: ``free_run``, ``software`` or ``hardware``.
        commands: names of the commands that this station carries out.
        fleet: it takes releases.
    """

    camera: str | None = None
    simulated: bool | None = None
    model_name: str | None = None
    model_version: str | None = None
    model_sha256: str | None = None
    guarantee: ThresholdGuarantee | None = None
    config_sha256: str | None = None
    journal: str | None = None
    trigger_mode: str = "free_run"
    commands: tuple[str, ...] = ("resend",)
    fleet: bool = False


@dataclass(frozen=True, slots=True)
class Metrics:
    """Numbers of a station.

    Attributes:
        counters: since the start of the process.
        gauges: now; None where not known.
        latency_ms: by stage, by quantile (``p50``, ``p99``, …).
    """

    counters: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, float | None] = field(default_factory=dict)
    latency_ms: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


class TriggerPhase(StrEnum):
    """What became of a trigger so far; the verdict is told on its own topic."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EXPOSED = "exposed"
    DECIDED = "decided"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeMessage:
    """One phase of one trigger.

    Attributes:
        trigger_id, part_id: echoed.
        utc_ns: wall-clock time, for people.
        reason: of a rejection, see ``schemas/handshake-1.json``.
        seq, result: of the verdict, where a repeated trigger has one already.
        repeated: the trigger was sent before.
    """

    phase: TriggerPhase
    trigger_id: str | None
    part_id: str | None
    utc_ns: int
    reason: str | None = None
    seq: int | None = None
    result: str | None = None
    repeated: bool = False


def meta_payloads(
    meta: Meta, topic: StationTopic, session: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the ``meta/1`` payload (``schemas/meta-1.json``), and the one without lists."""
    whole = {
        "schema": META_SCHEMA,
        "session": session,
        "station": topic.name,
        "software": f"edge {edge.__version__}",
        "camera": {"id": meta.camera, "simulated": meta.simulated},
        "model": {
            "name": meta.model_name,
            "version": meta.model_version,
            "sha256": meta.model_sha256,
            "guarantee": asdict(meta.guarantee) if meta.guarantee else None,
        },
        "config_sha256": meta.config_sha256,
        "journal": meta.journal,
        "capabilities": {"trigger_mode": meta.trigger_mode, "commands": list(meta.commands)},
        "topics": {
            name: {"topic": where, "schema": schema, "direction": direction}
            for name, where, schema, direction in _topics(meta, topic)
        },
        "schemas": "urn:inspection-station:schema",
        "units": {"_ms": "milliseconds", "_s": "seconds", "_ns": "nanoseconds", "_px": "pixels"},
    }
    return whole, {**whole, "topics": {}, "units": {}}


def last_payload(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Build the ``last/1`` payload (``schemas/last-1.json``) from a sent ``verdict/1``."""
    return {
        "schema": LAST_SCHEMA,
        **{name: verdict[name] for name in LAST_FIELDS},
        "decided_utc": verdict["time"]["decided_utc"],
    }


def metrics_payloads(
    metrics: Metrics, session: str, utc_ns: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the ``metrics/1`` payload (``schemas/metrics-1.json``), and the one of counters."""
    whole = {
        "schema": METRICS_SCHEMA,
        "session": session,
        "utc": utc_text(utc_ns),
        "counters": dict(metrics.counters),
        "gauges": dict(metrics.gauges),
        "latency_ms": {stage: dict(values) for stage, values in metrics.latency_ms.items()},
    }
    return whole, {**whole, "gauges": {}, "latency_ms": {}}


def handshake_payload(handshake: HandshakeMessage, session: str) -> dict[str, Any]:
    """Build the ``handshake/1`` payload (``schemas/handshake-1.json``)."""
    return {
        "schema": HANDSHAKE_SCHEMA,
        "session": session,
        "phase": handshake.phase.value,
        "trigger_id": handshake.trigger_id,
        "part_id": handshake.part_id,
        "reason": handshake.reason,
        "seq": handshake.seq,
        "result": handshake.result,
        "utc": utc_text(handshake.utc_ns),
    }


def _topics(meta: Meta, topic: StationTopic) -> list[tuple[str, str, str, str]]:
    out = [
        ("meta", topic.meta, META_SCHEMA, "out"),
        ("state", topic.state, "state/1", "out"),
        ("verdict", topic.verdict, "verdict/1", "out"),
        ("last", topic.last, LAST_SCHEMA, "out"),
        ("event", topic.event, "event/1", "out"),
        ("metrics", topic.metrics, METRICS_SCHEMA, "out"),
        ("handshake", topic.handshake, HANDSHAKE_SCHEMA, "out"),
        ("trigger", topic.trigger, "trigger/1", "in"),
        ("ack", topic.ack, "ack/1", "in"),
    ]
    if meta.fleet:
        out += [
            ("fleet/desired", topic.fleet_desired, DESIRED_SCHEMA, "in"),
            ("fleet/report", topic.fleet_report, REPORT_SCHEMA, "out"),
        ]
    return out + [
        (f"cmd/{name}", topic.command(name), f"cmd-{name.replace('_', '-')}/1", "in")
        for name in meta.commands
    ]
