"""What a camera address means, and how it is shown."""

from pathlib import Path

import pytest

from edge.cameras.factory import (
    CameraKind,
    camera_kind,
    open_camera,
    some_frames,
    supervised_camera,
)
from edge.errors import CameraSettingRefused, CameraUriInvalid
from edge.redaction import redacted
from edge.settings.camera import CameraSettings, SensorSettings, TriggerSettings
from tests.support.aravis_fixtures import GENEROUS_S, numbered_images, patiently
from tests.support.gige_camera import GigECamera
from tests.support.small_bundle import write_images


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("rtsp://me:secret@camera/1", CameraKind.STREAM),
        ("HTTP://camera/video", CameraKind.STREAM),
        ("0", CameraKind.DEVICE),
        ("/dev/v4l/by-id/usb-none", CameraKind.DEVICE),
        ("gige://192.0.2.7", CameraKind.GENICAM),
        ("usb3://SN-7", CameraKind.GENICAM),
        ("aravis://fake", CameraKind.GENICAM),
        ("watch:///data/in", CameraKind.FOLDER),
    ],
)
def test_cameras_are_recognized_without_opening_them(uri: str, kind: CameraKind) -> None:
    assert camera_kind(uri) is kind
    assert kind.is_live


def test_files_are_not_live(tmp_path: Path) -> None:
    (tmp_path / "line.avi").write_bytes(b"")

    assert not camera_kind(str(tmp_path)).is_live
    assert not camera_kind("/dev/shm").is_live
    assert not camera_kind(str(tmp_path / "line.avi")).is_live


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://me:secret@cam:554/1?channel=2", "rtsp://***@cam:554/1?channel=2"),
        ("http://cam/v?user=me&pwd=secret&size=2", "http://cam/v?user=***&pwd=***&size=2"),
        ("http://me:se@cret@cam/v", "http://***@cam/v"),
        ("rtsp://me:se/cret@cam/1", "rtsp://***@cam/1"),
        ("rtsp://me:12/se?cr#et@cam/1", "rtsp://***@cam/1"),
        ("rtsp://me:s@e/cret@cam:554/1", "rtsp://***@cam:554/1"),
        ("rtsp://cam/user=me_password=secret_channel=1.sdp", "rtsp://cam/user=***"),
        (
            "rtsp://cam/user=me&password=secret&channel=1",
            "rtsp://cam/user=***&password=***&channel=1",
        ),
        ("http://cam/parts@left?size=2", "http://cam/parts@left?size=2"),
        ("/data/a@b/frames", "/data/a@b/frames"),
    ],
)
def test_addresses_are_shown_without_credentials(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


@pytest.mark.parametrize("uri", ["0", "rtsp://me:secret@camera/1", "watch:///data/in"])
def test_a_trigger_for_a_camera_that_takes_none_is_a_configuration_error(uri: str) -> None:
    settings = CameraSettings(uri=uri, trigger=TriggerSettings(mode="hardware"))

    with pytest.raises(CameraSettingRefused, match="free_run") as raised:
        supervised_camera(settings, lambda _: None)

    assert raised.value.exit_code == 78 and "secret" not in str(raised.value)


def test_a_supervised_camera_has_the_traits_of_its_kind(tmp_path: Path) -> None:
    stream = supervised_camera(CameraSettings(uri="rtsp://me:secret@camera/1"), lambda _: None)
    device = supervised_camera(CameraSettings(uri="0"), lambda _: None)
    folder = supervised_camera(CameraSettings(uri=f"watch://{tmp_path}"), lambda _: None)
    fake = supervised_camera(CameraSettings(uri="aravis://fake"), lambda _: None)

    assert (stream.identity, stream.can_wait) == ("rtsp://***@camera/1", False)
    assert device.identity == "/dev/video0"
    assert folder.can_wait and not folder.simulated
    assert fake.simulated and not stream.simulated
    with pytest.raises(CameraUriInvalid):
        supervised_camera(CameraSettings(uri=str(tmp_path)), lambda _: None)


@pytest.mark.parametrize("scheme", ["", "watch://"])
def test_settings_that_files_cannot_take_are_not_ignored_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    folder = write_images(tmp_path / "in", good=1)
    settings = CameraSettings(uri=f"{scheme}{folder}", sensor=SensorSettings(exposure_us=500))

    open_camera(settings.uri, settings).close()

    assert "camera.sensor.exposure_us is not used" in caplog.text


@pytest.mark.parametrize(
    ("sensor", "reported"),
    [
        (SensorSettings(frame_rate_fps=0.5), "frame_rate_fps 0.5 a frame comes every 2 s"),
        (SensorSettings(exposure_us=3e6), r"exposure_us 3e\+06 a frame comes every 3 s"),
    ],
)
def test_a_camera_that_is_slower_than_the_limit_of_its_loss_is_a_configuration_error(
    sensor: SensorSettings, reported: str
) -> None:
    with pytest.raises(CameraSettingRefused, match=rf"{reported}, .*lost_after_s is 1\.5"):
        supervised_camera(CameraSettings(uri="0", sensor=sensor), lambda _: None)


def test_a_camera_with_a_trigger_gives_its_images_for_a_measurement() -> None:
    with GigECamera(numbered_images(8), rate_fps=50) as device:
        settings = CameraSettings(uri=device.uri, trigger=TriggerSettings(mode="hardware"))
        frames = patiently(lambda: some_frames(settings, max_count=4, limit_s=GENEROUS_S))

    assert len(frames) == 4
