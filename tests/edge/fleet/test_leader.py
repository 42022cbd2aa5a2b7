"""Who leads a roll-out, and who may say what a station is to have, on a real broker."""

import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.contract.encoding import to_json
from edge.contract.fleet import (
    OWNER_TOPIC,
    ROLLOUT_TOPIC,
    Desired,
    FleetReport,
    PartCounts,
    ReleaseFile,
    ReleasePhase,
    payload,
)
from edge.contract.state import Condition, State, StationReport, state_payloads, will_payload
from edge.contract.topics import StationTopic
from edge.fleet import fleet_link
from edge.fleet.cli import main
from edge.fleet.errors import LeadLost, RolloutRefused
from edge.fleet.leader import Lead, Leader, look, next_claim, see
from edge.fleet.plan import Plan
from edge.fleet.rollout import Rollout, Stage
from edge.settings.mqtt import MqttSettings
from tests.support.broker import GENEROUS_S, Broker
from tests.support.fleet_states import SESSION, publish_states
from tests.support.station_process import until

ACCESS = Path(__file__).parents[3] / "systemd" / "mosquitto" / "edge.acl"
NOT_AUTHORIZED = 135
JOURNAL = "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11"


def never() -> bool:
    return False


def settings(broker: Broker) -> MqttSettings:
    return MqttSettings(url=broker.url)


def owners_after_a_turn(lead: Lead) -> int:
    lead.link.turn(0.1)
    return len(lead.link.owners)


def lost(lead: Lead) -> bool:
    """Take what comes; raises once the lead is lost."""
    lead.link.turn(0.1)
    lead.check()
    return False


