"""Triggers and commands through a real mosquitto: typed messages out, refusals told."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.contract.commands import (
    Ack,
    CommandAnswer,
    ControlMessage,
    Reload,
    Status,
    Trigger,
)
from edge.mqtt.command_queue import MAX_WAITING
from edge.mqtt.publisher import MqttPublisher
from tests.support.broker import GENEROUS_S, Broker, Messages
from tests.support.relaying import RelayedJournal, Relaying, relayed_journals

ROOT = "vi/v1/site/line/cell/top"


@pytest.fixture
def relaying(tmp_path: Path) -> Iterator[Relaying]:
    with relayed_journals(tmp_path) as begin:
        yield begin


@pytest.fixture
def plc(running_broker: Broker) -> Iterator[paho.Client]:
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id="plc", protocol=MQTTProtocolVersion.MQTTv5
    )
    client.connect("127.0.0.1", running_broker.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def send(
    client: paho.Client,
    suffix: str,
    content: Any,
    retain: bool = False,
    expiry_s: int | None = None,
) -> None:
    properties = Properties(PacketTypes.PUBLISH)
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    payload = content if isinstance(content, bytes) else json.dumps(content)
    sent = client.publish(f"{ROOT}/{suffix}", payload, 1, retain, properties)
    sent.wait_for_publish(GENEROUS_S)


def connected(station: RelayedJournal) -> RelayedJournal:
    station.wait_until(lambda: station.publisher.delivery().connected)
    return station


def taken(station: RelayedJournal) -> ControlMessage:
    message = station.control.get(GENEROUS_S)
    assert message is not None
    return message


def many(count: int) -> Any:
    return lambda messages: len(messages) == count


def reasons(events: Messages) -> list[str]:
    return [event["data"]["reason"] for event in events]


def test_triggers_acks_and_commands_arrive_typed_and_in_order(
    running_broker: Broker, relaying: Relaying, plc: paho.Client
) -> None:
    station = connected(relaying(running_broker.url))
    send(plc, "trigger", {"trigger_id": "1", "deadline_ms": 80.5}, expiry_s=100)
    send(plc, "ack", {"seq": 4})
    send(plc, "cmd/reload", b"")

    trigger, ack, reload = taken(station), taken(station), taken(station)

    assert isinstance(trigger, Trigger)
    assert (trigger.trigger_id, trigger.deadline_ms) == ("1", 80.5)
    assert trigger.expires_ns is not None
    assert 30 < (trigger.expires_ns - trigger.received_ns) / 1e9 <= 100
    assert ack == Ack(4, None)
    assert isinstance(reload, Reload)
    (event,) = running_broker.collect("/event", many(1))
    assert (event["data"]["command"], event["data"]["accepted"]) == ("reload", True)

    station.publisher.answer(
        CommandAnswer(request=reload.request, status=Status.DONE, detail="Nothing has changed.")
    )
    (answer,) = running_broker.collect("/cmd/reload/res", many(1))
    assert (answer["command"], answer["status"]) == ("reload", "done")


def test_retained_messages_are_refused_at_every_connection(
    running_broker: Broker, relaying: Relaying, plc: paho.Client
) -> None:
    send(plc, "trigger", {"trigger_id": "old"}, retain=True)
    send(plc, "cmd/reload", {}, retain=True)

    station = relaying(running_broker.url)

    assert reasons(running_broker.collect("/event", many(2))) == ["retained", "retained"]
    (answer,) = running_broker.collect("/cmd/reload/res", many(1))
    assert (answer["status"], answer["reason"]) == ("refused", "retained")
    send(plc, "ack", {"seq": 1})
    assert taken(station) == Ack(1, None)  # nothing else came through


def test_a_retained_trigger_is_refused_also_while_the_station_listens(
    running_broker: Broker, relaying: Relaying, plc: paho.Client
) -> None:
    station = connected(relaying(running_broker.url))
    try:
        send(plc, "trigger", {"trigger_id": "kept", "part_id": "B"}, retain=True)
        send(plc, "ack", {"seq": 1})

        assert taken(station) == Ack(1, None)
        (reported,) = running_broker.collect("/handshake", many(1))
    finally:
        send(plc, "trigger", b"", retain=True)
    send(plc, "trigger", {"no": "id"})  # its removal is nothing to be told of
    assert reasons(running_broker.collect("/event", many(2))) == ["retained", "malformed"]
    assert (reported["phase"], reported["reason"]) == ("rejected", "retained")
    assert (reported["trigger_id"], reported["part_id"]) == ("kept", "B")


def test_a_trigger_that_cannot_be_accepted_is_answered(
    running_broker: Broker, relaying: Relaying, plc: paho.Client
) -> None:
    refused: list[int] = []
    connected(relaying(running_broker.url)).publisher.on_trigger_refused(refused.append)
    send(plc, "trigger", {"trigger_id": "a", "part_id": "B", "deadline_ms": "soon"})
    send(plc, "trigger", {"trigger_id": 4711})
    send(plc, "trigger", {"trigger_id": "b", "part_id": 3, "filling": "x" * 5000})
    send(plc, "trigger", {"trigger_id": "x" * 65})  # an id that could not be echoed
    send(plc, "trigger", {"trigger_id": "c", "extra": 1})

    reported = running_broker.collect("/handshake", many(4))
    assert [(one["trigger_id"], one["part_id"], one["reason"]) for one in reported] == [
        ("a", "B", "malformed"),
        ("4711", None, "malformed"),
        ("b", "3", "too_large"),
        ("c", None, "malformed"),
    ]
    assert {one["phase"] for one in reported} == {"rejected"}
    assert len(refused) == 5  # outputs let the parts of all of them have their turn


def test_a_trigger_that_lay_there_while_the_disk_was_read_comes_behind_a_gap(
    running_broker: Broker, relaying: Relaying, plc: paho.Client
) -> None:
    """Its part may have passed meanwhile."""
    station, limit_s = connected(relaying(running_broker.url)), 0.2
    reading, read = threading.Event(), threading.Event()
    passed_on = list[ControlMessage | None]()  # before the gap was told

    def read_slowly() -> None:
        reading.set()
        assert read.wait(GENEROUS_S)

    send(plc, "trigger", {"trigger_id": "in time"})
    taken(station)
    station.publisher.on_gap(lambda: passed_on.append(station.control.get(0.0)), limit_s)
    station.outbox.after_pending = read_slowly
    station.record(1)
    assert reading.wait(GENEROUS_S)
    send(plc, "trigger", {"trigger_id": "late"})
    time.sleep(limit_s)
    read.set()

    assert isinstance(taken(station), Trigger)
    assert passed_on[:1] == [None]
    assert station.delivered()


def test_what_is_too_large_or_malformed_is_refused_and_the_station_goes_on(
    running_broker: Broker, relaying: Relaying, plc: paho.Client
) -> None:
    station = connected(relaying(running_broker.url))
    send(plc, "trigger", b"x" * 5000)
    send(plc, "trigger", b"x" * 100_000)  # the broker keeps that to itself
    send(plc, "trigger", b"{")
    send(plc, "cmd/selftest", {"force": True})
    send(plc, "ack", {"seq": 1})

    assert taken(station) == Ack(1, None)
    events = running_broker.collect("/event", many(3))
    assert reasons(events) == ["too_large", "malformed", "malformed"]
    running_broker.collect("/cmd/selftest/res", many(1))


def test_commands_beyond_the_rate_are_answered_with_a_refusal(
    running_broker: Broker, relaying: Relaying, plc: paho.Client
) -> None:
    connected(relaying(running_broker.url, commands_per_minute=2))
    for _ in range(4):
        send(plc, "cmd/snapshot", {})

    answers = running_broker.collect("/cmd/snapshot/res", many(2))
    assert [answer["reason"] for answer in answers] == ["rate_limited"] * 2


def test_a_trigger_that_nobody_has_time_for_is_rejected_at_once(
    running_broker: Broker, relaying: Relaying, plc: paho.Client
) -> None:
    connected(relaying(running_broker.url))
    for number in range(MAX_WAITING + 2):
        send(plc, "trigger", {"trigger_id": str(number), "part_id": "B"})

    rejected = running_broker.collect("/handshake", many(2))
    assert [one["trigger_id"] for one in rejected] == [str(MAX_WAITING), str(MAX_WAITING + 1)]
    assert {(one["phase"], one["reason"]) for one in rejected} == {("rejected", "busy")}
    running_broker.collect("/event", many(2))


def test_the_publisher_keeps_no_password_where_it_can_be_read(relaying: Relaying) -> None:
    station = relaying("mqtt://127.0.0.1:1", password="geheim", username="edge", start=False)
    publisher: MqttPublisher = station.publisher
    assert "geheim" not in repr(vars(publisher))
    station.start()
