"""What a station tells its page, for tests that have none."""

from typing import Any

from edge.hmi.contents import (
    CameraSummary,
    DecidedPart,
    DiskSpace,
    GoodScores,
    HistogramCounts,
    JournalSummary,
    ModelSummary,
    StationStatus,
    VerdictTotals,
)

_MODEL = ModelSummary(
    name="bottle",
    version="1",
    sha256="a" * 64,
    algorithm="patchcore",
    backbone="resnet18",
    precision="fp32/f32",
    device="CPU",
    threshold=5.0,
    bundle_threshold=5.0,
    threshold_method="max_of_good",
    guarantee=None,
    guard_band=0.0,
    range=1.0,
    before=None,
    good=GoodScores(probabilities=[], scores=[]),
)


def sample_part(**more: Any) -> DecidedPart:
    """Return a good part; what is given replaces what it says."""
    given = {
        "id": "01a20a8b-e623-7a43-9125-03f2af0aacac",
        "part_id": None,
        "image_name": None,
        "result": "OK",
        "reason": "score_below",
        "detail": "",
        "score": 0.1,
        "raw_score": 1.0,
        "raw_threshold": 5.0,
        "decided_utc": "2026-11-23T12:00:00.000000Z",
        "total_ms": 12.0,
        "frame": 1,
        "has_image": True,
    }
    return DecidedPart.model_validate({**given, **more})


def sample_status(**more: Any) -> StationStatus:
    """Return the status of a station that has just started; what is given replaces it."""
    counts = VerdictTotals(
        parts=[], stages={}, scores=HistogramCounts(bounds=[], buckets=[0], sum=0.0)
    )
    given: dict[str, Any] = {
        "software": "edge 0",
        "station": None,
        "condition": "online",
        "simulated": True,
        "reasons": {},
        "config_sha256": "0" * 64,
        "recipe": None,
        "deadline_ms": None,
        "camera": CameraSummary(id="frames", trigger="free_run"),
        "broker": None,
        "journal": JournalSummary(writable=True, id=None),
        "disk": DiskSpace(free_bytes=1, total_bytes=2),
        "snapshots": None,
        "recent_images": None,
        "model": _MODEL,
        "skipped": 0,
        "queues": {},
        "handshake": {},
        "acknowledged": {},
        "to_capture": 0,
        "run": None,
        "counts": counts,
    }
    return StationStatus.model_validate({**given, **more})
