"""Stations and brokers that are killed at any moment: no committed verdict is lost."""

import json
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.listen.sequence_ranges import SequenceRanges, Stretch
from tests.soak import seeds, times
from tests.support.broker import GENEROUS_S, Broker
from tests.support.small_bundle import write_images
from tests.support.station_process import StationProcess

ROUNDS = times(2, 8)
# Less than the commands that a station takes in a minute.
MAX_REPAIR_ROUNDS, ASKED_AT_ONCE = 14, 4
AGAIN_S = 3.0
RATE_FPS = 100.0
# Filled in at sending.
OF_CONNECTION = ("session", "replayed")


def journalled(station: StationProcess) -> tuple[str, dict[int, dict[str, Any]]]:
    """Return UUID of the journal and its verdicts by number."""
    path = station.journal / "journal.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        ((journal,),) = database.execute("SELECT journal FROM meta").fetchall()
        rows = database.execute(
            "SELECT seq, payload FROM record WHERE kind = 'verdict' ORDER BY seq"
        ).fetchall()
    return journal, {seq: json.loads(payload) for seq, payload in rows}


def arrived(broker: Broker) -> list[dict[str, Any]]:
    return [content for topic, content in broker.messages() if topic.endswith("/verdict")]


def without_connection(verdict: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in verdict.items()
        if key not in OF_CONNECTION and not key.startswith("_")
    }


@pytest.fixture
def station(tmp_path: Path, bundle: Path, broker: Broker) -> Iterator[StationProcess]:
    """A station that is not started yet, and does not outlive its test."""
    settings = {
        "camera": {
            "uri": str(write_images(tmp_path / "frames", good=7, defective=3)),
            "rate_fps": RATE_FPS,
            "loop": True,
        },
        "model": {"path": str(bundle)},
    }
    with closing(StationProcess(tmp_path, broker, settings)) as one:
        yield one


@pytest.mark.parametrize("seed", seeds(2, 20))
def test_every_committed_verdict_arrives_however_station_and_broker_are_killed(
    station: StationProcess, broker: Broker, seed: int
) -> None:
    chance = random.Random(seed)
    broker.start()
    broker.subscribe()
    broker.save()
    for number in range(ROUNDS):
        station.start()
        station.states("online", number + 1)
        time.sleep(chance.uniform(0.0, 0.8))  # the moment of the kill is the test's subject
        if chance.random() < 0.5:
            chance.choice((broker.stop, broker.kill))()
            time.sleep(chance.uniform(0.0, 0.3))
            station.kill()
            broker.start()
        else:
            station.kill()
    _, before = journalled(station)
    station.start()
    # What a broker had taken and lost is a gap once something newer has come.
    newest = max(before, default=0)
    broker.collect("/verdict", lambda got: any(one["seq"] > newest for one in got))
    repair(station, broker)
    assert station.stop() == 0
    repair_ended = without_gaps(station, broker)

    journal, committed = repair_ended
    received = [one for one in arrived(broker) if one["journal"] == journal]
    by_seq = {one["seq"]: one for one in received}
    assert sorted(committed) == list(range(1, len(committed) + 1))
    assert set(by_seq) == set(committed)
    for seq, verdict in committed.items():
        assert without_connection(by_seq[seq]) == verdict


def repair(station: StationProcess, broker: Broker) -> None:
    """Do a consumer's duty: ask for what a killed broker had taken and not delivered, in stretches,
    and ask again where the station was busy."""
    for _ in range(MAX_REPAIR_ROUNDS):
        gaps = find_gaps(broker)
        if not gaps:
            return
        for gap in gaps[:ASKED_AT_ONCE]:
            station.publish("cmd/resend", {"from_seq": gap.first, "to_seq": gap.last})
        deadline = time.monotonic() + AGAIN_S
        while find_gaps(broker) and time.monotonic() < deadline:
            time.sleep(0.05)
    raise AssertionError(f"still missing: {find_gaps(broker)}")


def find_gaps(broker: Broker) -> list[Stretch]:
    received = SequenceRanges([Stretch(0, 0)])
    for one in arrived(broker):
        received.add(one["seq"])
    return received.gaps()


def without_gaps(station: StationProcess, broker: Broker) -> tuple[str, dict[int, dict[str, Any]]]:
    """Return the journal, once everything in it has arrived."""
    journal, committed = journalled(station)
    deadline = time.monotonic() + GENEROUS_S
    while set(committed) - {one["seq"] for one in arrived(broker)}:
        assert time.monotonic() < deadline, sorted(
            set(committed) - {one["seq"] for one in arrived(broker)}
        )
        time.sleep(0.05)
    return journal, committed


def test_first_arrivals_are_in_order_across_kills_of_the_station(
    station: StationProcess, running_broker: Broker
) -> None:
    for number in range(ROUNDS):
        station.start()
        station.states("online", number + 1)
        station.verdicts(20 * (number + 1))
        station.kill()
    station.start()
    station.states("online", ROUNDS + 1)
    assert station.stop() == 0
    _, committed = without_gaps(station, running_broker)

    first_arrivals = list(dict.fromkeys(one["seq"] for one in arrived(running_broker)))
    assert first_arrivals == sorted(committed)
