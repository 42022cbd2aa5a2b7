"""The MQTT publisher against a real mosquitto: what is said, in which order, and as whom."""

import json
import logging
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.contract.announcements import HandshakeMessage, Meta, Metrics, TriggerPhase
from edge.contract.clock_sync import ClockSource
from edge.contract.delivery import Intervals
from edge.contract.state import Condition, JournalReport, StationReport
from edge.journal.entries import JournalUnavailable
from tests.support.broken_network import OldBroker
from tests.support.broker import GENEROUS_S, Broker, Messages
from tests.support.relaying import (
    LogCollector,
    Relaying,
    has_all,
    listening_to_logs,
    numbers,
    relayed_journals,
)

ROOT = "vi/v1/site/line/cell/top"


@pytest.fixture
def relaying(tmp_path: Path) -> Iterator[Relaying]:
    with relayed_journals(tmp_path) as begin:
        yield begin


@pytest.fixture
def reported() -> Iterator[LogCollector]:
    with listening_to_logs() as handler:
        yield handler


def has_state(*wanted: str) -> Callable[[Messages], bool]:
    return lambda messages: [m["state"] for m in messages][-len(wanted) :] == list(wanted)


def has_reason(reason: str) -> Callable[[Messages], bool]:
    return lambda messages: bool(messages) and reason in messages[-1]["reasons"]


def first_retained(broker: Broker, topic: str) -> dict[str, Any]:
    found = subprocess.run(
        ["mosquitto_sub", "-p", str(broker.port), "-t", topic, "-C", "1", "-W", "60"],
        capture_output=True,
        text=True,
        check=True,
    )
    content: dict[str, Any] = json.loads(found.stdout)
    return content


def retained(broker: Broker) -> set[str]:
    """Return the topics on which the broker keeps a message."""
    topics: list[str] = []
    all_came = threading.Event()

    def record(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if message.topic == "end":
            all_came.set()
        elif message.retain:
            topics.append(message.topic)

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="newcomer")
    client.on_message = record

    # What is kept comes with the subscription, and so before what is published after it.
    def on_subscribe(*_: object) -> None:
        client.publish("end", b"", 1)

    client.on_subscribe = on_subscribe
    client.connect("127.0.0.1", broker.port)
    client.subscribe([("vi/#", 1), ("end", 1)])
    client.loop_start()
    assert all_came.wait(GENEROUS_S)
    client.disconnect()
    client.loop_stop()
    return set(topics)


def test_verdicts_arrive_in_order_and_are_acknowledged(
    running_broker: Broker, relaying: Relaying
) -> None:
    station = relaying(running_broker.url)
    station.record(200)

    received = running_broker.collect("/verdict", has_all(200))

    assert [message["seq"] for message in received] == list(range(1, 201))
    assert {message["journal"] for message in received} == {station.journal.journal}
    assert not any(message["_retained"] or message["replayed"] for message in received)
    assert station.delivered()
    station.close()
    assert station.reopened_backlog() == 0


def test_meta_and_state_come_before_the_verdicts_and_stopped_is_last(
    running_broker: Broker, relaying: Relaying
) -> None:
    station = relaying(running_broker.url, start=False)
    station.record(3)
    station.start()
    running_broker.collect("/verdict", has_all(3))
    station.publisher.set_state(Condition.ONLINE)
    running_broker.collect("/state", has_state("starting", "online"))
    station.publisher.stop("operator")
    states = running_broker.collect("/state", has_state("starting", "online", "stopped"))

    order = [topic.removeprefix(ROOT + "/") for topic, _ in running_broker.messages()]
    assert order[:2] == ["meta", "state"]
    assert order.index("verdict") > 1
    assert order[-1] == "state"
    assert states[-1]["reasons"] == ["operator"]
    sessions = {content["session"] for _, content in running_broker.messages()}
    assert sessions == {states[0]["session"]}


