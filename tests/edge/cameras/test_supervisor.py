"""A camera that is pulled, stalls, repeats itself and comes back, over a real socket."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.cameras.supervised.camera import SupervisedCamera
from edge.cameras.supervised.state_machine import CameraState
from edge.errors import CameraError, CameraLost, CameraSettingRefused, CameraStuck
from edge.imaging.frame import Frame, FrameStatus
from edge.settings.camera import SupervisionSettings
from tests.support.socket_camera import Behaviour, SocketCamera, SocketDriver
from tests.support.stalls import Stalls
from tests.support.supervised_line import GENEROUS_S, SupervisedLine

LOST, STREAMING = CameraState.LOST, CameraState.STREAMING
WAITING = CameraState.WAITING_TRIGGER
COMPLETE = FrameStatus.COMPLETE

# Where time is not the subject: a machine that stands still makes no camera lost or stale.
PATIENT: dict[str, Any] = {"lost_after_s": GENEROUS_S, "max_age_ms": GENEROUS_S * 1e3}


@pytest.fixture
def device() -> Iterator[SocketCamera]:
    with closing(SocketCamera()) as one:
        yield one


@pytest.fixture
def triggered_device() -> Iterator[SocketCamera]:
    with closing(SocketCamera(triggered=True)) as one:
        yield one


@pytest.fixture
def stalls() -> Iterator[Stalls]:
    with closing(Stalls()) as meter:
        yield meter


def supervised(
    device: SocketCamera,
    triggered: bool = False,
    blocking: bool = False,
    reading: threading.Event | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    **settings: float,
) -> SupervisedLine:
    return SupervisedLine(
        lambda on_change: SupervisedCamera(
            open_camera=lambda: SocketDriver(device.port, blocking, reading),
            settings=SupervisionSettings.model_validate(settings),
            triggered=triggered,
            on_change=on_change,
            identity="socket",
            clock_ns=clock_ns,
        )
    )


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GENEROUS_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def threads() -> int:
    return threading.active_count()


def files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_frames_come_with_the_number_of_their_opening(device: SocketCamera) -> None:
    with closing(supervised(device, **PATIENT)) as line:
        line.camera.start()
        first = line.read_frames(3)
        device.stop()
        line.read_until_state(LOST)
        device.start()
        line.read_until_state(STREAMING)
        again = line.read_frames(3)

    assert {frame.epoch for frame in first} == {1}
    assert len({frame.epoch for frame in again}) == 1
    assert again[0].number < 100 and again[0].epoch > 1  # the camera counts anew, and it shows


def test_a_loss_is_reported_after_the_last_frame_and_a_recovery_before_the_next(
    device: SocketCamera,
) -> None:
    with closing(supervised(device, **PATIENT)) as line:
        line.camera.start()
        line.read_frames(3)
        device.stop()
        line.read_until_state(LOST)
        device.start()
        line.read_frames(3)

    epochs = [one.epoch if isinstance(one, Frame) else one.state for one in line.seen]
    lost, back = epochs.index(LOST), epochs.index(STREAMING, 1)
    assert epochs[0] is STREAMING and set(epochs[1:lost]) == {1}
    assert back == lost + 1
    assert all(epoch not in (1, LOST) for epoch in epochs[back + 1 :])


@pytest.mark.parametrize("blocking", [False, True], ids=["timeouts", "blocked in the driver"])
def test_a_silent_camera_is_lost_within_two_seconds(
    device: SocketCamera, blocking: bool, stalls: Stalls
) -> None:
    old = GENEROUS_S * 1e3  # a frame that came late is no other silence
    with closing(supervised(device, blocking=blocking, max_age_ms=old)) as line:
        line.camera.start()
        line.read_frames(3)
        device.behaviour = Behaviour.SILENT

        lost = line.read_until_state(LOST)

        silent_s = (lost.since_ns - line.frames[-1].captured_ns) / 1e9
        device.behaviour = Behaviour.SOUND
    assert 1.5 <= silent_s < 2.0 + stalls.lasted_s
    assert lost.detail == ("socket: no frame for 1.5 s. Check cable and power of the camera.")


def test_a_camera_that_repeats_an_image_is_lost_and_none_of_it_is_complete(
    device: SocketCamera, stalls: Stalls
) -> None:
    with closing(supervised(device, max_age_ms=GENEROUS_S * 1e3)) as line:
        line.camera.start()
        line.read_frames(3)
        device.behaviour = Behaviour.FROZEN

        lost = line.read_until_state(LOST)

        frozen = [f for f in line.frames if f.status is not COMPLETE]
        assert len(frozen) >= 3 and {f.status for f in frozen} == {FrameStatus.FROZEN}
        fresh = [f for f in line.frames if f.status is COMPLETE]
        assert (lost.since_ns - fresh[-1].captured_ns) / 1e9 < 2.0 + stalls.lasted_s
        assert "no new ones" in lost.detail and "in a row" in lost.detail
        line.read_until(lambda: device.connections >= 3)  # opening it anew makes it no better
        assert line.states == [STREAMING, LOST]

        device.behaviour = Behaviour.SOUND
        line.read_until_state(STREAMING)


def test_a_camera_that_returns_streams_within_three_seconds(
    device: SocketCamera, stalls: Stalls
) -> None:
    with closing(supervised(device, **PATIENT)) as line:
        line.camera.start()
        line.read_frames(3)
        device.stop()
        line.read_until_state(LOST)
        line.read_until(lambda: "refused" in line.camera.status.detail)

        device.start()
        returned_ns = time.monotonic_ns()
        back = line.read_until_state(STREAMING)

    assert (back.since_ns - returned_ns) / 1e9 < 3.0 + stalls.lasted_s
    assert (back.losses, back.recoveries, back.detail) == (1, 1, "")


def test_five_restarts_are_five_recoveries_and_leave_nothing_behind(device: SocketCamera) -> None:
    with closing(supervised(device, **PATIENT)) as line:
        line.camera.start()
        line.read_frames(3)
        threads_before, files_before = threads(), files()
        for _ in range(5):
            device.stop()
            line.read_until_state(LOST)
            device.start()
            line.read_until_state(STREAMING)
            line.read_frames(3)

        line.read_until(lambda: threads() <= threads_before and files() <= files_before)
        assert (line.camera.status.losses, line.camera.status.recoveries) == (5, 5)
        assert line.states == [STREAMING, *[LOST, STREAMING] * 5]


def test_a_driver_that_does_not_return_ends_the_process(device: SocketCamera) -> None:
    ahead_ns = 0
    line = supervised(device, blocking=True, clock_ns=lambda: time.monotonic_ns() + ahead_ns)
    line.camera.start()
    line.read_frames(3)
    device.behaviour = Behaviour.SILENT
    line.read_until_state(LOST)
    ahead_ns = 30 * 10**9

    with pytest.raises(CameraStuck) as raised:
        line.read_until(lambda: False)

    assert raised.value.exit_code == 69
    assert "reading a frame has been blocked in the driver for 3" in str(raised.value)
    assert line.states == [STREAMING, LOST]
    with pytest.raises(CameraStuck):
        line.camera.read(0.5)
    device.stop()
    line.close()


def test_an_opening_that_does_not_return_ends_the_process(device: SocketCamera) -> None:
    device.behaviour = Behaviour.MUTE
    with closing(supervised(device, opening_limit_s=0.5, stuck_after_s=1.0)) as line:
        line.camera.start()
        with pytest.raises(
            CameraStuck, match=r"opening it has been blocked in the driver for \d s"
        ):
            line.read_until(lambda: False)
        device.behaviour = Behaviour.SOUND


def test_an_absent_camera_is_waited_for(
    device: SocketCamera, caplog: pytest.LogCaptureFixture
) -> None:
    device.stop()
    with closing(supervised(device, **PATIENT)) as line:
        line.camera.start()
        lost = line.read_until_state(LOST)
        tried_until = time.monotonic() + 1.0
        line.read_until(lambda: time.monotonic() > tried_until)
        assert line.changes == [lost] and "refused" in lost.detail
        device.start()
        back = line.read_until_state(STREAMING)

    assert (back.losses, back.recoveries) == (1, 1)
    reported = [record.getMessage() for record in caplog.records]
    assert len([text for text in reported if "refused" in text]) == 1


def test_a_camera_that_does_not_finish_opening_is_lost_and_the_start_goes_on(
    device: SocketCamera,
) -> None:
    device.behaviour = Behaviour.MUTE
    with closing(supervised(device, opening_limit_s=0.5)) as line:
        line.camera.start()
        assert line.camera.status.state is LOST
        device.behaviour = Behaviour.SOUND
        line.read_until_state(LOST)
        line.read_until_state(STREAMING)

    assert "no answer within 0.5 s" in line.changes[0].detail


def test_settings_that_the_first_camera_refuses_are_a_configuration_error(
    device: SocketCamera,
) -> None:
    device.behaviour = Behaviour.REFUSING
    with closing(supervised(device)) as line:
        with pytest.raises(CameraSettingRefused) as raised:
            line.camera.start()
        with pytest.raises(CameraSettingRefused):
            line.camera.read(0.1)

    assert raised.value.exit_code == 78


def test_a_camera_that_was_absent_at_first_may_still_refuse_its_settings(
    device: SocketCamera,
) -> None:
    device.stop()
    with closing(supervised(device)) as line:
        line.camera.start()
        device.behaviour = Behaviour.REFUSING
        device.start()

        with pytest.raises(CameraSettingRefused):
            line.read_until(lambda: False)


def test_a_camera_that_was_replaced_and_refuses_has_failed_until_it_is_cured(
    device: SocketCamera,
) -> None:
    with closing(supervised(device, **PATIENT)) as line:
        line.camera.start()
        line.read_frames(3)
        device.stop()
        device.behaviour = Behaviour.REFUSING
        device.start()
        failed = line.read_until_state(CameraState.FAILED)
        assert "does not take its exposure" in failed.detail
        device.behaviour = Behaviour.SOUND
        back = line.read_until_state(STREAMING)

    assert (back.losses, back.recoveries) == (1, 1)


def test_a_triggered_camera_gives_an_image_for_each_trigger(
    triggered_device: SocketCamera,
) -> None:
    with closing(supervised(triggered_device, triggered=True, **PATIENT)) as line:
        line.camera.start()
        line.read_until_state(WAITING)
        for _ in range(3):
            line.camera.trigger()
            line.read_frames(1)

        assert [frame.number for frame in line.frames] == [1, 2, 3]
        assert line.states == [WAITING, STREAMING]
        assert line.camera.status.report and line.camera.status.report.model == "socket"


def test_a_triggered_camera_that_answers_is_not_lost(triggered_device: SocketCamera) -> None:
    limit_s = 2.5  # a device that stands still for two seconds has not been silent for so long
    with closing(supervised(triggered_device, triggered=True, lost_after_s=limit_s)) as line:
        line.camera.start()
        line.read_until_state(WAITING)
        quiet_until = time.monotonic() + limit_s + 1.0
        line.read_until(lambda: time.monotonic() > quiet_until)

        assert line.states == [WAITING]


def test_a_triggered_camera_that_does_not_answer_is_lost_within_two_seconds(
    triggered_device: SocketCamera, stalls: Stalls
) -> None:
    with closing(supervised(triggered_device, triggered=True)) as line:
        line.camera.start()
        line.read_until_state(WAITING)
        triggered_device.behaviour = Behaviour.MUTE  # one that opens again would be back at once
        silent_ns = time.monotonic_ns()
        lost = line.read_until_state(LOST)
        assert (lost.since_ns - silent_ns) / 1e9 < 2.0 + stalls.lasted_s
        assert "answer" in lost.detail

        with pytest.raises(CameraLost):
            line.camera.trigger()


def test_a_trigger_that_the_camera_does_not_take_in_time_is_withdrawn(
    triggered_device: SocketCamera,
) -> None:
    reading = threading.Event()
    line = supervised(triggered_device, True, blocking=True, reading=reading, **PATIENT)
    with closing(line):
        line.camera.start()
        line.read_until_state(WAITING)
        assert reading.wait(GENEROUS_S)

        with pytest.raises(CameraError, match="did not take the trigger within 1 s"):
            line.camera.trigger()  # the driver waits for a frame and nothing else

        triggered_device.stop()
        line.read_until_state(LOST)
        triggered_device.start()
        line.read_until_state(WAITING)
        assert not line.frames


def test_a_reader_that_falls_behind_gets_the_newest_frames(device: SocketCamera) -> None:
    with closing(supervised(device, **PATIENT)) as line:
        line.camera.start()
        until(lambda: line.camera.dropped >= 10)
        frame = line.read_frames(1)[0]

        assert frame.number > 10


def test_a_frame_that_waited_for_the_reader_is_stale(device: SocketCamera) -> None:
    with closing(supervised(device, max_age_ms=100.0, lost_after_s=GENEROUS_S)) as line:
        line.camera.start()
        until(lambda: line.camera.dropped >= 1)
        device.behaviour = Behaviour.SILENT
        time.sleep(0.3)  # the reader is busy: the subject of this test
        frames = line.read_frames(5)

        assert {frame.status for frame in frames} == {FrameStatus.STALE}
        # One may have been late on its way already.
        assert any("it waited" in frame.detail for frame in frames)


def test_closing_releases_the_camera_and_its_thread(device: SocketCamera) -> None:
    before = threading.active_count()
    line = supervised(device)
    line.camera.start()
    line.read_frames(1)

    line.close()

    until(lambda: "camera" not in [thread.name for thread in threading.enumerate()])
    assert line.camera.read(0.0) is None or line.frames
    line.close()
    assert threading.active_count() <= before + 1  # the device's own, until it sees the end


def test_a_defect_of_the_driver_reaches_the_reader() -> None:
    def defective() -> SocketDriver:
        raise ZeroDivisionError

    camera = SupervisedCamera(
        open_camera=defective,
        settings=SupervisionSettings(),
        triggered=False,
        on_change=lambda _: None,
        identity="socket",
    )

    with pytest.raises(ZeroDivisionError):
        camera.start()
    with pytest.raises(ZeroDivisionError):
        camera.read(0.1)
    camera.close()
