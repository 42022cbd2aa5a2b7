"""Yield, counts, trend and histogram from the journal, read only when a page asks for them.

A journal may hold a million parts of a day. So the newest rows are read at once, and what lies
before them, or between two questions that were hours apart, is counted back piece by piece, as far
as the time of an answer allows; until then ``since`` is the time from which they count.
"""

import json
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edge.contract.image_source import image_name
from edge.hmi.server.answer_models import (
    DeadlineCounts,
    LatencyQuantiles,
    ProductionNumbers,
    RecordedEvent,
    RejectedPart,
    ScoreHistogram,
    SpanCounts,
    TrendPoint,
)
from edge.journal import database

# Rows that are read whole at a time; before them, rows that are only counted.
FRESH_ROWS = 1200
PIECE_ROWS = 2500
# For counting back, in each answer; at least a piece.
COUNTING_S = 0.1
HOURS = 24
TREND = 400
RECENT = 1000
STRIP = 16
EVENTS = 30
# Many while a candidate is tried: they would leave no room for others.
TRIAL_VERDICTS = "trial_verdicts"
BINS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSummary:
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


class ProductionStats:
    """Reads the journal behind the line; one thread at a time."""

    def __init__(self, journal: Path, shifts: Sequence[str]) -> None:
        """Begin before the first row of the journal.

        Args:
            journal: the database.
            shifts: local times at which shifts begin, ascending.
        """
        self._journal = journal
        self._shifts = [timedelta(hours=int(s[:2]), minutes=int(s[3:])) for s in shifts]
        self._position: int | None = None
        # What is not counted yet: first position and the one behind the last, newest span last.
        self._uncounted: list[tuple[int, int]] = []
        self._since_ns: int | None = None
        # By quarter of an hour: results, and reasons of the parts that were rejected.
        self._slots: Counter[tuple[int, str]] = Counter()
        self._causes: Counter[tuple[int, str]] = Counter()
        # With their positions, ascending.
        self._recent: deque[PartSummary] = deque(maxlen=RECENT)
        self._strip: list[tuple[int, PartSummary]] = []
        self._events: list[tuple[int, RecordedEvent]] = []

    def numbers(self, now: datetime) -> ProductionNumbers:
        """Return the numbers.

        Args:
            now: local time with its zone.

        Raises:
            JournalError: it cannot be read.
        """
        self._read_on(now)
        return self._numbers(now)

    def _read_on(self, now: datetime) -> None:
        until_s = time.monotonic() + COUNTING_S
        begin_ns = _ns(min(now - timedelta(hours=HOURS), self._shift_before(now)))
        try:
            with closing(database.connect_reading(self._journal)) as connection:
                self._read_newest(connection, begin_ns)
                while self._uncounted:
                    self._count_back(connection, _ns(self.shift_begin(now)))
                    if time.monotonic() > until_s:
                        break
        except sqlite3.Error as error:
            raise database.unreadable(self._journal, error) from error
        for counts in (self._slots, self._causes):
            for key in [key for key in counts if key[0] < begin_ns // _SLOT_NS]:
                del counts[key]

    def _read_newest(self, connection: sqlite3.Connection, begin_ns: int) -> None:
        """Read what has come since the last time; of very much, the newest only."""
        oldest, end = connection.execute(
            "SELECT coalesce(min(position), 1), coalesce(max(position), 0) + 1 FROM record"
        ).fetchone()
        if self._position is None:
            self._position = _first_since(connection, begin_ns, oldest, end) - 1
        if end - self._position > FRESH_ROWS:
            self._uncounted.append((self._position + 1, end - FRESH_ROWS))
            self._position = end - FRESH_ROWS - 1
            self._recent.clear()
        rows = connection.execute(
            "SELECT position, kind, seq, created_utc_ns, payload FROM record"
            " WHERE position > ? ORDER BY position LIMIT ?",
            (self._position, FRESH_ROWS),
        ).fetchall()
        for position, kind, seq, utc_ns, payload in rows:
            self._position = position
            content = json.loads(payload)
            if kind == "verdict":
                part = part_summary(seq, utc_ns, content)
                self._recent.append(part)
                self._slots[utc_ns // _SLOT_NS, part.result] += 1
                self._since_ns = min(self._since_ns or utc_ns, utc_ns)
                if part.result != "OK":
                    self._causes[utc_ns // _SLOT_NS, part.reason] += 1
                    self._strip = _newest([*self._strip, (position, part)], STRIP)
            elif content["kind"] != TRIAL_VERDICTS:
                self._events = _newest([*self._events, (position, _event(seq, content))], EVENTS)

    def _count_back(self, connection: sqlite3.Connection, shift_ns: int) -> None:
        """Count the newest piece of what is not counted; without the payloads of OK parts."""
        begin, end = self._uncounted.pop()
        first = max(begin, end - PIECE_ROWS)
        if first > begin:
            self._uncounted.append((begin, first))
        # By position: the index by kind would look through all rows of that kind.
        piece = "FROM record NOT INDEXED WHERE position >= ? AND position < ? AND kind = "
        for slot, result, count, since_ns in connection.execute(
            f"SELECT created_utc_ns / {_SLOT_NS}, result, count(*), min(created_utc_ns) {piece}"
            "'verdict' GROUP BY 1, 2",
            (first, end),
        ):
            self._slots[slot, result] += count
            self._since_ns = min(self._since_ns or since_ns, since_ns)
        rejected = f"{piece}'verdict' AND result != 'OK'"
        for utc_ns, payload in connection.execute(
            f"SELECT created_utc_ns, payload {rejected} AND created_utc_ns >= ?",
            (first, end, shift_ns),
        ):
            self._causes[utc_ns // _SLOT_NS, json.loads(payload)["reason"]] += 1
        if len(self._strip) < STRIP or self._strip[0][0] < end:
            parts = connection.execute(
                f"SELECT position, seq, created_utc_ns, payload {rejected}"
                f" ORDER BY position DESC LIMIT {STRIP}",
                (first, end),
            )
            found = [
                (p, part_summary(seq, utc_ns, json.loads(text))) for p, seq, utc_ns, text in parts
            ]
            self._strip = _newest([*self._strip, *found], STRIP)
        if len(self._events) < EVENTS or self._events[0][0] < end:
            events = connection.execute(
                f"SELECT position, seq, payload {piece}'event' AND NOT instr(payload, ?)"
                f" ORDER BY position DESC LIMIT {EVENTS}",
                (first, end, f'"kind":"{TRIAL_VERDICTS}"'.encode()),
            )
            found_events = [
                (position, _event(seq, json.loads(text))) for position, seq, text in events
            ]
            self._events = _newest([*self._events, *found_events], EVENTS)

    def _numbers(self, now: datetime) -> ProductionNumbers:
        recent = list(self._recent)
        this_hour = now.replace(minute=0, second=0, microsecond=0)
        shift, before = self.shift_begin(now), self._shift_before(now)
        causes: Counter[str] = Counter()
        for (slot, reason), count in self._causes.items():
            if slot >= _ns(shift) // _SLOT_NS:
                causes[reason] += count
        return ProductionNumbers(
            now=now.isoformat(timespec="seconds"),
            since=_text(self._since_ns) if self._since_ns is not None else None,
            complete=not self._uncounted,
            hours=[
                self._between(this_hour - timedelta(hours=back), timedelta(hours=1))
                for back in range(HOURS - 1, -1, -1)
            ],
            shift=self._between(shift, now - shift + timedelta(hours=1)),
            shift_before=self._between(before, shift - before),
            reasons=causes.most_common(6),
            trend=[
                TrendPoint(part.seq, part.score, part.result, part.raw_score, part.raw_threshold)
                for part in recent[-TREND:]
            ],
            histogram=histogram(recent),
            latency=latency(recent),
            deadlines=deadlines(recent),
            rate_per_minute=rate_per_minute(recent, _ns(now)),
            strip=[_rejected(part) for _, part in reversed(self._strip)],
            events=[event for _, event in reversed(self._events)],
        )

    def _between(self, begin: datetime, length: timedelta) -> SpanCounts:
        """Return the counts of a span whose ends are quarters of an hour."""
        first, last = _ns(begin) // _SLOT_NS, _ns(begin + length) // _SLOT_NS
        counts: Counter[str] = Counter()
        for (slot, result), count in self._slots.items():
            if first <= slot < last:
                counts[result] += count
        total = sum(counts.values())
        return SpanCounts(
            begin=begin.isoformat(timespec="minutes"),
            counts=dict(counts),
            total=total,
            yield_=counts["OK"] / total if total else None,
        )

    def shift_begin(self, moment: datetime) -> datetime:
        """Return when the shift of a moment began."""
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        begun = [midnight + shift for shift in self._shifts if midnight + shift <= moment]
        return begun[-1] if begun else midnight - timedelta(days=1) + self._shifts[-1]

    def _shift_before(self, moment: datetime) -> datetime:
        return self.shift_begin(self.shift_begin(moment) - timedelta(seconds=1))


_HOUR_NS = 3_600_000_000_000
_SLOT_NS = _HOUR_NS // 4  # also where the local time is half an hour or a quarter off


def part_summary(seq: int, utc_ns: int, content: dict[str, Any]) -> PartSummary:
    """Return what the numbers need of a verdict's payload."""
    return PartSummary(
        seq=seq,
        id=content["id"],
        part_id=content["part_id"],
        utc_ns=utc_ns,
        result=content["result"],
        reason=content["reason"],
        raw_score=content["raw_score"],
        raw_threshold=content["raw_threshold"],
        score=content["anomaly_score"],
        total_ms=content["duration_ms"]["total"],
        model_sha256=content["model"]["sha256"],
        deadline_met=content["deadline_met"],
        image_name=image_name(content),
    )


def _first_since(connection: sqlite3.Connection, begin_ns: int, low: int, high: int) -> int:
    """Return the first position whose time is counted; positions and times ascend together."""
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
    return low


def _event(seq: int, content: Mapping[str, Any]) -> RecordedEvent:
    return RecordedEvent(
        seq=seq,
        utc=content.get("utc"),
        kind=content["kind"],
        severity=content.get("severity"),
        detail=content.get("detail"),
        data=content.get("data"),
    )


T = TypeVar("T")


def _newest(found: list[tuple[int, T]], max_count: int) -> list[tuple[int, T]]:
    return sorted(found, key=lambda one: one[0])[-max_count:]


def histogram(parts: Sequence[PartSummary]) -> ScoreHistogram | None:
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
    return ScoreHistogram(
        counts=counts.tolist(),
        low=float(edges[0]),
        high=float(edges[-1]),
        threshold=threshold,
        parts=len(scores),
        model_sha256=model,
    )


def latency(parts: Sequence[PartSummary]) -> LatencyQuantiles | None:
    """Return quantiles from the image to the decision, of parts that were inspected."""
    decided = [part for part in parts if part.raw_score is not None]
    times = [part.total_ms for part in decided if part.total_ms is not None]
    if not times:
        return None
    p50, p95, p99 = np.quantile(times, [0.5, 0.95, 0.99])
    return LatencyQuantiles(p50=float(p50), p95=float(p95), p99=float(p99), parts=len(times))


def deadlines(parts: Sequence[PartSummary]) -> DeadlineCounts:
    """Return how many parts had a deadline, and how many of them were late."""
    met = [part.deadline_met for part in parts if part.deadline_met is not None]
    return DeadlineCounts(parts=len(met), late=met.count(False))


def rate_per_minute(parts: Sequence[PartSummary], now_ns: int) -> float:
    """Return how many parts came in the last minute; of a fast line, as far as is remembered."""
    fresh = [part.utc_ns for part in parts if now_ns - part.utc_ns <= 60_000_000_000]
    if len(fresh) == RECENT:
        return RECENT * 60e9 / max(1, now_ns - fresh[0])
    return float(len(fresh))


def _rejected(part: PartSummary) -> RejectedPart:
    return RejectedPart(
        seq=part.seq,
        id=part.id,
        part_id=part.part_id,
        image_name=part.image_name,
        utc=_text(part.utc_ns),
        result=part.result,
        reason=part.reason,
        score=part.score,
    )


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def _text(utc_ns: int) -> str:
    return datetime.fromtimestamp(utc_ns / 1e9).astimezone().isoformat(timespec="milliseconds")
