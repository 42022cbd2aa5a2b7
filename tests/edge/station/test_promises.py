"""What a station promises when the world around it fails, on ``edge-run`` itself."""

import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.imaging.image_files import write_image
from edge.journal.verification import verify_chain
from edge.station.recording.verdict_recorder import QUEUE_BOUND
from tests.support.broken_network import BrokenNetwork, Mood
from tests.support.broker import GENEROUS_S, Broker
from tests.support.hanging_model import hanging_model
from tests.support.journaling import remove_folder
from tests.support.service_manager import NotifySocket
from tests.support.small_bundle import good_image, write_bundle, write_images
from tests.support.station_process import StationProcess, until

RATE_FPS = 50.0


@pytest.fixture
def settings(tmp_path: Path, bundle: Path) -> dict[str, Any]:
    """Of a station that inspects the same few images again and again."""
    frames = write_images(tmp_path / "frames", good=3, defective=1)
    return {
        "camera": {"uri": str(frames), "rate_fps": RATE_FPS, "loop": True},
        "model": {"path": str(bundle)},
    }


@pytest.fixture
def line(
    tmp_path: Path, running_broker: Broker, settings: dict[str, Any]
) -> Iterator[StationProcess]:
    """A station that is not started yet."""
    station = StationProcess(tmp_path, running_broker, settings)
    yield station
    station.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def journalled(line: StationProcess) -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{line.journal / 'journal.db'}?mode=ro", uri=True) as database:
        rows = database.execute(
            "SELECT payload FROM record WHERE kind = 'verdict' ORDER BY seq"
        ).fetchall()
    return [json.loads(payload) for (payload,) in rows]


def test_a_hung_inference_ends_the_process_and_its_service_manager_is_no_longer_fed(
    tmp_path: Path, running_broker: Broker, settings: dict[str, Any]
) -> None:
    white = good_image()
    white[30:90, 40:120] = 255
    write_image(tmp_path / "frames" / "white.png", white)
    settings["model"] = {"path": str(write_bundle(tmp_path, "hanging", model=hanging_model()))}
    settings["watchdog"] = {"inspect_s": 2.0}
    manager = NotifySocket(tmp_path / "notify")
    line = StationProcess(tmp_path, running_broker, settings, manager.environment(watchdog_s=2.0))
    with line:
        assert line.wait() == 70

    printed = manager.received
    manager.close()
    assert any(message.startswith("READY=1") for message in printed)
    # A machine that stalls may make a stage silent, too; that was forgiven when it came back.
    given_up = max(i for i, message in enumerate(printed) if "given up" in message)
    assert not any("WATCHDOG=1" in message for message in printed[given_up:])
    assert "inspect 1 silent" in line.log
    assert "inspector.py" in line.log  # where it hung


def test_a_killed_station_goes_on_where_its_journal_ends(line: StationProcess) -> None:
    line.start()
    line.verdicts(5)
    line.kill()
    before = journalled(line)
    line.start()
    verdicts = line.verdicts(len(before) + 5)
    state = [one for one in line.states("online", 2) if one["state"] == "online"][-1]

    assert line.stop() == 0
    assert state["restarts_1h"] == 1
    assert len({verdict["journal"] for verdict in verdicts}) == 1
    assert journalled(line)[: len(before)] == before
    assert [v["seq"] for v in journalled(line)] == list(range(1, len(journalled(line)) + 1))


def waiting(line: StationProcess) -> int:
    """Return how many records the broker does not have."""
    with sqlite3.connect(f"file:{line.journal / 'journal.db'}?mode=ro", uri=True) as database:
        (count,) = database.execute("SELECT count(*) FROM record WHERE NOT acknowledged").fetchone()
    return int(count)


