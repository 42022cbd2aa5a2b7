"""From messages of the contract to rows; pure."""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from edge.contract.image_source import image_name
from edge.listen.database.shifts import Shifts
from edge.listen.records import Arrived

# A clock that was never set shows the beginning of its count.
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
# PostgreSQL's text has no place for it; a code on a part may hold it all the same.
_NUL, _STAND_IN = "\x00", "\ufffd"
_NUL_IN_JSON, _STAND_IN_JSON = "\\u0000", "\\ufffd"
Row = dict[str, Any]


def verdict_row(one: Arrived, now: datetime, shifts: Shifts) -> Row:
    """Return the columns of a verdict but for its keys.

    ``at_utc`` is when it was decided; by a clock that is ahead of the database's, or was never set,
    the arrival.

    Args:
        now: the database's own time.
    """
    content = one.content
    decided = moment(_at(content, "time", "decided_utc"))
    at = _credible(decided, now)
    day, shift = shifts.at(at)
    model = _text(_at(content, "model", "name"))
    recipe = _text(_at(content, "recipe", "id"))
    version = _at(content, "model" if recipe is None else "recipe", "version")
    return {
        "seq": one.seq,
        "id": _text(content.get("id")),
        "at_utc": at,
        "decided_utc": decided,
        "arrived_utc": now,
        "shift_day": day,
        "shift": shift,
        "product": recipe or model or "",
        "product_version": _text(version) or "",
        "part_id": _text(content.get("part_id")),
        "trigger_id": _text(content.get("trigger_id")),
        "result": _text(content.get("result")),
        "reason": _text(content.get("reason")),
        "anomaly_score": _number(content.get("anomaly_score")),
        "threshold": _number(content.get("threshold")),
        "margin": _number(content.get("margin")),
        "total_ms": _number(_at(content, "duration_ms", "total")),
        "deadline_met": _truth(content.get("deadline_met")),
        "simulated": _truth(content.get("simulated")),
        "replayed": _truth(content.get("replayed")),
        "model": model,
        "model_version": _text(_at(content, "model", "version")),
        "image_uri": _text(_at(content, "image", "uri")),
        "image_source_uri": _text(_at(content, "image", "source_uri")),
        "image_name": _text(image_name(content)),
        "payload": json_text(one.payload),
    }


def event_row(one: Arrived, now: datetime) -> Row:
    """Return the columns of an event but for its keys."""
    content = one.content
    return {
        "seq": one.seq,
        "id": _text(content.get("id")),
        "at_utc": _credible(moment(content.get("utc")), now),
        "arrived_utc": now,
        "kind": _text(content.get("kind")),
        "severity": _text(content.get("severity")),
        "detail": _text(content.get("detail")),
        "payload": json_text(one.payload),
    }


def production_rows(rows: Iterable[Row]) -> list[Row]:
    """Count rows of verdicts by hour, shift, product and cause; ordered, so that none deadlocks."""
    counted: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        key = (
            row["station"],
            row["at_utc"].replace(minute=0, second=0, microsecond=0),
            row["shift_day"],
            row["shift"],
            row["product"],
            row["product_version"],
            bool(row["simulated"]),
            row["result"] or "",
            row["reason"] or "",
        )
        sums = counted.setdefault(key, [0, 0, 0.0, 0.0])
        sums[0] += 1
        score = row["anomaly_score"]
        if score is not None and math.isfinite(score) and abs(score) < 1e6:
            sums[1] += 1
            sums[2] += score
            sums[3] += score * score
    names = (
        *("station", "hour_utc", "shift_day", "shift", "product", "product_version"),
        *("simulated", "result", "reason", "parts", "scored", "score_sum", "score_squares"),
    )
    return [dict(zip(names, (*key, *counted[key]), strict=True)) for key in sorted(counted)]


def moment(value: Any) -> datetime | None:
    """Read an RFC 3339 time; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _credible(found: datetime | None, now: datetime) -> datetime:
    return now if found is None or not _EARLIEST <= found <= now else found


def json_text(text: str) -> str:
    """Return JSON that PostgreSQL can hold: without the one character that its texts have not."""
    if _NUL_IN_JSON not in text:
        return text
    # A backslash before the escape makes it five plain characters; pairs are skipped.
    parts = text.split("\\\\")
    return "\\\\".join(part.replace(_NUL_IN_JSON, _STAND_IN_JSON) for part in parts)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return (value if isinstance(value, str) else str(value)).replace(_NUL, _STAND_IN)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _at(content: Any, *path: str) -> Any:
    for name in path:
        content = content.get(name) if isinstance(content, Mapping) else None
    return content
