"""The verdict: one record per part, schema ``verdict/1``."""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

import edge
from edge.frame import Frame, Pixels, pixel_format
from edge.inspection.inspector import Inspection
from edge.inspection.normalization import THRESHOLD
from edge.inspection.thresholding import Reason

SCHEMA = "verdict/1"

# Bounds of the free text, so that a payload stays below 8 KiB whatever a camera or path says.
LONGEST_DETAIL = 300
LONGEST_URI = 1000

# For PLCs without string handling. Numbers are never reused.
REASON_CODES = {
    Reason.SCORE_BELOW: 1,
    Reason.SCORE_ABOVE: 2,
    Reason.NEAR_THRESHOLD: 3,
    Reason.FRAME_INCOMPLETE: 10,
    Reason.FRAME_STALE: 11,
    Reason.FRAME_FROZEN: 12,
    Reason.FRAME_LATE: 13,
    Reason.EXPOSURE_OUT_OF_RANGE: 20,
    Reason.BLUR_OR_DARK: 21,
    Reason.CAMERA_LOST: 30,
    Reason.MODEL_ERROR: 40,
    Reason.TIMEOUT: 50,
    Reason.OVERRUN: 51,
    Reason.INTERNAL: 90,
}


@dataclass(frozen=True, slots=True)
class StationIdentity:
    """What is the same in every verdict of one run; its texts are at most 100 characters each.

    Attributes:
        simulated: the pictures come from files or a fake camera; consumers must not book them.
        trigger_source: ``free_run``, ``software``, ``hardware`` or ``timer``.
        model_name, model_version, model_sha256: of the bundle; the hash is the manifest's.
        precision: weights / arithmetic, for example ``fp32/f32``.
        device, runtime: where and with what the model runs.
        config_sha256: of the effective configuration.
        deadline_ms: per part; None where none is set.
    """

    simulated: bool
    trigger_source: str
    model_name: str
    model_version: str
    model_sha256: str
    precision: str
    device: str
    runtime: str
    config_sha256: str
    deadline_ms: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """One decided part on its way to the sinks.

    Attributes:
        id: UUIDv7 of this result.
        inspection: what was decided.
        frame: the picture; still there for whoever draws it, not part of the payload.
        decided_ns: monotonic time of the decision.
        decided_utc_ns: wall-clock time of the decision.
        inspection_started_ns: monotonic time at which the frame left the mailbox.
    """

    id: str
    inspection: Inspection
    frame: Frame
    decided_ns: int
    decided_utc_ns: int
    inspection_started_ns: int


def payload(verdict: Verdict, identity: StationIdentity, session: str | None) -> dict[str, Any]:
    """Build the ``verdict/1`` payload (``schemas/verdict-1.json``), at most 8 KiB as JSON.

    Fields that rest on parts of the system this run does not have (journal, trigger, camera
    telemetry) are null.

    Args:
        verdict: the decided part.
        identity: what is the same in every verdict of this run.
        session: identity of the MQTT connection; None without a broker.
    """
    inspection, frame = verdict.inspection, verdict.frame
    score = _rounded_down(inspection.normalized_score)
    durations = inspection.durations
    total_ms = _ms(verdict.decided_ns - frame.captured_ns)
    deadline_ms = identity.deadline_ms
    return {
        "schema": SCHEMA,
        "id": verdict.id,
        "seq": None,
        "journal": None,
        "session": session,
        "replayed": False,
        "simulated": identity.simulated,
        "part_id": None,
        "trigger_id": None,
        "trigger_source": identity.trigger_source,
        "recipe": None,
        "result": inspection.decision.result.value,
        "reason": inspection.decision.reason.value,
        "reason_code": REASON_CODES[inspection.decision.reason],
        "detail": _text(inspection.detail, LONGEST_DETAIL) or None,
        "anomaly_score": score,
        "threshold": THRESHOLD,
        "margin": None if score is None else round(score - THRESHOLD, 6),
        "score_scale": "minmax_0_1",
        "raw_score": inspection.score,
        "raw_threshold": inspection.threshold,
        "regions": [
            {
                "bbox": [region.x, region.y, region.width, region.height],
                "area_px": region.area_px,
                "peak": _rounded_down(region.peak),
            }
            for region in inspection.regions
        ],
        "regions_truncated": inspection.regions_truncated,
        "image": _image(frame),
        "frame": {
            "id": frame.number,
            "status": frame.status.value,
            "device_ts_ns": None,
            "missing_packets": None,
            "exposure_us": None,
            "gain_db": None,
            "age_ms": _ms(verdict.inspection_started_ns - frame.captured_ns),
        },
        "time": {
            "triggered_utc": None,
            "exposed_utc": utc_text(frame.captured_utc_ns),
            "decided_utc": utc_text(verdict.decided_utc_ns),
            "clock_sync": "unknown",
            "clock_error_ms": None,
        },
        "duration_ms": {
            "trigger_to_frame": None,
            "queue": _ms(verdict.inspection_started_ns - frame.captured_ns),
            "preprocess": _ms_or_none(durations.preprocess_ns),
            "inference": _ms_or_none(durations.inference_ns),
            "postprocess": _ms_or_none(durations.postprocess_ns),
            "total": total_ms,
        },
        "deadline_ms": deadline_ms,
        "deadline_met": None if deadline_ms is None else total_ms <= deadline_ms,
        "model": {
            "name": identity.model_name,
            "version": identity.model_version,
            "sha256": identity.model_sha256,
            "precision": identity.precision,
            "device": identity.device,
            "runtime": identity.runtime,
        },
        "config_sha256": identity.config_sha256,
        "software": f"edge {edge.__version__}",
    }


def to_json(content: dict[str, Any]) -> str:
    """Serialise a payload on one line.

    Raises:
        ValueError: a number is NaN or infinite, which JSON has no word for.
    """
    return json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def new_id(utc_ns: int) -> str:
    """Return a UUIDv7 (RFC 9562): 48 bits of milliseconds, then random, so ids sort by time.

    Args:
        utc_ns: wall-clock time in nanoseconds since 1970; ids of one millisecond are in no order.
    """
    value = (utc_ns // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _image(frame: Frame) -> dict[str, Any]:
    pixels, uri = frame.pixels, frame.source
    readable = pixels.ndim >= 2 and pixels.size > 0
    found = pixel_format(pixels) if readable else None
    return {
        "width_px": pixels.shape[1] if readable else None,
        "height_px": pixels.shape[0] if readable else None,
        "pixel_format": found.value if found else None,
        "sha256": _sha256(pixels) if readable else None,
        # Half a URI would name another file, so one that is too long is left out.
        "uri": uri if uri and uri.isascii() and len(uri) <= LONGEST_URI else None,
        "heatmap_uri": None,
    }


def _sha256(pixels: Pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)


def _ms_or_none(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else _ms(duration_ns)


def _rounded_down(value: float | None) -> float | None:
    """Round down to six digits: a score below the threshold must not read as one on it."""
    return None if value is None else math.floor(value * 1e6) / 1e6


def _text(text: str, longest: int) -> str:
    """Make a text safe to send: printable, encodable (file names need not be), bounded."""
    printable = "".join(c if c.isprintable() else " " for c in text[: longest + 1])
    return printable if len(printable) <= longest else printable[: longest - 1] + "…"


def utc_text(ns: int) -> str:
    """Write nanoseconds since 1970 as RFC 3339 with microseconds."""
    moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ns % 1_000_000_000 // 1000:06d}Z"