@pytest.mark.parametrize("mood", [Mood.STALLED, Mood.SWALLOWING])
def test_a_broker_that_stalls_holds_up_no_inspection(
    tmp_path: Path, running_broker: Broker, settings: dict[str, Any], mood: Mood
) -> None:
    network = BrokenNetwork(running_broker.port)
    settings["mqtt"] = {"url": f"mqtt://127.0.0.1:{network.port}", "station": "site/line/cell/top"}
    with StationProcess(tmp_path, running_broker, settings) as line:
        line.verdicts(10)
        network.mood = mood
        count = len(journalled(line))
        until(lambda: len(journalled(line)) > count + 100, "inspection goes on")
        network.mood = Mood.FINE
        network.reset()
        verdicts = line.verdicts(count + 100)

        assert line.stop() == 0
    network.close()

    # Whoever waits for the network waits for seconds; a busy machine needs some ms more.
    totals = sorted(verdict["duration_ms"]["total"] for verdict in verdicts)
    assert totals[len(totals) // 2] < 5 * 1e3 / RATE_FPS


def test_a_journal_that_cannot_be_written_is_waited_for_and_nothing_is_lost(
    line: StationProcess,
) -> None:
    line.start()
    line.verdicts(5)
    other = sqlite3.connect(line.journal / "journal.db", isolation_level=None, timeout=GENEROUS_S)
    other.execute("BEGIN IMMEDIATE")
    line.degraded("journal_unwritable")
    until(lambda: "cannot be written" in line.log, "the cause is told")
    other.execute("ROLLBACK")
    other.close()
    verdicts = line.verdicts(len(journalled(line)) + 20)

    assert line.stop() == 0
    assert [v["seq"] for v in verdicts] == list(range(1, len(verdicts) + 1))


def test_a_full_disk_stops_the_snapshots_first_and_the_journal_goes_on(
    line: StationProcess, small_disk: Path
) -> None:
    line.settings["journal"]["folder"] = str(small_disk / "journal")
    line.journal = small_disk / "journal"
    line.settings["snapshots"] = {
        "folder": str(small_disk / "snapshots"),
        "every_nth_ok": 1,
        # The journal's log takes 4 MiB before it is used again; the test may be slow, too.
        "free_space_floor_bytes": 14 * 2**20,
    }
    line.start()
    line.degraded("snapshots_stopped")
    stopped_at = len(journalled(line))
    verdicts = line.verdicts(stopped_at + 50)

    assert line.stop() == 0
    assert [v["seq"] for v in verdicts] == list(range(1, len(verdicts) + 1))
    kept = [v for v in verdicts if v["image"]["heatmap_uri"]]
    assert kept and len(kept) < len(verdicts)
    assert not any(v["image"]["heatmap_uri"] for v in verdicts[-20:])


def newest(line: StationProcess) -> int:
    seq: int = journalled(line)[-1]["seq"]
    return seq


def many_names(folder: Path, frames: Path) -> Path:
    """Give an image a thousand names, and so its overlays."""
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number}.png").symlink_to(frames / "good_1.png")
    return folder


def test_a_station_whose_journal_is_full_ends_before_it_is_killed(
    line: StationProcess, running_broker: Broker, tmp_path: Path
) -> None:
    overlays = tmp_path / "overlays"
    line.settings["journal"]["max_rows"] = 100
    line.settings["save"] = {"folder": str(overlays)}  # one for each verdict that is queued
    line.settings["camera"]["uri"] = str(many_names(tmp_path / "many", tmp_path / "frames"))
    line.start()
    line.verdicts(1)
    running_broker.stop()
    until(lambda: waiting(line) >= 99, "the journal is full")
    until(
        lambda: len(list(overlays.glob("*.jpg"))) > newest(line) + QUEUE_BOUND,
        "the queue behind it is full, too",
    )
    began_s = time.monotonic()

    assert line.stop() == 74
    assert time.monotonic() - began_s < 25.0  # the unit's TimeoutStopSec is 30 s
    assert "has no record" in line.log
    assert f"The newest verdict on record is number {newest(line)}." in line.log


