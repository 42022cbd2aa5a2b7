"""Output lines of a camera: set up at its opening, switched, at rest when it is let go of."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from edge.cameras.factory import supervised_camera
from edge.cameras.genicam.camera import open_aravis
from edge.cameras.interface import CameraLine
from edge.cameras.supervised.state_machine import CameraState
from edge.contract.event import Event
from edge.doctor.finding import Grade
from edge.doctor.outputs import output_findings
from edge.errors import CameraNotOpened, CameraSettingRefused
from edge.settings.camera import CameraSettings, TriggerSettings
from edge.settings.outputs import OutputsSettings
from edge.settings.station import Settings
from edge.station.monitoring.health import Health
from edge.station.outputs.control import OutputControl
from edge.station.outputs.devices import CameraLines, camera_lines
from edge.station.threads import Failures, Worker
from tests.support.aravis_fixtures import AS_IT_IS, FREE_RUN, numbered_images, patiently
from tests.support.gige_camera import GigECamera
from tests.support.station_process import until
from tests.support.supervised_line import GENEROUS_S, SupervisedLine

GOOD = CameraLine("Line2", False, "outputs.good.line")
REJECT = CameraLine("Line3", True, "outputs.reject.line")
FOURTH = CameraLine("Line4", True, "outputs.fault.line")


@pytest.fixture(scope="module")
def device() -> Iterator[GigECamera]:
    with GigECamera(numbered_images(2), rate_fps=25) as one:
        yield one


def test_lines_are_at_their_level_from_the_opening_on_and_again_when_it_is_let_go_of(
    device: GigECamera,
) -> None:
    camera = patiently(lambda: open_aravis(device.uri, AS_IT_IS, FREE_RUN, (GOOD, REJECT)))
    try:
        opened = device.lines()
        camera.set_line("Line2", True)
        camera.set_line("Line3", False)
        switched = device.lines()
    finally:
        camera.close()

    assert opened == {"Line2": False, "Line3": True, "Line4": None}
    assert switched == {"Line2": True, "Line3": False, "Line4": None}
    assert device.lines() == opened


KILLED = """
import sys
from edge.cameras.genicam.camera import open_aravis
from edge.cameras.interface import CameraLine
from tests.support.aravis_fixtures import AS_IT_IS, FREE_RUN, patiently
good = CameraLine("Line2", False, "outputs.good.line")
camera = patiently(lambda: open_aravis(sys.argv[1], AS_IT_IS, FREE_RUN, (good,)))
camera.set_line("Line2", True)
print("open", flush=True)
sys.stdin.read()
"""


def test_a_line_of_a_killed_station_keeps_its_level_until_the_next_start(
    device: GigECamera,
) -> None:
    """A camera need not change its outputs when its master is lost: docs/outputs.md says so."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, device.uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    process.kill()
    process.communicate()
    assert device.lines()["Line2"] is True

    def opened_again() -> bool:
        try:
            open_aravis(device.uri, AS_IT_IS, FREE_RUN, (GOOD,)).close()
        except CameraNotOpened:  # the heartbeat of the one before has not expired
            return False
        return True

    until(opened_again, "the next start")
    assert device.lines()["Line2"] is False


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([CameraLine("Line9", True, "outputs.good.line")], "Line9; it offers Line1, Line2, Line3"),
        ([CameraLine("Line1", True, "outputs.good.line")], "accept Output; it offers Input"),
        ([GOOD, REJECT, FOURTH], "outputs.fault.line: the camera does not accept Line4"),
    ],
)
def test_a_line_that_the_camera_does_not_have_or_cannot_switch_is_refused(
    device: GigECamera, lines: list[CameraLine], words: str
) -> None:
    with pytest.raises(CameraSettingRefused) as refused:
        patiently(lambda: open_aravis(device.uri, AS_IT_IS, FREE_RUN, lines))
    assert words in str(refused.value) and refused.value.exit_code == 78


def test_a_camera_that_comes_back_gets_the_levels_that_are_right_then() -> None:
    outputs = OutputsSettings.model_validate(
        {
            "reject": {"device": "camera", "line": "Line2"},
            "ready": {"device": "camera", "line": "Line3", "inverted": True},
        }
    )
    with GigECamera(numbered_images(2), rate_fps=25) as device:
        settings = CameraSettings(uri=device.uri, trigger=TriggerSettings(mode="software"))
        lines = camera_lines(outputs)
        with closing(
            SupervisedLine(lambda changed: supervised_camera(settings, changed, lines=lines))
        ) as line:
            line.camera.start()
            line.read_until_state(CameraState.WAITING_TRIGGER)
            events, health, failures = list[Event](), Health(), Failures()
            control = OutputControl(
                settings=outputs,
                devices={"camera": CameraLines(line.camera)},
                triggered=True,
                health=health,
                record_event=events.append,
            )
            usable: list[bool] = []
            control.open(usable.append)
            assert device.lines() == {"Line2": True, "Line3": True, "Line4": None}
            worker = Worker("outputs", control.threads[0].run, failures)
            worker.start()
            control.on_health(())
            control.ready(True)
            until(lambda: device.lines()["Line3"] is False, "ready, inverted")

            device.kill()
            line.read_until_state(CameraState.LOST)
            until(lambda: "output_camera_away" in health.reasons, "the loss")
            assert usable[-1] is False
            device.start()
            line.read_until_state(CameraState.WAITING_TRIGGER)
            until(lambda: usable[-1] and device.lines()["Line3"] is False, "ready again")
            control.close()
            assert worker.join(GENEROUS_S) and not failures.any()
            assert device.lines()["Line3"] is True
    kinds = [one.kind for one in events]
    assert kinds == ["output_away", "output_back"]


def test_the_lamp_test_switches_each_line_for_a_moment_and_back(device: GigECamera) -> None:
    settings = Settings.model_validate(
        {
            "camera": {"uri": device.uri},
            "model": {"path": "no.xml"},
            "journal": {"folder": "journal"},
            "outputs": {
                "good": {"device": "camera", "line": "Line2"},
                "fault": {"device": "camera", "line": "Line3"},
            },
        }
    )
    seen: list[tuple[bool | None, bool | None]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            levels = device.lines()
            now = (levels["Line2"], levels["Line3"])
            if not seen or seen[-1] != now:
                seen.append(now)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    findings = list(output_findings(settings, lamp_test=True, running=False))
    ended.set()
    watcher.join()

    assert [(one.grade, one.subject) for one in findings] == [
        (Grade.GOOD, "lamp test, good"),
        (Grade.GOOD, "lamp test, fault"),
    ]
    switched = seen[seen.index((True, True)) :]
    assert switched == [(True, True), (False, True), (False, False), (False, True)]


def test_the_doctor_switches_nothing_while_the_station_runs(device: GigECamera) -> None:
    settings = Settings.model_validate(
        {
            "camera": {"uri": device.uri},
            "model": {"path": "no.xml"},
            "journal": {"folder": "journal"},
            "outputs": {"good": {"device": "camera", "line": "Line2"}},
        }
    )
    findings = list(output_findings(settings, lamp_test=True, running=True))
    assert [one.grade for one in findings] == [Grade.NOT_SEEN]
