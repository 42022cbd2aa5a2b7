"""Video files, devices and network streams through OpenCV."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras.camera import Camera, EndOfPictures
from edge.cameras.opencv import open_stream
from edge.cameras.opening import CameraKind, camera_kind, open_camera
from edge.config import CameraSettings
from edge.errors import CameraLost, CameraNotOpened, CameraUriInvalid
from edge.frame import Frame
from edge.redaction import redacted
from tests.edge.network_camera import NetworkCamera

GENEROUS_S = 30.0


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(5):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    return path


def opened(uri: object, loop: bool = False) -> Camera:
    return open_camera(str(uri), CameraSettings(uri=str(uri), loop=loop))


def next_frame(camera: Camera) -> Frame:
    frame = camera.read(GENEROUS_S)
    assert frame is not None
    return frame


def test_a_video_file_is_finite_and_simulated(video: Path) -> None:
    camera = opened(video)

    frames = [next_frame(camera) for _ in range(5)]

    with pytest.raises(EndOfPictures):
        camera.read(1.0)
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5]
    assert [round(float(f.pixels.mean()) / 40) for f in frames] == [0, 1, 2, 3, 4]
    assert camera.simulated and camera.can_wait
    camera.close()


def test_frames_of_a_video_own_their_pixels(video: Path) -> None:
    camera = opened(video)
    first = next_frame(camera)
    before = first.pixels.copy()

    next_frame(camera)

    assert np.array_equal(first.pixels, before)


def test_a_video_can_be_looped(video: Path) -> None:
    camera = opened(video, loop=True)

    assert [next_frame(camera).number for _ in range(12)] == list(range(1, 13))


def test_a_file_that_is_no_video_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"not a video")

    with pytest.raises(CameraUriInvalid, match="cannot decode"):
        opened(tmp_path / "bad.mp4")


@pytest.mark.parametrize("uri", ["77", "/dev/video77", "/dev/v4l/by-id/usb-none"])
def test_an_absent_device_is_told(uri: str) -> None:
    with pytest.raises(CameraNotOpened, match="no such camera on this machine") as raised:
        opened(uri)

    assert raised.value.exit_code == 69


def test_a_device_that_is_no_camera_is_told() -> None:
    with pytest.raises(CameraNotOpened, match="/dev/null"):
        opened("/dev/null")


def test_streams_and_devices_are_recognized_without_opening_them() -> None:
    assert camera_kind("rtsp://me:secret@camera/1") is CameraKind.STREAM
    assert camera_kind("0") is CameraKind.DEVICE


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://me:secret@cam:554/1?channel=2", "rtsp://***@cam:554/1?channel=2"),
        ("http://cam/v?user=me&pwd=secret&size=2", "http://cam/v?user=***&pwd=***&size=2"),
        ("http://me:se@cret@cam/v", "http://***@cam/v"),
        ("/data/a@b/frames", "/data/a@b/frames"),
    ],
)
def test_addresses_are_shown_without_credentials(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


@pytest.fixture
def silent_camera() -> Iterator[NetworkCamera]:
    camera = NetworkCamera(frames=10, then_silent=True)
    yield camera
    camera.close()


@pytest.fixture
def ending_camera() -> Iterator[NetworkCamera]:
    camera = NetworkCamera(frames=10, then_silent=False)
    yield camera
    camera.close()


def read_until_lost(camera: Camera) -> CameraLost:
    with pytest.raises(CameraLost) as raised:
        while True:
            camera.read(0.05)
    return raised.value


def test_a_camera_that_hangs_up_is_lost(ending_camera: NetworkCamera) -> None:
    camera = open_stream(ending_camera.uri)
    assert next_frame(camera).pixels.shape == (120, 160, 3)
    assert not camera.simulated and not camera.can_wait

    error = read_until_lost(camera)

    assert error.exit_code == 69
    assert "geheim" not in str(error) and "***@127.0.0.1" in str(error)
    camera.close()


def test_a_camera_that_falls_silent_is_lost_by_our_own_deadline(
    silent_camera: NetworkCamera,
) -> None:
    camera = open_stream(silent_camera.uri, silence_limit_s=0.5)
    next_frame(camera)

    assert "no frame for" in str(read_until_lost(camera))
    silent_camera.over.set()
    camera.close()


def test_a_camera_that_never_answers_is_not_opened(capfd: pytest.CaptureFixture[str]) -> None:
    camera = NetworkCamera(frames=0, then_silent=True)

    with pytest.raises(CameraNotOpened) as raised:
        open_stream(camera.uri, opening_limit_s=0.5)

    camera.close()
    assert "geheim" not in str(raised.value) + "".join(capfd.readouterr())


def test_a_closed_address_is_not_opened_and_no_password_is_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(CameraNotOpened) as raised:
        opened("http://me:geheim@127.0.0.1:9/video")

    assert "geheim" not in str(raised.value) + "".join(capfd.readouterr())
