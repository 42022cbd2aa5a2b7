"""Journal rows as CSV, with columns that stay."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from edge.atomic_files import whole_file
from edge.contract.encoding import utc_text
from edge.contract.image_source import image_name
from edge.csv_table import write_rows
from edge.journal.entries import JournalRow


def _at(*names: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return how a value is found in a payload; None where there is none."""

    def find(content: Mapping[str, Any]) -> Any:
        found: Any = content
        for name in names:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    return find


def _rejecting_zones(content: Mapping[str, Any]) -> str | None:
    zones = [zone for zone in content.get("zones", ()) if zone.get("result") == "NOK"]
    return "; ".join(zone["name"] for zone in zones) or None


# Columns may be added at the end, never moved or renamed. Those of the other kind are empty.
_FROM_PAYLOAD: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "journal": _at("journal"),
    "id": _at("id"),
    "decided_utc": _at("time", "decided_utc"),
    "result": _at("result"),
    "reason": _at("reason"),
    "detail": _at("detail"),
    "part_id": _at("part_id"),
    "trigger_id": _at("trigger_id"),
    "simulated": _at("simulated"),
    "anomaly_score": _at("anomaly_score"),
    "threshold": _at("threshold"),
    "raw_score": _at("raw_score"),
    "raw_threshold": _at("raw_threshold"),
    "deadline_met": _at("deadline_met"),
    "total_ms": _at("duration_ms", "total"),
    "frame_id": _at("frame", "id"),
    "image_sha256": _at("image", "sha256"),
    "model_name": _at("model", "name"),
    "model_version": _at("model", "version"),
    "model_sha256": _at("model", "sha256"),
    "config_sha256": _at("config_sha256"),
    "event_kind": _at("kind"),
    "event_severity": _at("severity"),
    "event_data": _at("data"),
    "image_uri": _at("image", "uri"),
    "image_source_uri": _at("image", "source_uri"),
    "image_name": image_name,
    "rejecting_zones": _rejecting_zones,
}

COLUMNS = ("kind", "seq", "recorded_utc", "delivery", *_FROM_PAYLOAD)


def write_csv(rows: Iterable[JournalRow], file: TextIO) -> int:
    """Write a heading and a line for each row; return how many rows."""
    count = 0

    def cells() -> Iterator[Sequence[Any]]:
        nonlocal count
        yield COLUMNS
        for row in rows:
            content = json.loads(row.payload)
            values = [_text(find(content)) for find in _FROM_PAYLOAD.values()]
            yield [row.kind.value, row.seq, utc_text(row.created_utc_ns), delivery(row), *values]
            count += 1

    write_rows(file, cells(), "\n")
    return count


def export_csv(rows: Iterable[JournalRow], path: Path) -> int:
    """Write a CSV file that is there whole or not at all; return how many rows.

    Raises:
        OutputNotWritable: folder or disk refused it; an older file of that name is untouched.
    """
    with whole_file(path) as file:
        text = TextIOWrapper(file, "utf-8", newline="")
        count = write_csv(rows, text)
        text.detach()  # flushed, and not closed: the file is synced yet
    return count


def delivery(row: JournalRow) -> str:
    """Tell in a word where a row is: ``acknowledged``, ``waiting``, ``kept``, or ``dead: why``."""
    if row.dead is not None:
        return f"dead: {row.dead}"
    if row.kept_only:
        return "kept"
    return "acknowledged" if row.acknowledged else "waiting"


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return value
