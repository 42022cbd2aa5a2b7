"""The files of edge-listen: shared, locked, full, removed, changed, of others, older ones."""

import csv
import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edge.contract.encoding import new_id
from edge.errors import OutputNotWritable
from edge.listen.cli import main
from edge.listen.columns import HEADER, IMAGE_COLUMNS
from edge.listen.file_store import FileStore
from edge.listen.records import Arrived, NotStoredNow
from edge.listen.sequence_ranges import Stretch
from tests.support.broker import GENEROUS_S, Broker
from tests.support.relaying import VERDICT, Relaying, relayed_journals

STATION, OTHER = "site/line/cell/top", "site/line/cell/side"
JOURNAL = "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11"


@pytest.fixture
def relaying(tmp_path: Path) -> Iterator[Relaying]:
    with relayed_journals(tmp_path) as begin:
        yield begin


class Place:
    """Where verdicts are kept, as SQLite or as CSV."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.file = folder / f"verdicts.{kind}"
        self._table = self.file if kind == "csv" else None
        self.database = folder / "verdicts.csv.state.db" if self._table else self.file
        self.option = ["--csv" if self._table else "--sqlite", str(self.file)]

    def open(self) -> FileStore:
        return FileStore(self.database, self._table, None)

    def kept(self) -> list[tuple[str, int]]:
        if self._table is not None:
            with self._table.open(newline="") as file:
                return [(row["station"], int(row["seq"])) for row in csv.DictReader(file)]
        with closing(sqlite3.connect(self.file)) as connection:
            return list(connection.execute("SELECT station, seq FROM verdict ORDER BY rowid"))


@pytest.fixture(params=["csv", "db"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path, request.param)


def arrived(seq: int, station: str = STATION) -> Arrived:
    content = {**VERDICT, "id": new_id(1_700_000_000_000_000_000), "seq": seq}
    return Arrived(
        station=station,
        journal=JOURNAL,
        seq=seq,
        content=content,
        payload=json.dumps(content),
        arrived_utc="now",
    )


@contextmanager
def locked(database: Path) -> Iterator[None]:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def copied(path: Path) -> None:
    """Replace a file by its copy, as many programs save."""
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


@pytest.mark.parametrize("change", [Path.unlink, copied])
def test_no_verdict_counts_as_kept_in_a_file_that_nobody_finds(
    place: Place, change: Callable[[Path], None]
) -> None:
    with closing(place.open()) as store:
        store.keep([arrived(1)])
        change(place.file)

        with pytest.raises(OutputNotWritable, match="removed, renamed or replaced") as refused:
            store.keep([arrived(2)])
    assert not isinstance(refused.value, NotStoredNow)


@pytest.mark.parametrize(("option", "scheme"), [("--sqlite", ""), ("--database", "sqlite:///")])
def test_a_listener_whose_file_was_removed_ends_and_the_next_one_has_what_came(
    running_broker: Broker, relaying: Relaying, tmp_path: Path, option: str, scheme: str
) -> None:
    station, file = relaying(running_broker.url), tmp_path / "mes.db"
    place = f"{scheme}{file}"
    with listening(running_broker, option, place) as first:
        station.record(1)
        station.wait_until(lambda: kept(file) == [1])
        file.unlink()
        station.record(1)
        assert first.wait(GENEROUS_S) == 78
    with listening(running_broker, option, place):
        station.wait_until(lambda: kept(file) == [2])


def kept(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM verdict ORDER BY seq")]


@contextmanager
def listening(broker: Broker, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.listen.cli", "--mqtt", broker.url, *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        while "listening to" not in (line := process.stderr.readline()):
            assert process.poll() is None, line
        yield process
    finally:
        process.kill()
        process.communicate()


def test_two_listeners_write_one_file_and_each_verdict_is_there_once(place: Place) -> None:
    with closing(place.open()) as one, closing(place.open()) as other:
        for seq in range(1, 4):
            assert one.keep([arrived(seq), arrived(seq, OTHER)]).fresh == 2
        same = arrived(4)
        assert (one.keep([same]).fresh, other.keep([same]).fresh) == (1, 0)
        assert other.keep([arrived(4, OTHER), arrived(5)]).fresh == 2
        assert one.keep([arrived(6)]).fresh == 1

    assert sorted(place.kept()) == [
        *((OTHER, seq) for seq in range(1, 5)),
        *((STATION, seq) for seq in range(1, 7)),
    ]
    with closing(place.open()) as store:
        assert store.missing(STATION, JOURNAL, 6) == store.missing(OTHER, JOURNAL, 4) == []


def test_a_lock_of_somebody_else_is_waited_for(
    running_broker: Broker, relaying: Relaying, place: Place
) -> None:
    station = relaying(running_broker.url)
    with listening(running_broker, *place.option) as process:
        with locked(place.database):
            station.record(3)
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "locked" in line and "fuser" in line and "stay at the broker" in line
        station.wait_until(lambda: len(place.kept()) == 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(GENEROUS_S) == 0
    assert [seq for _, seq in place.kept()] == [1, 2, 3]


def test_what_could_not_be_stored_in_time_is_no_clean_end(
    running_broker: Broker, relaying: Relaying, place: Place
) -> None:
    with listening(running_broker, *place.option, "--timeout", "8") as process:
        with locked(place.database):
            relaying(running_broker.url).record(1)
            assert process.wait(GENEROUS_S) == 75
        assert process.stderr is not None
        assert "records could not be stored and stay at the broker" in process.stderr.read()


def test_a_loss_is_a_loss_only_once_it_is_written_down(place: Place) -> None:
    with closing(place.open()) as store:
        store.keep([arrived(1), arrived(4)])
        with locked(place.database), pytest.raises(NotStoredNow, match="locked"):
            store.give_up(STATION, JOURNAL, Stretch(2, 3))
        assert store.missing(STATION, JOURNAL, 4) == [Stretch(2, 3)]


def test_what_a_full_disk_refuses_is_kept_at_the_next_attempt(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = arrived(1), arrived(2)
    with closing(place.open()) as store:
        store.keep([one])
        with monkeypatch.context() as full:
            if place.file != place.database:
                full.setattr("edge.listen.csv_file.os.fsync", no_room)
            else:
                pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
                store._connection.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(NotStoredNow, match="disk is full: make room"):
                store.keep([two, *map(arrived, range(3, 60))])
        store._connection.execute("PRAGMA max_page_count = 1000000")
        assert store.numbers(STATION, JOURNAL).last == 1
        store.keep([one, two])
    assert place.kept() == [(STATION, 1), (STATION, 2)]


def no_room(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("length", [0, 1, len(",".join(HEADER)) + 2])
def test_a_listener_that_was_killed_while_it_began_its_table_goes_on(
    tmp_path: Path, length: int
) -> None:
    place = Place(tmp_path, "csv")
    place.file.write_bytes((",".join(HEADER) + "\r\n").encode()[:length])
    with closing(place.open()) as store:
        store.keep([arrived(1)])
    assert place.kept() == [(STATION, 1)]


@pytest.mark.parametrize("tables", ["customer(x)", "verdict(x)", "stretch(x)"])
def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path, tables: str) -> None:
    place = Place(tmp_path, "db")
    with closing(sqlite3.connect(place.file)) as other:
        other.execute(f"CREATE TABLE {tables}")
    before = place.file.read_bytes()

    with pytest.raises(OutputNotWritable, match="another program"):
        place.open()
    if tables != "stretch(x)":
        assert place.file.read_bytes() == before


def test_a_file_is_used_as_it_was_begun(tmp_path: Path) -> None:
    table, own = Place(tmp_path, "csv"), Place(tmp_path, "db")
    for place in (table, own):
        with closing(place.open()) as store:
            store.keep([arrived(1)])

    with pytest.raises(OutputNotWritable, match="lies beside a CSV file"):
        FileStore(table.database, None, None)
    with pytest.raises(OutputNotWritable, match="holds verdicts of its own"):
        FileStore(own.database, tmp_path / "new.csv", None)
    assert not (tmp_path / "new.csv").exists()


def test_a_table_of_an_older_version_keeps_its_columns(tmp_path: Path) -> None:
    older = ",".join(name for name in HEADER if name not in IMAGE_COLUMNS)
    database, table = Place(tmp_path, "db"), Place(tmp_path, "csv")
    database.open().close()
    with closing(sqlite3.connect(database.file)) as connection:
        for name in IMAGE_COLUMNS:
            connection.execute(f"ALTER TABLE verdict DROP COLUMN {name}")
    table.file.write_bytes(f"{older}\r\n".encode())
    with closing(sqlite3.connect(table.database)) as connection:
        connection.execute("CREATE TABLE stretch(station TEXT, journal TEXT, first INT, last INT)")
        connection.execute("CREATE TABLE csv(bytes INTEGER)")
        connection.execute("INSERT INTO csv VALUES (?)", (len(older) + 2,))
        connection.commit()

    for place in (database, table):
        with closing(place.open()) as store:
            store.keep([arrived(1)])
        assert place.kept() == [(STATION, 1)]
    first, row = table.file.read_text().splitlines()
    assert first == older and row.count(",") == older.count(",")


def line_behind(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"seen by Kim\r\n")


def row_above(path: Path) -> None:
    header, rows = path.read_bytes().split(b"\r\n", 1)
    path.write_bytes(header + b"\r\nx,,,\r\n" + rows)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("change", [line_behind, row_above, emptied])
def test_a_table_that_another_program_has_changed_is_left_as_it_is(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    place = Place(tmp_path, "csv")
    with closing(place.open()) as store:
        store.keep([arrived(1), arrived(2)])
        change(place.file)
        before = place.file.read_bytes()
        with pytest.raises(OutputNotWritable, match="another program has"):
            store.keep([arrived(3)])
    with pytest.raises(OutputNotWritable, match="another program has"):
        place.open()
    assert place.file.read_bytes() == before


def test_a_table_that_is_gone_is_named_and_none_is_begun(tmp_path: Path) -> None:
    place = Place(tmp_path, "csv")
    place.open().close()
    place.file.unlink()

    with pytest.raises(OutputNotWritable, match=r"gone.*remove verdicts\.csv\.state\.db"):
        place.open()
    assert not place.file.exists()


@pytest.mark.parametrize("option", ["--csv", "--sqlite"])
def test_a_device_is_no_place_for_verdicts(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mqtt", "mqtt://127.0.0.1:1", option, "/dev/null", "--timeout", "1"]) == 78
    assert "/dev/null" in capsys.readouterr().err
