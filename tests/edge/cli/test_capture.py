"""edge-run --capture: training images from real GigE Vision, streams and files."""

import json
import os
import signal
import subprocess
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edge.cli.capture import CameraSilent, capture_images
from edge.errors import CameraSettingRefused, OutputNotWritable
from edge.settings.camera import CameraSettings
from tests.edge.conftest import EdgeRun, edge_run_command
from tests.support.aravis_fixtures import numbered_images, patiently
from tests.support.decoding import decode_file
from tests.support.gige_camera import GigECamera
from tests.support.network_camera import NetworkCamera
from tests.support.small_bundle import good_image, write_images
from training.data.folder import Folder

GENEROUS_S = 60.0


def captured(uri: str, folder: Path, count: int, every_s: float = 0.0, **settings: Any) -> int:
    camera = CameraSettings.model_validate({"uri": uri, **settings})
    return patiently(
        lambda: capture_images(camera, folder, count=count, every_s=every_s, emit=lambda _: None)
    )


def images_in(folder: Path) -> list[Path]:
    return sorted((folder / "good").iterdir())


def read_record(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("capture_*.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_what_the_line_sees_is_written_bit_by_bit_and_training_opens_it(
    edge_run: EdgeRun, tmp_path: Path
) -> None:
    shown = [good_image(n) for n in range(64)]
    out = tmp_path / "set"
    config = tmp_path / "new.yaml"  # of a station that has neither model nor broker yet
    with GigECamera(shown, rate_fps=50) as device:
        camera = {"uri": device.uri, "sensor": {"exposure_us": 3000.0}}
        config.write_text(yaml.safe_dump({"camera": camera}))
        run = edge_run("--capture", out, "-n", 12, "--config", config)

    assert run.returncode == 0, run.stderr
    assert f"edge-run: 12 images in {out / 'good'}" in run.stderr
    samples = Folder(out).good
    assert len(samples) == len(images_in(out)) == 12
    known = {image.tobytes() for image in shown}
    assert all(decode_file(s.path).tobytes() in known for s in samples)
    record = read_record(out)
    assert record["camera"]["settings"]["camera.sensor.exposure_us"] == "3000"
    assert record["camera"]["serial"] == device.serial
    assert record["settings"]["sensor"]["exposure_us"] == 3000.0
    assert [str(out / one["file"]) for one in record["pictures"]] == [str(s.path) for s in samples]
    numbers = [one["frame_number"] for one in record["pictures"]]
    assert numbers == sorted(set(numbers))


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    deep = [np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20 + n for n in range(16)]
    with GigECamera(deep, "Mono16", rate_fps=50) as device:
        captured(device.uri, tmp_path, 3)

    for path in images_in(tmp_path):
        pixels = decode_file(path)
        assert pixels.dtype == np.uint16
        assert any(np.array_equal(pixels, image) for image in deep)


def test_only_images_that_are_whole_and_new_are_kept(tmp_path: Path) -> None:
    shown = [good_image(n) for n in range(8) for _ in range(4)]  # each one four times
    with GigECamera(shown, rate_fps=100, loss=0.01) as device:
        captured(device.uri, tmp_path, 20)

    kept = [decode_file(path) for path in images_in(tmp_path)]
    known = {image.tobytes() for image in shown}
    assert len(kept) == 20 and all(image.tobytes() in known for image in kept)
    left_out = read_record(tmp_path)["left_out"]
    assert left_out["frozen"] >= 1  # a machine that stands still skips most of them


def test_nothing_is_written_over_and_every_run_has_its_record(tmp_path: Path) -> None:
    with GigECamera(numbered_images(200), rate_fps=100) as device:
        captured(device.uri, tmp_path, 4)
        before = {path: path.read_bytes() for path in images_in(tmp_path)}
        captured(device.uri, tmp_path, 4)

    assert len(images_in(tmp_path)) == 8
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(list(tmp_path.glob("capture_*.json"))) == 2


def test_images_are_as_far_apart_as_asked(tmp_path: Path) -> None:
    with GigECamera(numbered_images(200), rate_fps=100) as device:
        captured(device.uri, tmp_path, 4, every_s=0.25)

    times = [one["captured_utc"] for one in read_record(tmp_path)["pictures"]]
    moments_s = [datetime.fromisoformat(text).timestamp() for text in times]
    assert all(later - earlier > 0.249 for earlier, later in pairwise(moments_s))


def test_a_camera_that_waits_for_software_triggers_gets_them(tmp_path: Path) -> None:
    with GigECamera(numbered_images(64)) as device:
        # However long a machine stands still, each image is one that is kept.
        trigger = {"mode": "software", "frame_timeout_ms": GENEROUS_S * 1e3}
        supervision = {"max_age_ms": GENEROUS_S * 1e3}
        captured(device.uri, tmp_path, 5, trigger=trigger, supervision=supervision)

    numbers = [one["frame_number"] for one in read_record(tmp_path)["pictures"]]
    assert numbers == list(range(numbers[0], numbers[0] + 5))


def test_a_camera_that_answers_no_trigger_is_reported(tmp_path: Path) -> None:
    with (
        GigECamera([good_image()], loss=1.0) as device,
        pytest.raises(CameraSilent, match="triggers in a row gave no image"),
    ):
        trigger = {"mode": "software", "frame_timeout_ms": 50.0}
        captured(device.uri, tmp_path, 5, trigger=trigger)

    assert images_in(tmp_path) == []


def test_streams_and_files_are_captured_too(tmp_path: Path) -> None:
    camera = NetworkCamera()
    files = write_images(tmp_path / "frames", good=3)

    captured(camera.uri, tmp_path / "stream", 3)
    camera.close()
    given = captured(str(files), tmp_path / "files", 50)

    assert len(images_in(tmp_path / "stream")) == given == 3
    text = next((tmp_path / "stream").glob("capture_*.json")).read_text()
    assert "geheim" not in text and "http://***@127.0.0.1" in text


def test_a_camera_that_is_pulled_is_waited_for(tmp_path: Path) -> None:
    with GigECamera(numbered_images(200), rate_fps=50) as device:
        process = subprocess.Popen(
            edge_run_command("--capture", tmp_path, "-n", 150, "--camera", device.uri),
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + GENEROUS_S
        while len(list(tmp_path.glob("good/*.png"))) < 5:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        device.kill()
        device.start()
        assert process.wait(GENEROUS_S) == 0

    record = read_record(tmp_path)
    assert len(record["pictures"]) == 150
    assert {1, 2} <= {one["epoch"] for one in record["pictures"]}
    assert record["camera"]["losses"] == 1


def test_a_refused_setting_and_an_unwritable_folder_are_configuration_errors(
    tmp_path: Path, edge_run: EdgeRun
) -> None:
    with (
        GigECamera(numbered_images(2)) as device,
        pytest.raises(CameraSettingRefused, match="exposure_us"),
    ):
        captured(device.uri, tmp_path, 5, sensor={"exposure_us": 5.0})
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotWritable):
        captured(str(write_images(tmp_path / "frames")), tmp_path / "file", 5)
    absent = edge_run("--capture", tmp_path / "out", "--camera", "/dev/video77")

    assert absent.returncode == 69
    assert "no such camera" in absent.stderr
    assert edge_run("--capture", tmp_path / "out", "-n", "0", "--camera", "x").returncode == 2


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_capture_leaves_whole_images_only(
    tmp_path: Path, how: signal.Signals
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 480, 640), np.uint8)
    with GigECamera(list(noise), rate_fps=50) as device:
        process = subprocess.Popen(
            edge_run_command("--capture", tmp_path, "-n", 100_000, "--camera", device.uri),
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + GENEROUS_S
        while len(list(tmp_path.glob("good/*.png"))) < 5:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(how)
        _, printed = process.communicate(timeout=GENEROUS_S)

    kept = Folder(tmp_path).good
    assert len(kept) >= 5
    assert all(decode_file(one.path).shape == (480, 640) for one in kept)
    if how is not signal.SIGKILL:
        assert process.returncode == 130
        assert len(read_record(tmp_path)["pictures"]) == len(kept)
        assert not [path for path in images_in(tmp_path) if path.suffix != ".png"]
        assert f"{len(kept)} images in" in printed and "Traceback" not in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_full_disk_is_reported_and_leaves_no_half_image(
    tmp_path: Path, edge_run: EdgeRun
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    noise = np.random.default_rng(0).integers(0, 256, (8, 480, 640), np.uint8)
    try:
        with GigECamera(list(noise), rate_fps=50) as device:
            run = edge_run("--capture", disk, "-n", 1000, "--camera", device.uri)
        kept = images_in(disk)

        assert run.returncode == 78
        assert "No space left on device" in run.stderr
        assert len(kept) in (2, 3)
        for path in kept:
            decode_file(path)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
