"""edge-listen against a real mosquitto and a real station: everything once, gaps filled."""

import csv
import json
import logging
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from edge.contract.encoding import new_id
from edge.contract.event import Event
from edge.contract.state import JournalReport, StationReport
from edge.errors import OutputNotWritable
from edge.journal.entries import RecordKind
from edge.listen.cli import main
from edge.listen.columns import HEADER
from edge.listen.file_store import FileStore
from edge.listen.gap_repair import MAX_ASKED, Ask, GiveUp, Repair
from edge.listen.listener import Listener, ListenOptions
from edge.listen.records import Arrived
from edge.listen.sequence_ranges import SequenceRanges, Stretch, without
from edge.settings.mqtt import MqttSettings
from tests.edge.conftest import EdgeRun
from tests.support.broken_network import OldBroker
from tests.support.broker import GENEROUS_S, Broker
from tests.support.relaying import STATION, VERDICT, RelayedJournal, Relaying, relayed_journals
from tests.support.small_bundle import write_images
from tests.support.station_process import StationProcess, until

JOURNAL = "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11"
Listening = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def relaying(tmp_path: Path) -> Iterator[Relaying]:
    with relayed_journals(tmp_path) as begin:
        yield begin


@pytest.fixture
def listening(running_broker: Broker) -> Iterator[Listening]:
    """Start ``edge-listen`` processes and wait until each listens."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.listen.cli", "--mqtt", running_broker.url]
            + [str(argument) for argument in arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        while "listening to" not in (line := process.stderr.readline()):
            assert process.poll() is None, line
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for the end in order, and return what was said."""
    out, reported = process.communicate(timeout=GENEROUS_S)
    assert process.returncode == 0, reported
    return out + reported


def kept(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM verdict ORDER BY rowid")]


def lines(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(0, 70))
def test_numbers_are_a_set_that_knows_its_gaps(added: list[int], up_to: int) -> None:
    numbers, known = SequenceRanges(), set()
    for number in added:
        assert (numbers.add(number) is None) == (number in known)
        known.add(number)

    assert {n for one in numbers for n in range(one.first, one.last + 1)} == known
    missing = {n for one in numbers.gaps(up_to) for n in range(one.first, one.last + 1)}
    end = max([*known, up_to]) if known else 0
    assert missing == set(range(min(known, default=1), end + 1)) - known
    assert list(SequenceRanges(list(numbers))) == list(numbers)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9)), max_size=5),
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9)), max_size=5),
)
def test_what_was_given_up_is_no_gap_any_more(
    gaps: list[tuple[int, int]], lost: list[tuple[int, int]]
) -> None:
    def numbers(stretches: list[Stretch]) -> set[int]:
        return {n for one in stretches for n in range(one.first, one.last + 1)}

    missing = [Stretch(first, first + more) for first, more in gaps]
    given_up = [Stretch(first, first + more) for first, more in lost]
    assert numbers(without(missing, given_up)) == numbers(missing) - numbers(given_up)


def test_a_gap_is_asked_for_after_a_moment_and_given_up_after_a_while() -> None:
    repair, gap = Repair(grace_s=1.0, again_s=5.0), Stretch(3, 4)

    assert repair.decide([gap], 0.0, True) == []
    assert repair.decide([gap], 1.0, True) == [Ask(gap, (gap,), True)]
    assert repair.decide([gap], 5.9, True) == []
    asked = 1
    now_s = 1.0
    while (steps := repair.decide([gap], now_s := now_s + 1.0, True)) != [GiveUp(gap)]:
        asked += steps == [Ask(gap, (gap,), False)]
        assert now_s < 1000
    assert asked == MAX_ASKED


def test_a_gap_that_is_closing_is_not_given_up() -> None:
    repair, now_s = Repair(), 0.0
    for first in range(1, 200_000, 10_000):
        steps = repair.decide([Stretch(first, 200_000)], now_s := now_s + 6.0, True)
        assert not any(isinstance(step, GiveUp) for step in steps)


