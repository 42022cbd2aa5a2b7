"""Twenty stations, a command and a broker, ended at random: each station ends on one version."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.bundle.loading import load_bundle
from edge.journal.entries import RecordKind
from edge.journal.query import Query, query
from edge.recipes.folder import RecipeFolder
from tests.soak import seeds
from tests.support.broker import Broker
from tests.support.fleet import Plant
from tests.support.station_process import until

PROCESSES, OF_EACH = 4, 5
STATIONS = [f"s{number:02}" for number in range(PROCESSES * OF_EACH)]
# Of a thousand parts of a release so many are NOK.
GOOD, BAD = 100.0, 200.0
# The simulated stations reject nothing before they have a recipe: nothing to compare with.
FIRST = {"nok_factor": None}

pytestmark = pytest.mark.skipif(not seeds(0, 1), reason="takes minutes; make soak runs it")


class Hall:
    """Four processes of five stations each, which may be killed and start again."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self._processes: list[subprocess.Popen[str] | None] = [None] * PROCESSES
        for number in range(PROCESSES):
            self.start(number)
        for number in range(PROCESSES):
            process = self._processes[number]
            assert process is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def start(self, number: int) -> None:
        plant = self.plant
        self._processes[number] = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.fleet_stations", plant.folder / "hall"),
                *(plant.broker.url, plant.public, plant.address),
                *(str(number * OF_EACH), str(OF_EACH)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill(self, number: int) -> None:
        process = self._processes[number]
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        for number in range(PROCESSES):
            self.kill(number)

    def demand_every_verdict(self) -> None:
        """Demand that what the journals hold has no gap, and that all of it is with the broker."""
        held = {
            name: {
                row.seq
                for row in query(
                    self.plant.folder / "hall" / name / "journal/journal.db",
                    Query(kind=RecordKind.VERDICT),
                )
            }
            for name in STATIONS
        }
        assert all(held[name] == set(range(1, len(held[name]) + 1)) for name in STATIONS)
        assert all(held.values())

        def missing() -> dict[str, set[int]]:
            left = {name: set(numbers) for name, numbers in held.items()}
            for topic, content in self.plant.broker.messages():
                if topic.endswith("/verdict"):
                    left[topic.split("/")[4]].discard(content["seq"])
            return {name: numbers for name, numbers in left.items() if numbers}

        until(lambda: not missing(), f"every verdict at the broker: {missing()}")

    def versions(self) -> dict[str, str]:
        """Return, by station, threshold and model in force; the signature is checked."""
        found = {}
        for name in STATIONS:
            recipes = RecipeFolder(self.plant.folder / "hall" / name / "recipes")
            version = recipes.load("nut")
            bundle = load_bundle(version.model, self.plant.public)
            found[name] = f"{version.content.decision.image_threshold} {bundle.sha256}"
        return found


@pytest.fixture
def hall(tmp_path: Path, bundle: Path, broker: Broker) -> Iterator[Hall]:
    broker.start()
    broker.subscribe()
    one = Hall(Plant(tmp_path, bundle, broker))
    yield one
    one.close()
    broker.forget()  # its verdicts have no line behind them


def release(hall: Hall, nok: float, **changes: object) -> tuple[int, str, float]:
    began_s = time.monotonic()
    file = hall.plant.release(threshold=nok)
    code, output = hall.plant.fleet("release", file, "--plan", hall.plant.plan(**changes))
    return code, output, time.monotonic() - began_s


def test_a_release_reaches_all_and_a_bad_one_stops_at_the_canary(hall: Hall) -> None:
    until(lambda: len(hall.plant.reports()) == len(STATIONS), "all report")
    code, output, elapsed_s = release(hall, GOOD, bounds=FIRST)
    print(f"a release to {len(STATIONS)} stations: {elapsed_s:.1f} s")
    assert code == 0, output
    assert len(set(hall.versions().values())) == 1
    good = hall.versions()
    time.sleep(60)  # parts of the week before

    canary = {"share": 0.1, "minutes": 5, "parts": 400}
    code, output, elapsed_s = release(hall, BAD, canary=canary)
    print(f"a bad release, stopped at the canary and back: {elapsed_s:.1f} s\n{output}")
    assert (code, "are NOK" in output) == (1, True), output
    assert hall.versions() == good


@pytest.mark.parametrize("seed", seeds(0, 3))
def test_kills_of_stations_command_and_broker_leave_one_signed_version_everywhere(
    hall: Hall, seed: int
) -> None:
    chance = random.Random(seed)
    until(lambda: len(hall.plant.reports()) == len(STATIONS), "all report")
    code, output, _ = release(hall, GOOD, bounds=FIRST)
    assert code == 0, output
    file = hall.plant.release(threshold=GOOD + 1)
    plan = hall.plant.plan(waves=[0.3, 1.0], bounds=FIRST)
    command = hall.plant.start_fleet("release", file, "--plan", plan)
    assert command.stdout is not None
    assert command.stdout.readline().startswith("roll-out")  # from here on it is kept
    time.sleep(1.0)
    for _ in range(8):
        time.sleep(chance.uniform(0.2, 3.0))
        victim = chance.randrange(PROCESSES + 2)
        if victim < PROCESSES:
            hall.kill(victim)
            time.sleep(chance.uniform(0.0, 1.0))
            hall.start(victim)
            continue
        if victim > PROCESSES:
            hall.plant.broker.stop()
            time.sleep(chance.uniform(0.0, 1.0))
            hall.plant.broker.start()
            continue
        command.kill()
        command.wait()
        time.sleep(chance.uniform(0.0, 1.0))
        command = hall.plant.start_fleet("resume", "--take-over")
    last, _ = command.communicate(timeout=180)
    _, rows = hall.plant.fleet("status", "--json")
    kept = json.loads(rows)["rollout"]
    assert (kept["release"]["version"], kept["stage"]) == (2, "done"), last
    workshop = RecipeFolder(hall.plant.folder / "workshop")
    wanted = f"{GOOD + 1} {load_bundle(workshop.load('nut', 2).model).sha256}"
    until(lambda: {*hall.versions().values()} == {wanted}, f"one everywhere: {hall.versions()}")
    code, output = hall.plant.fleet("rollback")
    assert code == 0, output
    until(lambda: len({*hall.versions().values()}) == 1, f"back everywhere: {hall.versions()}")
    hall.demand_every_verdict()
