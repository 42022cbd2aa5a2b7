"""How edge-run starts on a camera that is not as the settings say, and what it does about it.

What only another setting can cure ends with 78. What may cure itself is waited for, and said.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.edge.conftest import EdgeRun
from tests.support.aravis_fixtures import numbered_images, opened
from tests.support.broker import Broker
from tests.support.gige_camera import GigECamera
from tests.support.network_camera import NetworkCamera
from tests.support.small_bundle import defective_image, good_image, write_images
from tests.support.station_process import StationProcess, until

UNANNOUNCED = {"mode": "hardware", "announced": False}


@pytest.fixture
def camera() -> Iterator[GigECamera]:
    with GigECamera([good_image(1), defective_image(2)], rate_fps=20, noise=2) as one:
        yield one


@pytest.fixture
def line(tmp_path: Path, bundle: Path, running_broker: Broker) -> Iterator[StationProcess]:
    """A station whose camera the test names."""
    station = StationProcess(tmp_path, running_broker, {"model": {"path": str(bundle)}})
    yield station
    station.close()


def refused(line: StationProcess, **camera: Any) -> str:
    """Start a station whose settings are wrong; returns the last line it said."""
    line.settings["camera"] = camera
    line.start()
    assert line.wait() == 78
    assert "Traceback" not in line.log
    return line.log.splitlines()[-1]


@pytest.mark.parametrize(
    ("sensor", "reported"),
    [
        ({"exposure_us": 5.0}, "camera.sensor.exposure_us: the camera does not accept"),
        ({"width_px": 161}, "camera.sensor.width_px: the camera does not accept 161; it allows"),
        ({"pixel_format": "YUV422_8"}, "this software reads Mono8"),
    ],
    ids=["exposure", "region", "pixel format"],
)
def test_a_setting_that_the_camera_does_not_take_ends_the_start(
    line: StationProcess, camera: GigECamera, sensor: dict[str, Any], reported: str
) -> None:
    assert reported in refused(line, uri=camera.uri, sensor=sensor)


@pytest.mark.parametrize(
    ("uri", "reported"),
    [
        ("gige://192.168.1.700", "not an IP address"),
        ("http://127.0.0.1:99999/x", "is not SCHEME://HOST"),
        ("watch://{file}", "is not a folder"),
    ],
)
def test_an_address_that_names_no_camera_ends_the_start(
    edge_run: EdgeRun, bundle: Path, tmp_path: Path, uri: str, reported: str
) -> None:
    (tmp_path / "file").touch()

    run = edge_run("--camera", uri.format(file=tmp_path / "file"), "--model", bundle)

    assert run.returncode == 78
    assert reported in run.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("camera", "reported"),
    [
        (
            {"uri": "{folder}", "trigger": UNANNOUNCED},
            "(image files): camera.trigger.mode hardware",
        ),
        ({"uri": "0", "trigger": UNANNOUNCED}, "(V4L2 device): camera.trigger"),
        ({"uri": "gige://10.0.0.256"}, "not an IP address"),
        ({"uri": "rtsp://camera:0/1"}, "is not SCHEME://HOST"),
        ({"uri": "rtsp://camera/1", "sensor": {"gain_db": 1}}, "camera.sensor.gain_db cannot be"),
        ({"uri": "0", "sensor": {"frame_rate_fps": 0.5}}, "a frame comes every 2 s"),
    ],
)
def test_settings_that_no_camera_of_their_kind_takes_are_found_by_the_check(
    edge_run: EdgeRun, bundle: Path, tmp_path: Path, camera: dict[str, Any], reported: str
) -> None:
    camera["uri"] = camera["uri"].format(folder=write_images(tmp_path / "in", good=1))
    config = tmp_path / "station.yaml"
    config.write_text(yaml.safe_dump({"camera": camera, "model": {"path": str(bundle)}}))

    run = edge_run("--config", config, "--check")

    assert run.returncode == 78
    assert reported in run.stderr


def test_a_wrong_password_ends_the_start_and_is_not_shown(line: StationProcess) -> None:
    camera = NetworkCamera()
    uri = camera.uri.replace("geheim", "falsch")

    reported = refused(line, uri=uri)

    camera.close()
    assert "does not accept user and password (401)" in reported
    assert "falsch" not in line.log and "geheim" not in line.log


def test_a_camera_in_use_is_waited_for_and_reported(
    line: StationProcess, camera: GigECamera
) -> None:
    line.settings["camera"] = {"uri": camera.uri}
    with opened(camera.uri):
        line.start()
        (printed,) = line.degraded("camera_lost")
        event = line.events("camera_lost")[0]
        assert "another program controls this camera" in event["detail"]
        assert "edge-run --doctor" in event["detail"]
        assert printed["state"] == "degraded"
    line.states("online")
    line.verdicts(3)

    assert line.stop() == 0


def test_an_address_on_another_interface_is_waited_for_with_words_about_the_network(
    line: StationProcess,
) -> None:
    line.settings["camera"] = {"uri": "gige://192.0.2.77"}
    line.start()
    line.degraded("camera_lost")
    detail = line.events("camera_lost")[0]["detail"]

    assert "an interface of this machine is in its subnet" in detail
    assert line.stop() == 0


def test_a_camera_that_hangs_is_reported_and_goes_on_when_it_wakes_up(
    line: StationProcess, camera: GigECamera
) -> None:
    line.settings["camera"] = {"uri": camera.uri}
    line.start()
    line.verdicts(4)
    camera.stop()
    until(lambda: line.verdicts(1)[-1]["reason"] == "camera_lost", "the loss is a verdict")
    lost = line.verdicts(1)
    camera.go_on()
    line.events("camera_back")
    line.states("online", 2)
    after = line.verdicts(len(lost) + 6)[len(lost) :]

    assert line.stop() == 0
    assert [v["reason"] for v in lost].count("camera_lost") == 1
    assert any(v["result"] == "OK" for v in after)


def test_a_watched_folder_that_vanishes_is_reported_and_comes_back_without_a_restart(
    line: StationProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    images = write_images(tmp_path / "made", good=2)
    line.settings["camera"] = {"uri": f"watch://{folder}"}
    line.start()
    line.states("online")
    (images / "good_1.png").rename(folder / "a.png")
    line.verdicts(1)
    folder.rename(tmp_path / "gone")
    line.degraded("camera_lost")
    folder.mkdir()
    line.events("camera_back")
    (images / "good_2.png").rename(folder / "b.png")
    verdicts = line.verdicts(3)

    assert line.stop() == 0
    assert [v["reason"] for v in verdicts] == ["score_below", "camera_lost", "score_below"]


def test_a_camera_that_is_switched_off_while_another_setting_is_wrong_is_reported_when_it_comes(
    line: StationProcess,
) -> None:
    device = GigECamera(numbered_images(4))
    line.settings["camera"] = {"uri": device.uri, "sensor": {"exposure_us": 5.0}}
    line.start()
    line.degraded("camera_lost")
    device.start()

    assert line.wait() == 78
    until(lambda: "camera.sensor.exposure_us" in line.log, "the setting is named")
    device.close()
