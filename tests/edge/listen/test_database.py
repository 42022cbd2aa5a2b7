"""A plant's database: SQLite and a real PostgreSQL, shared by listeners that may be killed."""

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from edge.contract.encoding import utc_text
from edge.listen.cli import main
from edge.listen.database import migrations, retention
from edge.listen.database import tables as t
from edge.listen.database.errors import DatabaseNewer, DatabaseUnavailable
from edge.listen.database.open import REVISION, make_engine, parse_url
from edge.listen.database.retention import make_cut, make_partitions, partitions, remove_old
from edge.listen.database.rows import json_text
from edge.listen.database.shifts import parse_shifts
from edge.listen.database.store import LEASE_S, DatabaseStore, PlantSettings
from edge.listen.records import Arrived, Batch, ReportedState
from edge.listen.sequence_ranges import Stretch
from tests.support.broker import GENEROUS_S, Broker
from tests.support.postgres import PostgreSql, postgresql
from tests.support.relaying import VERDICT, relayed_journals

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
        found = connection.execute(sa.text(sql))
        return [tuple(row) for row in found] if found.returns_rows else []


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


def test_what_was_kept_outlives_the_server_though_it_commits_without_its_disk(
    server: PostgreSql,
) -> None:
    name = next(_NAMES)
    url = server.create(name)
    for statement in (
        f'ALTER DATABASE "{name}" SET synchronous_commit = off',
        "ALTER SYSTEM SET wal_writer_delay = '10s'",
        "SELECT pg_reload_conf()",
    ):
        server.query("postgres", statement)
    store = DatabaseStore(make_engine(parse_url(url), None, "test"), PlantSettings(), 1, lambda: 0)
    store.open()
    assert store.keep_batch(batch(*(arrived(seq) for seq in range(1, 6)))).fresh == 5
    server.stop()
    server.start()
    store.close()

    assert server.query(name, "SELECT count(*) FROM verdict") == [(5,)]


def test_a_full_database_takes_all_of_it_once_there_is_room(opening: Opening, url: str) -> None:
    store = opening()
    many = batch(*(arrived(seq) for seq in range(1, 301)))
    if "sqlite" in url:
        (pages,) = rows(store, "PRAGMA page_count")[0]
        full, room = (f"PRAGMA max_page_count = {max_count}" for max_count in (pages, 2**30))
    else:
        # A disk that is really full ends the server, which is the test of its kills.
        rows(
            store,
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE"
            " 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$",
        )
        full = "CREATE TRIGGER full_disk BEFORE INSERT ON received EXECUTE FUNCTION full_disk()"
        room = "DROP TRIGGER full_disk ON received"
    rows(store, full)
    with pytest.raises(DatabaseUnavailable, match=r"cannot be used at present .*(full|space)"):
        store.keep_batch(many)
    rows(store, room)

    assert store.keep_batch(many).fresh == 300
    assert rows(store, "SELECT count(*) FROM verdict") == [(300,)]


def test_a_database_that_is_too_slow_is_left_and_tried_again(
    url: str, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("LOCK_LIMIT_S", "CONNECT_LIMIT_S"):
        monkeypatch.setattr(f"edge.listen.database.open.{limit}", 1)
    store = opening()
    with make_engine(parse_url(url), None, "holder").begin() as holder:
        if "sqlite" not in url:  # which locks all of it by itself
            holder.execute(sa.text("LOCK TABLE received IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DatabaseUnavailable, match=r"cannot be used at present .*lock"):
            store.keep_batch(batch(arrived(1)))
    assert store.keep_batch(batch(arrived(1))).fresh == 1


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


def test_the_tables_are_those_of_the_code_and_a_newer_version_is_refused(
    url: str, opening: Opening
) -> None:
    store = opening()
    with store._engine.begin() as connection:
        context = MigrationContext.configure(connection)
        # Partitions are tables of their own to whoever looks.
        differ = [
            one
            for one in compare_metadata(context, t.metadata)
            if not (one[0] in ("remove_table", "remove_index") and "verdict_2" in str(one[1]))
        ]
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        newest = ScriptDirectory(str(Path(migrations.__file__).parent)).get_current_head()
    assert differ == []
    assert newest == REVISION

    with pytest.raises(DatabaseNewer, match="revision 9999, this version knows 0002"):
        opening()
    assert main(["--mqtt", "mqtt://127.0.0.1:1", "--database", url]) == 78


def test_an_older_database_is_brought_to_this_version_with_what_it_holds(
    opening: Opening,
) -> None:
    store = opening()
    store.keep_batch(batch(arrived(1)))
    with store._engine.begin() as connection:
        for view in ("drift_by_shift", "scores_by_shift"):
            connection.execute(sa.text(f"DROP VIEW {view}"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))

    store = opening()

    assert rows(store, "SELECT version_num FROM alembic_version") == [(REVISION,)]
    assert rows(store, "SELECT count(*) FROM verdict") == [(1,)]
    assert rows(store, "SELECT count(*) FROM drift_by_shift") == [(1,)]


def test_a_clock_that_is_wrong_moves_no_part_into_the_future_or_the_past(opening: Opening) -> None:
    store = opening(shifts="day=06:00,night=18:00", time_zone="Asia/Seoul")
    now = datetime.now(UTC)
    hours = timedelta(hours=5)

    def at(seq: int, decided: datetime) -> Arrived:
        time_ns = int(decided.timestamp() * 1e9)
        return arrived(seq, time={**VERDICT["time"], "decided_utc": utc_text(time_ns)})

    moments = (now + hours, now - hours, datetime(1970, 1, 2, tzinfo=UTC))
    store.keep_batch(batch(*(at(seq, moment) for seq, moment in enumerate(moments, 1))))

    with store._engine.begin() as connection:
        found = [
            (row.at_utc, row.arrived_utc)
            for row in connection.execute(sa.select(t.verdict).order_by(t.verdict.c.seq))
        ]
    assert found[0][0] == found[0][1] and found[2][0] == found[2][1]
    assert abs(found[1][0] - moments[1]) < timedelta(milliseconds=1)
    (behind_s,) = rows(store, "SELECT behind_s FROM station_clock")[0]
    assert behind_s < -4.9 * 3600


def test_a_shift_belongs_to_the_day_on_which_it_began() -> None:
    shifts = parse_shifts("late=14:00,night=22:00,early=06:00", "Europe/Berlin")
    assert shifts.at(datetime(2026, 7, 2, 3, 59, tzinfo=UTC)) == (date(2026, 7, 1), "night")
    assert shifts.at(datetime(2026, 7, 2, 4, 0, tzinfo=UTC)) == (date(2026, 7, 2), "early")


def test_what_a_database_cannot_hold_is_kept_apart_and_the_rest_as_ever(
    opening: Opening, url: str
) -> None:
    store = opening()
    nul = arrived(1, part_id="a\x00b")
    half = replace(arrived(2), payload='{"anomaly_score": NaN}')
    assert store.keep_batch(batch(nul, half, arrived(3))).fresh == (3 if "sqlite" in url else 2)

    assert rows(store, "SELECT part_id FROM verdict WHERE seq = 1") == [("a\ufffdb",)]
    refused = rows(store, "SELECT topic FROM refused")
    assert refused == ([] if "sqlite" in url else [(STATION,)])
    assert json.loads(json_text(json.dumps({"a": "\\\x00\\u0000"}))) == {"a": "\\\ufffd\\u0000"}


def test_the_last_state_of_a_session_stands_whoever_comes_later(opening: Opening) -> None:
    store = opening()

    def state(condition: str, session: str) -> ReportedState:
        content = {"state": condition, "session": session, "reasons": ["a", "b"]}
        return ReportedState(station=STATION, content=content, payload=json.dumps(content))

    for one in (state("online", "s1"), state("stopped", "s1"), state("online", "s1")):
        store.keep_batch(Batch(states=(one,)))
    assert rows(store, "SELECT state, reasons FROM station_now") == [("stopped", "a, b")]
    store.keep_batch(Batch(states=(state("starting", "s2"),)))
    assert rows(store, "SELECT state FROM station_now") == [("starting",)]
    assert rows(store, "SELECT count(*) FROM state_change") == [(3,)]


def test_what_is_old_goes_and_does_not_come_again(opening: Opening) -> None:
    store = opening(keep_days=30)
    store.keep_batch(batch(*(arrived(seq) for seq in range(1, 201))))
    look(store)
    assert remove_old(store._engine, datetime.now(UTC) + timedelta(days=33), 30)
    store = opening()  # today's partition is gone, too: a start makes it

    assert rows(store, "SELECT count(*) FROM verdict") == [(0,)]
    assert rows(store, "SELECT sum(parts) FROM production") == [(200,)]
    assert store.keep_batch(batch(arrived(7), arrived(201))).fresh == 1
    look(store)
    assert store.missing(STATION, JOURNAL, 201) == []


def test_partitions_are_made_ahead_and_what_others_cover_is_left_to_them(
    server: PostgreSql,
) -> None:
    store = DatabaseStore(
        make_engine(parse_url(server.create(next(_NAMES))), None, "test"),
        PlantSettings(partition_days=2),
        None,
        time.monotonic,
    )
    store.open()
    with store._engine.begin() as connection:
        now = datetime.now(UTC)
        assert partitions(connection)[0] == make_cut(now, 2)
        end = make_partitions(connection, now, 7)
        cuts = partitions(connection)
        by_arrival = connection.scalar(
            sa.text("SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%brin (arrived_utc)%'")
        )
    store.close()
    assert by_arrival == len(cuts)  # station_clock shall not read a day
    assert cuts[0].begin <= now < cuts[-1].end == end
    assert all(one.end == other.begin for one, other in itertools.pairwise(cuts))


def test_who_reads_for_hours_holds_up_neither_partitions_nor_retention(
    server: PostgreSql,
) -> None:
    """As pg_dump and a large query of Grafana do."""
    name = next(_NAMES)
    engine = make_engine(parse_url(server.create(name)), None, "test")
    store = DatabaseStore(engine, PlantSettings(), 1, time.monotonic)
    store.open()
    store.keep_batch(batch(arrived(1)))
    later = datetime.now(UTC) + timedelta(days=33)
    with psycopg.connect(server.dsn(name)) as reader:
        reader.execute("SELECT count(*) FROM verdict")
        with engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
            assert make_partitions(connection, later, 1) > later
        assert remove_old(engine, later, 30)
        assert rows(store, "SELECT count(*) FROM verdict") == [(1,)]
    assert remove_old(engine, later, 30)
    assert rows(store, "SELECT count(*) FROM verdict") == [(0,)]
    with engine.begin() as connection:
        assert partitions(connection)[0] == make_cut(later, 1)
    store.close()


def test_retention_reads_no_numbers_and_removes_some_at_a_time(
    server: PostgreSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred stations have millions of them."""
    monkeypatch.setattr(retention, "_AT_ONCE", 10)
    engine = make_engine(parse_url(server.create(next(_NAMES))), None, "test")
    store = DatabaseStore(engine, PlantSettings(), 1, time.monotonic)
    store.open()
    records = [arrived(seq) for seq in range(1, 121)]
    events = [replace(one, kind="event") for one in records]
    store.keep_batch(batch(*records, *events))
    look(store)
    read: list[int] = []
    sa.event.listen(
        engine,
        "after_cursor_execute",
        lambda _c, cursor, statement, *_: (
            read.append(cursor.rowcount) if statement.startswith("SELECT") else None
        ),
    )
    now = datetime.now(UTC)
    assert remove_old(engine, now, 30)
    assert max(read) <= 3  # the partitions
    later, left = now + timedelta(days=33), itertools.count()
    while not remove_old(engine, later, 30, lambda: True):
        next(left)
    assert next(left) >= 2 * 120 // 10
    assert rows(store, "SELECT count(*) FROM received") == [(0,)]
    assert rows(store, "SELECT count(*) FROM event") == [(0,)]
    assert rows(store, "SELECT DISTINCT forgotten_to FROM stream") == [(120,)]
    store.close()


class _Macros:
    """What Grafana puts in place of its macros."""

    TIMES = "'2000-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z'"

    @classmethod
    def filled(cls, sql: str) -> str:
        sql = sql.replace("${station:sqlstring}", f"'{STATION}'")
        sql = sql.replace("${product:sqlstring}", "'bottle'")
        sql = sql.replace("$__timeFrom()", "'2000-01-01T00:00:00Z'")
        sql = sql.replace("$__timeTo()", "'2100-01-01T00:00:00Z'")
        head, *rest = sql.split("$__timeFilter(")
        for part in rest:
            column, _, tail = part.partition(")")
            head += f"{column} BETWEEN {cls.TIMES}{tail}"
        return head


def test_every_query_of_the_dashboard_and_every_view_has_an_answer(
    opening: Opening, url: str
) -> None:
    store = opening()
    old = {**VERDICT["time"], "decided_utc": "2026-01-01T12:00:00.000000Z"}
    newer = {**VERDICT["time"], "decided_utc": "2026-01-03T12:00:00.000000Z"}
    good = [
        arrived(seq, simulated=False, time=old, anomaly_score=0.1 + 0.01 * seq)
        for seq in range(1, 11)
    ]
    bad = arrived(12, simulated=False, result="NOK", reason="score_above")
    moved = arrived(11, simulated=False, time=newer, anomaly_score=0.4)
    event = arrived(1, severity="alarm", kind="camera_lost", detail="gone", utc="2026-01-01")
    store.keep_batch(batch(*good, bad, moved, replace(event, kind="event")))
    content = {"state": "degraded", "session": "s", "reasons": ["camera_lost"]}
    state = ReportedState(station=STATION, content=content, payload=json.dumps(content))
    store.keep_batch(Batch(states=(state,)))

    for view in sa.inspect(store._engine).get_view_names():
        rows(store, f"SELECT * FROM {view}")
    (drift,) = rows(store, "SELECT shift_in_spreads FROM drift WHERE usual_score IS NOT NULL")
    # Before: mean 0.155, standard deviation 0.028723; the part after them has 0.4.
    assert drift[0] == pytest.approx((0.4 - 0.155) / 0.0287228, rel=1e-4)
    of_the_shift = rows(
        store, "SELECT shift, parts FROM drift_by_shift WHERE shift_in_spreads IS NOT NULL"
    )
    assert [parts for _, parts in of_the_shift] == [1]
    assert rows(store, "SELECT ok, nok FROM yield_by_shift WHERE nok > 0") == [(0, 1)]
    if "sqlite" in url:
        return
    dashboard = json.loads((Path(__file__).parents[3] / "configs/grafana-plant.json").read_text())
    queries = {
        panel["title"]: target["rawSql"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
        if "rawSql" in target
    }
    queries |= {
        one["name"]: one["query"]
        for one in dashboard["templating"]["list"]
        if one["type"] == "query"
    }
    found = {title: rows(store, _Macros.filled(sql)) for title, sql in queries.items()}
    assert found["Yield"] == [(pytest.approx(11 / 12),)]
    assert found["Causes"] == [("NOK", "score_above", 1)]
    assert [row[1:] for row in found["Events"]] == [(STATION, "alarm", "camera_lost", "gone")]
    empty = {title for title, answer in found.items() if not answer}
    assert empty == set()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--database", "mysql://h/d"), "sqlite or postgresql"),
        (("--database", "postgresql://edge:secret@h/d"), "--database-password-file"),
        (("--database", "sqlite:////no/such/folder/x.db"), "refuses this listener"),
        (("--database", "sqlite:///x.db", "--shifts", "early"), "--shifts"),
        (("--database", "sqlite:///x.db", "--time-zone", "Mars/Base"), "--time-zone"),
        (("--database", "sqlite:///x.db", "--share", "plant"), "--client-id"),
        (("--sqlite", "x.db", "--keep-days", "3"), "can only be used with --database"),
    ],
)
def test_a_wrong_option_ends_with_78_and_shows_no_password(
    arguments: tuple[str, ...],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--mqtt", "mqtt://127.0.0.1:1", *arguments]) == 78
    reported = capsys.readouterr().err
    assert named in reported and "secret" not in reported


def test_no_record_is_lost_or_doubled_though_listeners_and_database_are_killed(
    running_broker: Broker, tmp_path: Path
) -> None:
    with postgresql() as own, relayed_journals(tmp_path) as begin:
        url = own.create("plant")
        log = tmp_path / "listeners.log"

        def listener(number: int) -> subprocess.Popen[bytes]:
            options = ["--share", "plant", "--client-id", f"one-{number}", "--from-seq", "1"]
            command = [sys.executable, "-m", "edge.listen.cli", "--mqtt", running_broker.url]
            with log.open("ab") as file:
                return subprocess.Popen(
                    [*command, "--database", url, *options], stdout=file, stderr=file
                )

        def wait(condition: Callable[[], bool]) -> None:
            deadline_s = time.monotonic() + 2 * GENEROUS_S
            while not condition():
                assert time.monotonic() < deadline_s, log.read_text()[-3000:]
                time.sleep(0.1)

        def kept() -> int:
            return int(str(own.query("plant", "SELECT count(*) FROM verdict")[0][0]))

        running = [listener(0), listener(1)]
        try:
            wait(lambda: log.read_text().count("listening to") == 2)
            station = begin(running_broker.url)
            station.record(100)
            running[0].kill()
            running[0].wait()
            running[0] = listener(0)
            station.record(100)
            own.stop()
            station.record(100)
            assert station.delivered()  # to the broker, which keeps it
            wait(lambda: "cannot be used at present" in log.read_text())
            own.start()
            wait(lambda: kept() >= 300)
            running[1].send_signal(signal.SIGTERM)
            assert running[1].wait(GENEROUS_S) == 0
        finally:
            for one in running:
                one.kill()
                one.wait()
        found = own.query("plant", "SELECT seq FROM verdict ORDER BY seq")
    assert [seq for (seq,) in found] == list(range(1, 301))
    assert "accepts records again" in log.read_text()
