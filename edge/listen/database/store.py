"""A plant's records in one database, which several listeners may share.

A record is new if its number is: ``received`` decides it, one row each, so that it does not
matter who brings a message twice, or when. A batch is one transaction; what ``keep_batch`` returned
from is committed. Gaps are looked for in the database, as no listener sees all numbers.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from edge.contract.commands import RecordKind
from edge.listen.database import tables as t
from edge.listen.database.open import translated, upgrade
from edge.listen.database.retention import is_partitioned, make_partitions, remove_old
from edge.listen.database.rows import (
    Row,
    event_row,
    json_text,
    moment,
    production_rows,
    verdict_row,
)
from edge.listen.database.shifts import DEFAULT_SHIFTS, DEFAULT_ZONE, Shifts, parse_shifts
from edge.listen.file_faults import FilesInPlace
from edge.listen.known_journals import KnownJournals, ReportedJournal
from edge.listen.records import Arrived, Batch, Kept, ReportedState, short_id
from edge.listen.sequence_ranges import SequenceRanges, Stretch, without

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
LEASE_S = 10.0
UPKEEP_EVERY_S = 60.0
# Records wait meanwhile; what is left of what is old then is removed at the next look.
UPKEEP_LIMIT_S = 1.0
# A number that the database may lag behind before it is written down how far all is complete.
_ADVANCE_BY = 100
_LEASE = "repair"
# A station that has ended says nothing more in that session.
_FINAL = ("stopped", "offline")
# Before any partition.
_NONE_YET = datetime(2000, 1, 1, tzinfo=UTC)
_Key = tuple[int, int]
# A column as one parameter: a statement of a thousand rows would be read and planned each time.
_INSERT_NUMBERS = sa.text(
    "INSERT INTO received (journal, kind, seq, id, arrived_utc)"
    " SELECT journal, kind, seq, id, :now FROM unnest(CAST(:journals AS bigint[]),"
    " CAST(:kinds AS smallint[]), CAST(:seqs AS bigint[]), CAST(:ids AS bytea[]))"
    " AS one (journal, kind, seq, id) ORDER BY journal, kind, seq"
    " ON CONFLICT (journal, kind, seq) DO NOTHING RETURNING journal, kind, seq"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantSettings:
    """What a plant sets once for all its listeners; None leaves it as the database has it.

    Attributes:
        shifts: as ``parse_shifts`` reads them.
        time_zone: of the shifts.
        keep_days: after so many days records go; 0 is never.
        partition_days: of arrivals in one partition of PostgreSQL.
    """

    shifts: str | None = None
    time_zone: str | None = None
    keep_days: int | None = None
    partition_days: int | None = None


_DEFAULTS = {
    "shifts": DEFAULT_SHIFTS,
    "time_zone": DEFAULT_ZONE,
    "keep_days": "0",
    "partition_days": "1",
}


class DatabaseStore(KnownJournals):
    """Keeps each record once. One thread at a time keeps; others may ask what is known."""

    look_every_s: float | None = LOOK_EVERY_S
    keeps_events = True

    def __init__(
        self,
        engine: Engine,
        plant: PlantSettings,
        from_seq: int | None,
        clock_s: Callable[[], float],
    ) -> None:
        """Prepare; ``open`` is next.

        Args:
            from_seq: number from which a journal that was not known is to be complete.
            clock_s: monotonic.

        Raises:
            ConfigurationInvalid: shifts or time zone are none.
        """
        super().__init__()
        parse_shifts(plant.shifts or DEFAULT_SHIFTS, plant.time_zone or DEFAULT_ZONE)
        self._engine = engine
        self._plant = plant
        self._from_seq = from_seq
        self._clock_s = clock_s
        self._holder = str(uuid4())
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self._partitioned = False
        self._partitions_end = _NONE_YET
        self._shifts: Shifts | None = None
        self._stations: dict[str, int] = {}
        self._journals: dict[tuple[str, str], int] = {}
        self._streams: set[_Key] = set()
        self._forgotten: dict[_Key, int] = {}
        self._look_due_s = self._lease_due_s = self._upkeep_due_s = -math.inf
        self._event_gaps: dict[tuple[str, str], list[Stretch]] = {}
        self._giving_up: list[tuple[str, str, int, Stretch]] = []
        self._in_place: FilesInPlace | None = None
        self.may_repair = False

    def open(self) -> None:
        """Bring the tables to this version and learn what is there.

        Raises:
            DatabaseNewer, DatabaseRefused: they cannot be used.
            DatabaseUnavailable: not now.
        """
        upgrade(self._engine)
        if self._engine.dialect.name == "sqlite":
            self._in_place = FilesInPlace([Path(self._engine.url.database or "")])
        try:
            with self._engine.begin() as connection:
                self._partitioned = is_partitioned(connection)
                self._read_settings(connection)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise translated(self._engine, error) from error
        self.keep_batch(Batch())

    def keep_batch(self, batch: Batch) -> Kept:
        """Keep what is new, and from time to time look what is missing, and what is too old.

        Raises:
            DatabaseUnavailable, DatabaseRefused: nothing of the batch is kept.
            OutputNotWritable: SQLite's file was removed or replaced; nothing is kept that anybody
                finds.
        """
        if self._in_place is not None:
            self._in_place.check()
        kept = self._kept_whole(batch)
        if self._in_place is not None:
            self._in_place.check()
        return kept

    def _kept_whole(self, batch: Batch) -> Kept:
        try:
            return self._kept(batch)
        except sa.exc.DataError as error:
            # A value that the database has no place for. Look for the message, and keep the rest.
            return self._kept_in_parts(batch, error)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise self._forgetting(error) from error

    def conflicts(self, station: str, journal: str) -> list[Stretch]:
        """Return the numbers that more than one verdict has."""
        key = self._journals.get((station, journal))
        with suppress(sa.exc.DBAPIError, sa.exc.TimeoutError), self._engine.begin() as connection:
            found = SequenceRanges()
            for (seq,) in connection.execute(
                sa.select(t.conflict.c.seq).where(
                    t.conflict.c.journal == key, t.conflict.c.kind == t.VERDICT
                )
            ):
                found.add(seq)
            return list(found)
        return []

    def event_gaps(self) -> list[tuple[str, str, list[Stretch]]]:
        """Return station, journal and what is missing of its events."""
        return [(*key, gaps) for key, gaps in self._event_gaps.items()]

    def give_up(
        self, station: str, journal: str, gap: Stretch, kind: RecordKind = "verdict"
    ) -> None:
        """Remember that these numbers can no longer be had; written with the next batch."""
        self._giving_up.append((station, journal, t.KINDS[kind], gap))
        if kind == "verdict":
            lost = self._lost.get((station, journal), [])
            self._lost = {**self._lost, (station, journal): [*lost, gap]}

    def close(self) -> None:
        """Let another listener repair at once, and close."""
        with suppress(sa.exc.DBAPIError, sa.exc.TimeoutError):
            if self.may_repair:
                with self._engine.begin() as connection:
                    connection.execute(sa.delete(t.lease).where(t.lease.c.holder == self._holder))
        self._engine.dispose()

    # ----- a batch

    def _kept(self, batch: Batch) -> Kept:
        made = _Made()
        given_up = list(self._giving_up)
        with self._engine.begin() as connection:
            now = self._now(connection)
            fresh, conflicts = self._fresh(connection, batch.arrived, now, made)
            verdicts = self._write_records(connection, fresh, now, made)
            # Rows that other listeners change, too, come late and in one order: they are held
            # for a short time, and none waits for another in a circle.
            reported_journals = sorted(
                batch.reported_journals, key=lambda reported: (reported.station, reported.journal)
            )
            other_heads = [
                reported
                for reported in reported_journals
                if not self._write_reported(connection, reported, now, made)
            ]
            self._write_states(connection, batch.states, now, made)
            self._write_lost(connection, given_up, now, made)
            if verdicts:
                self._count(connection, verdicts)
        self._adopt(made)
        del self._giving_up[: len(given_up)]
        self._look_after()
        return Kept(len(fresh), conflicts, other_heads)

    def _kept_in_parts(self, batch: Batch, error: Exception) -> Kept:
        items: list[Arrived | ReportedJournal | ReportedState] = [
            *batch.arrived,
            *batch.reported_journals,
            *batch.states,
        ]
        if len(items) == 1:
            self._refuse(items[0], error)
            return Kept(0, [], [])
        half = len(items) // 2
        kept = [self.keep_batch(_batch(part)) for part in (items[:half], items[half:]) if part]
        return Kept(
            sum(one.fresh for one in kept),
            [one for each in kept for one in each.conflicts],
            [one for each in kept for one in each.other_heads],
        )

    def _refuse(self, one: Arrived | ReportedJournal | ReportedState, error: Exception) -> None:
        payload = one.journal if isinstance(one, ReportedJournal) else one.payload
        log.error(
            "%s: a message that the database cannot store (%s) is kept in the table refused",
            *(one.station, str(error).partition("\n")[0]),
        )
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    sa.insert(t.refused).values(
                        topic=one.station,
                        error=json_text(str(error))[:300].replace("\x00", ""),
                        payload=payload.encode(),
                        arrived_utc=self._now(connection),
                    )
                )
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as again:
            raise self._forgetting(again) from again

    def _now(self, connection: Connection) -> datetime:
        """Return the database's time, and see that there is a partition for it."""
        if connection.dialect.name != "postgresql":
            return datetime.now(UTC)
        found: datetime = connection.execute(sa.text("SELECT now()")).scalar_one()
        now = found.astimezone(UTC)
        if self._partitioned and now >= self._partitions_end - timedelta(days=self._partition_days):
            self._partitions_end = make_partitions(connection, now, self._partition_days)
        return now

    def _fresh(
        self, connection: Connection, arrived: Sequence[Arrived], now: datetime, made: "_Made"
    ) -> tuple[list[Arrived], list[Arrived]]:
        """Return what is new, and what of it has the number of another record."""
        first: dict[tuple[int, int, int], Arrived] = {}
        later: list[tuple[tuple[int, int, int], Arrived]] = []
        self._make_streams(connection, arrived, now, made)
        for one in arrived:
            stream = (made.journals[one.station, one.journal], t.KINDS[one.kind])
            if one.seq <= self._forgotten.get(stream, 0):
                continue
            number = (*stream, one.seq)
            if number in first:
                later.append((number, one))
            else:
                first[number] = one
        fresh = self._insert_numbers(connection, first, now)
        known = [(number, one) for number, one in first.items() if number not in fresh] + later
        conflicts = self._conflicting(connection, known, now)
        return [one for number, one in first.items() if number in fresh] + conflicts, conflicts

    def _insert_numbers(
        self, connection: Connection, first: dict[tuple[int, int, int], Arrived], now: datetime
    ) -> set[tuple[int, int, int]]:
        if not first:
            return set()
        # In one order, so that two listeners do not wait for each other.
        numbers = sorted(first)
        ids = [short_id(first[number].content.get("id")) for number in numbers]
        if connection.dialect.name == "postgresql":
            columns = {
                name: [number[place] for number in numbers]
                for place, name in enumerate(("journals", "kinds", "seqs"))
            }
            found = connection.execute(_INSERT_NUMBERS, {**columns, "ids": ids, "now": now})
            return {tuple(row) for row in found}
        own = t.received.c
        statement = (
            self._insert(t.received)
            .on_conflict_do_nothing(index_elements=["journal", "kind", "seq"])
            .returning(own.journal, own.kind, own.seq)
        )
        rows = [
            {**dict(zip(("journal", "kind", "seq"), number, strict=True)), "id": identity}
            for number, identity in zip(numbers, ids, strict=True)
        ]
        found = connection.execute(statement, [{**row, "arrived_utc": now} for row in rows])
        return {tuple(row) for row in found}

    def _conflicting(
        self,
        connection: Connection,
        known: Sequence[tuple[tuple[int, int, int], Arrived]],
        now: datetime,
    ) -> list[Arrived]:
        """Return the records under a known number whose id nobody has seen."""
        found = []
        for number, one in known:
            own = dict(zip(("journal", "kind", "seq"), number, strict=True))
            identity = short_id(one.content.get("id"))
            there = connection.execute(
                sa.select(t.received.c.id).filter_by(**own)
            ).scalar_one_or_none()
            if there is None or bytes(there) == identity:  # without: forgotten by retention
                continue
            row = {**own, "id": identity, "arrived_utc": now}
            made = connection.execute(
                self._insert(t.conflict).on_conflict_do_nothing().returning(t.conflict.c.seq), [row]
            )
            if made.first() is not None:
                found.append(one)
        return found

    def _write_records(
        self, connection: Connection, fresh: Sequence[Arrived], now: datetime, made: "_Made"
    ) -> list[Row]:
        """Write verdicts and events; return the rows of the verdicts."""
        assert self._shifts is not None
        verdicts: list[Row] = []
        events: list[Row] = []
        for one in fresh:
            keys = {
                "station": made.stations[one.station],
                "journal": made.journals[one.station, one.journal],
            }
            if one.kind == "event":
                events.append({**keys, **event_row(one, now)})
            else:
                verdicts.append({**keys, **verdict_row(one, now, self._shifts)})
        if verdicts:
            _bulk(connection, t.verdict, verdicts)
        if events:
            connection.execute(sa.insert(t.event), events)
        return verdicts

    def _count(self, connection: Connection, verdicts: Sequence[Row]) -> None:
        statement = self._insert(t.production)
        sums = ("parts", "scored", "score_sum", "score_squares")
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[column.name for column in t.production.primary_key],
                set_={name: t.production.c[name] + statement.excluded[name] for name in sums},
            ),
            production_rows(verdicts),
        )

    # ----- keys

    def _station_key(self, connection: Connection, name: str, made: "_Made") -> int:
        key = self._stations.get(name) or made.stations.get(name)
        if key is None:
            connection.execute(
                self._insert(t.station).on_conflict_do_nothing(index_elements=["name"]),
                [{"name": name}],
            )
            key = connection.execute(
                sa.select(t.station.c.key).where(t.station.c.name == name)
            ).scalar_one()
        made.stations[name] = key
        return key

    def _journal_key(
        self, connection: Connection, of: tuple[str, str], now: datetime, made: "_Made"
    ) -> int:
        station = self._station_key(connection, of[0], made)
        key = self._journals.get(of) or made.journals.get(of)
        if key is None:
            row = {"station": station, "journal": of[1], "first_utc": now}
            connection.execute(
                self._insert(t.journal).on_conflict_do_nothing(
                    index_elements=["station", "journal"]
                ),
                [row],
            )
            key = connection.execute(
                sa.select(t.journal.c.key).where(
                    t.journal.c.station == station, t.journal.c.journal == of[1]
                )
            ).scalar_one()
        made.journals[of] = key
        return key

    def _make_streams(
        self, connection: Connection, arrived: Sequence[Arrived], now: datetime, made: "_Made"
    ) -> None:
        """Note where the numbers of each journal begin, where that is not known."""
        lowest: dict[tuple[str, str, RecordKind], int] = {}
        for one in arrived:
            of = (one.station, one.journal, one.kind)
            lowest[of] = min(lowest.get(of, one.seq), one.seq)
        rows = []
        # In one order: two listeners that meet the same new stations do not wait for each other.
        for station, journal, kind in sorted(lowest):
            stream = (
                self._journal_key(connection, (station, journal), now, made),
                t.KINDS[kind],
            )
            if stream in self._streams:
                continue
            made.streams.add(stream)
            chosen = self._from_seq is not None and kind == "verdict"
            begins = self._from_seq if chosen else lowest[station, journal, kind]
            assert begins is not None
            rows.append(
                {
                    "journal": stream[0],
                    "kind": stream[1],
                    "begins": begins,
                    "chosen": chosen,
                    "complete_to": begins - 1,
                }
            )
        if rows:
            connection.execute(
                self._insert(t.stream).on_conflict_do_nothing(index_elements=["journal", "kind"]),
                rows,
            )

    # ----- what states say

    def _write_reported(
        self, connection: Connection, reported: ReportedJournal, now: datetime, made: "_Made"
    ) -> bool:
        """Remember the newest head; False when the same record was reported with another."""
        known = self._reported.get((reported.station, reported.journal))
        if known is not None and known.position >= reported.position:
            return known.agrees_with(reported)
        key = self._journal_key(connection, (reported.station, reported.journal), now, made)
        connection.execute(
            sa.update(t.journal)
            .where(
                t.journal.c.key == key,
                sa.func.coalesce(t.journal.c.position, -1) <= reported.position,
            )
            .values(
                first_seq=reported.first_seq,
                follows=reported.follows,
                position=reported.position,
                seq=reported.seq,
                head=reported.head,
            )
        )
        made.reported_journals[reported.station, reported.journal] = reported
        return True

    def _write_states(
        self,
        connection: Connection,
        states: Sequence[ReportedState],
        now: datetime,
        made: "_Made",
    ) -> None:
        changes = []
        for one in sorted(states, key=lambda state: state.station):
            key = self._station_key(connection, one.station, made)
            values = {
                "state": str(one.content.get("state")),
                "session": str(one.content.get("session")),
                "reasons": ", ".join(map(str, one.content.get("reasons") or ())),
                "payload": json_text(one.payload),
            }
            columns = t.station.c
            over = columns.state.in_(_FINAL) & (columns.session == values["session"])
            newer = sa.true() if values["state"] in _FINAL else ~sa.func.coalesce(over, sa.false())
            connection.execute(
                sa.update(t.station)
                .where(columns.key == key, newer)
                .values(**values, reported_utc=now)
            )
            since = moment(one.content.get("since_utc"))
            changes.append(
                {
                    **values,
                    "station": key,
                    "since_utc": since.isoformat() if since else "",
                    "arrived_utc": now,
                }
            )
        if changes:
            connection.execute(self._insert(t.state_change).on_conflict_do_nothing(), changes)

    def _write_lost(
        self,
        connection: Connection,
        given_up: Sequence[tuple[str, str, int, Stretch]],
        now: datetime,
        made: "_Made",
    ) -> None:
        rows = [
            {
                "journal": self._journal_key(connection, (station, journal), now, made),
                "kind": kind,
                "first": gap.first,
                "last": gap.last,
                "noted_utc": now,
            }
            for station, journal, kind, gap in given_up
        ]
        if rows:
            statement = self._insert(t.lost)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["journal", "kind", "first"],
                    set_={"last": statement.excluded.last},
                ),
                rows,
            )

    # ----- from time to time

    def _look_after(self) -> None:
        """Look at the numbers, hold the lease, remove what is old; each when it is due."""
        now_s = self._clock_s()
        if now_s < self._look_due_s:
            return
        self._look_due_s = now_s + LOOK_EVERY_S
        with self._engine.begin() as connection:
            now = self._now(connection)
            if now_s >= self._lease_due_s:
                self.may_repair = self._hold_lease(connection, now)
                self._lease_due_s = now_s + LEASE_S / 3
            self._look(connection)
        if self.may_repair and now_s >= self._upkeep_due_s and self._keep_days:
            self._upkeep_due_s = now_s + UPKEEP_EVERY_S
            with self._engine.begin() as connection:
                self._read_settings(connection)
                now = self._now(connection)
            until_s = self._clock_s() + UPKEEP_LIMIT_S
            if not remove_old(
                self._engine, now, self._keep_days, lambda: self._clock_s() >= until_s
            ):
                self._upkeep_due_s = now_s + LOOK_EVERY_S

    def _hold_lease(self, connection: Connection, now: datetime) -> bool:
        """Take or prolong the right to ask stations and to remove; it ends by itself."""
        until = now + timedelta(seconds=LEASE_S)
        statement = self._insert(t.lease)
        held = connection.execute(
            statement.on_conflict_do_update(
                index_elements=["name"],
                set_={"holder": self._holder, "until_utc": until},
                where=(t.lease.c.holder == self._holder) | (t.lease.c.until_utc < now),
            ).returning(t.lease.c.holder),
            [{"name": _LEASE, "holder": self._holder, "until_utc": until}],
        ).first()
        return held is not None

    def _look(self, connection: Connection) -> None:
        """Learn which numbers are there, whoever brought them."""
        if self.may_repair:
            self._open_again(connection)
        names = {
            key: (station, journal)
            for key, station, journal in connection.execute(
                sa.select(t.journal.c.key, t.station.c.name, t.journal.c.journal).join(
                    t.station, t.station.c.key == t.journal.c.station
                )
            )
        }
        streams = {(row.journal, row.kind): row for row in connection.execute(sa.select(t.stream))}
        given_up: dict[_Key, list[Stretch]] = {}
        for row in connection.execute(sa.select(t.lost)):
            given_up.setdefault((row.journal, row.kind), []).append(Stretch(row.first, row.last))
        islands: dict[_Key, list[Stretch]] = {}
        for journal, kind, first, last in connection.execute(_islands(connection)):
            islands.setdefault((journal, kind), []).append(Stretch(first, last))
        known, lost, gaps, advanced = {}, {}, {}, []
        for stream, row in streams.items():
            of = names.get(stream[0])
            if of is None:
                continue
            away, beyond = given_up.get(stream, []), islands.get(stream, [])
            complete_to = _complete_to(row.complete_to, beyond, away)
            if complete_to >= row.complete_to + _ADVANCE_BY:
                advanced.append({"j": stream[0], "k": stream[1], "to": complete_to})
            before = [Stretch(row.begins, row.complete_to)] * (row.complete_to >= row.begins)
            numbers = SequenceRanges(_joined(without(before, away) + beyond))
            if stream[1] == t.EVENT:
                gaps[of] = without(numbers.gaps(), away)
                continue
            if row.chosen and row.begins > 1:  # numbers below are not asked for
                numbers = SequenceRanges(_joined([Stretch(0, row.begins - 1), *numbers]))
            known[of], lost[of] = numbers, away
        if self.may_repair and advanced:
            connection.execute(
                sa.update(t.stream)
                .where(
                    t.stream.c.journal == sa.bindparam("j"), t.stream.c.kind == sa.bindparam("k")
                )
                .values(complete_to=sa.bindparam("to")),
                advanced,
            )
        self._read_reported(connection, names)
        self._known, self._lost, self._event_gaps = known, lost, gaps
        self._forgotten = {stream: row.forgotten_to for stream, row in streams.items()}

    def _open_again(self, connection: Connection) -> None:
        """Let what was given up be missing again where some of it came after all.

        And let numbers begin with the lowest, where another listener brought a lower one first.
        """
        own = (t.received.c.journal == t.lost.c.journal) & (t.received.c.kind == t.lost.c.kind)
        came = (
            sa.select(sa.literal(1))
            .where(own, t.received.c.seq.between(t.lost.c.first, t.lost.c.last))
            .correlate(t.lost)
            .limit(1)
            .scalar_subquery()
        )
        for row in connection.execute(sa.select(t.lost).where(came.is_not(None))).all():
            where = {"journal": row.journal, "kind": row.kind}
            connection.execute(sa.delete(t.lost).filter_by(**where, first=row.first))
            connection.execute(
                sa.update(t.stream)
                .filter_by(**where)
                .where(t.stream.c.complete_to >= row.first)
                .values(complete_to=row.first - 1)
            )
        lowest = (
            sa.select(sa.func.min(t.received.c.seq))
            .where(t.received.c.journal == t.stream.c.journal, t.received.c.kind == t.stream.c.kind)
            .correlate(t.stream)
            .scalar_subquery()
        )
        columns = t.stream.c
        below = sa.select(columns.journal, columns.kind, lowest.label("seq")).where(
            ~columns.chosen, columns.forgotten_to == 0, lowest < columns.begins
        )
        for journal, kind, seq in connection.execute(below).all():
            connection.execute(
                sa.update(t.stream)
                .filter_by(journal=journal, kind=kind)
                .values(begins=seq, complete_to=seq - 1)
            )

    def _read_reported(self, connection: Connection, names: dict[int, tuple[str, str]]) -> None:
        columns = t.journal.c
        rows = connection.execute(sa.select(t.journal).where(columns.position.is_not(None)))
        self._reported = {
            names[row.key]: ReportedJournal(
                station=names[row.key][0],
                journal=row.journal,
                first_seq=row.first_seq,
                follows=row.follows,
                position=row.position,
                seq=row.seq,
                head=row.head,
            )
            for row in rows
            if row.key in names
        }

    def _read_settings(self, connection: Connection) -> None:
        """Write down what this listener was given, and read the rest."""
        given = {
            name: str(value)
            for name in _DEFAULTS
            if (value := getattr(self._plant, name)) is not None
        }
        if given and self._shifts is None:
            statement = self._insert(t.setting)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["name"], set_={"value": statement.excluded.value}
                ),
                [{"name": name, "value": value} for name, value in sorted(given.items())],
            )
        rows = connection.execute(sa.select(t.setting.c.name, t.setting.c.value)).all()
        found = _DEFAULTS | {row.name: row.value for row in rows}
        self._shifts = parse_shifts(found["shifts"], found["time_zone"])
        self._keep_days = int(found["keep_days"])
        self._partition_days = int(found["partition_days"])

    # ----- memory

    def _adopt(self, made: "_Made") -> None:
        """Remember keys once they are committed."""
        self._stations.update(made.stations)
        self._journals.update(made.journals)
        self._streams |= made.streams
        if made.reported_journals:
            self._reported = {**self._reported, **made.reported_journals}

    def _forgetting(self, error: sa.exc.SQLAlchemyError) -> Exception:
        """Forget keys: the database that answers next may be another, put back from a backup."""
        self._stations, self._journals, self._streams = {}, {}, set()
        self._partitions_end = _NONE_YET
        self.may_repair = False
        self._look_due_s = self._lease_due_s = -math.inf
        return translated(self._engine, error)


