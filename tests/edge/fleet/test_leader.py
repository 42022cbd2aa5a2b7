"""Who leads a roll-out, and who may say what a station is to have, on a real broker."""

import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.contract.fleet import OWNER_TOPIC, ROLLOUT_TOPIC, ReleaseFile
from edge.fleet import fleet_link
from edge.fleet.cli import main
from edge.fleet.errors import LeadLost, RolloutRefused
from edge.fleet.leader import Lead, look, next_claim
from edge.fleet.plan import Plan
from edge.fleet.rollout import Rollout
from edge.settings.mqtt import MqttSettings
from tests.support.broker import Broker
from tests.support.station_process import until

ACCESS = Path(__file__).parents[3] / "systemd" / "mosquitto" / "edge.acl"
NOT_AUTHORIZED = 135


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
