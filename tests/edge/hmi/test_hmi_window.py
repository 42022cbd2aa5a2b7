"""The window of ``--show``, on a virtual screen."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from edge.hmi.window.main import draw_part
from tests.support.page_contents import sample_part
from tests.support.page_station import PageStation, wait_until
from tests.support.small_bundle import write_images


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A virtual screen; its number is the first free one."""
    server = shutil.which("Xvfb")
    assert server, "Xvfb is missing. Run: make packages"
    reading, writing = os.pipe()
    command = [server, "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as process:
        os.close(writing)
        with os.fdopen(reading) as reported:
            display = f":{reported.readline().strip()}"
        monkeypatch.setenv("DISPLAY", display)
        yield display
        process.terminate()


@pytest.fixture
def station(tmp_path: Path, bundle: Path) -> PageStation:
    images = write_images(tmp_path / "pictures", good=1, defective=1)
    camera = {"uri": str(images), "rate_fps": 10, "loop": True}
    one = PageStation(tmp_path, camera, bundle)
    del one.settings["hmi"]
    one.settings["show"] = {"window": True}
    return one


def find_window(station: PageStation) -> psutil.Process | None:
    for child in psutil.Process(station.pid).children():
        with suppress(psutil.NoSuchProcess):  # others may have ended
            if "edge.hmi.window.main" in child.cmdline():
                return child
    return None


def test_a_window_opens_and_whoever_closes_it_does_not_stop_the_line(
    station: PageStation, screen: str
) -> None:
    station.launch()
    try:
        wait_until(lambda: find_window(station) is not None, "the window's process")
        window = find_window(station)
        assert window is not None
        wait_until(lambda: _titles(screen).count("edge-run") > 0, "the window")

        window.send_signal(signal.SIGKILL)

        wait_until(lambda: "inspection continues without it" in station.log, "it is told")
        assert psutil.Process(station.pid).is_running()
        assert station.stop() == 0
    finally:
        station.close()


def test_without_a_desktop_it_is_reported_before_anything_is_inspected(
    station: PageStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    station.launch()

    assert station.wait() == 78
    assert "there is no desktop here" in station.log


def test_a_part_without_an_image_is_shown_as_a_card() -> None:
    part = sample_part(result="ERROR", reason="camera_lost", score=None)

    assert draw_part(part, None).shape == (404, 480, 3)


def _titles(screen: str) -> str:
    done = subprocess.run(
        ["xwininfo", "-root", "-tree", "-display", screen],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout
