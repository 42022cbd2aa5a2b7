"""Yield, counts, trend and histogram from the journal, read on as it grows and only when asked."""

import json
import sqlite3
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from edge.journal import database
from edge.messaging.image_source import image_name

# Older parts are not counted; the page says from when on it counts.
MOST_HISTORY = 200_000
ROWS_AT_ONCE = 1000
HOURS = 24
TREND = 400
RECENT = 1000
STRIP = 16
BINS = 48


@dataclass(frozen=True, slots=True)
class Seen:
    """What the numbers need of a part."""

    seq: int
    id: str
    part_id: str | None
    utc_ns: int
    result: str
    reason: str
    raw_score: float | None
    raw_threshold: float
    score: float | None
    total_ms: float | None
    model_sha256: str
    deadline_met: bool | None = None
    image_name: str | None = None


class Numbers:
    """Reads the journal behind the line; one thread at a time."""

    def __init__(self, journal: Path, shifts: Sequence[str]) -> None:
        """Args:
        journal: the database.
        shifts: local times at which shifts begin, ascending.
        """
        self._journal = journal
        self._shifts = [timedelta(hours=int(s[:2]), minutes=int(s[3:])) for s in shifts]
        self._position = 0
        self._first = True
        self._since_ns: int | None = None
        self._complete = True
        # By quarter of an hour: results, and reasons of the parts that were rejected.
        self._slots: Counter[tuple[int, str]] = Counter()
        self._causes: Counter[tuple[int, str]] = Counter()
        self._recent: deque[Seen] = deque(maxlen=RECENT)
        self._strip: deque[Seen] = deque(maxlen=STRIP)
        self._events: deque[dict[str, Any]] = deque(maxlen=30)

    def content(self, now: datetime) -> dict[str, Any]:
        """Return the numbers.

        Args:
            now: local time with its zone.

        Raises:
            JournalError: it cannot be read.
        """
        self._read_on(now)
        return self._made(now)

    def _read_on(self, now: datetime) -> None:
        day_before, shift_before = now - timedelta(hours=HOURS), self._shift_before(now)
        try:
            with closing(database.connect_reading(self._journal)) as connection:
                if self._first:
                    self._begin(connection, _ns(min(day_before, shift_before)))
                    self._first = False
                while self._read_some(connection) == ROWS_AT_ONCE:
                    pass
        except sqlite3.Error as error:
            raise database.unreadable(self._journal, error) from error
        oldest = _ns(min(day_before, shift_before)) // _SLOT_NS
        for counts in (self._slots, self._causes):
            for key in [key for key in counts if key[0] < oldest]:
                del counts[key]

    def _begin(self, connection: sqlite3.Connection, begin_ns: int) -> None:
        """Find where the counted time begins; positions and times ascend together."""
        oldest, high = connection.execute(
            "SELECT coalesce(min(position), 1), coalesce(max(position), 0) + 1 FROM record"
        ).fetchone()
        low = first = max(oldest, high - MOST_HISTORY)
        while low < high:
            middle = (low + high) // 2
            found = connection.execute(
                "SELECT created_utc_ns FROM record WHERE position >= ? ORDER BY position LIMIT 1",
                (middle,),
            ).fetchone()
            if found is None or found[0] >= begin_ns:
                high = middle
            else:
                low = middle + 1
        self._complete = low > first or first == oldest
        self._position = low - 1

    def _read_some(self, connection: sqlite3.Connection) -> int:
        rows = connection.execute(
            "SELECT position, kind, seq, created_utc_ns, payload FROM record"
            " WHERE position > ? ORDER BY position LIMIT ?",
            (self._position, ROWS_AT_ONCE),
        ).fetchall()
        for position, kind, seq, utc_ns, payload in rows:
            self._position = position
            content = json.loads(payload)
            if kind == "verdict":
                self._count(seen(seq, utc_ns, content))
            else:
                names = ("utc", "kind", "severity", "detail", "data")
                self._events.append({"seq": seq, **{name: content.get(name) for name in names}})
        return len(rows)

    def _count(self, part: Seen) -> None:
        self._since_ns = self._since_ns or part.utc_ns
        self._slots[part.utc_ns // _SLOT_NS, part.result] += 1
        self._recent.append(part)
        if part.result != "OK":
            self._strip.append(part)
            self._causes[part.utc_ns // _SLOT_NS, part.reason] += 1

    def _made(self, now: datetime) -> dict[str, Any]:
        recent = list(self._recent)
        this_hour = now.replace(minute=0, second=0, microsecond=0)
        shift, before = self.shift_begin(now), self._shift_before(now)
        causes: Counter[str] = Counter()
        for (slot, reason), count in self._causes.items():
            if slot >= _ns(shift) // _SLOT_NS:
                causes[reason] += count
        return {
            "now": now.isoformat(timespec="seconds"),
            "since": _text(self._since_ns),
            "complete": self._complete,
            "hours": [
                self._between(this_hour - timedelta(hours=back), timedelta(hours=1))
                for back in range(HOURS - 1, -1, -1)
            ],
            "shift": self._between(shift, now - shift + timedelta(hours=1)),
            "shift_before": self._between(before, shift - before),
            "reasons": causes.most_common(6),
            "trend": [
                [part.seq, part.score, part.result, part.raw_score, part.raw_threshold]
                for part in recent[-TREND:]
            ],
            "histogram": histogram(recent),
            "latency": latency(recent),
            "deadlines": deadlines(recent),
            "rate_per_minute": rate_per_minute(recent, _ns(now)),
            "strip": [_strip_content(part) for part in reversed(self._strip)],
            "events": list(reversed(self._events)),
        }

    def _between(self, begin: datetime, length: timedelta) -> dict[str, Any]:
        """Return the counts of a span whose ends are quarters of an hour."""
        first, last = _ns(begin) // _SLOT_NS, _ns(begin + length) // _SLOT_NS
        counts: Counter[str] = Counter()
        for (slot, result), count in self._slots.items():
            if first <= slot < last:
                counts[result] += count
        total = sum(counts.values())
        return {
            "begin": begin.isoformat(timespec="minutes"),
            "counts": dict(counts),
            "total": total,
            "yield": counts["OK"] / total if total else None,
        }

    def shift_begin(self, moment: datetime) -> datetime:
        """Return when the shift of a moment began."""
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        begun = [midnight + shift for shift in self._shifts if midnight + shift <= moment]
        return begun[-1] if begun else midnight - timedelta(days=1) + self._shifts[-1]

    def _shift_before(self, moment: datetime) -> datetime:
        return self.shift_begin(self.shift_begin(moment) - timedelta(seconds=1))


_HOUR_NS = 3_600_000_000_000
_SLOT_NS = _HOUR_NS // 4  # also where the local time is half an hour or a quarter off


def seen(seq: int, utc_ns: int, content: dict[str, Any]) -> Seen:
    """Return what the numbers need of a verdict's payload."""
    return Seen(
        seq,
        content["id"],
        content["part_id"],
        utc_ns,
        content["result"],
        content["reason"],
        content["raw_score"],
        content["raw_threshold"],
        content["anomaly_score"],
        content["duration_ms"]["total"],
        content["model"]["sha256"],
        content["deadline_met"],
        image_name(content),
    )


def histogram(parts: Sequence[Seen]) -> dict[str, Any] | None:
    """Return raw scores of the newest model in bins; None without any."""
    if not parts:
        return None
    model = parts[-1].model_sha256
    scores = [p.raw_score for p in parts if p.raw_score is not None and p.model_sha256 == model]
    if not scores:
        return None
    threshold = parts[-1].raw_threshold
    low, high = min(*scores, threshold), max(*scores, threshold)
    room = 0.05 * (high - low) or 0.5
    counts, edges = np.histogram(scores, BINS, (low - room, high + room))
    return {
        "counts": counts.tolist(),
        "low": float(edges[0]),
        "high": float(edges[-1]),
        "threshold": threshold,
        "parts": len(scores),
    }


def latency(parts: Sequence[Seen]) -> dict[str, float] | None:
    """Return quantiles from the picture to the decision, of parts that were inspected."""
    decided = [part for part in parts if part.raw_score is not None]
    times = [part.total_ms for part in decided if part.total_ms is not None]
    if not times:
        return None
    p50, p95, p99 = np.quantile(times, [0.5, 0.95, 0.99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "parts": len(times)}


def deadlines(parts: Sequence[Seen]) -> dict[str, int]:
    """Return how many parts had a deadline, and how many of them were late."""
    met = [part.deadline_met for part in parts if part.deadline_met is not None]
    return {"parts": len(met), "late": met.count(False)}


def rate_per_minute(parts: Sequence[Seen], now_ns: int) -> float:
    """Return how many parts came in the last minute; of a fast line, as far as is remembered."""
    fresh = [part.utc_ns for part in parts if now_ns - part.utc_ns <= 60_000_000_000]
    if len(fresh) == RECENT:
        return RECENT * 60e9 / max(1, now_ns - fresh[0])
    return float(len(fresh))


def _strip_content(part: Seen) -> dict[str, Any]:
    return {
        "seq": part.seq,
        "id": part.id,
        "part_id": part.part_id,
        "image_name": part.image_name,
        "utc": _text(part.utc_ns),
        "result": part.result,
        "reason": part.reason,
        "score": part.score,
    }


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def _text(utc_ns: int | None) -> str | None:
    if utc_ns is None:
        return None
    return datetime.fromtimestamp(utc_ns / 1e9).astimezone().isoformat(timespec="milliseconds")
