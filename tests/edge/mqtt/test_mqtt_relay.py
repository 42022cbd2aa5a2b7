"""The relay: at least once, in order, through refusals, dead letters, resends and bad networks."""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.journal.entries import JournalRow, RecordKind
from edge.journal.outbox import Outbox
from edge.listen.sequence_ranges import SequenceRanges, Stretch
from edge.mqtt import connection, relay
from edge.mqtt.replay_detector import FRESH_NS, ReplayDetector
from tests.soak import seeds, times
from tests.support.broken_network import BrokenNetwork, Mood
from tests.support.broker import GENEROUS_S, Broker
from tests.support.relaying import RelayedJournal, Relaying, has_all, numbers, relayed_journals
from tests.support.scripted_broker import Published, ScriptedBroker

ROOT = "vi/v1/site/line/cell/top"
SECOND_NS = 1_000_000_000


@pytest.fixture
def relaying(tmp_path: Path) -> Iterator[Relaying]:
    with relayed_journals(tmp_path) as begin:
        yield begin


@pytest.fixture
def network(running_broker: Broker) -> Iterator[BrokenNetwork]:
    between = BrokenNetwork(running_broker.port)
    yield between
    between.close()


def row(seq: int) -> JournalRow:
    return JournalRow(
        position=seq,
        kind=RecordKind.VERDICT,
        seq=seq,
        result="OK",
        part_id=None,
        payload=b"{}",
        created_utc_ns=0,
        acknowledged=False,
        dead=None,
    )


@given(st.lists(st.integers(0, 30 * SECOND_NS), min_size=1, max_size=60), st.integers(1, 60))
def test_a_row_older_than_ten_seconds_is_never_taken_for_fresh(
    steps_ns: list[int], seq: int
) -> None:
    ages, now_ns = ReplayDetector(), 0
    ages.record({RecordKind.VERDICT: 0, RecordKind.EVENT: 0}, now_ns)
    committed_ns, looked_ns = {}, [0]
    for newest, step_ns in enumerate(steps_ns, start=1):
        now_ns += step_ns
        committed_ns[newest] = now_ns
        if ages.due(now_ns):
            ages.record({RecordKind.VERDICT: newest, RecordKind.EVENT: 0}, now_ns)
            looked_ns.append(now_ns)
    seq = min(seq, len(steps_ns))
    age_ns = now_ns - committed_ns[seq]
    if age_ns > FRESH_NS:
        assert ages.is_old(row(seq), now_ns)
    # A fresh one is known for it as long as somebody looked before it came, and not long before.
    before_ns = max((at for at in looked_ns if at < committed_ns[seq]), default=None)
    if before_ns is not None and now_ns - before_ns <= FRESH_NS:
        assert not ages.is_old(row(seq), now_ns)


def newest_seen(station: RelayedJournal) -> int | None:
    """Return the newest verdict that the relay knows of."""
    seen = station.outbox.seen
    return None if seen is None else seen.last_seq[RecordKind.VERDICT]


def test_what_waited_longer_than_ten_seconds_is_marked_as_replayed(
    running_broker: Broker, relaying: Relaying
) -> None:
    running_broker.save()
    running_broker.stop()
    shift_ns = [0]
    read_ns: list[int] = []

    def clock_ns() -> int:
        read_ns.append(time.monotonic_ns() + shift_ns[0])
        return read_ns[-1]

    station = relaying(running_broker.url, publisher={"clock_ns": clock_ns})
    station.record(3)
    station.wait_until(lambda: newest_seen(station) == 3)
    shift_ns[0] = 11 * SECOND_NS
    # What looked at the journal with the time before is over, too.
    shifted_ns = time.monotonic_ns() + shift_ns[0]
    station.wait_until(lambda: read_ns[-1] >= shifted_ns)
    station.record(2)
    running_broker.start()

    received = running_broker.collect("/verdict", has_all(5))
    assert [message["replayed"] for message in received] == [True] * 3 + [False] * 2


def test_what_an_earlier_process_may_have_sent_is_marked_as_replayed(
    running_broker: Broker, relaying: Relaying
) -> None:
    before = relaying(running_broker.url, start=False)
    before.record(3)
    before.close()

    after = relaying(running_broker.url)
    after.record(2)

    received = running_broker.collect("/verdict", has_all(5))
    assert [message["replayed"] for message in received] == [True, True, True, False, False]


