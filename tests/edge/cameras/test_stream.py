"""Network streams: real HTTP, real MJPEG, every fault that a network camera has."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from edge.cameras.capture.network_stream import lossy_transport, open_stream
from edge.cameras.capture.stream_login import CameraLoginRefused
from edge.cameras.factory import open_camera, supervised_camera
from edge.cameras.supervised.state_machine import CameraState
from edge.errors import CameraLost, CameraNotOpened, CameraSettingRefused, CameraUriInvalid
from edge.imaging.frame import Frame, FrameStatus, Pixels
from edge.imaging.image_files import decode_jpeg
from edge.settings.camera import CameraSettings, SensorSettings, SupervisionSettings
from tests.support.network_camera import PASSWORD, Behaviour, NetworkCamera
from tests.support.rtsp_camera import CHALLENGE, NEWER_CHALLENGES, RtspCamera
from tests.support.stalls import Stalls
from tests.support.supervised_line import GENEROUS_S, SupervisedLine

LOST, STREAMING = CameraState.LOST, CameraState.STREAMING
COMPLETE = FrameStatus.COMPLETE

# Where time is not the subject: a machine that stands still loses no camera.
PATIENT = SupervisionSettings(lost_after_s=GENEROUS_S)


@pytest.fixture
def network_camera() -> Iterator[NetworkCamera]:
    with closing(NetworkCamera()) as one:
        yield one


@pytest.fixture
def stalls() -> Iterator[Stalls]:
    with closing(Stalls()) as meter:
        yield meter


@pytest.fixture(autouse=True)
def no_password_anywhere(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Whatever a test does: neither our log nor what FFmpeg and OpenCV print shows it."""
    yield
    assert PASSWORD not in "".join(capfd.readouterr()) + caplog.text


def decoded(jpeg: bytes) -> Pixels:
    pixels, fault = decode_jpeg(np.frombuffer(jpeg, np.uint8))
    assert not fault
    return pixels


def make_line(
    camera: NetworkCamera, supervision: SupervisionSettings = SupervisionSettings()
) -> SupervisedLine:
    settings = CameraSettings(uri=camera.uri, supervision=supervision)
    return SupervisedLine(lambda on_change: supervised_camera(settings, on_change))


def test_a_stream_is_read_plainly_and_its_end_is_a_loss(network_camera: NetworkCamera) -> None:
    camera = open_stream(network_camera.uri, SensorSettings(), PATIENT)
    frame = camera.read(1.0)

    assert frame and frame.pixels.shape == (120, 160, 3) and frame.number == 1
    assert not camera.simulated and not camera.can_wait
    assert dict(camera.report().settings)["size"] == "160 x 120"
    network_camera.hang_up()
    with pytest.raises(CameraLost) as raised:
        while True:
            camera.read(1.0)
    camera.close()

    assert raised.value.exit_code == 69
    assert "***@127.0.0.1" in str(raised.value) and PASSWORD not in str(raised.value)


def test_a_stream_that_falls_silent_is_lost_within_two_seconds_and_comes_back(
    network_camera: NetworkCamera, stalls: Stalls
) -> None:
    with closing(make_line(network_camera)) as line:
        line.camera.start()
        line.read_frames(5)
        network_camera.behaviour = Behaviour.SILENT
        lost = line.read_until_state(LOST)
        silent_s = (lost.since_ns - line.frames[-1].captured_ns) / 1e9

        network_camera.behaviour = Behaviour.SOUND
        returned_ns = time.monotonic_ns()
        back = line.read_until_state(STREAMING)

    assert silent_s < 2.0 + stalls.lasted_s
    assert (back.since_ns - returned_ns) / 1e9 < 3.0 + stalls.lasted_s
    assert (back.losses, back.recoveries) == (1, 1)


def test_a_stream_that_repeats_an_image_is_lost_and_none_of_it_is_complete(
    network_camera: NetworkCamera, stalls: Stalls
) -> None:
    # FFmpeg gives up a stream that was silent for so long, even one that stood still with us.
    supervision = SupervisionSettings(lost_after_s=2.5)
    with closing(make_line(network_camera, supervision)) as line:
        line.camera.start()
        line.read_frames(5)
        network_camera.behaviour = Behaviour.FROZEN
        lost = line.read_until_state(LOST)
        sound = [frame for frame in line.frames if frame.status is COMPLETE]
        frozen = [frame for frame in line.frames if frame.status is FrameStatus.FROZEN]
        line.read_until(lambda: network_camera.connections >= 3)
        assert line.states == [STREAMING, LOST]
        # The first of the frozen ones is a frame; every other one is not.
        images = {frame.pixels.tobytes() for frame in sound}
        assert len(images) == len(sound) and len(frozen) > 5

        network_camera.behaviour = Behaviour.SOUND
        line.read_until_state(STREAMING)

    assert (lost.since_ns - sound[-1].captured_ns) / 1e9 < 3.0 + stalls.lasted_s
    assert "no new ones" in lost.detail


