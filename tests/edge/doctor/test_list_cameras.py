"""edge-run --list-cameras, over the real protocol and on a tree of device nodes."""

import errno
import subprocess
import sys
from pathlib import Path

from edge.doctor.camera_list import VideoDevice, camera_lines, video_devices
from tests.edge.conftest import EdgeRun
from tests.support.aravis_fixtures import numbered_images, opened
from tests.support.gige_camera import GigECamera

HAS_OWN = 0x8000_0000
IMAGES, METADATA = 0x1, 0x0080_0000


def capability(card: str, own: int) -> bytes:
    """Return ``struct v4l2_capability`` as drivers fill it: both kinds of device in one camera."""
    of_driver = HAS_OWN | IMAGES | METADATA
    fields = [b"uvcvideo".ljust(16, b"\0"), card.encode().ljust(32, b"\0"), bytes(32), bytes(4)]
    return (
        b"".join(fields) + of_driver.to_bytes(4, "little") + own.to_bytes(4, "little") + bytes(12)
    )


def asked(node: Path) -> bytes:
    answers = {
        "video0": capability("HD Webcam", IMAGES),
        "video1": capability("HD Webcam", METADATA),
        "video2": capability("Other", IMAGES),
    }
    if node.name == "video10":
        raise PermissionError(errno.EACCES, "Permission denied")
    if node.name not in answers:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
    return answers[node.name]


def devices(tmp_path: Path) -> Path:
    names = tmp_path / "dev" / "v4l" / "by-id"
    names.mkdir(parents=True)
    for number in (0, 1, 2, 3, 10):
        (tmp_path / "dev" / f"video{number}").touch()
    for number, end in ((0, "index0"), (1, "index1")):
        (names / f"usb-Maker_HD_Webcam_12-video-{end}").symlink_to(f"../../video{number}")
    return tmp_path


def test_usb_cameras_are_listed_by_the_name_that_stays_and_metadata_is_not(
    tmp_path: Path,
) -> None:
    root = devices(tmp_path)

    found = video_devices(root, asked)

    stable = str(root / "dev/v4l/by-id/usb-Maker_HD_Webcam_12-video-index0")
    assert found == [
        VideoDevice(stable, str(root / "dev/video0"), "HD Webcam"),
        VideoDevice(str(root / "dev/video2"), str(root / "dev/video2"), "Other"),
        VideoDevice(
            str(root / "dev/video10"),
            str(root / "dev/video10"),
            "cannot be queried (Permission denied); add this user to the group 'video' and log in "
            "again",
        ),
    ]


def test_a_file_that_is_no_device_is_no_camera(tmp_path: Path) -> None:
    assert video_devices(devices(tmp_path)) == []


def test_cameras_are_listed_with_the_uri_to_paste_and_who_uses_them(edge_run: EdgeRun) -> None:
    with (
        GigECamera(numbered_images(2)) as used,
        GigECamera(numbered_images(2)) as free,
        opened(used.uri),
    ):
        for _ in range(3):
            run = edge_run("--list-cameras")
            if all(one.serial in run.stdout for one in (used, free)):
                break  # else a machine that stood still missed an answer

    assert run.returncode == 0
    lines = {line.split()[1]: line for line in run.stdout.splitlines() if "uri: " in line}
    assert lines[f"gige://{used.serial}"].endswith(", in use")
    assert f"uri {free.uri} is the same), free" in lines[f"gige://{free.serial}"]


def test_without_aravis_the_packages_are_named_and_the_rest_is_listed() -> None:
    script = (
        "import sys; sys.modules['gi'] = None; import edge.cli.main; "
        "sys.exit(edge.cli.main.main(['--list-cameras']))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert run.returncode == 0
    assert "inspection-station[gige]" in run.stdout
    assert "USB and other V4L2:" in run.stdout


def test_an_empty_list_says_what_to_check(tmp_path: Path) -> None:
    lines = list(camera_lines(tmp_path))

    assert any("UDP port 3956" in line for line in lines) or any(
        "gige://" in line for line in lines
    )
    assert lines[-1] == "USB and other V4L2: no devices"