def test_many_gaps_are_asked_for_in_few_requests_and_all_of_them_in_turn() -> None:
    repair, now_s = Repair(grace_s=1.0, every_s=2.5), 0.0
    every_other = [Stretch(seq, seq) for seq in range(5, 101, 2)]
    far = [Stretch(50_000, 79_999), Stretch(500_000, 500_000)]
    gaps, asked = every_other + far, []
    repair.decide(gaps, now_s, True)
    while gaps:
        steps = repair.decide(gaps, now_s := now_s + 0.5, True)
        assert len(steps) <= 1 and not any(isinstance(one, GiveUp) for one in steps)
        asked += steps
        for one in steps:
            assert isinstance(one, Ask)
            gaps = without(gaps, [one.wanted])

    assert {one.wanted for one in asked if isinstance(one, Ask)} == {
        Stretch(5, 99),
        *(Stretch(first, first + 9_999) for first in (50_000, 60_000, 70_000)),
        far[1],
    }
    assert len(asked) == 5
    assert asked[0] == Ask(Stretch(5, 99), tuple(every_other), True)
    assert now_s < 30


def test_a_refused_request_is_none_and_is_made_again_until_the_station_has_time() -> None:
    repair, gap, now_s = Repair(grace_s=0.0, refused_wait_s=10.0), Stretch(3, 4), 0.0
    for _ in range(3 * MAX_ASKED):
        (ask,) = repair.decide([gap], now_s, True)
        assert isinstance(ask, Ask)
        repair.refused(ask, now_s)
        assert repair.decide([gap], now_s + 9.9, True) == []
        now_s += 10.0
    assert isinstance(repair.decide([gap], now_s, True)[0], Ask)


def test_a_station_is_not_asked_for_numbers_of_a_journal_it_no_longer_has() -> None:
    repair = Repair()
    repair.decide([Stretch(1, 2)], 0.0, False)
    assert repair.decide([Stretch(1, 2)], 1.0, False) == [GiveUp(Stretch(1, 2))]


def arrived(seq: int, identity: str = VERDICT["id"]) -> Arrived:
    content = {**VERDICT, "id": identity, "seq": seq, "part_id": 'a "b"\n;'}
    return Arrived(
        station="site/line/cell/top",
        journal=JOURNAL,
        seq=seq,
        content=content,
        payload=json.dumps(content),
        arrived_utc="now",
    )


def test_a_batch_that_was_not_finished_leaves_no_line_behind(tmp_path: Path) -> None:
    table, database = tmp_path / "verdicts.csv", tmp_path / "verdicts.csv.state.db"
    store = FileStore(database, table, None)
    store.keep([arrived(1), arrived(2), arrived(2)])
    store.close()
    with table.open("ab") as file:
        file.write(b"site/line/cell/top,half a li")

    store = FileStore(database, table, None)
    assert store.keep([arrived(2), arrived(3)]).fresh == 1
    store.close()

    assert [row["seq"] for row in lines(table)] == ["1", "2", "3"]
    assert list(lines(table)[0]) == list(HEADER)
    assert lines(table)[0]["part_id"] == 'a "b"\n;'


IMAGE = {
    "uri": "file:///snapshots/1.png",
    "source_uri": "file:///in/b%20%C3%A4.png",
}


def test_the_file_of_a_part_is_named(tmp_path: Path) -> None:
    table, database = tmp_path / "verdicts.csv", tmp_path / "verdicts.db"
    one = arrived(1)
    one.content["image"] = IMAGE
    for store in (FileStore(tmp_path / "state.db", table, None), FileStore(database, None, None)):
        store.keep([one])
        store.close()

    names = ("image_uri", "image_source_uri", "image_name")
    values = (IMAGE["uri"], IMAGE["source_uri"], "b ä.png")
    assert tuple(lines(table)[0][name] for name in names) == values
    with closing(sqlite3.connect(database)) as connection:
        kept_names = connection.execute(f"SELECT {', '.join(names)} FROM verdict").fetchone()
    assert kept_names == values


def test_a_listener_that_heard_nothing_yet_can_be_started_again(tmp_path: Path) -> None:
    table, database = tmp_path / "verdicts.csv", tmp_path / "verdicts.csv.state.db"
    FileStore(database, table, None).close()

    store = FileStore(database, table, None)
    store.keep([arrived(1)])
    store.close()

    assert [row["seq"] for row in lines(table)] == ["1"]


def test_a_table_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("precious\n")

    with pytest.raises(OutputNotWritable, match="not written by edge-listen"):
        FileStore(tmp_path / "state.db", table, None)
    assert table.read_text() == "precious\n"


