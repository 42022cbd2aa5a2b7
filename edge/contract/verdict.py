"""The verdict: one record per part, schema ``verdict/1``."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import edge
from edge.contract.clock_sync import ClockSync
from edge.contract.encoding import bounded, utc_text
from edge.contract.encoding import new_id as new_id
from edge.contract.encoding import to_json as to_json
from edge.contract.image_source import MAX_URI, source_uri
from edge.imaging.frame import Frame, Pixels, pixel_format
from edge.inspection.decision import Reason
from edge.inspection.normalization import THRESHOLD

if TYPE_CHECKING:  # who reads settings or serves the page compiles no loops
    from edge.inspection.alignment import Located
    from edge.inspection.inspector import Inspection
    from edge.inspection.zones import ZoneDecision

SCHEMA = "verdict/1"

# Bounds of the free text, so that a payload stays below 8 KiB whatever a camera or path says.
MAX_DETAIL_LENGTH = 300
MAX_VERDICT_BYTES = 8192
# ``seq``, ``journal`` and ``session`` are filled in later; so much longer they make a payload.
_FILLED_IN_BYTES = 2 * 36 + 20

# After so long nobody acts on a verdict in real time; one that is sent later is marked as replayed.
ACT_WITHIN_NS = 10_000_000_000

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
    Reason.PART_NOT_FOUND: 22,
    Reason.PART_AMBIGUOUS: 23,
    Reason.CODE_UNREADABLE: 24,
    Reason.CAMERA_LOST: 30,
    Reason.MODEL_ERROR: 40,
    Reason.TIMEOUT: 50,
    Reason.OVERRUN: 51,
    Reason.RECIPE_MISMATCH: 52,
    Reason.RECIPE_UNAVAILABLE: 53,
    Reason.INTERNAL: 90,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StationIdentity:
    """What is the same in every verdict of one run; its texts are at most 100 characters each.

    Attributes:
        simulated: the images come from files or a fake camera; consumers must not book them.
        trigger_source: ``free_run``, ``software``, ``hardware`` or ``timer``.
        model_name, model_version, model_sha256: of the bundle; the hash is the manifest's.
        precision: weights / arithmetic, for example ``fp32/f32``.
        device, runtime: where and with what the model runs.
        config_sha256: of the effective configuration.
        recipe: what parts are inspected for that name none; None where the site names none.
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
    recipe: "Recipe | None" = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to inspect for: a set of model and limits (OPC UA externalRecipeId)."""

    id: str
    version: int | str

    def __str__(self) -> str:
        version = f" version {self.version}" if self.version else ""  # 0: whichever there is
        return f"recipe {self.id}{version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartIdentity:
    """Which part this is, as its trigger told; texts are at most 100 characters each.

    Attributes:
        part_id, trigger_id: of the PLC; None where it gave none.
        trigger_source: ``software``, ``hardware`` or ``timer``.
        recipe: None where none was asked for.
        triggered_ns: monotonic time of the trigger.
        triggered_utc_ns: wall-clock time of the trigger.
        deadline_ms: from the trigger to the decision; None takes the station's own, which counts
            from the image.
        names_recipe: the trigger named the recipe; else it is the one that was chosen then.
    """

    part_id: str | None
    trigger_id: str | None
    trigger_source: str
    recipe: Recipe | None
    triggered_ns: int
    triggered_utc_ns: int
    deadline_ms: float | None = None
    names_recipe: bool = False


@dataclass(frozen=True, slots=True)
class ImageAddresses:
    """Where the images of a part will lie, each a URI; None where none is kept."""

    image: str | None = None
    heat_map: str | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Verdict:
    """One decided part on its way to the sinks.

    Attributes:
        id: UUIDv7 of this result.
        inspection: what was decided.
        frame: the image; still there for whoever draws it, not part of the payload.
        decided_ns: monotonic time of the decision.
        decided_utc_ns: wall-clock time of the decision.
        inspection_started_ns: monotonic time at which the frame left the mailbox.
        identity: what the verdict says of model and settings; None where nobody records it.
        part: None for a part that nobody announced.
        images: None where no snapshot is kept.
        code_recipe: that a code on the part names where its trigger names none; else None.
    """

    id: str
    inspection: "Inspection"
    frame: Frame
    decided_ns: int
    decided_utc_ns: int
    inspection_started_ns: int
    identity: StationIdentity | None = None
    part: PartIdentity | None = None
    images: ImageAddresses | None = None
    code_recipe: Recipe | None = None

    def asked_recipe(self, identity: StationIdentity | None) -> Recipe | None:
        """Return what was asked for; of a part that neither code nor trigger names, what inspected.

        Args:
            identity: what inspected it.
        """
        if self.code_recipe is not None:
            return self.code_recipe
        if self.part is not None:
            return self.part.recipe
        return identity.recipe if identity is not None else None

    @property
    def named_recipe(self) -> Recipe | None:
        """The recipe that the code on the part or its trigger names; None where neither does."""
        if self.code_recipe is not None:
            return self.code_recipe
        return self.part.recipe if self.part is not None and self.part.names_recipe else None

    @property
    def part_id(self) -> str | None:
        """As its trigger told, else as a code on the part says."""
        part_id = self.part.part_id if self.part else None
        return self.inspection.part_id if part_id is None else part_id

    @property
    def deadline(self) -> tuple[float, int] | None:
        """Limit in ms and the monotonic time it counts from: its trigger's, else the station's."""
        return _limit(self, self.identity)

    @property
    def trigger_to_frame_ns(self) -> int | None:
        """None without a trigger, and where no image came or one from before it."""
        part, frame = self.part, self.frame
        if part is None or not frame.pixels.size or frame.captured_ns < part.triggered_ns:
            return None
        return frame.captured_ns - part.triggered_ns


def payload(
    verdict: Verdict,
    identity: StationIdentity,
    session: str | None,
    clock: ClockSync = ClockSync(),
) -> dict[str, Any]:
    """Build the ``verdict/1`` payload (``schemas/verdict-1.json``), at most 8 KiB as JSON.

    What this run does not have (journal, trigger, camera telemetry) is null. ``seq`` and
    ``journal`` are the journal's to fill in.

    Args:
        verdict: the decided part.
        identity: what is the same in every verdict of this run.
        session: identity of the MQTT connection; None without a broker.
        clock: what keeps the wall clock right.
    """
    inspection, frame, part = verdict.inspection, verdict.frame, verdict.part
    score = _rounded_down(inspection.normalized_score)
    durations = inspection.durations
    began_ns = part.triggered_ns if part else frame.captured_ns
    deadline_ms, deadline_met = _deadline(verdict, identity)
    record = {
        "schema": SCHEMA,
        "id": verdict.id,
        "seq": None,
        "journal": None,
        "session": session,
        "replayed": False,
        "simulated": identity.simulated,
        "part_id": verdict.part_id,
        "trigger_id": part.trigger_id if part else None,
        "trigger_source": part.trigger_source if part else identity.trigger_source,
        "recipe": _recipe(verdict.asked_recipe(identity)),
        "result": inspection.decision.result.value,
        "reason": inspection.decision.reason.value,
        "reason_code": REASON_CODES[inspection.decision.reason],
        "detail": bounded(inspection.detail, MAX_DETAIL_LENGTH) or None,
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
        "image": _image(frame, verdict.images),
        "frame": {
            "id": frame.number,
            "status": frame.status.value,
            "device_ts_ns": frame.telemetry.device_ns,
            "missing_packets": frame.telemetry.missing_packets,
            "exposure_us": _finite(frame.telemetry.exposure_us),
            "gain_db": _finite(frame.telemetry.gain_db),
            "age_ms": _ms(verdict.inspection_started_ns - frame.captured_ns),
        },
        "time": {
            "triggered_utc": utc_text(part.triggered_utc_ns) if part else None,
            "exposed_utc": utc_text(frame.captured_utc_ns),
            "decided_utc": utc_text(verdict.decided_utc_ns),
            "expires_utc": utc_text(verdict.decided_utc_ns + ACT_WITHIN_NS),
            "clock_sync": clock.source.value,
            "clock_error_ms": clock.error_ms,
        },
        "duration_ms": {
            "trigger_to_frame": _ms_or_none(verdict.trigger_to_frame_ns),
            "queue": _ms(verdict.inspection_started_ns - frame.captured_ns),
            "preprocess": _ms_or_none(durations.preprocess_ns),
            "inference": _ms_or_none(durations.inference_ns),
            "postprocess": _ms_or_none(durations.postprocess_ns),
            "total": _ms(verdict.decided_ns - began_ns),
        },
        "deadline_ms": deadline_ms,
        "deadline_met": deadline_met,
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
    if inspection.located is not None:
        record["locator"] = _locator(inspection.located)
    if inspection.zones:
        record["zones"] = [_zone(zone) for zone in inspection.zones]
        record["shared_raw_score"] = inspection.shared_score
    _shorten(record, MAX_VERDICT_BYTES - _FILLED_IN_BYTES)
    return record


def _shorten(record: dict[str, Any], max_bytes: int) -> None:
    """Leave out, in the order that the schema states, what makes a record too long."""
    image = record["image"]
    _drop_regions(record, max_bytes)
    if _bytes(record) > max_bytes:
        image["heatmap_uri"] = None
    if _bytes(record) > max_bytes and image.get("source_uri"):
        image["source_uri"] = image["source_uri"].rpartition("/")[2]
    if _bytes(record) > max_bytes:
        image["uri"] = None
    _cut_detail(record, max_bytes)
    if _bytes(record) > max_bytes:
        image["source_uri"] = None  # last: by its name a watched file is known to have a verdict


def _drop_regions(record: dict[str, Any], max_bytes: int) -> None:
    while record["regions"] and (excess := _bytes(record) - max_bytes) > 0:
        longest_region_bytes = max(len(to_json(region)) + 1 for region in record["regions"])
        too_many = min(-(-excess // longest_region_bytes), len(record["regions"]))
        record["regions"] = record["regions"][:-too_many]
        record["regions_truncated"] = True


def _cut_detail(record: dict[str, Any], max_bytes: int) -> None:
    while (excess := _bytes(record) - max_bytes) > 0 and len(record["detail"] or "") > 1:
        # A character has at most four bytes, and the … that stands for what is cut has three.
        shorter = max(len(record["detail"]) - max(excess // 4, 1), 1)
        record["detail"] = bounded(record["detail"][: shorter + 1], shorter)


def _bytes(record: Mapping[str, Any]) -> int:
    return len(to_json(record).encode())


def _limit(verdict: Verdict, identity: StationIdentity | None) -> tuple[float, int] | None:
    part = verdict.part
    if part and part.deadline_ms is not None:
        return part.deadline_ms, part.triggered_ns
    if identity is None or identity.deadline_ms is None:
        return None
    return identity.deadline_ms, verdict.frame.captured_ns


def _deadline(verdict: Verdict, identity: StationIdentity) -> tuple[float | None, bool | None]:
    """Return the deadline and whether it was met: the trigger's own, else the station's."""
    limit = _limit(verdict, identity)
    if limit is None:
        return None, None
    deadline_ms, from_ns = limit
    return deadline_ms, _ms(verdict.decided_ns - from_ns) <= deadline_ms


def _recipe(recipe: Recipe | None) -> dict[str, Any] | None:
    return {"id": recipe.id, "version": recipe.version} if recipe else None


def _zone(zone: "ZoneDecision") -> dict[str, Any]:
    return {
        "name": zone.name,
        "result": zone.result.value,
        "anomaly_score": _rounded_down(zone.normalized_score),
        "raw_score": zone.score,
        "raw_threshold": zone.threshold,
    }


def _locator(located: "Located") -> dict[str, Any]:
    pose = located.pose
    record = {
        "score": round(located.likeness, 4),
        "x": round(pose.x, 2),
        "y": round(pose.y, 2),
        "angle_deg": round(pose.angle_deg, 3),
        "outside": round(located.outside, 4),
    }
    if pose.scale != 1.0:
        record["scale"] = round(pose.scale, 5)
    return record


def _image(frame: Frame, images: ImageAddresses | None) -> dict[str, Any]:
    pixels = frame.pixels
    kept = images.image if images else None
    readable = pixels.ndim >= 2 and pixels.size > 0
    found = pixel_format(pixels) if readable else None
    return {
        "width_px": pixels.shape[1] if readable else None,
        "height_px": pixels.shape[0] if readable else None,
        "pixel_format": found.value if found else None,
        "sha256": pixels_sha256(pixels) if readable else None,
        "uri": _uri(kept or frame.source),
        "heatmap_uri": _uri(images.heat_map if images else None),
        "source_uri": source_uri(frame.source),
        "source_modified_utc": _utc_or_none(frame.source_modified_utc_ns),
    }


def _utc_or_none(utc_ns: int | None) -> str | None:
    return None if utc_ns is None else utc_text(utc_ns)


def _uri(uri: str | None) -> str | None:
    # Half a URI would name another file, so one that is too long is left out.
    return uri if uri and uri.isascii() and len(uri) <= MAX_URI else None


def _finite(value: float | None) -> float | None:
    """Leave out what JSON has no word for; some cameras say NaN for what they do not measure."""
    return value if value is not None and math.isfinite(value) else None


def pixels_sha256(pixels: Pixels) -> str:
    """Return what ``image.sha256`` of a verdict says: the hash of an image's samples in memory."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)


def _ms_or_none(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else _ms(duration_ns)


def _rounded_down(value: float | None) -> float | None:
    """Round down to six digits: a score below the threshold must not read as one on it."""
    return None if value is None else math.floor(value * 1e6) / 1e6


def shortened(message: bytes, max_bytes: int) -> bytes | None:
    """Leave out of a verdict what its schema lets give way; None where it is too long without."""
    content = json.loads(message)
    _shorten(content, max_bytes)
    shorter = to_json(content).encode()
    return shorter if len(shorter) <= max_bytes else None