@pytest.mark.parametrize("lost_bytes", [40, 1000, -1, -900])
def test_a_part_of_another_length_than_announced_is_incomplete(lost_bytes: int) -> None:
    with closing(NetworkCamera()) as network_camera:
        network_camera.lost_bytes = lost_bytes
        with closing(make_line(network_camera, PATIENT)) as line:
            line.camera.start()
            line.read_frames(13)

    damaged = [frame for frame in line.frames if frame.status is FrameStatus.INCOMPLETE]
    assert damaged and all("the JPEG is damaged" in frame.detail for frame in damaged)
    # Every other one; it is made again each time, as FFmpeg ends where no part begins.
    assert len(damaged) >= 6


def test_a_dropped_connection_is_reported_and_made_again(network_camera: NetworkCamera) -> None:
    with closing(make_line(network_camera, PATIENT)) as line:
        line.camera.start()
        line.read_frames(5)
        network_camera.hang_up()
        lost = line.read_until_state(LOST)
        line.read_until_state(STREAMING)
        again = line.read_frames(3)

    assert "stopped sending frames" in lost.detail
    assert again[-1].epoch == 2


def test_garbage_is_no_image(network_camera: NetworkCamera) -> None:
    with closing(make_line(network_camera)) as line:
        line.camera.start()
        line.read_frames(5)
        network_camera.behaviour = Behaviour.GARBAGE
        line.read_until_state(LOST)
        shown = len([frame for frame in line.frames if frame.status is COMPLETE])
        line.read_until(lambda: network_camera.connections >= 2)
        assert len([frame for frame in line.frames if frame.status is COMPLETE]) == shown

        network_camera.behaviour = Behaviour.SOUND
        line.read_until_state(STREAMING)
        assert line.states == [STREAMING, LOST, STREAMING]


def test_five_restarts_are_five_recoveries_and_leave_nothing_behind(
    network_camera: NetworkCamera,
) -> None:
    with closing(make_line(network_camera, PATIENT)) as line:
        line.camera.start()
        line.read_frames(5)
        threads_before, files_before = threads(), files()
        for _ in range(5):
            network_camera.stop()
            line.read_until_state(LOST)
            network_camera.start()
            line.read_until_state(STREAMING)

        line.read_until(lambda: threads() <= threads_before and files() <= files_before)
        assert line.states == [STREAMING, *[LOST, STREAMING] * 5]
        assert (line.camera.status.losses, line.camera.status.recoveries) == (5, 5)


def threads() -> int:
    return threading.active_count()


def files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_wrong_password_is_a_configuration_error(network_camera: NetworkCamera) -> None:
    network_camera.password = "another"
    with closing(make_line(network_camera)) as line, pytest.raises(CameraLoginRefused) as raised:
        line.camera.start()
        line.read_until(lambda: False)  # a machine that stands still asks once more

    assert raised.value.exit_code == 78
    assert "does not accept user and password (401)" in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_a_password_that_is_changed_while_the_station_runs_is_waited_for(
    network_camera: NetworkCamera,
) -> None:
    with closing(make_line(network_camera, PATIENT)) as line:
        line.camera.start()
        line.read_frames(3)
        network_camera.password = "another"
        network_camera.hang_up()
        failed = line.read_until_state(CameraState.FAILED)
        network_camera.password = PASSWORD
        back = line.read_until_state(STREAMING)

    assert "does not accept" in failed.detail
    assert (back.losses, back.recoveries) == (1, 1)


def test_a_camera_that_never_answers_is_not_opened() -> None:
    with (
        closing(NetworkCamera(frames=0, then_silent=True)) as network_camera,
        pytest.raises(CameraNotOpened, match="sends no stream") as raised,
    ):
        open_stream(network_camera.uri, SensorSettings(), SupervisionSettings(opening_limit_s=0.5))

    assert PASSWORD not in str(raised.value)


def test_rtsp_images_are_new_and_those_that_the_network_held_back_are_stale() -> None:
    with closing(RtspCamera()) as rtsp:
        supervision = SupervisionSettings(max_age_ms=300, lost_after_s=GENEROUS_S)
        settings = CameraSettings(uri=rtsp.uri, supervision=supervision)
        line = SupervisedLine(lambda on_change: supervised_camera(settings, on_change))
        with closing(line):
            line.camera.start()
            first = line.read_frames(10)
            rtsp.delay_s = 1.0
            line.read_until(lambda: any(map(was_on_its_way, line.frames)))
            rtsp.delay_s = 0.0
            line.read_frames(10)
            line.read_until(lambda: line.frames[-1].status is COMPLETE)

    assert first[0].pixels.shape == (120, 160, 3)
    lags_ms = [
        (frame.captured_ns - frame.telemetry.device_ns) / 1e6
        for frame in line.frames
        if frame.status is COMPLETE and frame.telemetry.device_ns is not None
    ]
    assert len(lags_ms) > 8
    assert all(lag - min(lags_ms[: n + 1]) <= 301 for n, lag in enumerate(lags_ms))


