"""Video files as a camera."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras.factory import open_camera
from edge.cameras.interface import Camera, EndOfFrames
from edge.doctor.camera import camera_findings
from edge.doctor.finding import Grade
from edge.errors import CameraUriInvalid
from edge.imaging.frame import Frame
from edge.settings.camera import CameraSettings

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

    with pytest.raises(EndOfFrames):
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

    frames = [next_frame(camera) for _ in range(12)]

    assert [frame.number for frame in frames] == list(range(1, 13))
    assert [frame.source for frame in frames[:6]] == [
        f"{video.as_uri()}#frame={number}" for number in (1, 2, 3, 4, 5, 1)
    ]


def test_a_file_that_is_no_video_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"not a video")

    with pytest.raises(CameraUriInvalid, match="cannot decode"):
        opened(tmp_path / "bad.mp4")


def test_a_codec_that_conceals_damage_is_warned_of_once_and_advised_against(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "line.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for number in range(3):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()

    for _ in range(2):
        opened(path).close()
    reported = [
        record.getMessage() for record in caplog.records if "damaged" in record.getMessage()
    ]
    assert len(reported) == 1 and "FMP4" in reported[0] and "send MJPEG" in reported[0]

    findings = camera_findings(CameraSettings(uri=str(path)), [])
    advised = [one for one in findings if one.grade is Grade.ADVICE]
    assert any("send MJPEG" in one.advice for one in advised)


def test_a_video_of_jpegs_is_not_warned_of(video: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(video).close()
    assert not caplog.records
