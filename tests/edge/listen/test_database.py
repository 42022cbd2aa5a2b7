"""A plant's database: SQLite and a real PostgreSQL, shared by listeners that may be killed."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from edge.listen.database import tables as t
from edge.listen.database.open import make_engine, parse_url
from edge.listen.database.store import LEASE_S, DatabaseStore, PlantSettings
from edge.listen.sequence_ranges import Stretch
from edge.listen.store import Arrived, Batch
from tests.support.postgres import PostgreSql, postgresql
from tests.support.relaying import VERDICT

STATION = "site/line/cell/top"
JOURNAL = "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11"
_NAMES = (f"plant{number}" for number in itertools.count())
Opening = Callable[..., DatabaseStore]


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSql]:
    with postgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/plant.db"
    running: PostgreSql = request.getfixturevalue("server")
    return running.create(next(_NAMES))


@pytest.fixture
def opening(url: str) -> Iterator[Opening]:
    """Open the database as one listener more."""
    opened: list[DatabaseStore] = []

    def begin(clock_s: Callable[[], float] = time.monotonic, **plant: Any) -> DatabaseStore:
        from_seq = plant.pop("from_seq", None)
        engine = make_engine(parse_url(url), None, "test")
        store = DatabaseStore(engine, PlantSettings(**plant), from_seq, clock_s)
        store.open()
        opened.append(store)
        return store

    yield begin
    for store in opened:
        store.close()


def arrived(seq: int, identity: str | None = None, **content: Any) -> Arrived:
    whole = {**VERDICT, "id": identity or f"id-{seq}", "seq": seq, "journal": JOURNAL, **content}
    return Arrived(
        station=STATION,
        journal=JOURNAL,
        seq=seq,
        content=whole,
        payload=json.dumps(whole),
        arrived_utc="now",
    )


def batch(*records: Arrived) -> Batch:
    return Batch(arrived=records)


def rows(store: DatabaseStore, sql: str) -> list[tuple[Any, ...]]:
    with store._engine.begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(sql))]


def look(store: DatabaseStore) -> None:
    """Let it look at the numbers now, not only when it is due."""
    store._look_due_s = store._lease_due_s = 0.0
    store.keep_batch(Batch())


def test_a_record_is_kept_once_whoever_brings_it_and_another_under_its_number_too(
    opening: Opening,
) -> None:
    one, other = opening(), opening()

    assert one.keep_batch(batch(arrived(1), arrived(2), arrived(2))).fresh == 2
    assert other.keep_batch(batch(arrived(2), arrived(3))).fresh == 1
    twin = arrived(2, "another", result="NOK")
    assert other.keep_batch(batch(twin, arrived(1))).conflicts == [twin]
    assert one.keep_batch(batch(twin, arrived(2))).fresh == 0
    event = replace(arrived(2, "of-an-event"), kind="event")
    assert one.keep_batch(batch(event, event)).fresh == 1

    kept = rows(one, "SELECT seq, id FROM verdict ORDER BY seq, id")
    assert kept == [(1, "id-1"), (2, "another"), (2, "id-2"), (3, "id-3")]
    assert rows(one, "SELECT seq, id FROM event") == [(2, "of-an-event")]
    assert one.conflicts(STATION, JOURNAL) == [Stretch(2, 2)]
    assert rows(one, "SELECT sum(parts) FROM production") == [(4,)]


def test_gaps_are_found_across_listeners_and_one_of_them_asks(opening: Opening) -> None:
    one, other = opening(), opening()
    one.keep_batch(batch(arrived(2), arrived(9)))
    other.keep_batch(batch(arrived(1), arrived(4)))
    look(one)
    look(other)

    assert (one.may_repair, other.may_repair) == (True, False)
    gaps = [Stretch(3, 3), Stretch(5, 8), Stretch(10, 11)]
    assert one.missing(STATION, JOURNAL, 11) == gaps
    for gap in gaps[:2]:
        one.give_up(STATION, JOURNAL, gap)
    look(one)
    look(other)
    assert other.missing(STATION, JOURNAL, 9) == []
    assert other.lost(STATION, JOURNAL) == gaps[:2]

    # What comes after all opens again what was given up with it.
    other.keep_batch(batch(arrived(6)))
    look(one)
    assert one.missing(STATION, JOURNAL, 9) == [Stretch(5, 5), Stretch(7, 8)]
    assert one.lost(STATION, JOURNAL) == [Stretch(3, 3)]


def test_another_listener_asks_once_the_one_that_did_is_gone(opening: Opening) -> None:
    one, other = opening(), opening()
    assert one.may_repair
    with one._engine.begin() as connection:  # as long after it was killed
        gone = datetime.now(UTC) - timedelta(seconds=LEASE_S)
        connection.execute(sa.update(t.lease).values(until_utc=gone))
    look(other)
    look(one)
    assert (one.may_repair, other.may_repair) == (False, True)
