"""edge-fleet against real stations on a real broker."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.fleet import Plant
from tests.support.small_bundle import write_images


@pytest.fixture
def plant(tmp_path: Path, bundle: Path, running_broker: Broker) -> Plant:
    return Plant(tmp_path, bundle, running_broker)


def test_a_release_reaches_two_stations_and_is_rolled_back(plant: Plant) -> None:
    first, second = plant.release(), plant.release(threshold=25.0)
    frames = write_images(plant.folder / "in", good=2)
    with plant.station("a", frames) as a, plant.station("b", frames) as b:
        for name in "ab":
            plant.until_reported(name, lambda report: report.get("phase") == "idle")
        for one in (a, b):
            until_online(plant, one.settings["mqtt"]["station"])
        code, output = plant.fleet("release", first, "--plan", plant.plan())
        assert (code, "done" in output) == (0, True), output
        code, output = plant.fleet("release", second, "--plan", plant.plan())
        assert (code, "done" in output) == (0, True), output
        for name in "ab":
            report = plant.reports()[name]
            assert report["phase"] == "in_force"
            assert (report["in_force"]["version"], report["in_force"]["release"]) == (2, 2)

        code, output = plant.fleet("rollback")
        assert (code, "rolled back" in output) == (0, True), output
        for name in "ab":
            report = plant.reports()[name]
            assert report["phase"] == "returned"
            assert (report["in_force"]["name"], report["in_force"]["version"]) == ("nut", 1)

        code, output = plant.fleet("status", "--json")
        rows = json.loads(output.splitlines()[-1])["stations"]
        assert [(one["station"], one["product"], one["state"]) for one in rows] == [
            ("plant/line/a/top", "nut", "online"),
            ("plant/line/b/top", "nut", "online"),
        ]

        settings = plant.settings({"decision": {"guard_band": 0.05}, "image": {"min_mean": 1.0}})
        code, output = plant.fleet("release", settings, "--plan", plant.plan())
        assert (code, "done" in output) == (0, True), output
        report = plant.reports()["b"]
        assert report["settings"]["name"] == "guard-band"
        assert (report["in_force"]["name"], report["in_force"]["version"]) == ("nut", 1)
        changed = [one for one in events(plant, "b") if one["kind"] == "decision_changed"]
        assert "decision.guard_band 0.0 → 0.05" in changed[-1]["detail"]
        code, output = plant.fleet("rollback")
        assert (code, "rolled back" in output) == (0, True), output
        assert [plant.reports()[name]["settings"] for name in "ab"] == [None, None]
        plant.broker.collect(
            "/event", lambda got: any("guard_band 0.05 → 0.0" in one["detail"] for one in got)
        )


def events(plant: Plant, name: str) -> list[dict[str, Any]]:
    topic = f"vi/v1/plant/line/{name}/top/event"

    def seen() -> list[dict[str, Any]]:
        return [content for where, content in plant.broker.messages() if where == topic]

    # The report may come before it, and the other station's before both.
    plant.broker.collect("/event", lambda _: any(e["kind"] == "decision_changed" for e in seen()))
    return seen()


def until_online(plant: Plant, station: str) -> None:
    topic = f"vi/v1/{station}/state"
    plant.broker.collect(
        "/state",
        lambda _: any(t == topic and c["state"] == "online" for t, c in plant.broker.messages()),
    )
