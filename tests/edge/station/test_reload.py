"""Models and thresholds exchanged again and again on a running station, which then still stops."""

import json
import re
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.edge.settings.test_config import ALIAS_BOMB
from tests.support.page_station import TOKEN, PageStation, wait_until
from tests.support.service_manager import NotifySocket
from tests.support.small_bundle import write_bundle, write_images

TIMES = 20
BROKEN = (
    b"drift: {enabled: !!bool maybe}\n",
    b"drift: {enabled: !!int ''}\n",
    b"a: " + b"[" * 100_000,
    ALIAS_BOMB,
    b"a: 2026-13-01\n",
    b"\x00\xff",
)
PACKAGES = Path(__file__).parents[3]


def reloaded(station: PageStation, times: int) -> bool:
    return station.log.count("reloaded: ") == times


def refused(station: PageStation, times: int) -> bool:
    return station.log.count("not reloaded") == times


def test_a_station_stops_in_order_after_twenty_reloads_and_twenty_thresholds_of_the_page(
    tmp_path: Path, bundle: Path
) -> None:
    (tmp_path / "other").mkdir()
    models = [str(bundle), str(write_bundle(tmp_path / "other"))]
    images = write_images(tmp_path / "pictures", good=1, defective=1)
    camera = {"uri": str(images), "rate_fps": 20, "loop": True}
    with PageStation(tmp_path, camera, bundle) as station:
        for number in range(1, TIMES + 1):
            # In turn another model, and another guard band for the same one.
            station.settings["model"] = {"path": models[number // 2 % 2]}
            station.settings["decision"] = {"guard_band": (number + 1) // 2 / 1000}
            station.reload()
            wait_until(partial(reloaded, station, number), f"reload {number}")
        assert station.log.count("reloaded: decision.guard_band\n") == TIMES // 2
        # What changed stands once, with its values.
        assert station.log.count(": decision.guard_band 0.001 → 0.002\n") == 1

        for number in range(1, TIMES + 1):
            threshold = 20.0 + number
            done = station.act("threshold", {"image_threshold": threshold}).json()["done"]
            assert done["now"] == threshold
        seen = station.parts(max_count=1)[0]["seq"]
        wait_until(lambda: station.parts(max_count=1)[0]["seq"] > seen + 2, "it still inspects")

        assert station.stop() == 0

    assert station.log.count("decision_changed: ") == TIMES // 2 + TIMES


def test_a_reload_takes_over_the_token_says_what_it_refuses_and_what_going_back_changes(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_images(tmp_path / "pictures", good=1, defective=1)
    camera = {"uri": str(images), "rate_fps": 20, "loop": True}
    manager = NotifySocket(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    with closing(manager), PageStation(tmp_path, camera, bundle) as station:
        station.settings["decision"] = {"guard_band": 0.02}
        station.reload()
        wait_until(partial(reloaded, station, 1), "another guard band")
        assert station.log.count("decision.guard_band 0.0 → 0.02") == 1
        wait_until(lambda: station.status()["status"]["model"]["guard_band"] > 0, "it is shown")
        back = "decision.guard_band 0.02 → 0.0"
        assert station.status()["status"]["model"]["before"]["changes"] == back
        done = station.act("rollback").json()["done"]
        assert (done["changed"], done.get("before")) == (back, None)
        wait_until(lambda: len(station.events("decision_changed")) == 2, "both are recorded")
        assert station.events("decision_changed")[0]["data"]["changed"] == back
        assert station.events("threshold_changed") == []
        assert not (tmp_path / "journal" / "overrides.json").exists()

        token = Path(station.settings["hmi"]["token_file"])
        token.write_text("short\n")
        station.reload()
        wait_until(partial(refused, station, 1), "a token that can be guessed")
        assert station.act("unlock").status_code == 200
        token.write_text(TOKEN[::-1] + "\n")
        station.reload()
        wait_until(partial(reloaded, station, 2), "another token")
        assert "token of the page" in station.log
        wait_until(lambda: station.act("unlock").status_code == 401, "the former is wrong")
        assert station.act("unlock", authorization=f"Bearer {TOKEN[::-1]}").status_code == 200

        station.settings["camera"]["queue_depth"] = 3
        station.reload()
        wait_until(partial(refused, station, 2), "a key that needs a restart")
        printed = "STATUS=inspecting; the last reload was refused: camera.queue_depth changed,"
        manager.wait_for(printed)
        del station.settings["camera"]["queue_depth"]
        station.reload()
        wait_until(partial(reloaded, station, 3), "the change taken back")
        notified = [message for message in manager.received if message != "WATCHDOG=1"]
        assert notified[-1] == "READY=1\nSTATUS=inspecting"

        assert station.stop() == 0


def test_the_decision_is_exchanged_without_the_files_of_the_model(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "images", good=2, defective=0)
    camera = {"uri": str(images), "rate_fps": 20, "loop": True}
    with PageStation(tmp_path, camera, bundle) as station:

        def see_parts() -> None:
            newest = station.parts(max_count=1)[0]["seq"]
            wait_until(lambda: station.parts(max_count=1)[0]["seq"] > newest + 2, "more parts")

        for file in bundle.parent.glob(f"{bundle.stem}.*"):
            file.unlink()
        assert station.act("threshold", {"image_threshold": 31.0}).json()["done"]["now"] == 31.0
        see_parts()
        station.settings["decision"] = {"guard_band": 0.02}
        station.settings["camera"]["crop"] = {"x": 0, "y": 0, "width": 120, "height": 100}
        station.reload()
        wait_until(partial(reloaded, station, 1), "guard band and crop")
        see_parts()
        write_bundle(bundle.parent, bundle.stem)
        content = json.loads(bundle.with_suffix(".json").read_bytes())
        content["threshold"] |= {"image": 40.0, "interval": None}
        bundle.with_suffix(".json").write_text(json.dumps(content))
        assert station.act("threshold", {"image_threshold": 32.0}).json()["done"]["now"] == 32.0
        assert "reload once more to load them" in station.log
        see_parts()
        station.reload()  # nothing but the files has changed
        wait_until(partial(reloaded, station, 2), "the other model")
        see_parts()
        assert station.stop() == 0

    assert station.log.count("check the threshold with known parts") == 1
    with closing(sqlite3.connect(station.journal)) as journal:
        rows = journal.execute("SELECT payload FROM record WHERE kind='verdict' ORDER BY seq")
        verdicts = [json.loads(payload) for (payload,) in rows]
    # One setting after the other, none mixed with another, and none comes back.
    settings = [(v["config_sha256"], v["model"]["sha256"], v["raw_threshold"]) for v in verdicts]
    in_turn = [one for n, one in enumerate(settings) if not n or settings[n - 1] != one]
    assert [threshold for _, _, threshold in in_turn] == [20.0, 31.0, 31.0, 32.0, 40.0]
    assert len({sha256 for sha256, _, _ in in_turn}) == 5
    assert len({sha256 for _, sha256, _ in in_turn}) == 2


def test_no_settings_file_ends_a_running_station_however_broken_it_is(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "pictures", good=1, defective=1)
    camera = {"uri": str(images), "rate_fps": 20, "loop": True}
    with PageStation(tmp_path, camera, bundle) as station:
        for number, content in enumerate(BROKEN, 1):
            station.reload(content)
            wait_until(partial(refused, station, number), repr(content[:30]))
        seen = station.parts(max_count=1)[0]["seq"]
        wait_until(lambda: station.parts(max_count=1)[0]["seq"] > seen + 2, "it still inspects")

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
