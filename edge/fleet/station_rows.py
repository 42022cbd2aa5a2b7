"""What the broker has of each station, as a row that people read; pure."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edge.contract.fleet import PAGE_SETTINGS, FleetReport
from edge.fleet.fleet_link import Retained
from edge.fleet.leader import CONNECTED_STATES, read_condition, without_counts
from edge.wording import counted

_DIGITS = re.compile(r"([0-9]+)")
# A station publishes its counts every 10 s, and its state every 30 s.
SILENT_S = 100.0
RESULTS = ("ok", "nok", "not_decidable", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRow:
    """One station; None where it is not known.

    Attributes:
        state: ``online``, ``degraded``, ``starting``, ``stopped``, ``offline``, ``unknown``, or
            ``silent`` of one that is connected by its state, and says nothing.
        alarms: reasons of the state.
        product, version: that parts without a recipe are inspected for; else name of the model.
        release: version of the release that this came by.
        settings: that were released and count, as ``guard-band 2``.
        phase: of the newest desired state, with its reason.
        parts, ok_rate: since the station's start; where it has not told them yet, since the
            release is in force.
        backlog: records that the broker does not have yet.
    """

    station: str
    state: str
    alarms: tuple[str, ...]
    product: str | None
    version: str | None
    release: int | None
    sha256: str | None
    settings: str | None
    phase: str | None
    reason: str | None
    detail: str
    parts: int
    ok_rate: float | None
    backlog: int | None


def station_rows(retained: Retained, now_s: float = -math.inf) -> list[StationRow]:
    """Return all stations that the broker knows, by name.

    Args:
        now_s: monotonic, for who has listened long enough to know which of them are silent.
    """
    return [_row(name, retained, now_s) for name in sorted(retained.stations, key=_natural)]


def rows_table(retained: Retained, rows: Sequence[StationRow]) -> Iterator[str]:
    """Yield the lines of a table, and what roll-out there is."""
    head = (
        *("STATION", "STATE", "PRODUCT", "VERSION", "RELEASE", "SETTINGS", "PHASE", "OK"),
        *("BACKLOG", "ALARMS"),
    )
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    for line in cells:
        yield "  ".join(one.ljust(width) for one, width in zip(line, widths, strict=True)).rstrip()
    quiet = set(without_counts(retained)) & {row.station for row in rows if row.ok_rate is None}
    if quiet:
        yield (
            f"OK: not known for {counted(len(quiet), 'station')}, which report it every 10 s; "
            "--wait "
            "12 waits for it"
        )
    for row in rows:
        if row.reason == PAGE_SETTINGS:
            yield f"{row.station}: {row.detail}"
    rollout = retained.rollout
    if rollout is not None:
        owner = retained.owner
        led = f", led by {owner.owner}" if owner is not None and owner.online else ""
        yield (
            f"roll-out {rollout.id} of {rollout.release}: {rollout.stage.replace('_', ' ')}, wave "
            f"{rollout.wave} of {len(rollout.waves) - 1}{led}"
            + (f"; {rollout.reason}" if rollout.reason else "")
        )


def rows_json(retained: Retained, rows: Sequence[StationRow]) -> Iterator[str]:
    """Yield one line with everything."""
    yield json.dumps(
        {"stations": [asdict(row) for row in rows], "rollout": rollout_content(retained)},
        ensure_ascii=False,
    )


def rollout_content(retained: Retained) -> dict[str, Any] | None:
    """Return the roll-out that is kept, and who leads it."""
    rollout, owner = retained.rollout, retained.owner
    if rollout is None:
        return None
    return {
        "id": rollout.id,
        "stage": rollout.stage.value,
        "reason": rollout.reason,
        "wave": rollout.wave,
        "waves": len(rollout.waves) - 1,
        "release": rollout.release.model_dump(mode="json"),
        "led_by": owner.owner if owner is not None and owner.online else None,
    }


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts line-2 before line-10."""
    return [(int(one), "") if one.isdecimal() else (0, one) for one in _DIGITS.split(name)]


def _row(name: str, retained: Retained, now_s: float) -> StationRow:
    kept = retained.stations[name]
    report: FleetReport | None = retained.reports.get(name)
    state, alarms = read_condition(kept.get("state"))
    if state in CONNECTED_STATES and retained.silent_s(name, now_s) > SILENT_S:
        state = "silent"  # a broker that was killed has published no will
    in_force = report.in_force if report else None
    metrics, meta = _content(kept.get("metrics")), _content(kept.get("meta"))
    counts = {one: _number(metrics, "counters", f"parts_{one}") or 0 for one in RESULTS}
    if not any(counts.values()) and report is not None and report.since is not None:
        counts = {one: getattr(report.since, one) for one in RESULTS}
    parts = sum(counts.values())
    model = meta.get("model")
    named = model.get("name") if isinstance(model, dict) else None
    product = in_force.name if in_force is not None and in_force.name is not None else named
    return StationRow(
        station=name,
        state=state,
        alarms=alarms,
        product=str(product)[:100] if product is not None else None,
        version=str(in_force.version) if in_force and in_force.version is not None else None,
        release=in_force.release if in_force else None,
        sha256=in_force.sha256 if in_force else None,
        settings=_settings(report),
        phase=report.phase.value if report else None,
        reason=report.reason if report else None,
        detail=report.detail if report else "",
        parts=parts,
        ok_rate=counts["ok"] / parts if parts else None,
        backlog=_number(_content(kept.get("state")), "journal", "backlog"),
    )


def _settings(report: FleetReport | None) -> str | None:
    released = report.settings if report is not None else None
    return f"{released.name} {released.version}" if released is not None else None


def _cells(row: StationRow) -> tuple[str, ...]:
    phase = row.phase or ""
    return (
        row.station,
        row.state,
        row.product or "",
        row.version or "",
        str(row.release) if row.release is not None else "",
        row.settings or "",
        f"{phase}: {row.reason}" if row.reason else phase,
        f"{100 * row.ok_rate:.1f} % of {row.parts}" if row.ok_rate is not None else "",
        str(row.backlog) if row.backlog is not None else "",
        ", ".join(row.alarms),
    )


def _content(message: bytes | None) -> dict[str, Any]:
    try:
        content = json.loads(message or b"{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _number(content: dict[str, Any], section: str, key: str) -> int | None:
    found = content.get(section)
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
