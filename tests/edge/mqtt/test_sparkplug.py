"""A station as an edge node: a real mosquitto, and a host that decodes with pysparkplug."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.doctor.finding import Grade
from edge.doctor.sparkplug import sparkplug_finding
from edge.mqtt.sparkplug.payload import DataType, Metric, encode
from edge.mqtt.sparkplug.publisher import Phase
from edge.settings.mqtt import MqttSettings
from edge.settings.sparkplug import SparkplugSettings
from tests.support.broken_network import OldBroker
from tests.support.broker import GENEROUS_S, Broker
from tests.support.relaying import write_secret
from tests.support.sparkplug import Nodes, SparkplugHost, edge_nodes
from tests.support.station_process import until

ROOT = Path(__file__).parents[3]


def read_log(folder: Path) -> str:
    return (folder / "mosquitto.log").read_text()


def read_numbers(host: SparkplugHost) -> list[int]:
    return [one.values["Verdict/Seq"] for one in host.heard("DDATA")]


REBIRTH_ASKED = Metric(
    name="Node Control/Rebirth", datatype=DataType.BOOLEAN, value=True, timestamp_ms=0
)
BD_SEQ_7 = Metric(name="bdSeq", datatype=DataType.INT64, value=7, timestamp_ms=0)


@pytest.fixture
def host(broker: Broker) -> Iterator[SparkplugHost]:
    broker.start()
    one = SparkplugHost(broker)
    yield one
    one.close()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Nodes]:
    with edge_nodes(tmp_path / "journal") as start:
        yield start


def test_the_host_of_the_documentation_asks_for_births_and_prints_the_verdicts(
    broker: Broker, begin: Nodes, host: SparkplugHost
) -> None:
    text = (ROOT / "docs" / "sparkplug.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    node = begin(broker.url, aliases=True)
    host.wait_for("DBIRTH")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(broker.port), "3"], stdout=subprocess.PIPE, text=True
    ) as listening:
        decided = 0
        while len(host.heard("NBIRTH")) < 2:  # it asks once it hears of a node it does not know
            node.decide(1)
            decided += 1
            host.wait_for("DDATA", decided)
        host.wait_for("DBIRTH", 2)
        node.decide(3)
        printed, _ = listening.communicate(timeout=GENEROUS_S)

    heard = [one.values["Verdict/Seq"] for one in host.heard("DDATA")]
    shown = [re.match(r"(\d+) OK 0\.32", line) for line in printed.splitlines()[:3]]
    numbers = [int(found[1]) for found in shown if found]
    assert numbers == heard[numbers[0] - 1 : numbers[0] + 2]


def test_verdicts_wait_for_a_broker_that_is_away_and_follow_in_order_as_history(
    tmp_path: Path, begin: Nodes
) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    # It keeps what it gets for a host that comes later.
    broker = Broker(folder, "allow_anonymous true\nqueue_qos0_messages true")
    broker.start()
    host = SparkplugHost(broker, keeps_session=True)
    node = begin(broker.url)
    host.wait_for("DBIRTH")
    node.decide(5)
    host.wait_for("DDATA", 5)
    node.published()
    broker.save()

    broker.kill()
    node.decide(200)
    until(lambda: node.node.status().waiting == 200, "verdicts wait")
    broker.start()
    host.wait_for("DDATA", 205)
    node.decide(5)
    received = host.wait_for("DDATA", 210)
    host.close()
    broker.close()

    assert [one.values["Verdict/Seq"] for one in received] == list(range(1, 211))
    assert [one.historical for one in received] == [False] * 5 + [True] * 200 + [False] * 5
    assert [one.bd_seq for one in host.heard("NBIRTH")] == [0, 1]


def test_tck_id_phid_wait_and_host_offline_verdicts_wait_for_the_primary_host(
    broker: Broker, begin: Nodes, host: SparkplugHost
) -> None:
    """tck-id-message-flow-edge-node-birth-publish-phid-wait, -wait-id, -wait-online,
    -wait-timestamp, -phid-offline; tck-id-operational-behavior-edge-node-termination-host-offline,
    -host-offline-timestamp."""
    stranger = SparkplugHost(broker, "another")
    stranger.come_online()
    host.come_online(False, at_ms=1_000)
    node = begin(broker.url, primary_host="scada")
    until(lambda: node.node.status().phase is Phase.HOST_OFFLINE, "connected")
    node.decide(2)
    host.come_online(at_ms=999)  # of a session before
    for nonsense in (b"", b"[]", b'{"online": true}', b'{"online": 1, "timestamp": 2000}'):
        host.send("spBv1.0/STATE/scada", nonsense)
    until(lambda: node.node.status().waiting == 2, "verdicts wait")
    assert not host.heard("NBIRTH")

    host.come_online(at_ms=2_000)
    waited = host.wait_for("DDATA", 2)
    node.published()
    host.come_online(False, at_ms=1_999)
    node.decide(1)
    host.wait_for("DDATA", 3)
    node.published()
    host.come_online(False, at_ms=2_000)
    deaths = host.wait_for("NDEATH", 2)
    node.decide(1)
    host.come_online(at_ms=3_000)
    last = host.wait_for("DDATA", 4)[3]
    stranger.close()

    assert [one.historical for one in waited] == [True, True]
    assert {one.bd_seq for one in deaths} == {0}
    assert (last.values["Verdict/Seq"], last.historical) == (4, True)
    assert [one.bd_seq for one in host.heard("NBIRTH")] == [0, 1]


def test_what_was_not_published_at_the_end_is_published_by_the_next_start(
    broker: Broker, begin: Nodes, host: SparkplugHost
) -> None:
    first = begin(broker.url, primary_host="scada")
    first.decide(3)
    first.close()
    host.come_online()
    second = begin(broker.url, primary_host="scada")
    received = host.wait_for("DDATA", 3)
    second.published()

    assert [one.values["Verdict/Seq"] for one in received] == [1, 2, 3]
    assert host.heard("DBIRTH")[0].values["Verdict/Seq"] == 3
    assert all(one.historical for one in received)


def test_commands_that_are_none_change_nothing_and_a_flood_of_rebirths_stops_no_verdict(
    broker: Broker, begin: Nodes, host: SparkplugHost
) -> None:
    node = begin(broker.url)
    host.wait_for("DBIRTH")
    command = "spBv1.0/plant1/NCMD/washer"
    rebirth = encode([REBIRTH_ASKED], 0, None, datatypes=True)
    host.send(command, rebirth, retain=True)
    host.send(command, b"", retain=True)
    for content in (b"", b"\xff" * 40, b"{}", encode([], 0, None, datatypes=True)):
        host.send(command, content)
    node.decide(1)
    host.wait_for("DDATA")
    assert len(host.heard("NBIRTH")) == 1

    for _ in range(200):
        host.send(command, rebirth)
    node.decide(50)
    received = host.wait_for("DDATA", 51)
    assert [one.values["Verdict/Seq"] for one in received] == list(range(1, 52))
    assert len(host.heard("NBIRTH")) < 20


def test_with_mqtt_3_the_node_publishes_its_death_once(
    broker: Broker, begin: Nodes, host: SparkplugHost
) -> None:
    """tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt311"""
    with OldBroker(broker.port) as door:
        node = begin(f"mqtt://127.0.0.1:{door.port}")
        host.wait_for("DBIRTH")
        node.decide(1)
        node.close()
    host.wait_for("NDEATH")
    host.send("spBv1.0/other/NDEATH/node", encode([BD_SEQ_7], 0, None, datatypes=True))
    deaths = host.wait_for("NDEATH", 2)
    (birth,) = host.heard("NBIRTH")
    assert [one.bd_seq for one in deaths] == [birth.bd_seq, 7]


def test_an_account_of_its_own_where_the_broker_takes_accounts_for_client_ids(
    tmp_path: Path, begin: Nodes
) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    passwords = folder / "passwords"
    for create, name in ((["-c"], "station"), ([], "node"), ([], "host")):
        subprocess.run(
            ["mosquitto_passwd", *create, "-b", str(passwords), name, "secret"], check=True
        )
    access = f"password_file {passwords}\nuse_username_as_clientid true\nlog_type all"
    broker = Broker(folder, access)
    broker.start()
    host = SparkplugHost(broker, login=("host", "secret"))
    secret = tmp_path / "secret"
    write_secret(secret, "secret")
    mqtt = {"username": "station", "password_file": str(secret)}
    begin(broker.url, mqtt, username="node", password_file=str(secret))
    host.wait_for("DBIRTH")
    host.close()
    broker.close()
    connected = re.findall(r"connected from \S+ as (\w+) .*u'(\w+)'", read_log(folder))
    assert connected == [("host", "host"), ("node", "node")]


def test_a_message_that_the_broker_does_not_take_is_counted_and_logged_once(
    tmp_path: Path, begin: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(tmp_path, "allow_anonymous true\nmax_packet_size 800")
    broker.start()
    host = SparkplugHost(broker)
    node = begin(broker.url)
    host.wait_for("DBIRTH")
    node.decide(5)
    until(lambda: node.node.status().too_large == 5, "five verdicts")
    node.published()
    host.ask_for_rebirth("plant1", "washer")
    host.wait_for("NBIRTH", 2)
    host.close()
    broker.close()
    assert caplog.text.count("larger than the 800 bytes that the broker accepts") == 1


def test_the_doctor_tries_the_account_and_looks_for_the_primary_host(
    broker: Broker, host: SparkplugHost
) -> None:
    sparkplug = SparkplugSettings(group="plant1", node="washer", primary_host="scada")
    mqtt = MqttSettings(url=broker.url, sparkplug=sparkplug)
    away = sparkplug_finding(mqtt, sparkplug)
    host.come_online()
    online = sparkplug_finding(mqtt, sparkplug)
    broker.stop()
    gone = sparkplug_finding(mqtt, sparkplug)

    assert away.grade is Grade.ADVICE and "scada is not online" in away.found
    assert online.grade is Grade.GOOD and "scada is online" in online.found
    assert gone.grade is Grade.FAULT and "cannot be reached" in gone.found
    assert not host.heard()


def test_a_broker_that_restarts_amid_verdicts_costs_none_and_first_arrivals_are_in_order(
    tmp_path: Path, begin: Nodes
) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder, "allow_anonymous true\nqueue_qos0_messages true")
    broker.start()
    host = SparkplugHost(broker, keeps_session=True)
    node = begin(broker.url)
    host.wait_for("DBIRTH")
    for restart in range(2):
        node.decide(40)
        broker.stop()  # it writes down what it has, which a killed one would not
        node.decide(40)
        broker.start()
        host.wait_for("NBIRTH", restart + 2)
    node.published()
    until(lambda: set(read_numbers(host)) >= set(range(1, 161)), "every verdict")
    host.close()
    broker.close()
    assert list(dict.fromkeys(read_numbers(host))) == list(range(1, 161))


def test_verdicts_of_a_process_that_never_reached_a_broker_follow(
    broker: Broker, begin: Nodes, host: SparkplugHost
) -> None:
    first = begin("mqtt://127.0.0.1:1", primary_host="scada")
    first.decide(3)
    first.close()
    host.come_online()
    second = begin(broker.url, primary_host="scada")
    host.wait_for("DDATA", 3)
    second.published()
    assert read_numbers(host) == [1, 2, 3]


def test_verdicts_that_left_the_journal_are_an_event_and_the_rest_follows(
    tmp_path: Path, broker: Broker, begin: Nodes, host: SparkplugHost
) -> None:
    first = begin(broker.url, primary_host="scada")
    first.decide(5)
    first.close()
    journal = sqlite3.connect(tmp_path / "journal" / "journal.db")
    journal.execute("DELETE FROM record WHERE seq <= 2")
    journal.commit()
    journal.close()
    host.come_online()
    second = begin(broker.url, primary_host="scada")
    host.wait_for("DDATA", 3)
    second.published()

    assert read_numbers(host) == [3, 4, 5]
    assert second.node.status().missing == 2
    assert [one.kind for one in second.events] == ["sparkplug_gap"]


def test_numbers_of_connections_outlive_the_process_and_start_over_behind_255(
    tmp_path: Path, broker: Broker, begin: Nodes, host: SparkplugHost
) -> None:
    """tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq"""
    first = begin(broker.url)
    host.wait_for("NBIRTH")
    first.close()
    file = tmp_path / "journal" / "sparkplug.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "bd_seq": 255}))
    for births in (2, 3):
        node = begin(broker.url)
        host.wait_for("NBIRTH", births)
        node.close()
    assert [one.bd_seq for one in host.heard("NBIRTH")][1:] == [255, 0]


def test_another_password_is_taken_over_by_a_new_connection(tmp_path: Path, begin: Nodes) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder)
    broker.start()
    host = SparkplugHost(broker)
    secret = tmp_path / "secret"
    write_secret(secret, "one")
    node = begin(broker.url, {"username": "station", "password_file": str(secret)})
    host.wait_for("DBIRTH")
    before = node.node.outdated()
    write_secret(secret, "another")
    changed = node.node.outdated()
    node.node.renew()
    host.wait_for("NBIRTH", 2)
    after = node.node.outdated()
    host.close()
    broker.close()
    assert (before, changed, after) == (False, True, False)
    assert host.heard("NDEATH")