def test_a_record_larger_than_the_broker_takes_becomes_a_dead_letter_and_the_next_ones_pass(
    tmp_path: Path, relaying: Relaying
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    small = Broker(folder, "allow_anonymous true\nmax_packet_size 2000")
    small.start()
    small.subscribe()
    station = relaying(small.url)
    station.record(2)
    station.submit(detail="x" * 300, software="y" * 1500)
    station.record(2)

    received = small.collect("/verdict", has_all(4))
    (event,) = small.collect("/event", lambda messages: len(messages) == 1)
    assert station.delivered()
    station.close()
    small.close()

    assert numbers(received) == [1, 2, 4, 5]
    assert (event["kind"], event["data"]["seq"]) == ("dead_letter", 3)
    outbox = Outbox(station.journal.path)
    (dead,) = outbox.rows(RecordKind.VERDICT, 3, 3, 1)
    assert "broker accepts at most 2000" in (dead.dead or "")
    outbox.close()


def test_a_broker_that_forgets_an_acknowledgement_is_connected_anew(
    relaying: Relaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "ACK_LIMIT_NS", SECOND_NS // 2)
    forgotten: list[int] = []

    def forget_once(one: Published) -> int | None:
        if one.kind != "verdict" or one.content["seq"] != 2 or forgotten:
            return 0
        forgotten.append(2)
        return None

    with ScriptedBroker(on_publish=forget_once) as forgetful:
        station = relaying(forgetful.url)
        station.record(4)

        assert station.delivered()
        assert sorted(forgetful.seqs()) == [1, 2, 3, 4]


def test_nobody_who_listens_is_a_hint_and_not_a_failure(broker: Broker, relaying: Relaying) -> None:
    broker.start()
    station = relaying(broker.url)
    station.record(3)

    assert station.delivered()
    assert station.publisher.delivery().nobody_listens


@contextmanager
def asking(broker: Broker) -> Iterator[paho.Client]:
    """A client that asks, for as long as the broker runs: after a restart of it, the client could
    ask a second time."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id="asker", protocol=MQTTProtocolVersion.MQTTv5
    )
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


@pytest.fixture
def asker(running_broker: Broker) -> Iterator[paho.Client]:
    with asking(running_broker) as client:
        yield client


def ask(client: paho.Client, name: str, **fields: Any) -> None:
    client.publish(f"{ROOT}/cmd/{name}", json.dumps(fields), qos=1)


def test_records_are_sent_again_on_demand_and_the_answer_counts_them(
    running_broker: Broker, relaying: Relaying, asker: paho.Client
) -> None:
    station = relaying(running_broker.url)
    station.record(30)
    running_broker.collect("/verdict", has_all(30))
    assert station.delivered()

    ask(asker, "resend", from_seq=11, to_seq=40)

    (answer,) = running_broker.collect("/cmd/resend/res", lambda messages: len(messages) == 1)
    assert answer["data"] == {"kind": "verdict", "sent": 20, "wanted": 30}
    received = running_broker.collect("/verdict", lambda messages: len(messages) == 50)
    assert [message["seq"] for message in received[30:]] == list(range(11, 31))
    assert all(message["replayed"] for message in received[30:])


def test_records_of_an_earlier_process_are_sent_again_on_demand(
    running_broker: Broker, relaying: Relaying, asker: paho.Client
) -> None:
    before = relaying(running_broker.url)
    before.record(10)
    assert before.delivered()
    before.close()
    after = relaying(running_broker.url)
    after.wait_until(lambda: after.publisher.delivery().connected)

    ask(asker, "resend", from_seq=1, to_seq=10)

    (answer,) = running_broker.collect("/cmd/resend/res", lambda messages: len(messages) == 1)
    assert answer["data"]["sent"] == 10


def test_a_dead_letter_can_be_asked_for_once_the_broker_takes_it(
    tmp_path: Path, relaying: Relaying
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    small = Broker(folder, "allow_anonymous true\nmax_packet_size 2000")
    small.start()
    small.subscribe()
    station = relaying(small.url)
    station.submit(detail="x" * 300, software="y" * 1500)
    station.record(1)
    assert station.delivered()
    for limit, sent in (("max_packet_size 2000", 1), ("max_packet_size 9000", 2)):
        small.reconfigure(limit)
        station.record(1)
        assert station.delivered()
        with asking(small) as client:
            ask(client, "resend", from_seq=1, to_seq=2)
            # The answer before may come a second time, after the restart of the broker.
            small.collect(
                "/cmd/resend/res",
                partial(last_sent, sent),
            )
    small.close()


def test_resends_and_new_verdicts_share_the_window(
    running_broker: Broker, relaying: Relaying
) -> None:
    station = relaying(running_broker.url)
    station.record(500)
    running_broker.collect("/verdict", has_all(500))
    running_broker.stop()
    station.record(500)
    station.wait_until(lambda: not station.publisher.delivery().connected)
    running_broker.start()

    with asking(running_broker) as asker:
        station.wait_until(lambda: station.publisher.delivery().connected)
        ask(asker, "resend", from_seq=1, to_seq=500)
        station.record(50)
        running_broker.collect("/cmd/resend/res", lambda messages: len(messages) == 1)

    assert station.delivered()
    received = running_broker.collect("/verdict", has_all(1050))
    fresh = [message["seq"] for message in received if message["seq"] > 500]
    assert list(dict.fromkeys(fresh)) == list(range(501, 1051))


def test_a_resend_goes_on_after_the_broker_was_away(
    running_broker: Broker, relaying: Relaying, asker: paho.Client, network: BrokenNetwork
) -> None:
    station = relaying(f"mqtt://127.0.0.1:{network.port}")
    station.record(300)
    before = len(running_broker.collect("/verdict", has_all(300)))
    reads = count(1)

    def reset_in_the_middle() -> None:
        if next(reads) == 2:  # of two, as many rows are read at a time
            network.reset()

    station.outbox.before_rows = reset_in_the_middle
    ask(asker, "resend", from_seq=1, to_seq=300)

    running_broker.collect("/cmd/resend/res", lambda messages: len(messages) == 1)
    again = running_broker.collect("/verdict", has_all(300))[before:]
    assert {message["seq"] for message in again} == set(range(1, 301))
    assert next(reads) > 2


def test_a_flood_of_resends_is_refused(
    running_broker: Broker, relaying: Relaying, asker: paho.Client
) -> None:
    station = relaying(running_broker.url)
    station.record(200)
    station.wait_until(lambda: station.publisher.delivery().connected)
    for _ in range(40):
        ask(asker, "resend", from_seq=1, to_seq=200)

    answers = running_broker.collect("/cmd/resend/res", lambda messages: len(messages) == 40)
    refused = [answer for answer in answers if answer["status"] == "refused"]
    assert {answer["reason"] for answer in refused} == {"busy"}
    assert station.delivered()


def last_sent(count: int, answers: list[dict[str, Any]]) -> bool:
    return bool(answers) and answers[-1]["data"]["sent"] == count


def has_numbers(wanted: set[int], messages: list[dict[str, Any]]) -> bool:
    return wanted <= {*numbers(messages)}


def has_connected_again(network: BrokenNetwork, known: int) -> bool:
    return network.connections > known


def test_an_answer_goes_where_the_sender_wants_it_with_its_correlation_data(
    running_broker: Broker, relaying: Relaying, asker: paho.Client
) -> None:
    station = relaying(running_broker.url)
    station.record(1)
    station.wait_until(lambda: station.publisher.delivery().connected)
    answered: list[paho.MQTTMessage] = []
    arrived = threading.Event()

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        answered.append(message)
        arrived.set()

    asker.on_message = on_message
    subscribed = threading.Event()
    asker.on_subscribe = lambda *_: subscribed.set()
    asker.subscribe("answers/here", 1)
    assert subscribed.wait(GENEROUS_S)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic, properties.CorrelationData = "answers/here", b"\x00mine"
    properties.UserProperty = ("user", "meier")

    wanted = json.dumps({"from_seq": 1, "to_seq": 1})
    asker.publish(f"{ROOT}/cmd/resend", wanted, 1, False, properties)

    assert arrived.wait(GENEROUS_S)
    assert json.loads(answered[0].payload)["status"] == "done"
    answered_with: Any = answered[0].properties
    assert answered_with.CorrelationData == b"\x00mine"
    (event,) = running_broker.collect("/event", lambda messages: len(messages) == 1)
    assert (event["data"]["who"], event["data"]["accepted"]) == ("meier", True)


@pytest.mark.parametrize("trouble", ["reset", "stall", "half-open"])
def test_a_bad_network_costs_duplicates_at_most_and_holds_nobody_up(
    running_broker: Broker,
    relaying: Relaying,
    network: BrokenNetwork,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    monkeypatch.setattr(connection, "KEEP_ALIVE_S", 1)
    station = relaying(f"mqtt://127.0.0.1:{network.port}")
    station.record(50)
    elapsed_s: list[float] = []
    turns = times(1, 3)
    for turn in range(turns):
        if trouble == "reset":
            network.reset()
        else:
            network.mood = Mood.STALLED if trouble == "stall" else Mood.SWALLOWING
        for _ in range(100):
            began_s = time.monotonic()
            station.submit()
            elapsed_s.append(time.monotonic() - began_s)
        connections = network.connections
        if trouble != "reset":  # the keep-alive notices
            station.wait_until(partial(has_connected_again, network, connections))
            network.mood = Mood.FINE
            network.reset()
        running_broker.collect("/verdict", has_all(50 + 100 * (turn + 1)))

    assert station.delivered()
    last = 50 + 100 * turns
    assert numbers(running_broker.collect("/verdict", has_all(last))) == list(range(1, last + 1))
    # A disk and a scheduler, but no network. A machine that stalls holds up one or two.
    assert sorted(elapsed_s)[-3] < 0.5
    assert max(elapsed_s) < 10.0


def test_a_backlog_is_drained_in_order_and_in_little_memory(
    running_broker: Broker, relaying: Relaying
) -> None:
    running_broker.save()
    running_broker.stop()
    station = relaying(running_broker.url)
    parts = times(900, 3000)  # several times what may be in memory
    station.record(parts)
    in_memory: list[int] = []
    station.outbox.after_pending = lambda: in_memory.append(station.rows_in_memory)
    running_broker.start()

    received = running_broker.collect("/verdict", has_all(parts))
    assert numbers(received) == list(range(1, parts + 1))
    assert station.delivered()
    assert 0 < max(in_memory) <= 300


def reported_numbers(process: subprocess.Popen[str], count: int) -> list[int]:
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(count)]


@pytest.mark.parametrize("seed", seeds(2, 20))
def test_committed_verdicts_survive_kills_of_station_and_broker(
    running_broker: Broker, relaying: Relaying, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    end_broker = running_broker.stop if seed % 2 else running_broker.kill
    running_broker.save()
    committed: list[int] = []
    for _ in range(2):
        process = station_process(tmp_path / "journal", running_broker.url)
        committed += reported_numbers(process, chance.randint(20, 150))
        if chance.random() < 0.7:
            running_broker.save()
            end_broker()
            committed += reported_numbers(process, chance.randint(1, 60))
            if chance.random() < 0.5:
                process.kill()
            running_broker.start()
            if chance.random() < 0.5:
                time.sleep(chance.random())  # how far the backlog gets is left to chance
        process.kill()
        assert process.stdout is not None
        committed += [int(line) for line in process.stdout if line.endswith("\n")]
        assert process.wait(GENEROUS_S) == -9

    station = relaying(running_broker.url)
    station.record(30)
    assert station.delivered()
    with closing(Outbox(station.journal.path)) as outbox:  # the station's is its own thread's
        last = outbox.backlog().last_seq[RecordKind.VERDICT]
    received = running_broker.collect("/verdict", lambda got: bool(got) and got[-1]["seq"] == last)
    arrived = numbers(received)
    assert arrived == sorted(arrived)
    known = SequenceRanges([Stretch(0, 0)])
    for seq in arrived:
        known.add(seq)
    missing = known.gaps(last)
    if end_broker == running_broker.stop:
        assert missing == []
    # A broker that is killed may lose what it acknowledged; the journal has it, for the asking.
    with asking(running_broker) as asker:
        for gap in missing:
            ask(asker, "resend", from_seq=gap.first, to_seq=gap.last)
            wanted = set(range(gap.first, gap.last + 1))
            running_broker.collect("/verdict", partial(has_numbers, wanted))
    assert set(committed) <= set(range(1, last + 1))
    assert set(numbers(running_broker.collect("/verdict", has_all(last)))) == set(
        range(1, last + 1)
    )


def station_process(folder: Path, url: str) -> subprocess.Popen[str]:
    """Start a station that records 300 parts a second until it is killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.relaying", str(folder), url, "100000", "300"],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
    )
