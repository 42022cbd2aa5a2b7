"""``make fleet-demo``: a plant of five stations on this machine, which ends by itself.

A broker, PostgreSQL with ``edge-listen``, and five stations that inspect the sample frames. A good
release goes from a canary to all; one whose threshold rejects every part stops at the canary and is
taken back; then the table of all stations, and the yield out of the database.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.broker import Broker
from tests.support.fleet import Plant
from tests.support.postgres import postgresql
from tests.support.station_process import until

DEMO = Path(__file__).parents[1] / "configs" / "demo"
NAMES = ("press-1", "press-2", "mill-1", "mill-2", "paint-1")
# Enough to see that every part is rejected where every other one is.
PARTS = 60
# Of each step, on a PC that has other work than five stations.
LIMIT_S = 600.0


@contextmanager
def listener(broker: Broker, database: str) -> Iterator[None]:
    """Run ``edge-listen`` into a database."""
    process = subprocess.Popen(
        [*(sys.executable, "-m", "edge.listen.cli"), "--mqtt", broker.url, "--database", database],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Return rows with their head, in columns."""
    lines = [head, *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main() -> int:
    """Run the plant; return 0 when it did what it should."""
    threshold = json.loads((DEMO / "bottle.json").read_text())["threshold"]["image"]
    folder = Path(tempfile.mkdtemp(prefix="edge-plant-"))
    (folder / "broker").mkdir()
    broker = Broker(folder / "broker")
    broker.start()
    broker.subscribe()
    begun_s = time.monotonic()

    def step(text: str) -> None:
        print(f"\n== {time.monotonic() - begun_s:5.1f} s  {text}", flush=True)

    with ExitStack() as running:
        running.callback(shutil.rmtree, folder, ignore_errors=True)
        running.callback(broker.close)
        server = running.enter_context(postgresql())
        running.enter_context(listener(broker, server.create("plant")))
        plant = Plant(folder, DEMO / "bottle.xml", broker)
        step(f"{len(NAMES)} stations inspect the sample frames; mosquitto, PostgreSQL, edge-listen")
        for name in NAMES:
            running.enter_context(plant.station(name, DEMO / "frames"))
        for name in NAMES:
            plant.until_reported(name, lambda report: report.get("phase") == "idle", LIMIT_S)

        canary = {"share": 0.2, "minutes": 0, "parts": PARTS}
        plan = plant.plan(canary=canary, change_product=True)
        good = plant.release("flange", threshold=threshold)
        step("edge-fleet release flange-1.recipe: one station first, then all")
        code, output = plant.fleet("release", good, "--plan", plan, *key(plant))
        print(output, end="")
        if code != 0:
            return 1
        before = verdicts(server.query("plant", "SELECT count(*) FROM verdict"))
        until(
            lambda: (
                verdicts(server.query("plant", "SELECT count(*) FROM verdict"))
                >= before + PARTS * len(NAMES)
            ),
            "the database has what came since",
            LIMIT_S,
        )

        bad = plant.release("flange", threshold=threshold / 100)
        step("edge-fleet release flange-2.recipe, which rejects every part")
        code, output = plant.fleet("release", bad, "--plan", plan, *key(plant))
        print(output, end="")
        if code != 1 or any(of_version(plant, name) != 1 for name in NAMES):
            return 1

        step("edge-fleet status")
        print(plant.fleet("status")[1], end="")
        step("the yield by station and version, out of PostgreSQL")
        rows = server.query(
            "plant",
            "SELECT station, product, product_version, sum(parts), sum(nok), sum(undecided)"
            " FROM yield_by_hour GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        )
        print(table(("station", "product", "version", "parts", "NOK", "undecided"), rows))
        step("done")
    return 0


def key(plant: Plant) -> tuple[object, ...]:
    return "--public-key", plant.public


def verdicts(rows: list[tuple[object, ...]]) -> int:
    return int(str(rows[0][0]))


def of_version(plant: Plant, name: str) -> int:
    """Return the version of the release that a station has in force."""
    return int(plant.reports()[name]["in_force"]["version"])


if __name__ == "__main__":
    sys.exit(main())