def test_what_is_retained_is_read_while_stations_go_on_publishing(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two hundred stations each says once a second which its last verdict was."""
    monkeypatch.setattr(fleet_link, "READ_LIMIT_S", float("inf"))
    broker.start()
    station = paho.Client(CallbackAPIVersion.VERSION2)
    station.connect("127.0.0.1", broker.port)
    station.loop_start()
    topic, ended = "vi/v1/plant/line/a/top", threading.Event()
    station.publish(f"{topic}/state", b"{}", 1, retain=True).wait_for_publish(60)

    def publish() -> None:
        while not ended.wait(0.02):
            station.publish(f"{topic}/last", b"{}", 0, retain=True)

    publishing = threading.Thread(target=publish)
    publishing.start()
    try:
        deadline_s = time.monotonic() + 60.0
        retained = look(settings(broker), lambda: time.monotonic() > deadline_s)
        assert time.monotonic() < deadline_s
    finally:
        ended.set()
        publishing.join()
        station.loop_stop()
    assert "state" in retained.stations["plant/line/a/top"]


def test_nothing_is_missing_of_five_hundred_stations_at_a_broker_that_queues_little(
    broker: Broker,
) -> None:
    """Mosquitto queues a thousand messages for a client, and drops what is more."""
    broker.start()
    broker.reconfigure("max_queued_messages 100")
    publish_states(broker.port, 80).disconnect()
    retained = look(settings(broker), never)
    assert len(retained.reports) == 80
    assert all(set(kept) >= {"state", "meta"} for kept in retained.stations.values())


A, B = "plant/line/a/top", "plant/line/b/top"


def a_rollout(*stations: str, **changes: Any) -> Rollout:
    release = ReleaseFile(name="nut", version=2, sha256="a" * 64, bytes=9, address="/srv/r/a")
    plan = {"canary": {"minutes": 0, "parts": 0}, "wave_minutes": 0, "address": "/srv/r"}
    return Rollout(
        id="one",
        claim=1,
        release=release,
        plan=Plan.model_validate({"stations": ["plant/+/+/+"], **plan}),
        waves=tuple((station,) for station in stations),
        **changes,
    )


class Led:
    """A roll-out that is led in a thread of its own."""

    def __init__(self, broker: Broker, rollout: Rollout) -> None:
        self._lead = Lead(settings(broker), 1, never)
        self._leader = Leader(self._lead, rollout, lambda _: None)
        self._ended = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._leader.run(self._ended.is_set)
        self._lead.end()

    def __enter__(self) -> "Led":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.thread.join()


class Connected:
    """A station's connection: it is online, and puts in force what it is to take."""

    def __init__(self, broker: Broker, name: str, *, answers: bool = True) -> None:
        self._topic = StationTopic.parse(name)
        self._answers = answers
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"test-{name[-5]}")
        self.client.reconnect_delay_set(1, 1)
        self.client.will_set(self._topic.state, to_json(will_payload(SESSION)), 1, retain=True)
        self.client.on_connect = self._on_connect
        self.client.on_message = self._on_desired
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()

    def __enter__(self) -> "Connected":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, *_: object) -> None:
        state = State(condition=Condition.ONLINE, since_utc="2026-01-01T00:00:00.000000Z")
        content = state_payloads(state, SESSION, StationReport())[0]
        self.client.publish(self._topic.state, to_json(content), 1, retain=True)
        self.client.subscribe(self._topic.fleet_desired, 1)

    def _on_desired(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        desired = Desired.model_validate_json(message.payload)
        if not self._answers:
            return
        report = FleetReport(
            journal=JOURNAL,
            rollout=desired.rollout,
            claim=desired.claim,
            step=desired.step,
            phase=ReleasePhase.IN_FORCE,
            since=PartCounts(),
        )
        content = to_json(payload(report))
        self.client.publish(self._topic.fleet_report, content, 1, retain=True)


def online(broker: Broker, station: str) -> bool:
    return see(look(settings(broker), never), station).online


def test_a_broker_that_has_lost_everything_gets_it_again(broker: Broker) -> None:
    """One that is killed has what it last wrote to its disk, every half an hour by itself."""

    def has_all() -> bool:
        now = look(settings(broker), never)
        return None not in (now.rollout, now.owner, now.desired.get(A))

    broker.start()
    with Led(broker, a_rollout(A)):
        until(has_all, "the roll-out")
        broker.kill()
        broker.start()
        until(has_all, "the roll-out once more")


def test_a_command_ends_once_the_broker_has_how_it_ended(broker: Broker) -> None:
    broker.start()
    led = Led(broker, a_rollout(A, stage=Stage.ABORTED))
    broker.kill()
    with led:
        led.thread.join(1.0)
        broker.start()
        led.thread.join(GENEROUS_S)
        rollout = look(settings(broker), never).rollout
    assert rollout is not None
    assert rollout.stage is Stage.ABORTED


def test_no_wave_is_over_because_its_stations_come_back_after_the_broker(broker: Broker) -> None:
    broker.start()
    broker.subscribe()
    with Connected(broker, A), ExitStack() as until_the_end:
        with Connected(broker, B, answers=False):
            until(lambda: online(broker, A) and online(broker, B), "both stations")
            led = until_the_end.enter_context(Led(broker, a_rollout(A, B)))
            until(lambda: B in look(settings(broker), never).desired, "the second wave")
            broker.save()
            broker.stop()  # which publishes the wills
        broker.start()
        until(lambda: online(broker, A), "the first station is back")
        with Connected(broker, B):
            led.thread.join(GENEROUS_S)
    broker.catch_up()
    messages = broker.messages()
    done = [n for n, (topic, one) in enumerate(messages) if one.get("stage") == "done"]
    has_it = [n for n, (topic, _) in enumerate(messages) if topic.endswith("b/top/fleet/report")]
    assert has_it[0] < done[0]


def test_of_two_who_claim_the_same_number_one_leads(broker: Broker) -> None:
    broker.start()
    first = Lead(settings(broker), 1, never)
    with pytest.raises(RolloutRefused, match="started to lead"):
        Lead(settings(broker), 1, never)
    heard = len(first.link.owners)
    until(lambda: owners_after_a_turn(first) > heard, "the other claim")
    first.check()  # it leads still, and says so again
    first.link.flush()
    owner = look(settings(broker), never).owner
    assert owner is not None
    assert (owner.session, owner.online) == (first.owner.session, True)

    second = Lead(settings(broker), next_claim(look(settings(broker), never)), never)
    with pytest.raises(LeadLost, match="has taken over"):
        until(lambda: lost(first), "the other lead")
    second.end()
    owner = look(settings(broker), never).owner
    assert owner is not None
    assert (owner.claim, owner.online) == (2, False)


def test_a_second_operator_is_refused_while_one_leads_and_stops_by_taking_over(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.start()
    lead = Lead(settings(broker), 4, never)
    release = ReleaseFile(name="nut", version=2, sha256="a" * 64, bytes=9, address="/srv/r/a")
    plan = Plan.model_validate({"stations": ["plant/+/+/+"], "address": "/srv/r"})
    rollout = Rollout(id="one", claim=4, release=release, plan=plan, waves=(("plant/line/a/top",),))
    lead.link.publish(ROLLOUT_TOPIC, rollout)
    lead.link.flush()

    assert main(["resume", "--mqtt", broker.url]) == 75
    assert "leads" in capsys.readouterr().err
    assert main(["abort", "--mqtt", broker.url]) == 0
    with pytest.raises(LeadLost):
        until(lambda: lost(lead), "the other lead")
    assert main(["abort", "--mqtt", broker.url]) == 75
    assert "is aborted" in capsys.readouterr().err


def test_only_the_account_of_the_fleet_says_what_a_station_is_to_have(tmp_path: Path) -> None:
    passwords, station = tmp_path / "passwd", "plant/line/a/top"
    passwords.touch(mode=0o600)
    for user in (station, "fleet", "mes", "operator", "viewer"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "secret"], check=True)
    access = tmp_path / "edge.acl"
    access.write_bytes(ACCESS.read_bytes())
    access.chmod(0o600)
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder, f"allow_anonymous false\npassword_file {passwords}\nacl_file {access}")
    broker.start()
    try:
        desired, report = f"vi/v1/{station}/fleet/desired", f"vi/v1/{station}/fleet/report"
        allowed = {
            (user, topic)
            for user in (station, "fleet", "mes", "operator", "viewer")
            for topic in (desired, report, OWNER_TOPIC, ROLLOUT_TOPIC)
            if publishes(broker.port, user, topic)
        }
    finally:
        broker.close()
    assert allowed == {
        ("fleet", desired),
        ("fleet", OWNER_TOPIC),
        ("fleet", ROLLOUT_TOPIC),
        (station, report),
    }


def publishes(port: int, user: str, topic: str) -> bool:
    """Tell whether the broker takes a message of this user there."""
    answers: list[int] = []
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=f"test-{user}", protocol=MQTTProtocolVersion.MQTTv5
    )
    client.on_publish = lambda *given: answers.append(given[3].value)
    client.username_pw_set(user, "secret")
    client.connect("127.0.0.1", port)
    client.publish(topic, "{}", 1)
    until_s = time.monotonic() + 60
    while not answers and time.monotonic() < until_s:
        client.loop(0.1)
    client.disconnect()
    client.loop(0.1)
    return answers[0] != NOT_AUTHORIZED
