"""Partitions and retention: what is made ahead, and what is old enough to go."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from edge.listen.database import tables as t

log = logging.getLogger(__name__)

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Made ahead, so that no partition is made while verdicts wait.
_AHEAD = 2
# Rows of one statement: others shall not wait for it.
_AT_ONCE = 20_000
_DROP_LIMIT_MS = 500
_LOCK_NOT_AVAILABLE = "55P03"
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
            # Attached, not made as a partition: that would wait for all who read, as a backup does
            # for hours, and all who write would wait behind it.
            connection.execute(
                sa.text(f"CREATE TABLE IF NOT EXISTS {cut.name} (LIKE verdict INCLUDING ALL)")
            )
            # Small, as arrivals lie in order: what came lately is found without reading a day.
            connection.execute(
                sa.text(
                    f"CREATE INDEX IF NOT EXISTS {cut.name}_by_arrival ON {cut.name}"
                    " USING brin (arrived_utc) WITH (autosummarize = on)"
                )
            )
            connection.execute(
                sa.text(
                    f"ALTER TABLE verdict ATTACH PARTITION {cut.name} "
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


def remove_old(
    engine: Engine, now: datetime, keep_days: int, enough: Callable[[], bool] = lambda: False
) -> bool:
    """Remove what arrived more than so many days ago, some at a time; return whether that is all.

    Args:
        enough: asked after each transaction; what is left then waits for the next time.
    """
    before = now - timedelta(days=keep_days)
    with engine.begin() as connection:
        partitioned = is_partitioned(connection)
        old = [cut for cut in partitions(connection) if cut.end <= before] if partitioned else []
        # By chance, so that each has its turn where there is never time for all.
        streams = connection.execute(
            sa.select(t.stream.c.journal, t.stream.c.kind, t.stream.c.complete_to).order_by(
                sa.func.random()
            )
        ).all()
    tables = [t.event, t.state_change, t.refused]
    if partitioned:
        _drop(engine, old)
    elif engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(
                sa.text("SELECT drop_chunks('verdict', CAST(:before AS timestamptz))"),
                {"before": before},
            )
    else:
        with engine.begin() as connection:
            connection.execute(sa.delete(t.verdict).where(t.verdict.c.arrived_utc < before))
    for table in tables:
        while _delete_some(engine, table, before):
            if enough():
                return False
    for journal, kind, complete_to in streams:
        while _forget_some(engine, (journal, kind), complete_to, before):
            if enough():
                return False
    return True


def _drop(engine: Engine, cuts: Sequence[Cut]) -> None:
    """Drop partitions; not while somebody reads, as whoever comes then would wait behind us."""
    try:
        for cut in cuts:
            with engine.begin() as connection:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = {_DROP_LIMIT_MS}"))
                connection.execute(sa.text(f"DROP TABLE IF EXISTS {cut.name}"))
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        log.info("old partitions of verdicts are removed later: somebody reads the table now")


def _delete_some(engine: Engine, table: sa.Table, before: datetime) -> bool:
    """Delete the oldest rows of a table; return whether some may be left."""
    arrived = table.c.arrived_utc
    with engine.begin() as connection:
        last = connection.scalar(
            sa.select(arrived)
            .where(arrived < before)
            .order_by(arrived)
            .offset(_AT_ONCE - 1)
            .limit(1)
        )
        old = arrived < before if last is None else arrived <= last
        connection.execute(sa.delete(table).where(old))
    return last is not None


def _forget_some(
    engine: Engine, stream: tuple[int, int], complete_to: int, before: datetime
) -> bool:
    """Remove numbers that need no comparing any more; return whether some were removed.

    What comes again below them is dropped.
    """
    own = sa.tuple_(t.received.c.journal, t.received.c.kind) == stream
    seq = t.received.c.seq
    beginning = (
        sa.select(seq, t.received.c.arrived_utc)
        .where(own, seq <= complete_to)
        .order_by(seq)
        .limit(_AT_ONCE)
        .subquery()
    )
    with engine.begin() as connection:
        # The database looks for it: the numbers of two hundred stations take a minute to read.
        kept = connection.scalar(
            sa.select(beginning.c.seq)
            .where(beginning.c.arrived_utc >= before)
            .order_by(beginning.c.seq)
            .limit(1)
        )
        if kept is None:
            last = connection.scalar(sa.select(sa.func.max(beginning.c.seq)))
        else:
            last = connection.scalar(sa.select(sa.func.max(seq)).where(own, seq < kept))
        if last is None:
            return False
        for table in (t.received, t.conflict):
            mine = sa.tuple_(table.c.journal, table.c.kind) == stream
            connection.execute(sa.delete(table).where(mine, table.c.seq <= last))
        lost = sa.tuple_(t.lost.c.journal, t.lost.c.kind) == stream
        connection.execute(sa.delete(t.lost).where(lost, t.lost.c.last <= last))
        connection.execute(
            sa.update(t.stream)
            .where(sa.tuple_(t.stream.c.journal, t.stream.c.kind) == stream)
            .values(forgotten_to=last)
        )
    return True


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
