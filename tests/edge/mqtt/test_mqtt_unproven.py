"""MQTT 3.1.1 refuses no message: delivered is what came back on the station's own topic."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish

from edge.doctor.finding import Grade
from edge.doctor.station import broker_finding
from edge.mqtt import relay
from edge.settings.mqtt import MqttSettings
from tests.support.broken_network import OldBroker
from tests.support.broker import Broker, Messages
from tests.support.relaying import (
    STATION,
    RelayedJournal,
    Relaying,
    has_all,
    numbers,
    relayed_journals,
)
from tests.support.scripted_broker import Connect, ScriptedBroker

ROOT = f"vi/v1/{STATION}"
READS = f"topic read {ROOT}/verdict\n"
WRITES = f"topic write {ROOT}/verdict\n"


@pytest.fixture
def relaying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relaying]:
    monkeypatch.setattr(relay, "ECHO_LIMIT_NS", 2_500_000_000)
    with relayed_journals(tmp_path) as begin:
        yield begin


class GuardedBroker:
    """A mosquitto that is reached with MQTT 3.1.1 alone; ``allow`` says what of verdicts it lets
    a station do."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        for user in ("station", "observer"):
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, "geheim"], check=True)
        self._access = folder / "access"
        self.allow("")
        self.broker = Broker(
            folder,
            f"password_file {passwords}\nacl_file {self._access}\nallow_anonymous false",
        )

    def allow(self, rules: str) -> None:
        others = "".join(
            f"topic write {ROOT}/{name}\n" for name in ("state", "meta", "event", "metrics", "last")
        )
        self._access.write_text(f"user observer\ntopic read vi/#\nuser station\n{others}{rules}")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[GuardedBroker]:
    one = GuardedBroker(tmp_path / "guarded")
    one.broker.start()
    one.broker.subscribe("observer", "geheim")
    yield one
    one.broker.close()


def begun(relaying: Relaying, old: OldBroker) -> RelayedJournal:
    url = f"mqtt://127.0.0.1:{old.port}"
    pauses = {"refused_pause_ns": (100_000_000, 1_000_000_000)}
    return relaying(url, password="geheim", username="station", publisher=pauses)


def reports_unproven(messages: Messages) -> bool:
    return bool(messages) and "delivery_unproven" in messages[-1]["reasons"]


def test_verdicts_that_are_denied_without_a_word_are_not_delivered_and_are_sent_again(
    guarded: GuardedBroker, relaying: Relaying
) -> None:
    guarded.allow(READS)
    guarded.broker.reload()
    with OldBroker(guarded.broker.port) as old:
        station = begun(relaying, old)
        station.record(16)
        guarded.broker.collect("/state", reports_unproven)
        (event,) = guarded.broker.collect("/event", lambda got: len(got) == 1)

        assert (event["kind"], event["severity"]) == ("delivery_unproven", "alarm")
        assert station.outbox.backlog().count >= 16
        assert not station.publisher.delivery().complete

        guarded.allow(READS + WRITES)
        guarded.broker.reload()
        guarded.broker.collect("/verdict", has_all(16))  # without another part
        station.record(1)
        guarded.broker.collect("/verdict", has_all(17))
        assert station.delivered()
        guarded.broker.collect("/state", lambda got: got[-1]["reasons"] == [])
    assert [e.kind for e in station.events] == ["delivery_unproven", "delivery_proven"]


def test_verdicts_that_the_station_may_not_read_go_on_and_the_state_says_so(
    guarded: GuardedBroker, relaying: Relaying
) -> None:
    guarded.allow(WRITES)
    guarded.broker.reload()
    with OldBroker(guarded.broker.port) as old:
        station = begun(relaying, old)
        station.record(60)

        assert numbers(guarded.broker.collect("/verdict", has_all(60))) == [*range(1, 61)]
        guarded.broker.collect("/state", reports_unproven)
    assert [event.kind for event in station.events] == ["delivery_unproven"]


@pytest.mark.parametrize("answer", [0x80, b"", None])
def test_a_broker_that_does_not_let_it_listen_gets_verdicts_and_is_reported(
    relaying: Relaying, answer: int | bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, hung up on, or never answered."""
    monkeypatch.setattr(relay, "SUBSCRIBE_LIMIT_NS", 1_000_000_000)

    def connect(one: Connect) -> int:
        return 1 if one.level == 5 else 0

    def subscribe(topic: str) -> int | bytes | None:
        return answer if topic.endswith("/verdict") else 1

    with ScriptedBroker(on_connect=connect, on_subscribe=subscribe) as old:
        station = relaying(old.url)
        station.record(3)
        assert station.delivered()
        assert old.seqs() == [1, 2, 3]
        station.wait_until(lambda: any(e.kind == "delivery_unproven" for e in station.events))
        station.close()
        found = broker_finding(MqttSettings(url=old.url, station=STATION))

    if answer:
        assert found.grade is Grade.ADVICE
        assert "MQTT 3.1.1 cannot refuse a message" in found.found
        assert "it is not known whether verdicts arrive" in found.found
        assert "let the station write and read" in found.advice


SEQS_OF_NO_VERDICT: list[Any] = [[1], {}, None, "x"]


def test_what_others_say_on_the_topic_ends_no_station(
    guarded: GuardedBroker, relaying: Relaying
) -> None:
    guarded.allow(f"{READS}user observer\n{WRITES}")
    guarded.broker.reload()
    with OldBroker(guarded.broker.port) as old:
        station = begun(relaying, old)
        station.record(1)
        state = guarded.broker.collect("/state", reports_unproven)[-1]
        for seq in SEQS_OF_NO_VERDICT:
            foreign = json.dumps({"seq": seq, "session": state["session"]})
            port = guarded.broker.port
            publish.single(
                f"{ROOT}/verdict",
                foreign,
                1,
                port=port,
                auth={"username": "observer", "password": "geheim"},
            )
        guarded.broker.collect("/verdict", lambda got: len(got) == 4)

        guarded.allow(READS + WRITES)
        guarded.broker.reload()
        station.record(1)
        guarded.broker.collect("/verdict", lambda got: {"1", "2"} <= {str(m["seq"]) for m in got})
        assert station.delivered()
    guarded.broker.forget()
