"""A sender that floods a station with triggers, over a real broker."""

import json
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest

from tests.edge.conftest import broker as broker
from tests.edge.conftest import running_broker as running_broker
from tests.support.broker import Broker, Messages
from tests.support.small_bundle import write_images
from tests.support.station_process import StationProcess

PARTS, FLOOD, BURST = 5, 1000, 300


@pytest.fixture
def station(tmp_path: Path, bundle: Path, running_broker: Broker) -> Iterator[StationProcess]:
    """A station with a software trigger that is not started yet."""
    folder = write_images(tmp_path / "in", good=2)
    trigger = {"mode": "software", "frame_timeout_ms": 60_000}
    settings = {
        "camera": {"uri": str(folder), "loop": True, "trigger": trigger},
        "model": {"path": str(bundle)},
        "recipe": {"id": "bottle", "version": 1},
    }
    one = StationProcess(tmp_path, running_broker, settings)
    yield one
    one.close()


def records(station: StationProcess, kind: str) -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{station.journal / 'journal.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT payload FROM record WHERE kind = ? ORDER BY seq", [kind])
        return [json.loads(payload) for (payload,) in rows]


def flood(station: StationProcess) -> None:
    """Send triggers of another recipe as fast as the broker takes them: new ids and old ones."""
    for number in range(FLOOD):
        wrong = {"trigger_id": f"flood {number}", "recipe": {"id": "can"}}
        again = {"trigger_id": f"t{number % PARTS}", "recipe": {"id": "can"}}
        station.publish_soon("trigger", wrong)
        station.publish_soon("trigger", again)
    station.publish("ack", {"seq": 2**40})  # the broker has what came before


def trigger_until_taken(station: StationProcess, broker: Broker, trigger_id: str) -> None:
    """Send a trigger until there is room for it, as a PLC does that is told to ask again later."""

    def taken(seen: Messages, end_s: float = inf) -> bool:
        return time.monotonic() > end_s or any(one["trigger_id"] == trigger_id for one in seen)

    answers: Messages = []
    while not taken(answers):
        station.trigger(trigger_id, f"part-{trigger_id}")
        answers = broker.collect("/handshake", partial(taken, end_s=time.monotonic() + 2))


def test_a_flood_of_triggers_costs_no_accepted_part_its_verdict_or_its_answer(
    station: StationProcess, running_broker: Broker
) -> None:
    with station:
        for number in range(PARTS):
            station.ready()
            station.trigger(f"t{number}", f"part-{number}")
            station.verdicts(number + 1)
        flood(station)
        trigger_until_taken(station, running_broker, "after")
        running_broker.collect(
            "/verdict", lambda seen: any(one["trigger_id"] == "after" for one in seen)
        )
        known = len(station.phases("exposed", PARTS))
        station.trigger("t0", "part-0")
        station.phases("exposed", PARTS + 1)
        answers = running_broker.collect(
            "/handshake", lambda seen: len(seen) > known and seen[-1]["trigger_id"] == "t0"
        )
        assert station.stop() == 0

    verdicts = records(station, "verdict")
    accepted = [one for one in verdicts if one["part_id"] is not None]
    assert [one["trigger_id"] for one in accepted] == [*(f"t{n}" for n in range(PARTS)), "after"]
    assert {one["result"] for one in accepted} == {"OK"}
    assert (answers[-1]["seq"], answers[-1]["result"]) == (accepted[0]["seq"], "OK")
    refused = len(verdicts) - len(accepted)
    (reported,) = [one for one in records(station, "event") if one["kind"] == "triggers_refused"]
    assert BURST <= refused <= BURST + 60
    assert refused + reported["data"]["count"] <= FLOOD
    assert station.log.count("flood") < 20


def test_a_flood_of_triggers_at_a_free_station_is_logged_together(station: StationProcess) -> None:
    station.settings["camera"] |= {"trigger": {"mode": "free_run"}, "rate_fps": 20.0}
    with station:
        station.states("online")
        for number in range(BURST):
            station.publish_soon("trigger", {"trigger_id": f"flood {number}"})
        station.publish("ack", {"seq": 2**40})
        station.phases("rejected", 1)
        assert station.stop() == 0

    lines = [line for line in station.log.splitlines() if "runs free" in line]
    assert 1 <= len(lines) <= 3  # the first, one a minute, and the rest at the end
