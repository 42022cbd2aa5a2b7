"""Images from files as a camera."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras.factory import open_camera
from edge.cameras.files.not_inspected import NotInspected
from edge.cameras.files.pacing import Pace
from edge.cameras.files.replay import natural_order
from edge.cameras.interface import Camera, EndOfFrames
from edge.errors import CameraUriInvalid
from edge.imaging.frame import Frame, FrameStatus
from edge.settings.camera import CameraSettings
from tests.support.small_bundle import good_image, write_images


def opened(uri: object, loop: bool = False) -> Camera:
    return open_camera(str(uri), CameraSettings(uri=str(uri), loop=loop))


def read_all(camera: Camera) -> list[Frame]:
    frames = []
    with pytest.raises(EndOfFrames):
        while True:
            frame = camera.read(1.0)
            assert frame is not None
            frames.append(frame)
    return frames


def names(frames: list[Frame]) -> list[str]:
    return [Path(frame.source or "").name for frame in frames]


def test_a_folder_is_replayed_in_the_order_people_count(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", good=11)

    frames = read_all(opened(folder))

    assert names(frames) == [f"good_{number}.png" for number in range(1, 12)]
    assert [frame.number for frame in frames] == list(range(1, 12))


def test_natural_order_does_not_choke_on_strange_names() -> None:
    paths = [Path("10"), Path("9a"), Path("b²"), Path("a-1.5"), Path("9"), Path("_"), Path("٣")]

    assert natural_order(paths)[:3] == [Path("9"), Path("9a"), Path("10")]  # digits first


def test_a_glob_and_a_single_image_are_cameras(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", good=2, defective=2)

    assert names(read_all(opened(folder / "spot_*.png"))) == ["spot_1.png", "spot_2.png"]
    assert names(read_all(opened(folder / "good_2.png"))) == ["good_2.png"]


def test_a_folder_with_brackets_in_its_name_is_a_folder(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames [1]", good=2)

    assert len(read_all(opened(folder))) == 2


def test_depth_and_channels_stay_as_stored(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((20, 30), 40000, np.uint16))
    cv2.imwrite(str(tmp_path / "2.png"), np.full((20, 30, 4), 9, np.uint8))

    deep, with_alpha = read_all(opened(tmp_path))

    assert deep.pixels.dtype == np.uint16 and deep.pixels.shape == (20, 30)
    assert with_alpha.pixels.shape == (20, 30, 4)


def test_an_image_that_cannot_be_read_is_an_incomplete_frame(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), good_image())
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    (tmp_path / "c.jpg").write_bytes(b"")

    good, cut, nothing = read_all(opened(tmp_path))

    assert good.status is FrameStatus.COMPLETE
    for frame in (cut, nothing):
        assert frame.status is FrameStatus.INCOMPLETE
        assert frame.pixels.size == 0
        assert "not a complete image" in frame.detail


def test_an_image_that_vanishes_is_an_incomplete_frame(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", good=2)
    camera = opened(folder)
    (folder / "good_2.png").unlink()

    frames = read_all(camera)

    assert [frame.status for frame in frames] == [FrameStatus.COMPLETE, FrameStatus.INCOMPLETE]


def test_a_glob_names_what_it_matches_beside_images_and_a_loop_counts_pages_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cv2.imwritemulti(str(tmp_path / "a.tif"), [good_image(number) for number in range(3)])
    (tmp_path / "a.dat").write_text("no image")
    counted = NotInspected("frames")
    uri = f"{tmp_path}/a.*"
    camera = open_camera(uri, CameraSettings(uri=uri, loop=True), counted)

    for _ in range(3):
        camera.read(1.0)

    assert str(counted) == "not inspected: 1 .dat, 2 further pages or frames in 1 file"
    assert caplog.text.count("only its first image") == 1


def test_a_loop_starts_over(tmp_path: Path) -> None:
    camera = opened(write_images(tmp_path / "frames", good=2), loop=True)

    numbers = [frame.number for frame in (camera.read(1.0) for _ in range(5)) if frame]

    assert numbers == [1, 2, 1, 2, 1]


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("{}/missing", "no such file or folder"),
        ("{}/empty", "holds no images"),
        ("{}/empty/*.png", "no image matches"),
        ("{}/notes.txt", "neither an image nor a video"),
        ("ftp://camera/1", "no camera has the scheme 'ftp'"),
        ("gopher://user:secret@camera", "gopher://***@camera"),
    ],
)
def test_a_uri_that_names_nothing_is_a_configuration_error(
    tmp_path: Path, uri: str, cause: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")

    with pytest.raises(CameraUriInvalid) as raised:
        opened(uri.format(tmp_path))

    assert cause in str(raised.value)
    assert raised.value.exit_code == 78


def test_the_pace_gives_images_on_a_grid_without_bursts() -> None:
    now = [100.0]

    def wait(duration_s: float) -> None:
        now[0] += duration_s

    pace = Pace(10.0, clock=lambda: now[0], wait=wait)
    moments = []
    for pause_s in (0.0, 0.0, 0.35, 0.0):
        now[0] += pause_s
        assert pace.due(1.0)
        moments.append(round(now[0] - 100.0, 3))

    assert moments == [0.0, 0.1, 0.45, 0.5]


def test_the_pace_gives_up_when_the_reader_wants_to() -> None:
    now = [0.0]

    def wait(duration_s: float) -> None:
        now[0] += duration_s

    pace = Pace(1.0, clock=lambda: now[0], wait=wait)

    assert pace.due(0.1)
    assert not pace.due(0.1)
    assert now[0] == pytest.approx(0.1)
