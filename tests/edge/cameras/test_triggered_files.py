"""Software triggers with files: the hand-shake for whoever has no camera yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.small_bundle import write_images
from tests.support.station_process import StationProcess

SOFTWARE = {"mode": "software", "frame_timeout_ms": 60_000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "in", good=2, defective=1)


@pytest.fixture
def station(
    tmp_path: Path, folder: Path, bundle: Path, running_broker: Broker
) -> Iterator[StationProcess]:
    """A station that is not started yet."""
    one = StationProcess(
        tmp_path,
        running_broker,
        {
            "camera": {"uri": str(folder), "trigger": SOFTWARE},
            "model": {"path": str(bundle)},
            "recipe": {"id": "bottle", "version": 1},
        },
    )
    yield one
    one.close()


def test_each_trigger_inspects_the_next_file_of_a_folder(station: StationProcess) -> None:
    station.settings["camera"]["loop"] = True
    with station:
        for number in range(4):
            station.ready()
            station.trigger(f"t{number}", f"part-{number}")
            station.phases("exposed", number + 1)
        verdicts = station.verdicts(4)
        station.trigger("t4", "part-4", recipe={"id": "bottle", "version": 2})
        (rejected,) = [one for one in station.phases("rejected", 1) if one["phase"] == "rejected"]
        mismatch = station.verdicts(5)[4]

    files = [verdict["image"]["source_uri"].rpartition("/")[2] for verdict in verdicts]
    assert files == ["good_1.png", "good_2.png", "spot_1.png", "good_1.png"]
    assert [verdict["part_id"] for verdict in verdicts] == [f"part-{n}" for n in range(4)]
    assert [verdict["result"] for verdict in verdicts] == ["OK", "OK", "NOK", "OK"]
    assert {verdict["trigger_source"] for verdict in verdicts} == {"software"}
    assert rejected["reason"] == mismatch["reason"] == "recipe_mismatch"
    assert (mismatch["result"], mismatch["reason_code"]) == ("ERROR", 52)


def test_each_trigger_inspects_the_next_image_of_a_watched_folder(
    station: StationProcess, folder: Path
) -> None:
    watched = {"uri": f"watch://{folder}", "watch": {"existing": "take"}, "trigger": SOFTWARE}
    station.settings["camera"] = watched
    with station:
        for number in range(3):
            station.ready()
            station.trigger(f"t{number}", f"part-{number}")
            station.phases("exposed", number + 1)
        station.ready()
        station.trigger("t3", "part-3")  # is there before its image
        station.phases("accepted", 4)
        write_images(folder / "next", good=3)
        (folder / "next" / "good_3.png").rename(folder / "late.png")
        verdicts = station.verdicts(4)

    files = [verdict["image"]["source_uri"].rpartition("/")[2] for verdict in verdicts]
    assert sorted(files[:3]) == ["good_1.png", "good_2.png", "spot_1.png"]
    assert files[3] == "late.png"
    assert [verdict["part_id"] for verdict in verdicts] == [f"part-{n}" for n in range(4)]
    assert not any(verdict["simulated"] for verdict in verdicts)


def test_a_trigger_without_an_image_is_an_error_and_says_so_when_it_is_sent_again(
    station: StationProcess, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    trigger = {"mode": "software", "frame_timeout_ms": 50}
    station.settings["camera"] = {"uri": f"watch://{tmp_path}/empty", "trigger": trigger}
    with station:
        station.ready()
        station.trigger("t1", "part-1")
        (verdict,) = station.verdicts(1)
        station.trigger("t1", "part-1")
        reported = station.phases("decided", 1)[-1]

    assert (verdict["result"], verdict["reason"]) == ("ERROR", "timeout")
    assert (reported["phase"], reported["result"], reported["seq"]) == (
        "decided",
        "ERROR",
        verdict["seq"],
    )