def test_stopping_with_an_unwritable_journal_ends_with_74_and_names_the_parts(
    line: StationProcess,
) -> None:
    line.start()
    line.verdicts(5)
    other = sqlite3.connect(line.journal / "journal.db", isolation_level=None, timeout=GENEROUS_S)
    other.execute("BEGIN IMMEDIATE")
    line.degraded("journal_unwritable")
    on_record = newest(line)

    assert line.stop() == 74
    other.execute("ROLLBACK")
    other.close()
    end = line.log[line.log.rindex(" no record: ") :]
    assert "part good_" in end
    assert f"The newest verdict on record is number {on_record}. Inspect these parts again." in end
    assert "the journal cannot be written (database is locked)" in end
    assert len(re.findall("not recorded: part .* id ", line.log)) == int(
        re.findall(r"(\d+) parts? ha(?:s|ve) no record", line.log)[-1]
    )
    assert line.states("stopped")[-1]["reasons"] == ["journal_unwritable"]


class Away:
    """A way for the journal's folder to be gone, and to come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.elsewhere = folder.with_name("elsewhere")

    def rename(self) -> None:
        self.folder.rename(self.elsewhere)

    def rename_back(self) -> None:
        self.elsewhere.rename(self.folder)

    def remove(self) -> None:
        remove_folder(self.folder)

    def make_again(self) -> None:
        self.folder.mkdir()

    def cover(self) -> None:
        command = ["mount", "-t", "tmpfs", "tmpfs", str(self.folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a file system")

    def uncover(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)


def test_a_journal_whose_folder_goes_away_is_reported_and_nothing_is_lost(
    line: StationProcess,
) -> None:
    line.start()
    away = Away(line.journal)
    ways = (
        (away.rename, away.rename_back, f"was renamed to {away.elsewhere}"),
        (away.remove, away.make_again, "were removed from"),
        (away.cover, away.uncover, "is covered by a mount"),
    )
    for number, (go, come_back, reported) in enumerate(ways, 1):
        line.verdicts(len(line.verdicts(1)) + 5)
        go()
        state = line.degraded("journal_unwritable", number)[-1]
        until(lambda reported=reported: reported in line.log, reported)
        before = len(line.verdicts(1))
        come_back()
        (*_, event) = line.events("journal_displaced", number)
        line.verdicts(before + 20)
        line.states("online", number + 1)

        assert reported in event["detail"]
        assert state["trigger_ready"] is None  # this station takes none; its record stands still
    assert line.stop() == 0

    verdicts = line.verdicts(1)
    assert {one["journal"] for one in verdicts} == {verdicts[0]["journal"]}
    first = list(dict.fromkeys(one["seq"] for one in verdicts))
    assert first == list(range(1, newest(line) + 1))
    assert [v["seq"] for v in journalled(line)] == first
    assert verify_chain(line.journal / "journal.db").fault is None


def test_a_station_that_stops_while_its_journal_is_elsewhere_names_the_parts_and_no_file(
    line: StationProcess, running_broker: Broker
) -> None:
    line.start()
    line.verdicts(5)
    running_broker.stop()
    away = Away(line.journal)
    away.rename()
    until(lambda: "was renamed to" in line.log, "the folder is missed")

    assert line.stop() == 74
    assert " no record: " in line.log
    assert f"{line.journal}/journal.db" not in line.log[line.log.index("was renamed to") :]
    assert "Nothing is lost" not in line.log


def test_two_stations_cannot_write_one_journal(line: StationProcess, tmp_path: Path) -> None:
    line.start()
    line.verdicts(1)
    with StationProcess(tmp_path, line.broker, line.settings) as second:
        assert second.wait() == 78
    assert "another station writes this journal" in second.log
    assert line.stop() == 0


def test_a_station_without_its_broker_ends_in_order_and_says_where_the_verdicts_are(
    line: StationProcess, running_broker: Broker
) -> None:
    line.start()
    line.verdicts(5)
    running_broker.stop()
    count = len(journalled(line))
    until(lambda: len(journalled(line)) > count + 1, "a verdict that the broker never saw")

    assert line.stop() == 0
    assert "Nothing is lost" in line.log
