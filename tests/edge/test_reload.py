"""Models and thresholds exchanged again and again on a running station, which then still stops."""

import re
from functools import partial
from pathlib import Path

from tests.edge.page_station import PageStation, wait_until
from tests.edge.test_config import ALIAS_BOMB
from tests.small_bundle import write_bundle, write_pictures

TIMES = 20
BROKEN = (
    b"drift: {enabled: !!bool maybe}\n",
    b"drift: {enabled: !!int ''}\n",
    b"a: " + b"[" * 100_000,
    ALIAS_BOMB,
    b"a: 2026-13-01\n",
    b"\x00\xff",
)
PACKAGES = Path(__file__).parents[2]


def reloaded(station: PageStation, times: int) -> bool:
    return station.log.count("reloaded: ") == times


def refused(station: PageStation, times: int) -> bool:
    return station.log.count("not reloaded") == times


def test_a_station_stops_in_order_after_twenty_reloads_and_twenty_thresholds_of_the_page(
    tmp_path: Path, bundle: Path
) -> None:
    (tmp_path / "other").mkdir()
    models = [str(bundle), str(write_bundle(tmp_path / "other"))]
    pictures = write_pictures(tmp_path / "pictures", good=1, defective=1)
    camera = {"uri": str(pictures), "rate_fps": 20, "loop": True}
    with PageStation(tmp_path, camera, bundle) as station:
        for number in range(1, TIMES + 1):
            # In turn another model, and another guard band for the same one.
            station.settings["model"] = {"path": models[number // 2 % 2]}
            station.settings["decision"] = {"guard_band": (number + 1) // 2 / 1000}
            station.reload()
            wait_until(partial(reloaded, station, number), f"reload {number}")
        assert station.log.count("reloaded: decision.guard_band\n") == TIMES // 2

        for number in range(1, TIMES + 1):
            threshold = 20.0 + number
            done = station.act("threshold", {"image_threshold": threshold}).json()["done"]
            assert done["now"] == threshold
        seen = station.parts(most=1)[0]["seq"]
        wait_until(lambda: station.parts(most=1)[0]["seq"] > seen + 2, "it still inspects")

        assert station.stop() == 0

    assert station.log.count("decision_changed: ") == TIMES // 2 + TIMES


def test_no_settings_file_ends_a_running_station_however_broken_it_is(
    tmp_path: Path, bundle: Path
) -> None:
    pictures = write_pictures(tmp_path / "pictures", good=1, defective=1)
    camera = {"uri": str(pictures), "rate_fps": 20, "loop": True}
    with PageStation(tmp_path, camera, bundle) as station:
        for number, content in enumerate(BROKEN, 1):
            station.reload(content)
            wait_until(partial(refused, station, number), repr(content[:30]))
        seen = station.parts(most=1)[0]["seq"]
        wait_until(lambda: station.parts(most=1)[0]["seq"] > seen + 2, "it still inspects")

        assert station.stop() == 0

    assert "defect" not in station.log


def test_nothing_but_one_function_makes_a_core() -> None:
    made = [
        str(path.relative_to(PACKAGES))
        for package in ("edge", "training", "export")
        for path in sorted((PACKAGES / package).rglob("*.py"))
        if re.search(r"\bCore\(\)|\bov\.compile_model\(", path.read_text("utf-8"))
    ]
    assert made == ["edge/inspection/openvino_core.py"]
