"""Twenty viewers at a station's page, and what the line takes for its parts meanwhile."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.support.page_station import PageStation, wait_until

DEMO = Path(__file__).parents[2] / "configs" / "demo"
VIEWERS = 20
RATE_FPS = 20.0


def demo_station(folder: Path) -> PageStation:
    """Return a station, not started, on the demo's frames at ``RATE_FPS``."""
    camera = {"uri": str(DEMO / "frames"), "rate_fps": RATE_FPS, "loop": True}
    station = PageStation(folder, camera, DEMO / "bottle.xml")
    station.settings["snapshots"]["every_nth_ok"] = 0
    return station


@contextmanager
def viewers(station: PageStation) -> Iterator[list[int]]:
    """Let viewers watch; at the end the list holds how many images they have seen."""
    host, port = station.address.removeprefix("http://").split(":")
    command = [sys.executable, "-m", "tests.support.page_viewers", host, port, str(VIEWERS)]
    seen: list[int] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "watching"
        wait_until(lambda: "edge_page_viewers 20.0" in station.get("/metrics").text, "viewers")
        yield seen
        seen.append(int(process.communicate()[0]))
    assert process.returncode == 0


def last_seq(station: PageStation) -> int:
    return verdicts(station, "seq = (SELECT max(seq) FROM record WHERE kind = 'verdict')")[0]["seq"]


def verdicts(station: PageStation, condition: str) -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{station.journal}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            f"SELECT payload FROM record WHERE kind = 'verdict' AND {condition}"
        ).fetchall()
    return [json.loads(payload) for (payload,) in rows]


def measured(station: PageStation, parts: int) -> tuple[float, float]:
    """Return p99 from image to verdict, and processor time of the line for a part, in ms."""
    process = psutil.Process(station.pid)
    begin, began_s = last_seq(station), sum(process.cpu_times()[:2])
    wait_until(lambda: last_seq(station) >= begin + parts, "parts")
    end, ended_s = last_seq(station), sum(process.cpu_times()[:2])
    found = verdicts(station, f"seq > {begin} AND seq <= {end}")
    total_ms = [verdict["duration_ms"]["total"] for verdict in found]
    return float(np.quantile(total_ms, 0.99)), 1000.0 * (ended_s - began_s) / (end - begin)
