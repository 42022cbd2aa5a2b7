"""What people draw at a station's page, carried in files and named where a release replaces it.

Real stations with their pages, a real broker, and the commands.
"""

from pathlib import Path

import pytest

from edge.cli.main import main
from tests.edge.fleet.test_fleet import until_online
from tests.support.broker import Broker
from tests.support.fleet import Plant
from tests.support.page_drawer import OVER_DEFECT
from tests.support.page_station import PageStation, wait_until
from tests.support.small_bundle import write_images

DRAWING = {"width_px": 160, "height_px": 120, "ignore": [OVER_DEFECT]}


def page_station(plant: Plant, name: str) -> PageStation:
    """Return a station with a page that sees a defect, and takes releases."""
    frames = write_images(plant.folder / "in", good=0, defective=2)
    camera = {"uri": str(frames), "rate_fps": 5, "loop": True}
    one = PageStation(plant.folder / name, camera, plant.bundle)
    one.settings |= {
        "mqtt": {"url": plant.broker.url, "station": f"plant/line/{name}/top"},
        "recipes": {"folder": str(plant.folder / name / "recipes")},
        "fleet": plant.fleet_settings(),
    }
    return one


def until_judged(station: PageStation, recipe: str, result: str, threshold: float) -> None:
    def judged() -> bool:
        part = station.status()["part"]
        decided = (part["recipe"], part["result"], part["raw_threshold"]) if part else None
        return decided == (recipe, result, threshold)

    wait_until(judged, f"{recipe} {result} at {threshold}")


def test_a_mask_of_the_page_is_named_by_a_release_and_goes_with_an_exported_recipe(
    tmp_path: Path, bundle: Path, running_broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    plant = Plant(tmp_path, bundle, running_broker)
    first, second = plant.release(), plant.release(threshold=25.0)
    plan = plant.plan(stations=["plant/line/a/top"], change_product=True)
    with page_station(plant, "a") as a, page_station(plant, "b") as b:
        plant.until_reported("a", lambda report: report.get("phase") == "idle")
        until_online(plant, "plant/line/a/top")
        code, output = plant.fleet("release", first, "--plan", plan)
        assert (code, "what was set at the page" in output) == (0, False), output
        until_judged(a, "nut 1", "NOK", 20.0)
        body = {"before": "", "drawing": DRAWING, "image_threshold": 30.0}
        assert a.act("mask", body).status_code == 200
        until_judged(a, "nut 1", "OK", 30.0)

        exported = tmp_path / "drawn.recipe"
        words = ["--recipe", "export", "nut", str(exported), "--config", str(a.config)]
        assert main([*words, "--key", str(plant.private)]) == 0
        assert "mask and zones set at the page of plant/line/a/top" in capsys.readouterr().out
        assert main(["--recipe", "import", str(exported), "--config", str(b.config)]) == 0
        assert b.act("recipe", {"id": "nut", "version": 1}).status_code == 200
        until_judged(b, "nut 1", "OK", 30.0)

        report = plant.until_reported("a", lambda now: now.get("reason") == "page_settings")
        assert "in its place counts what was set at the page: the threshold 30" in report["detail"]
        code, output = plant.fleet("release", second, "--plan", plan)
        line = "plant/line/a/top: recipe nut version 2 is in force; not used any more is what was"
        assert (code, line in output) == (0, True), output
        until_judged(a, "nut 2", "NOK", 25.0)
        wait_until(
            lambda: any("not used" in one["detail"] for one in a.events("release_in_force")),
            "the event of the release at the page",
        )
        code, output = plant.fleet("status")
        assert (code, line in output, "in_force: page_settings" in output) == (0, True, True)

        # The exported file is a release as any other, and brings the drawing as the version's own.
        older = plant.plan(stations=["plant/line/a/top"], older=True)
        code, output = plant.fleet("release", exported, "--plan", older)
        assert code == 0, output
        until_judged(a, "nut 3", "OK", 30.0)
