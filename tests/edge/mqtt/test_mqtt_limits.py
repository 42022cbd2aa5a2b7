"""Brokers that take less than the station has to say: size, retain, QoS, wildcards."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.contract.announcements import Meta
from edge.contract.delivery import Intervals
from edge.contract.state import Condition
from edge.doctor.finding import Grade
from edge.doctor.station import broker_finding
from edge.mqtt.command_gate import COMMAND_NAMES
from edge.settings.mqtt import MqttSettings
from tests.support.broker import GENEROUS_S, Broker
from tests.support.relaying import STATION, RelayedJournal, Relaying, has_all, relayed_journals
from tests.support.scripted_broker import Published, ScriptedBroker, disconnect, properties, soon

MILLISECOND_NS = 1_000_000
QUICK = {"refused_pause_ns": (MILLISECOND_NS, 20 * MILLISECOND_NS)}
REGION = {"bbox": [1, 2, 3, 4], "area_px": 12, "peak": 0.75}
META = Meta(camera="rtsp://" + "c" * 600, model_name="part", commands=COMMAND_NAMES)


@pytest.fixture
def relaying(tmp_path: Path) -> Iterator[Relaying]:
    with relayed_journals(tmp_path) as begin:
        yield begin


def begun(relaying: Relaying, url: str, **how: Any) -> RelayedJournal:
    """Start a station that says all of its meta."""
    station = relaying(url, start=False, publisher=QUICK, **how)
    station.publisher.set_meta(META)
    station.publisher.set_state(Condition.ONLINE)
    return station.start()


def states(broker: ScriptedBroker) -> list[dict[str, Any]]:
    return [one.content for one in broker.published if one.kind == "state"]


def test_what_is_too_large_is_shortened_and_verdicts_go_on(
    tmp_path: Path, relaying: Relaying
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    small = Broker(folder, "allow_anonymous true\nmax_packet_size 2000")
    small.start()
    small.subscribe()
    station = begun(relaying, small.url, intervals=Intervals(metrics_s=0.05))
    station.record(2)
    station.submit(regions=[REGION] * 30)
    station.record(1)

    received = small.collect("/verdict", has_all(4))
    assert station.delivered()
    (meta, *_) = small.collect("/meta", lambda messages: len(messages) >= 1)
    small.collect("/state", lambda got: bool(got) and got[-1]["reasons"] == ["broker_packet_limit"])
    station.close()
    small.close()

    assert [(len(m["regions"]) < 30, m["regions_truncated"]) for m in received][2] == (True, True)
    assert len(received[2]["regions"]) > 0
    assert (meta["topics"], meta["capabilities"]["commands"]) == ({}, list(COMMAND_NAMES))
    assert station.publisher.delivery().dead_letters == 0


@pytest.mark.parametrize("version", [5, 4])
def test_a_limit_that_is_not_announced_costs_what_is_larger_and_nothing_else(
    relaying: Relaying, version: int
) -> None:
    """Above 2,000 bytes it ends the connection: with 0x95, or 3.1.1 without a word."""

    def end_over_large_ones(one: Published) -> int | bytes:
        if one.size <= 2000:
            return 0
        return disconnect(0x95) if version == 5 else b""

    with ScriptedBroker(
        on_connect=lambda one: 0 if one.level <= version else 1,
        on_publish=end_over_large_ones,
        echo=True,
    ) as small:
        station = begun(relaying, small.url, intervals=Intervals(metrics_s=0.5))
        station.record(3)
        small.wait_for(lambda: small.seqs() == [1, 2, 3])
        small.wait_for(lambda: any(one.kind == "meta" for one in small.accepted))
        assert station.delivered()
        station.submit(detail="x" * 300, software="y" * 1500)  # 4
        station.record(2)
        assert station.delivered()

        assert small.seqs() == [1, 2, 3, 5, 6]
        assert station.publisher.delivery().dead_letters == 1
        kinds = [event.kind for event in station.events if event.kind != "connection_unstable"]
        assert kinds[:2] == ["refused_by_broker", "dead_letter"]


@pytest.mark.parametrize(
    ("code", "announced", "reason"),
    [
        (0x9A, {"retain_available": 0}, "broker_without_retain"),
        (0x9B, {"maximum_qos": 0}, "broker_without_qos_1"),
    ],
)
def test_a_broker_without_retain_or_qos_1_gets_what_it_takes_and_the_state_says_so(
    relaying: Relaying, code: int, announced: dict[str, int], reason: str
) -> None:
    def refuse_wills(one: Any) -> int:
        too_much = one.will_retain if code == 0x9A else one.will_qos
        return code if too_much else 0

    with ScriptedBroker(on_connect=refuse_wills, announced=properties(**announced)) as poor:
        station = begun(relaying, poor.url)
        station.record(3)
        poor.wait_for(lambda: bool(states(poor)) and states(poor)[-1]["reasons"] == [reason])

        if code == 0x9A:
            assert station.delivered()
            assert poor.seqs() == [1, 2, 3]
        station.close()
        assert not any(one.retain for one in poor.published) or code == 0x9B
        assert not any(one.qos for one in poor.published) or code == 0x9A
        if code == 0x9B:  # nothing would prove that they arrived
            assert poor.seqs() == []
            assert station.publisher.delivery().acknowledged == 0


@pytest.mark.parametrize("how", ["announced", "SUBACK", "DISCONNECT"])
def test_a_broker_without_wildcards_is_asked_for_each_command(relaying: Relaying, how: str) -> None:
    def refuse_patterns(topic: str) -> int | bytes:
        if "+" not in topic or how == "announced":
            return 1
        return 0xA2 if how == "SUBACK" else disconnect(0xA2)

    announced = properties(wildcards_available=0) if how == "announced" else b"\0"
    with ScriptedBroker(on_subscribe=refuse_patterns, announced=announced) as plain:
        station = begun(relaying, plain.url)
        plain.wait_for(lambda: any(t.endswith("cmd/selftest") for t in plain.subscribed))
        station.record(1)
        assert station.delivered()

    wanted = {"trigger", "ack", *(f"cmd/{name}" for name in COMMAND_NAMES)}
    assert {topic.partition("/top/")[2] for topic in plain.subscribed} - {"cmd/+"} == wanted
    assert how != "announced" or not any("+" in topic for topic in plain.subscribed)


def test_what_is_sent_before_the_broker_has_subscribed_the_station_may_be_missed(
    relaying: Relaying,
) -> None:
    """A broker that asks a server for each permission takes its time."""
    permitted, missed = threading.Event(), list[float]()

    def subscribe(_: str) -> int:
        assert permitted.wait(GENEROUS_S)
        return 1

    with ScriptedBroker(on_subscribe=subscribe) as slow:
        station = relaying(slow.url)
        station.publisher.on_gap(lambda: missed.append(time.monotonic()), GENEROUS_S)
        station.wait_until(lambda: station.publisher.delivery().connected)
        permitted_s = time.monotonic()
        permitted.set()
        soon(lambda: any(one > permitted_s for one in missed))


def test_the_doctor_connects_as_the_station_does_and_reports_what_the_broker_lacks(
    relaying: Relaying,
) -> None:
    announced = properties(maximum_packet_size=2000, retain_available=0)
    with ScriptedBroker(announced=announced) as small:
        station = begun(relaying, small.url)
        small.wait_for(lambda: bool(states(small)))
        station.close()
        found = broker_finding(MqttSettings(url=small.url, station=STATION), META)
        of_station, of_doctor = small.connects

    def manner(one: Any) -> tuple[object, ...]:
        will = (one.will_topic, one.will_qos, one.will_retain)
        return (one.level, one.clean, one.keep_alive_s, *will, one.username)

    assert manner(of_doctor) == manner(of_station)
    assert of_doctor.client_id != of_station.client_id
    assert len(small.subscribed) == 6  # both listen to the same three
    assert found.grade is Grade.ADVICE
    assert "packets of 2000 bytes" in found.found and "is shortened" in found.found
    assert "keeps no messages" in found.found and "max_packet_size" in found.advice