def test_an_rtsp_image_that_lost_a_packet_is_never_complete() -> None:
    with closing(RtspCamera()) as rtsp:
        whole = {decoded(jpeg).tobytes() for jpeg in rtsp.jpegs}
        rtsp.loses_packets = True
        settings = CameraSettings(uri=rtsp.uri, supervision=PATIENT)
        with closing(SupervisedLine(lambda change: supervised_camera(settings, change))) as line:
            line.camera.start()
            frames = line.read_frames(20)

    assert any(frame.status is COMPLETE for frame in frames)
    assert all(frame.pixels.tobytes() in whole for frame in frames if frame.status is COMPLETE)


@pytest.mark.parametrize(
    ("scheme", "options", "lossy"),
    [
        ("rtsp", None, False),
        ("rtsp", "rtsp_transport;tcp|timeout;5000000", False),
        ("rtsp", "rtsp_flags;prefer_tcp", False),
        ("RTSP", "rtsp_transport;udp", True),
        ("rtsp", "timeout;5000000", True),
        ("http", "rtsp_transport;udp", False),
    ],
)
def test_rtsp_over_udp_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, scheme: str, options: str | None, lossy: bool
) -> None:
    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", raising=False)
    if options is not None:
        monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", options)

    reported = lossy_transport(f"{scheme}://127.0.0.1/live")

    assert bool(reported) == lossy
    assert not lossy or ("UDP" in reported and "rtsp_transport;tcp" in reported)


def was_on_its_way(frame: Frame) -> bool:
    return frame.status is FrameStatus.STALE and "on its way from the camera" in frame.detail


def test_images_that_were_gathered_while_a_stream_opened_are_not_given(stalls: Stalls) -> None:
    with closing(RtspCamera()) as rtsp:
        camera = open_stream(rtsp.uri, SensorSettings(), PATIENT)
        frames = [camera.read(1.0) for _ in range(5)]
        camera.close()

    clocks_ns = [f.captured_ns - (f.telemetry.device_ns or 0) for f in frames if f]
    # The first is the oldest of those; the whole opening takes three times as long.
    assert clocks_ns[0] - min(clocks_ns) < 300e6 + stalls.lasted_s * 1e9


def test_a_wrong_rtsp_password_is_a_configuration_error() -> None:
    with closing(RtspCamera()) as rtsp:
        rtsp.password = "another"
        with pytest.raises(CameraLoginRefused, match="does not accept user and password"):
            open_until_refused(rtsp.uri)
        bare = rtsp.uri.replace(f"me:{PASSWORD}@", "")
        with pytest.raises(CameraLoginRefused, match="asks for a login"):
            open_until_refused(bare)


def open_until_refused(uri: str) -> None:
    """Open until the login is refused: a machine that stands still learns only of no stream."""
    deadline = time.monotonic() + GENEROUS_S
    while time.monotonic() < deadline:
        with suppress(CameraNotOpened):
            open_camera(uri, CameraSettings(uri=uri))


@pytest.mark.parametrize("challenges", [CHALLENGE, NEWER_CHALLENGES], ids=["RFC 2069", "newer"])
def test_a_camera_that_is_used_to_its_limit_is_not_blamed_on_the_password(challenges: str) -> None:
    with closing(RtspCamera()) as rtsp:
        rtsp.challenges = challenges
        rtsp.busy = True
        with pytest.raises(CameraNotOpened, match="already serve as many clients"):
            open_camera(rtsp.uri, CameraSettings(uri=rtsp.uri))
        rtsp.password = "another"
        with pytest.raises(CameraLoginRefused, match="does not accept user and password"):
            open_until_refused(rtsp.uri)


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("http://me:geheim@127.0.0.1:9/video", "Connection refused"),
        ("rtsp://me:geheim@127.0.0.1:9/1", "Connection refused"),
        ("http://me:geheim@camera.invalid/video", "'camera.invalid' cannot be resolved"),
    ],
)
def test_a_camera_that_is_not_there_is_reported_and_no_password_is_shown(
    uri: str, cause: str
) -> None:
    with pytest.raises(CameraNotOpened) as raised:
        open_camera(uri, CameraSettings(uri=uri))

    assert cause in str(raised.value) and PASSWORD not in str(raised.value)


@pytest.mark.parametrize(
    "uri",
    [
        "http://",
        "http://me:geheim@camera:99999/v",
        "rtsp://[::1/1",
        "http://me:geheim@camera..local/v",
        "rtsp://me:ge/geheim@camera/1",
    ],
)
def test_an_address_that_is_none_is_a_configuration_error(uri: str) -> None:
    with pytest.raises(CameraUriInvalid) as raised:
        open_camera(uri, CameraSettings(uri=uri))

    assert PASSWORD not in str(raised.value)


def test_a_setting_for_a_stream_is_a_configuration_error(network_camera: NetworkCamera) -> None:
    with pytest.raises(CameraSettingRefused, match=r"camera\.sensor\.exposure_us cannot be set"):
        open_stream(network_camera.uri, SensorSettings(exposure_us=50), SupervisionSettings())