def test_state_meta_and_last_are_retained_and_nothing_else(
    running_broker: Broker, relaying: Relaying
) -> None:
    station = relaying(running_broker.url, intervals=Intervals(metrics_s=0.1, last_s=0.01))
    station.publisher.set_state(Condition.ONLINE)
    station.record(1)
    for suffix in ("/verdict", "/metrics", "/last"):
        running_broker.collect(suffix, lambda messages: len(messages) >= 1)

    assert retained(running_broker) == {f"{ROOT}/{name}" for name in ("state", "meta", "last")}


def test_the_state_has_what_the_station_measures(
    running_broker: Broker, relaying: Relaying
) -> None:
    journal = JournalReport(
        journal="7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11",
        last_seq=7,
        backlog=2,
        oldest_age_s=1.5,
        bytes=4096,
    )
    report = StationReport(
        camera_state="open",
        camera_model="acA2440",
        camera_temperature_c=41.5,
        model_version="1",
        model_sha256="c" * 64,
        journal=journal,
        disk_free_bytes=10**9,
        restarts_1h=1,
        clock_sync=ClockSource.NTP,
    )
    relaying(running_broker.url, publisher={"report": lambda: report})

    (state,) = running_broker.collect("/state", has_state("starting"))

    assert state["camera"] == {"state": "open", "id": None, "model": "acA2440", "temp_c": 41.5}
    assert state["journal"]["backlog"] == 2
    assert (state["disk_free_bytes"], state["restarts_1h"]) == (10**9, 1)
    assert state["clock_sync"] == "ntp"


def test_a_disk_that_does_not_let_it_look_ends_no_station(
    running_broker: Broker, relaying: Relaying, reported: LogCollector
) -> None:
    def report() -> StationReport:
        raise JournalUnavailable("the journal cannot be read (disk I/O error)")

    station = relaying(running_broker.url, publisher={"report": report})
    station.record(3)

    (state,) = running_broker.collect("/state", has_state("starting"))
    assert state["journal"] is None
    assert numbers(running_broker.collect("/verdict", has_all(3))) == [1, 2, 3]
    reported.wait_for("the state is published without its numbers")


def test_metrics_and_meta_are_published_with_what_the_connection_counts(
    running_broker: Broker, relaying: Relaying
) -> None:
    measured = Metrics({"parts": 3}, {"backlog": None}, {"total": {"p50": 1.5, "p99": None}})
    station = relaying(
        running_broker.url,
        intervals=Intervals(metrics_s=0.05),
        publisher={"metrics": lambda: measured},
    )
    station.publisher.set_meta(Meta(model_name="other", trigger_mode="software"))
    station.record(2)

    running_broker.collect(
        "/metrics", lambda got: bool(got) and got[-1]["counters"]["mqtt_acknowledged"] == 2
    )
    running_broker.collect("/meta", lambda got: bool(got) and got[-1]["model"]["name"] == "other")
    meta = first_retained(running_broker, f"{ROOT}/meta")
    assert meta["capabilities"] == {"trigger_mode": "software", "commands": ["resend"]}
    assert meta["topics"]["cmd/resend"]["schema"] == "cmd-resend/1"


def test_the_state_is_published_again_from_time_to_time(
    running_broker: Broker, relaying: Relaying
) -> None:
    relaying(running_broker.url, intervals=Intervals(state_s=0.1))

    running_broker.collect("/state", has_state("starting", "starting", "starting"))


def test_a_handshake_is_published_at_once_or_never(broker: Broker, relaying: Relaying) -> None:
    reported = HandshakeMessage(
        phase=TriggerPhase.ACCEPTED, trigger_id="4711", part_id="B-1", utc_ns=0
    )
    station = relaying(broker.url)
    station.publisher.handshake(
        HandshakeMessage(
            phase=TriggerPhase.ACCEPTED, trigger_id="nobody-hears", part_id=None, utc_ns=0
        )
    )
    broker.start()
    broker.subscribe()
    station.wait_until(lambda: station.publisher.delivery().connected)

    station.publisher.handshake(reported)

    (heard,) = broker.collect("/handshake", lambda messages: len(messages) == 1)
    assert (heard["phase"], heard["trigger_id"], heard["part_id"]) == ("accepted", "4711", "B-1")