class _Made:
    """What one transaction found or made; counts once it is committed."""

    def __init__(self) -> None:
        self.stations: dict[str, int] = {}
        self.journals: dict[tuple[str, str], int] = {}
        self.streams: set[_Key] = set()
        self.reported_journals: dict[tuple[str, str], ReportedJournal] = {}


def _batch(items: Iterable[Arrived | ReportedJournal | ReportedState]) -> Batch:
    found = list(items)
    return Batch(
        arrived=tuple(one for one in found if isinstance(one, Arrived)),
        reported_journals=tuple(one for one in found if isinstance(one, ReportedJournal)),
        states=tuple(one for one in found if isinstance(one, ReportedState)),
    )


def _bulk(connection: Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert many rows; PostgreSQL takes them as one stream, without reading a statement."""
    if connection.dialect.name != "postgresql":
        connection.execute(sa.insert(table), rows)
        return
    names = list(rows[0])
    driver: Any = connection.connection.cursor()
    try:
        with driver.copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row([row[name] for name in names])
    except driver.connection.DataError as error:
        raise sa.exc.DataError("COPY", None, error) from error
    except driver.connection.Error as error:
        raise sa.exc.OperationalError("COPY", None, error) from error
    finally:
        driver.close()


def _islands(connection: Connection) -> sa.TextClause:
    """Return the query for stretches of numbers behind those that are known to be complete."""
    if connection.dialect.name == "postgresql":
        # Its estimate of "behind" is a third of the table, which it would read whole.
        for plan in ("seqscan", "hashjoin", "mergejoin", "bitmapscan"):
            connection.execute(sa.text(f"SET LOCAL enable_{plan} = off"))
    return sa.text(
        "SELECT journal, kind, min(seq), max(seq) FROM ("
        " SELECT r.journal, r.kind, r.seq, r.seq - row_number() OVER"
        " (PARTITION BY r.journal, r.kind ORDER BY r.seq) AS island"
        " FROM stream s JOIN received r"
        " ON r.journal = s.journal AND r.kind = s.kind AND r.seq > s.complete_to"
        ") AS numbered GROUP BY journal, kind, island ORDER BY journal, kind, min(seq)"
    )


def _complete_to(start: int, beyond: Sequence[Stretch], given_up: Sequence[Stretch]) -> int:
    """Return up to which number all arrived or was given up."""
    end = start
    for one in sorted([*beyond, *given_up], key=lambda stretch: stretch.first):
        if one.first > end + 1:
            break
        end = max(end, one.last)
    return end


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return stretches that neither touch nor overlap."""
    found: list[Stretch] = []
    for one in sorted(stretches, key=lambda stretch: stretch.first):
        if found and one.first <= found[-1].last + 1:
            found[-1] = Stretch(found[-1].first, max(found[-1].last, one.last))
        else:
            found.append(one)
    return found
