"""What the doctor says about cameras, over real GigE Vision."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.cameras.genicam import gvcp
from edge.cli.options import parser
from edge.doctor.camera import Thoroughness, camera_findings, loss_finding, trigger_finding
from edge.doctor.examination import bounded
from edge.doctor.finding import Finding, Grade, good
from edge.doctor.image_tests import LossTest, TriggerTest
from edge.doctor.programs import (
    WITH_CAMERA,
    WITHOUT_CAMERA,
    holders,
    running_stations,
    stations_with,
)
from edge.imaging.frame import Frame
from edge.settings.camera import CameraSettings
from tests.edge.conftest import EdgeRun
from tests.support.aravis_fixtures import numbered_images, opened
from tests.support.broker import Broker
from tests.support.gige_camera import GigECamera
from tests.support.network_camera import NetworkCamera
from tests.support.small_bundle import defective_image, good_image, write_images
from tests.support.stalls import Stalls
from tests.support.station_process import StationProcess

# All images of a test fit: one that meets a busy machine loses none.
ROOMY = {"buffers": 64}
QUICK = Thoroughness(images=40, loss_s=10.0, triggers=3, edge_s=0.3)
FAST_FPS = 100.0
# The doctor waits for so long for an answer.
MAX_STALL_S = 0.4


def looked_at(
    uri: str, stations: list[int] | None = None, **settings: Any
) -> tuple[dict[str, Finding], Frame | None]:
    """Return the findings by their subject, and the image that is left over.

    A machine that stood still for longer than a camera may is looked at anew.
    """
    camera = CameraSettings.model_validate({"uri": uri, **settings})
    for _ in range(4):
        with closing(Stalls()) as stalls:
            seen = _looked_at(camera, stations)
        if stalls.lasted_s < MAX_STALL_S:
            break
    return seen


def _looked_at(
    camera: CameraSettings, stations: list[int] | None
) -> tuple[dict[str, Finding], Frame | None]:
    findings = camera_findings(camera, stations or [], QUICK)
    found: dict[str, Finding] = {}
    while True:
        try:
            finding = next(findings)
        except StopIteration as end:
            return found, end.value
        found[finding.subject] = finding


def grades(found: dict[str, Finding]) -> dict[str, Grade]:
    return {subject: finding.grade for subject, finding in found.items()}


def loss(
    complete: int = 200, incomplete: int = 0, not_new: int = 0, missing: int = 0, lost: str = ""
) -> LossTest:
    return LossTest(
        complete=complete,
        incomplete=incomplete,
        not_new=not_new,
        missing=missing,
        fault="why",
        lost=lost,
        seconds=2.0,
        newest=None,
    )


def test_a_sound_camera_is_seen_with_its_network_its_access_and_its_settings() -> None:
    with GigECamera(numbered_images(64), rate_fps=FAST_FPS) as device:
        found, frame = looked_at(device.uri, sensor={"exposure_us": 2000.0})

    assert grades(found)["camera"] is grades(found)["access"] is Grade.GOOD
    assert "exposure_us 2000" in found["settings it accepted"].found
    assert found["packet size"].grade is Grade.ADVICE and "MTU" in found["packet size"].advice
    assert found["loss test"].found.startswith("40 images in ")
    assert found["network interface"].found.startswith("lo (127.")
    assert device.serial in found["cameras that answer"].found
    assert frame is not None and frame.pixels.shape == (48, 64)


def test_lost_packets_are_counted_and_reported() -> None:
    images = [good_image(n) for n in range(8)]
    with GigECamera(images, rate_fps=FAST_FPS, loss=0.02) as device:
        found, _ = looked_at(device.uri)

    assert found["loss test"].grade is Grade.FAULT
    assert "packet_delay_ns" in found["loss test"].advice


def test_a_camera_that_repeats_one_image_is_at_fault() -> None:
    with GigECamera(numbered_images(1), rate_fps=FAST_FPS) as device:
        found, _ = looked_at(device.uri, sensor=ROOMY)

    assert found["loss test"].grade is Grade.FAULT
    assert "39 not new (the same frame" in found["loss test"].found


def test_software_triggers_are_tried_and_hardware_ones_are_waited_for() -> None:
    with GigECamera(numbered_images(64), rate_fps=FAST_FPS) as device:
        fired, _ = looked_at(device.uri, sensor=ROOMY, trigger={"mode": "software"})
        waited, _ = looked_at(device.uri, sensor=ROOMY, trigger={"mode": "hardware"})

    assert fired["trigger test"].grade is Grade.GOOD
    assert fired["trigger test"].found.startswith("3 of 3 answered in ")
    assert fired["loss test"].grade is waited["loss test"].grade is Grade.GOOD
    assert waited["trigger test"].grade is Grade.NOT_SEEN
    assert "no edge on Line1" in waited["trigger test"].found


def test_a_trigger_that_the_camera_does_not_have_is_a_fault_and_the_examination_goes_on() -> None:
    with GigECamera(numbered_images(64), rate_fps=FAST_FPS) as device:
        trigger = {"mode": "hardware", "source": "Line7"}
        found, frame = looked_at(device.uri, sensor=ROOMY, trigger=trigger)

    assert found["trigger test"].grade is Grade.FAULT
    assert "camera.trigger.source" in found["trigger test"].found
    assert found["loss test"].grade is Grade.GOOD and frame is not None


def test_a_camera_that_another_program_has_is_left_alone() -> None:
    with GigECamera(numbered_images(8)) as device, opened(device.uri) as camera:
        found, _ = looked_at(device.uri)
        by_station, _ = looked_at(device.uri, stations=[1])
        assert camera.read(5.0) is not None

    assert found["access"].grade is Grade.FAULT
    assert found["access"].found == "another program uses it: the camera does not report which"
    assert "heartbeat" in found["access"].advice
    assert "loss test" not in found and "camera" not in found
    assert by_station["access"].grade is Grade.GOOD
    assert by_station["loss and trigger test"].grade is Grade.NOT_SEEN


def test_a_setting_that_the_camera_does_not_take_and_an_absent_camera_are_faults() -> None:
    with GigECamera(numbered_images(2)) as device:
        refused, _ = looked_at(device.uri, sensor={"exposure_us": 5.0})
    absent, frame = looked_at(device.uri)

    assert "camera.sensor.exposure_us: the camera does not accept" in refused["camera"].found
    assert "no camera answers at this address" in absent["camera"].found
    assert refused["camera"].grade is absent["camera"].grade is Grade.FAULT
    assert frame is None


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ftp://x", "no camera has the scheme"),
        ("gige://", "nothing stands after"),
        ("{folder}/none", "no such file or folder"),
        ("watch://{folder}/none", "is not there"),
        ("/dev/video77", "no such camera"),
    ],
)
def test_whatever_the_camera_is_its_fault_is_one_finding(
    tmp_path: Path, uri: str, words: str
) -> None:
    found, _ = looked_at(uri.format(folder=tmp_path))

    assert found["camera"].grade is Grade.FAULT
    assert words in found["camera"].found


@pytest.mark.parametrize("uri", ["{folder}", "watch://{folder}", "rtsp://camera/1", "/dev/video77"])
def test_a_trigger_that_no_camera_of_its_kind_takes_is_a_fault(tmp_path: Path, uri: str) -> None:
    images = write_images(tmp_path / "frames")

    found, _ = looked_at(uri.format(folder=images), trigger={"mode": "hardware"})

    assert found["camera"].grade is Grade.FAULT
    assert "camera.trigger.mode hardware is only for gige://" in found["camera"].found


def test_files_folders_and_streams_are_looked_at_too(tmp_path: Path) -> None:
    images = write_images(tmp_path / "frames")
    camera = NetworkCamera()

    files, image = looked_at(str(images))
    watched, none = looked_at(f"watch://{tmp_path}")
    stream, frame = looked_at(camera.uri)
    camera.close()

    assert files["camera"].grade is watched["camera"].grade is Grade.GOOD
    assert image is not None and none is None and frame is not None
    assert stream["loss test"].grade is Grade.GOOD
    assert not any("geheim" in finding.found for finding in stream.values())


def test_the_doctor_of_a_running_station_does_not_disturb_it(
    tmp_path: Path, bundle: Path, running_broker: Broker, edge_run: EdgeRun
) -> None:
    with GigECamera([good_image(1), defective_image(2)], rate_fps=10, noise=2) as camera:
        # What a busy machine does to the station is not the doctor's doing.
        supervision = {"lost_after_s": 30.0, "max_age_ms": 60_000.0}
        settings = {
            "camera": {"uri": camera.uri, "supervision": supervision},
            "model": {"path": str(bundle)},
        }
        with StationProcess(tmp_path, running_broker, settings) as station:
            before = station.verdicts(5)
            run = edge_run("--doctor", "--config", station.config)
            after = station.verdicts(len(before) + 10)
            printed = station.states("online")
            assert gvcp.control(camera.address, 1.0) is not None

            assert station.stop() == 0

    assert "edge-run is using it" in run.stdout
    assert f"(process {station.pid})" in run.stdout
    assert run.returncode == 0, run.stdout
    assert "Traceback" not in run.stderr
    assert {v["result"] for v in after[len(before) :]} <= {"OK", "NOK"}
    entered = {
        state["since_utc"]: state["state"] for state in printed
    }  # each is said again and again
    assert list(entered.values()) == ["starting", "online"]
    assert len({state["session"] for state in printed}) == 1


def test_a_driver_that_never_returns_is_a_fault_and_keeps_nobody_waiting() -> None:
    released = threading.Event()

    def blocked() -> Iterator[Finding]:
        yield good("camera found", "one")
        released.wait(60.0)

    found = list(bounded(blocked(), limit_s=1.0))
    released.set()

    assert [finding.grade for finding in found] == [Grade.GOOD, Grade.FAULT]
    assert "has not returned for 1 s" in found[1].found


def test_stations_are_known_by_how_they_were_called(tmp_path: Path) -> None:
    calls = {
        11: ["/usr/bin/python3", "/opt/venv/bin/edge-run", "--config", "a.yaml"],
        12: ["edge-run", "--camera", "0"],
        13: ["python3", "-m", "edge.cli.main", "--config", "b.yaml"],
        14: ["/usr/bin/python3", "/opt/venv/bin/edge-run", "--doctor"],
        15: ["vi", "edge-run.service"],
        16: ["tail", "-f", "x", "edge-run"],
        17: ["edge-run", "--config", "own.yaml"],
    }
    for process, words in calls.items():
        folder = tmp_path / "proc" / str(process)
        folder.mkdir(parents=True)
        (folder / "cmdline").write_bytes(b"\0".join(word.encode() for word in words) + b"\0")

    assert running_stations(tmp_path, own=17) == [11, 12, 13]


def test_an_edge_run_that_was_asked_for_something_else_serves_no_station(tmp_path: Path) -> None:
    (actions,) = parser()._mutually_exclusive_groups
    named = {action.option_strings[-1] for action in actions._group_actions}
    assert named <= WITHOUT_CAMERA | WITH_CAMERA
    config = tmp_path / "station.yaml"
    asked = [*sorted(named), "--backup=cam1.backup", "--once"]
    for process, word in enumerate(asked, 11):
        folder = tmp_path / "proc" / str(process)
        folder.mkdir(parents=True)
        words = ["python", "/opt/edge/bin/edge-run", "--config", str(config), word]
        (folder / "cmdline").write_bytes(b"\0".join(one.encode() for one in words) + b"\0")

    stations = running_stations(tmp_path)

    assert {asked[one - 11] for one in stations} == {"--once", *WITH_CAMERA}
    assert stations_with(config, stations, tmp_path) == [11 + asked.index("--once")]


@pytest.mark.parametrize(
    ("line", "is_station"),
    [
        ("python /opt/edge/bin/edge-run --conf {config}", True),
        ("python -I -u /opt/edge/bin/edge-run --conf={config}", True),
        ("python3.11 -I -m edge.cli.main --config {config} --once", True),
        ("python /opt/edge/bin/edge-run --rec list --config {config}", False),
        ("/opt/edge/bin/edge-run -h --config {config}", False),
        ("journalctl -u edge-run --config {config}", False),
    ],
)
def test_a_station_is_known_with_options_shortened_and_an_interpreter_s_own(
    tmp_path: Path, line: str, is_station: bool
) -> None:
    config = tmp_path / "station.yaml"
    folder = tmp_path / "proc" / "11"
    folder.mkdir(parents=True)
    words = line.format(config=config).split()
    (folder / "cmdline").write_bytes(b"\0".join(one.encode() for one in words) + b"\0")
    stations = running_stations(tmp_path)
    assert stations == stations_with(config, stations, tmp_path) == ([11] if is_station else [])


def test_an_option_that_begins_as_another_is_taken_for_itself() -> None:
    known = WITHOUT_CAMERA | WITH_CAMERA | {"--config", "--settings"}
    others = set(parser()._option_string_actions) - known
    assert not [one for one in others for long in known if long.startswith(one)]


def test_who_holds_a_device_is_found(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    with device.open():
        assert holders(str(device)) != []
    assert holders(str(device)) == []


@pytest.mark.parametrize(
    ("test", "grade", "words"),
    [
        (loss(), Grade.GOOD, "none lost"),
        (loss(0), Grade.FAULT, "no image within"),
        (loss(3, lost="pulled"), Grade.FAULT, "after 3 images: pulled"),
        (loss(199, incomplete=1), Grade.ADVICE, "1 incomplete"),
        (loss(199, missing=1), Grade.ADVICE, "1 missing"),
        (loss(190, incomplete=5, missing=5), Grade.FAULT, "5 incomplete, 5 missing"),
        (loss(150, not_new=50), Grade.ADVICE, "50 not new"),
        (loss(1, not_new=199), Grade.FAULT, "199 not new"),
    ],
)
def test_a_loss_test_is_good_only_when_every_image_came_whole_and_new(
    test: LossTest, grade: Grade, words: str
) -> None:
    finding = loss_finding(test, Thoroughness())

    assert finding.grade is grade
    assert words in finding.found


@pytest.mark.parametrize(
    ("test", "grade", "words"),
    [
        (TriggerTest(5, (30.0, 40.0, 31.0, 32.0, 33.0), 0, ""), Grade.GOOD, "30 to 40 ms"),
        (TriggerTest(5, (30.0,), 0, ""), Grade.FAULT, "4 of 5 triggers gave no image"),
        (TriggerTest(5, (30.0,) * 5, 7, ""), Grade.FAULT, "7 images came without a trigger"),
        (TriggerTest(1, (), 0, "does not take it"), Grade.FAULT, "does not take it"),
    ],
)
def test_a_trigger_test_is_good_only_when_each_trigger_gave_its_image(
    test: TriggerTest, grade: Grade, words: str
) -> None:
    finding = trigger_finding(test, 1000.0)

    assert finding.grade is grade
    assert words in finding.found