def test_the_line_does_not_wait_for_a_broker_that_comes_late(
    broker: Broker, relaying: Relaying
) -> None:
    station = relaying(broker.url)
    station.record(50)
    assert not station.publisher.delivery().complete

    broker.start()
    broker.subscribe()
    station.record(10)

    # What was published before the subscriber came is gone for it, but the broker had it.
    assert station.delivered()
    assert station.publisher.delivery().acknowledged == 60


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_verdicts_survive_a_broker_restart_in_order(
    running_broker: Broker, relaying: Relaying, how: str
) -> None:
    station = relaying(running_broker.url)
    station.publisher.set_state(Condition.ONLINE)
    station.record(20)
    running_broker.collect("/verdict", has_all(20))
    assert station.delivered()
    running_broker.save()

    getattr(running_broker, how)()
    station.record(40)
    running_broker.start()

    received = running_broker.collect("/verdict", has_all(60))
    assert numbers(received) == list(range(1, 61))
    sessions = [m["session"] for m in running_broker.collect("/state", has_state("online"))]
    assert received[-1]["session"] == sessions[-1] != sessions[0]
    assert station.delivered()


def test_a_connection_that_breaks_leaves_the_will_of_its_own_session(
    running_broker: Broker, relaying: Relaying, tmp_path: Path
) -> None:
    relaying(running_broker.url)
    (born,) = running_broker.collect("/state", has_state("starting"))
    kicker = paho.Client(CallbackAPIVersion.VERSION2, client_id="vi-site-line-cell-top")
    kicker.connect("127.0.0.1", running_broker.port)

    states = running_broker.collect("/state", lambda got: any(m["will"] for m in got))
    kicker.disconnect()

    (will,) = [state for state in states if state["will"]]
    assert (will["state"], will["session"]) == ("offline", born["session"])


@pytest.fixture
def refusing_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that wants the password ``geheim`` and takes no verdicts of ``reader``."""
    folder = tmp_path / "refusing"
    folder.mkdir()
    passwords, access = folder / "passwords", folder / "access"
    passwords.touch(mode=0o600)
    for user in ("edge", "reader", "observer"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "geheim"], check=True)
    access.write_text(
        "user edge\ntopic readwrite vi/#\nuser observer\ntopic read vi/#\n"
        f"user reader\ntopic readwrite {ROOT}/state\n"
    )
    one = Broker(folder, f"password_file {passwords}\nacl_file {access}\nallow_anonymous false")
    one.start()
    one.subscribe("observer", "geheim")
    yield one
    one.close()


def counted(attempts: list[None]) -> dict[str, Any]:
    """Count attempts to connect: after each of them the station asks how long to rest."""

    def jitter() -> float:
        attempts.append(None)
        return 0.0

    return {"jitter": jitter}


@pytest.mark.parametrize("password", [None, "falsch-falsch"])
def test_a_refused_connection_is_reported_once_and_is_no_connection(
    refusing_broker: Broker,
    relaying: Relaying,
    caplog: pytest.LogCaptureFixture,
    password: str | None,
) -> None:
    caplog.set_level(logging.DEBUG)
    attempts: list[None] = []
    station = relaying(
        refusing_broker.url, password=password, username="edge", publisher=counted(attempts)
    )
    station.record(3)
    station.wait_until(lambda: len(attempts) >= 3)
    delivery = station.publisher.delivery()

    assert (delivery.acknowledged, delivery.complete, delivery.connected) == (0, False, False)
    reported = [record.getMessage() for record in caplog.records]
    assert sum("refuses this station" in message for message in reported) == 1
    assert not any("connected to" in message for message in reported)
    assert "falsch-falsch" not in caplog.text


def test_the_right_password_is_accepted(refusing_broker: Broker, relaying: Relaying) -> None:
    relaying(refusing_broker.url, password="geheim", username="edge").record(3)

    refusing_broker.collect("/verdict", has_all(3))


def test_a_row_that_the_broker_refuses_is_kept_until_it_takes_it(
    refusing_broker: Broker, relaying: Relaying, tmp_path: Path, reported: LogCollector
) -> None:
    pauses = {"refused_pause_ns": (100_000_000, 1_000_000_000)}
    station = relaying(refusing_broker.url, password="geheim", username="reader", publisher=pauses)
    station.record(30)
    reported.wait_for("refuses a verdict")
    reported.wait_for("refuses an event")
    states = refusing_broker.collect("/state", has_reason("refused_by_broker"))
    assert states[-1]["state"] == "starting"
    assert station.publisher.delivery().acknowledged == 0

    access = tmp_path / "refusing" / "access"
    access.write_text(access.read_text() + "topic readwrite vi/#\n")
    refusing_broker.reload()

    received = refusing_broker.collect("/verdict", has_all(30))
    assert [message["seq"] for message in received] == list(range(1, 31))
    assert station.delivered()
    # Events are a row of their own; here the broker refuses both.
    events = refusing_broker.collect("/event", lambda messages: len(messages) == 4)
    for kind in ("verdict", "event"):
        found = [event for event in events if event["data"]["kind"] == kind]
        assert [(event["kind"], event["severity"]) for event in found] == [
            ("refused_by_broker", "alarm"),
            ("accepted_by_broker", "info"),
        ]
    refusing_broker.collect("/state", lambda got: got[-1]["reasons"] == [])


def test_a_broker_that_speaks_only_3_1_1_gets_it(
    running_broker: Broker, relaying: Relaying, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with OldBroker(running_broker.port) as old:
        station = relaying(f"mqtt://127.0.0.1:{old.port}")
        station.record(3)
        running_broker.collect("/verdict", has_all(3))
        assert station.delivered()
        station.publisher.stop()
        running_broker.collect("/state", has_state("stopped"))

    assert "with MQTT 3.1.1" in caplog.text


def test_a_server_that_never_answers_holds_nobody_up(relaying: Relaying) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        station = relaying(f"mqtt://127.0.0.1:{silent.getsockname()[1]}")
        station.record(500)

        assert station.publisher.delivery().acknowledged == 0
        station.close()  # asserts that the threads end


def test_a_closed_port_is_reported_with_cause_and_next_step(
    relaying: Relaying, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[None] = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        port = closed.getsockname()[1]
        station = relaying(f"mqtt://127.0.0.1:{port}", publisher=counted(attempts))
        station.record(1)
        station.wait_until(lambda: len(attempts) >= 3)

    assert caplog.text.count("cannot be reached (Connection refused)") == 1


def test_bytes_that_are_no_mqtt_do_not_end_the_publisher(relaying: Relaying) -> None:
    welcome = b"\x20\x03\x00\x00\x00"
    with socket.create_server(("127.0.0.1", 0)) as liar:
        station = relaying(f"mqtt://127.0.0.1:{liar.getsockname()[1]}")
        for answer in (
            b"\xff" * 8,
            b"\x20\x00",
            welcome + b"\x30\x02\xff\xff",
            welcome + b"\x40\x00",
        ):
            connection, _ = liar.accept()
            with connection:
                connection.settimeout(30)
                connection.recv(4096)
                connection.sendall(answer)
                with suppress(ConnectionError):
                    while connection.recv(4096):
                        pass
        station.close()  # asserts that its thread has not died


def test_a_second_station_of_the_same_name_is_reported(
    relaying: Relaying, reported: LogCollector
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as modern:
        station = relaying(f"mqtt://127.0.0.1:{modern.getsockname()[1]}")
        connection, _ = modern.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK: welcome
            connection.recv(4096)
            connection.sendall(b"\xe0\x01\x8e")  # DISCONNECT: session taken over

            reported.wait_for("two stations have the same name")
            station.wait_until(lambda: bool(station.events))
    assert [event.kind for event in station.events] == ["session_taken_over"]


def test_a_fight_over_the_name_is_reported_where_the_broker_does_not_say_so(
    running_broker: Broker, relaying: Relaying
) -> None:
    first = relaying(running_broker.url)
    second = relaying(running_broker.url, name="twin")
    first.wait_until(lambda: any(e.kind == "connection_unstable" for e in first.events))
    second.close()

    first.record(5)

    running_broker.collect(
        "/event", lambda got: any(e["kind"] == "connection_unstable" for e in got)
    )
    assert first.delivered()
