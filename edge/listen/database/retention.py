"""Partitions and retention: what is made ahead, and what is old enough to go."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge.listen.database import tables as t

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Made ahead, so that no partition is made while verdicts wait.
_AHEAD = 2
# Rows of one statement: others shall not wait for it.
_AT_ONCE = 20_000
_NAME = "verdict_%Y%m%d"


@dataclass(frozen=True, slots=True)
class Cut:
    """A partition of verdicts: arrivals from the one moment to before the other."""

    begin: datetime
    end: datetime

    @property
    def name(self) -> str:
        return self.begin.strftime(_NAME)


def make_cut(now: datetime, days: int) -> Cut:
    """Return the partition of so many days that a moment belongs to; they count from 2000 on."""
    number = (now - _EPOCH) // timedelta(days=days)
    begin = _EPOCH + number * timedelta(days=days)
    return Cut(begin, begin + timedelta(days=days))


def is_partitioned(connection: Connection) -> bool:
    """Tell whether verdicts lie in PostgreSQL's own partitions."""
    if connection.dialect.name != "postgresql":
        return False
    kind = connection.scalar(
        sa.text("SELECT relkind FROM pg_class WHERE oid = 'verdict'::regclass")
    )
    return kind in ("p", b"p")


def make_partitions(connection: Connection, now: datetime, days: int) -> datetime:
    """Make the partition of now and the next ones where there is none; return their end.

    One whose days another covers, of another length, is made of what is left between them.
    """
    cuts = [make_cut(now + number * timedelta(days=days), days) for number in range(_AHEAD + 1)]
    there = partitions(connection)
    if any(_uncovered(wanted, there) for wanted in cuts):
        # One listener at a time: two that make the same one would collide.
        connection.execute(sa.text("LOCK TABLE setting IN SHARE ROW EXCLUSIVE MODE"))
        there = partitions(connection)
    for wanted in cuts:
        for cut in _uncovered(wanted, there):
            connection.execute(
                sa.text(
                    f"CREATE TABLE IF NOT EXISTS {cut.name} PARTITION OF verdict "
                    f"FOR VALUES FROM ('{cut.begin.isoformat()}') TO ('{cut.end.isoformat()}')"
                )
            )
            there.append(cut)
    return cuts[-1].end


def partitions(connection: Connection) -> list[Cut]:
    """Return the partitions that are there."""
    found = connection.execute(
        sa.text(
            "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
            " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'verdict'::regclass"
        )
    ).scalars()
    cuts = []
    for bound in found:  # FOR VALUES FROM ('2026-11-29 00:00:00+00') TO ('…')
        _, begin, _, end, _ = bound.split("'")
        cuts.append(Cut(_utc(begin), _utc(end)))
    return sorted(cuts, key=lambda cut: cut.begin)


def remove_old(connection: Connection, now: datetime, keep_days: int) -> int:
    """Remove what arrived more than so many days ago, some at a time; return how many rows.

    Whole partitions go at once and count as none.
    """
    before = now - timedelta(days=keep_days)
    removed = 0
    if is_partitioned(connection):
        for cut in partitions(connection):
            if cut.end <= before:
                connection.execute(sa.text(f"DROP TABLE IF EXISTS {cut.name}"))
    elif connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("SELECT drop_chunks('verdict', CAST(:before AS timestamptz))"),
            {"before": before},
        )
    else:
        removed += _delete(connection, t.verdict, before)
    for table in (t.event, t.state_change, t.refused):
        removed += _delete(connection, table, before)
    return removed + _forget(connection, before)


def _forget(connection: Connection, before: datetime) -> int:
    """Remove numbers that need no comparing any more; what comes again below them is dropped."""
    streams = connection.execute(
        sa.select(t.stream.c.journal, t.stream.c.kind, t.stream.c.complete_to)
    ).all()
    removed = 0
    for journal, kind, complete_to in streams:
        own = (t.received.c.journal == journal) & (t.received.c.kind == kind)
        old = (
            sa.select(t.received.c.seq, t.received.c.arrived_utc)
            .where(own, t.received.c.seq <= complete_to)
            .order_by(t.received.c.seq)
            .limit(_AT_ONCE)
        )
        last = _last_before(connection.execute(old).all(), before)
        if last is None:
            continue
        for table in (t.received, t.conflict):
            connection.execute(
                sa.delete(table).where(
                    table.c.journal == journal, table.c.kind == kind, table.c.seq <= last
                )
            )
        connection.execute(
            sa.delete(t.lost).where(
                t.lost.c.journal == journal, t.lost.c.kind == kind, t.lost.c.last <= last
            )
        )
        connection.execute(
            sa.update(t.stream)
            .where(t.stream.c.journal == journal, t.stream.c.kind == kind)
            .values(forgotten_to=last)
        )
        removed += 1
    return removed


def _last_before(rows: Sequence[Any], before: datetime) -> int | None:
    last = None
    for seq, arrived in rows:
        if arrived >= before:
            break
        last = seq
    return last


def _delete(connection: Connection, table: sa.Table, before: datetime) -> int:
    return connection.execute(sa.delete(table).where(table.c.arrived_utc < before)).rowcount


def _uncovered(wanted: Cut, there: Sequence[Cut]) -> list[Cut]:
    """Return what of a partition no other covers."""
    left, begin = [], wanted.begin
    for cut in sorted(there, key=lambda one: one.begin):
        if cut.end <= begin or cut.begin >= wanted.end:
            continue
        if cut.begin > begin:
            left.append(Cut(begin, cut.begin))
        begin = max(begin, cut.end)
    if begin < wanted.end:
        left.append(Cut(begin, wanted.end))
    return left


def _utc(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