def test_verdicts_are_kept_once_each_in_sqlite(
    running_broker: Broker, relaying: Relaying, listening: Listening, tmp_path: Path
) -> None:
    process = listening("--sqlite", tmp_path / "mes.db", "--until-seq", 100)
    relaying(running_broker.url).record(100)

    printed = ended(process)

    assert kept(tmp_path / "mes.db") == list(range(1, 101))
    assert "site/line/cell/top: 100 verdicts, newest 100; missing none; lost none" in printed


def test_what_came_while_nobody_listened_is_in_the_table_too(
    running_broker: Broker, relaying: Relaying, listening: Listening, tmp_path: Path
) -> None:
    station = relaying(running_broker.url)
    first = listening("--csv", tmp_path / "mes.csv")
    station.record(20)
    station.wait_until(lambda: len(lines(tmp_path / "mes.csv")) == 20)
    first.send_signal(signal.SIGKILL)
    first.wait(GENEROUS_S)
    station.record(20)

    second = listening("--csv", tmp_path / "mes.csv")
    station.wait_until(lambda: len(lines(tmp_path / "mes.csv")) >= 40)
    second.send_signal(signal.SIGTERM)
    ended(second)

    assert [int(row["seq"]) for row in lines(tmp_path / "mes.csv")] == list(range(1, 41))


def test_a_gap_is_found_asked_for_and_filled(
    running_broker: Broker, relaying: Relaying, listening: Listening, tmp_path: Path
) -> None:
    station = relaying(running_broker.url)
    station.record(30)
    assert station.delivered()  # before anybody listened

    process = listening("--sqlite", tmp_path / "mes.db", "--from-seq", 1, "--until-seq", 32)
    station.record(2)

    printed = ended(process)
    assert sorted(kept(tmp_path / "mes.db")) == list(range(1, 33))
    assert "verdicts 1 to 30 are missing; asking again" in printed


def test_every_other_verdict_is_asked_for_in_no_more_requests_than_a_station_takes(
    running_broker: Broker, relaying: Relaying, listening: Listening, tmp_path: Path
) -> None:
    """As many as a listener that was killed leaves missing where two share the verdicts."""
    station = relaying(running_broker.url)
    station.record(140)
    assert station.delivered()  # before anybody listened
    store = FileStore(tmp_path / "mes.db", None, 1)
    rows = station.outbox.rows(RecordKind.VERDICT, 1, 140, 140)
    contents = [json.loads(row.payload) for row in rows[::2]]
    store.keep(
        [
            replace(arrived(one["seq"], one["id"]), journal=station.journal.journal)
            for one in contents
        ]
    )
    store.close()

    process = listening("--sqlite", tmp_path / "mes.db", "--until-seq", 141)
    station.record(1)

    output = ended(process)
    assert sorted(kept(tmp_path / "mes.db")) == list(range(1, 142))
    assert "verdicts 2, 4, 6," in output and "LOST" not in output
    assert [event.data for event in station.events if "refused" in event.detail] == []


@pytest.mark.parametrize("older_mqtt", [False, True])
def test_what_a_station_had_no_time_for_is_not_given_up(
    running_broker: Broker,
    relaying: Relaying,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    older_mqtt: bool,
) -> None:
    station = relaying(running_broker.url, commands_per_minute=30)
    station.record(30)
    assert station.delivered()  # before anybody listened
    sender = paho.Client(CallbackAPIVersion.VERSION2)
    sender.connect("127.0.0.1", running_broker.port)
    sender.loop_start()
    for _ in range(31):  # what a minute allows, and one more
        sender.publish(f"vi/v1/{STATION}/cmd/selftest", "{}", 1).wait_for_publish(GENEROUS_S)
    sender.disconnect()
    sender.loop_stop()
    until(lambda: _rate_limited(station.events), "the limit")

    deadline_s, recorded = time.monotonic() + GENEROUS_S, list[int]()

    def done() -> bool:
        if listener.has_listened and not recorded:
            recorded.append(1)
            station.record(1)
        assert time.monotonic() < deadline_s
        return len(kept(tmp_path / "mes.db")) == 31

    with ExitStack() as held:
        port = running_broker.port
        if older_mqtt:
            port = held.enter_context(OldBroker(port)).port
        listener = Listener(
            settings=MqttSettings(url=f"mqtt://127.0.0.1:{port}"),
            wanted=ListenOptions(),
            store=FileStore(tmp_path / "mes.db", None, 1),
            # Given up within a tenth of the time after which the station takes a request again.
            repair=lambda: Repair(
                grace_s=0.0, again_s=0.005, every_s=0.0, sent_per_s=1e6, refused_wait_s=0.5
            ),
        )
        listener.run(done)
    assert "has no time for a request" in caplog.text and "LOST" not in caplog.text


def test_what_is_missing_of_a_station_that_is_off_is_asked_for_when_it_is_back(
    running_broker: Broker, relaying: Relaying, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A hall that is switched off for the night, just when a listener was killed."""

    journal: JournalReport | None = None
    # The publisher may ask before the journal's name is known here.
    reported = {"report": lambda: StationReport(journal=journal)}
    station: RelayedJournal = relaying(running_broker.url, publisher=reported)
    name = station.journal.journal
    journal = JournalReport(journal=name, last_seq=3, backlog=0, oldest_age_s=None, bytes=0)
    station.record(3)
    assert station.delivered()
    row = station.outbox.rows(RecordKind.VERDICT, 1, 1, 1)[0]
    content = json.loads(row.payload)
    store = FileStore(tmp_path / "mes.db", None, 1)
    store.keep([replace(arrived(1, content["id"]), journal=station.journal.journal)])
    station.close()
    rounds, deadline_s = list[int](), time.monotonic() + GENEROUS_S

    def done() -> bool:
        if listener.has_listened and len(rounds) < 3 * MAX_ASKED:
            rounds.append(1)
            if len(rounds) == 3 * MAX_ASKED:
                relaying(running_broker.url, publisher=reported)
        assert time.monotonic() < deadline_s
        return len(kept(tmp_path / "mes.db")) == 3

    listener: Listener = Listener(
        settings=MqttSettings(url=running_broker.url),
        wanted=ListenOptions(),
        store=store,
        clock_s=lambda: time.monotonic() + 3600.0 * len(rounds),  # an hour a round, in the night
    )
    listener.run(done)
    assert "LOST" not in caplog.text


def _rate_limited(events: list[Event]) -> list[Event]:
    return [one for one in events if one.data.get("reason") == "rate_limited"]


def put_back(backup: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)


def test_no_verdict_is_missing_after_a_backup_was_put_back(
    running_broker: Broker, bundle: Path, listening: Listening, tmp_path: Path, edge_run: EdgeRun
) -> None:
    frames = write_images(tmp_path / "frames", good=3, defective=1)
    settings = {
        "camera": {"uri": str(frames), "rate_fps": 50.0, "loop": True},
        "model": {"path": str(bundle)},
    }
    arguments = ("--from-seq", 1, "--client-id")
    in_csv = listening("--csv", tmp_path / "mes.csv", *arguments, "one")
    in_sqlite = listening("--sqlite", tmp_path / "mes.db", *arguments, "other")
    with StationProcess(tmp_path, running_broker, settings) as line:
        line.verdicts(10)
        assert line.stop() == 0
        shutil.copytree(line.journal, tmp_path / "backup")
        line.start()
        line.verdicts(2 * len(line.verdicts(1)))
        assert line.stop() == 0
        put_back(tmp_path / "backup", line.journal)
        line.start()
        (reported,) = line.events("journal_copied")
        line.verdicts(len(line.verdicts(1)) + 20)
        state = [one for one in line.states("online", 3) if one["journal"]][-1]["journal"]
        assert line.stop() == 0
    ids = {one["id"] for one in line.verdicts(1)}
    until(lambda: len(lines(tmp_path / "mes.csv")) >= len(ids), "all in the CSV file")
    until(lambda: len(kept(tmp_path / "mes.db")) >= len(ids), "all in the database")
    for process in (in_csv, in_sqlite):
        process.send_signal(signal.SIGTERM)
    printed = ended(in_csv) + ended(in_sqlite)

    assert state["journal"] == reported["data"]["journal"]
    assert state["follows"] == reported["data"]["former"]
    assert sorted(row["id"] for row in lines(tmp_path / "mes.csv")) == sorted(ids)
    assert len(kept(tmp_path / "mes.db")) == len(ids)
    assert printed.count("missing none; lost none (journal") == 4
    assert "CONFLICT" not in printed
    assert "LOST" not in printed
    heads = set(re.findall(f"journal {state['journal']}, head ([0-9a-f]{{64}})", printed))
    verified = edge_run("--journal", line.journal, "--verify", "--head", heads.pop())
    assert verified.returncode == 0 and not heads
    assert "none is missing; the head is that of row" in verified.stdout


@pytest.mark.parametrize("kind", ["csv", "sqlite"])
def test_another_verdict_under_a_known_number_is_kept_and_named(
    kind: str, running_broker: Broker, listening: Listening, tmp_path: Path
) -> None:
    """Of two stations that write copies of one journal, where the copy could not know it."""
    table = tmp_path / "mes"
    process = listening(f"--{kind}", table)
    topic = "vi/v1/other/line/cell/top/verdict"
    first = [{**VERDICT, "seq": seq, "journal": JOURNAL, "id": new_id(seq)} for seq in (1, 2, 3)]
    copies = [{**one, "id": new_id(one["seq"] + 10**9), "result": "NOK"} for one in first[1:]]
    sender = paho.Client(CallbackAPIVersion.VERSION2, client_id="sender")
    sender.connect("127.0.0.1", running_broker.port)
    sender.loop_start()
    for one in (*first, *copies, *first, *copies):
        sender.publish(topic, json.dumps(one), 1).wait_for_publish(GENEROUS_S)
    last = {**VERDICT, "seq": 4, "journal": JOURNAL}
    sender.publish(topic, json.dumps(last), 1).wait_for_publish(GENEROUS_S)
    sender.disconnect()
    sender.loop_stop()

    def found() -> list[tuple[int, str]]:
        if kind == "csv":
            return [(int(row["seq"]), row["result"]) for row in lines(table)]
        with closing(sqlite3.connect(table)) as connection:
            return connection.execute("SELECT seq, result FROM verdict ORDER BY rowid").fetchall()

    until(lambda: (4, "OK") in found(), "the last verdict is kept")
    process.send_signal(signal.SIGTERM)
    printed = ended(process)

    assert found() == [(1, "OK"), (2, "OK"), (3, "OK"), (2, "NOK"), (3, "NOK"), (4, "OK")]
    assert "CONFLICT: other verdicts under 2 to 3" in printed
    assert f"of journal {JOURNAL} came with different ids than before. Both are kept." in printed


def test_two_stations_and_a_broker_that_restarts(
    running_broker: Broker, relaying: Relaying, listening: Listening, tmp_path: Path
) -> None:
    one = relaying(running_broker.url)
    other = relaying(running_broker.url, name="other", station="site/line/cell/side")
    process = listening("--sqlite", tmp_path / "mes.db", "--station", "site/line/cell/+")
    for station in (one, other):
        station.record(10)
        assert station.delivered()
    running_broker.save()
    running_broker.kill()
    one.record(10)
    running_broker.start()
    other.record(10)
    one.wait_until(lambda: len(kept(tmp_path / "mes.db")) == 40)

    process.send_signal(signal.SIGTERM)
    printed = ended(process)
    assert "side: 20 verdicts, newest 20; missing none" in printed
    assert "top: 20 verdicts, newest 20; missing none" in printed


def test_a_message_that_is_no_verdict_is_left_out_and_reported(
    running_broker: Broker, listening: Listening, tmp_path: Path
) -> None:
    process = listening("--sqlite", tmp_path / "mes.db", "--until-seq", 1)
    sender = paho.Client(CallbackAPIVersion.VERSION2, client_id="sender")
    sender.connect("127.0.0.1", running_broker.port)
    sender.loop_start()
    topic = "vi/v1/other/line/cell/top/verdict"
    right = {**VERDICT, "seq": 1, "journal": JOURNAL}
    no_text, no_number = {**right, "part_id": "\ud800"}, {**right, "anomaly_score": 2**63}
    faults = ["{", "[]", '{"schema":"verdict/1","seq":true}', "[" * 5000]
    for wrong in (*faults, json.dumps(no_text), json.dumps(no_number)):
        sender.publish("vi/v1/a/b/c/d/cmd/x", "{}", 1).wait_for_publish(GENEROUS_S)
        sender.publish(topic, wrong, 1).wait_for_publish(GENEROUS_S)
    right["image"] = {**right["image"], "source_uri": "http://["}
    sender.publish(topic, json.dumps(right), 1).wait_for_publish(GENEROUS_S)
    sender.disconnect()
    sender.loop_stop()

    assert ended(process).count("not a valid message") == 6
    running_broker.collect("/verdict", lambda got: len(got) == 4)  # the others are no objects
    running_broker.forget()


def test_a_state_that_is_none_is_left_out_however_it_is_wrong(
    running_broker: Broker, listening: Listening, tmp_path: Path
) -> None:
    process = listening("--sqlite", tmp_path / "mes.db", "--until-seq", 2)
    sender = paho.Client(CallbackAPIVersion.VERSION2, client_id="sender")
    sender.connect("127.0.0.1", running_broker.port)
    sender.loop_start()
    root = "vi/v1/other/line/cell/top"
    first, second = ({**VERDICT, "seq": seq, "journal": JOURNAL} for seq in (1, 2))
    sender.publish(f"{root}/verdict", json.dumps(first), 1).wait_for_publish(GENEROUS_S)
    far = {"journal": JOURNAL, "backlog": 0, "last_seq": 10**30}
    half = {"journal": "\ud800", "backlog": 0, "last_seq": 1}
    for wrong in (
        "[]",
        "5",
        '{"journal": [1]}',
        *(json.dumps({"journal": j}) for j in (far, half)),
    ):
        sender.publish(f"{root}/state", wrong, 1).wait_for_publish(GENEROUS_S)
    sender.publish(f"{root}/verdict", json.dumps(second), 1).wait_for_publish(GENEROUS_S)
    sender.disconnect()
    sender.loop_stop()

    assert ended(process).count("not a valid message") == 5
    running_broker.collect("/verdict", lambda got: [one["seq"] for one in got] == [1, 2])
    running_broker.forget()


def test_two_listeners_of_one_name_get_the_cause(
    running_broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()

    def reported() -> bool:
        return "another edge-listen has the same --client-id" in caplog.text

    def listen(number: int) -> None:
        store = FileStore(tmp_path / f"{number}.db", None, None)
        settings = MqttSettings(url=running_broker.url)
        Listener(
            settings=settings, wanted=ListenOptions(), store=store, back_off_s=(0.05, 0.2)
        ).run(over.is_set)
        store.close()

    both = [threading.Thread(target=listen, args=(number,)) for number in (1, 2)]
    for one in both:
        one.start()
    deadline_s = time.monotonic() + GENEROUS_S
    while not reported() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    over.set()
    for one in both:
        one.join(GENEROUS_S)

    assert reported()


def test_a_broker_that_lets_nobody_listen_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as strict:
        settings = MqttSettings(url=f"mqtt://127.0.0.1:{strict.getsockname()[1]}")
        store = FileStore(tmp_path / "mes.db", None, None)
        ended = threading.Event()
        listener = Listener(settings=settings, wanted=ListenOptions(), store=store)
        listening = threading.Thread(target=listener.run, args=(ended.is_set,))
        listening.start()
        connection, _ = strict.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK: welcome
            connection.recv(4096)
            connection.sendall(b"\x90\x05\x00\x01\x00\x87\x87")  # SUBACK: not authorized
            deadline_s = time.monotonic() + GENEROUS_S
            while "access rules" not in caplog.text and time.monotonic() < deadline_s:
                time.sleep(0.02)
            ended.set()
            listening.join(GENEROUS_S)

    assert "does not let edge-listen listen to +/+/+/+" in caplog.text
    assert "listening to" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("--mqtt", "http://here", "--sqlite", "x.db"), "--mqtt"),
        (("--mqtt", "mqtt://here", "--sqlite", "x.db", "--station", "a/#"), "--station"),
        (("--mqtt", "mqtt://here", "--sqlite", "no/such/folder/x.db"), "no/such/folder"),
        (("--mqtt", "mqtt://here", "--sqlite", "x.db", "--ca-file", "ca"), "mqtts"),
    ],
)
def test_a_wrong_argument_is_named_and_ends_with_78(
    arguments: tuple[str, ...],
    reported: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 78
    assert reported in capsys.readouterr().err


def test_an_end_before_everything_came_is_reported(
    running_broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began_s = time.monotonic()
    arguments = ["--mqtt", running_broker.url, "--sqlite", str(tmp_path / "mes.db")]

    assert main([*arguments, "--until-seq", "1", "--timeout", "0.5"]) == 75
    assert time.monotonic() - began_s < GENEROUS_S
    assert "not all verdicts came in time" in capsys.readouterr().err


def test_a_broker_that_was_never_reached_is_no_clean_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and listens to nobody
        url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        arguments = ["--mqtt", url, "--sqlite", str(tmp_path / "mes.db"), "--timeout", "0.5"]

        assert main(arguments) == 75
    assert f"no subscription at {url} succeeded" in capsys.readouterr().err
