"""A JPEG is whole or it is refused: of many damages of each kind none passes that can be told.

What cannot be told by the codec, because what came is a sound JPEG of another image, is counted.
"""

import json
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.cameras.factory import open_camera
from edge.errors import ImageUnreadable
from edge.imaging.frame import FrameStatus
from edge.imaging.image_files import decode_jpeg, read_image
from edge.imaging.jpeg_integrity import jpeg_fault
from edge.settings.camera import CameraSettings
from tests.edge.conftest import edge_run_command
from tests.soak import times
from tests.support import damage
from tests.support.network_camera import GENEROUS_S, NetworkCamera
from training.data.rendered import render_part

DEMO = Path("configs/demo")
DAMAGES, IMAGES = times(150, 1000), 5
PATCH = np.random.default_rng(0).normal(120, 30, (40, 56, 3)).astype(np.uint8)
RESTART_INTERVALS = (0, 40)
SAMPLINGS = (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


@cache
def noisy_part(number: int) -> NDArray[np.uint8]:
    """Return a part as a sensor sees it: (480, 640, 3)."""
    random = np.random.default_rng(number)
    pixels = render_part(random, width=640, height=480).pixels
    return np.clip(pixels + random.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)


def jpeg(pixels: NDArray[np.uint8], *parameters: int) -> bytes:
    done, encoded = cv2.imencode(".jpg", pixels, parameters)
    assert done
    return encoded.tobytes()


def as_array(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)


def decoded(content: bytes) -> NDArray[np.integer]:
    pixels = cv2.imdecode(as_array(content), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels


@pytest.fixture(scope="module")
def parts() -> dict[int, list[bytes]]:
    """By restart interval, images of 30 to 100 kB."""
    return {
        interval: [
            jpeg(
                noisy_part(number),
                *(cv2.IMWRITE_JPEG_QUALITY, 75 + 5 * (number % 5)),
                *(cv2.IMWRITE_JPEG_RST_INTERVAL, interval),
            )
            for number in range(IMAGES)
        ]
        for interval in RESTART_INTERVALS
    }


def accepted_though_different(kind: damage.Damage, images: list[bytes]) -> int:
    """Damage images ``DAMAGES`` times; return how many passed and show other pixels."""
    random = np.random.default_rng(5)
    wrong = 0
    for number in range(DAMAGES):
        whole, other = images[number % IMAGES], images[(number + 2) % IMAGES]
        damaged = kind(whole, other, random)
        pixels, fault = decode_jpeg(as_array(damaged))
        wrong += not fault and not np.array_equal(pixels, decoded(whole))
    return wrong


@pytest.mark.parametrize("interval", RESTART_INTERVALS)
@pytest.mark.parametrize(
    "kind", [damage.cut, damage.cut_and_ended, damage.lost, damage.zeroed], ids=lambda k: k.__name__
)
def test_of_many_damaged_images_none_passes(
    parts: dict[int, list[bytes]], kind: damage.Damage, interval: int
) -> None:
    assert accepted_though_different(kind, parts[interval]) == 0


def test_of_many_images_that_lost_restart_intervals_none_passes(
    parts: dict[int, list[bytes]],
) -> None:
    assert accepted_though_different(damage.intervals_lost, parts[40]) == 0


def test_restart_intervals_in_another_order_are_refused_unless_eight_apart(
    parts: dict[int, list[bytes]],
) -> None:
    head, pieces = damage.intervals(parts[40][0])
    for first in range(len(pieces) - 1):
        for second in range(first + 1, len(pieces) - 1):
            order = list(pieces)
            order[first], order[second] = order[second], order[first]
            fault = jpeg_fault(as_array(head + b"".join(order)))
            # Their markers count to eight: what is as far apart cannot be told.
            assert bool(fault) == ((second - first) % 8 != 0)


# Of 1,000: where every byte that came belongs to a sound JPEG, too, some are sound JPEGs of a
# image that never was. docs/operate.md says so.
@pytest.mark.parametrize(
    ("kind", "max_count"),
    [(damage.noise, 10), (damage.moved, 60), (damage.stale, 100), (damage.another_tail, 100)],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_a_codec_cannot_detect_is_counted(
    parts: dict[int, list[bytes]], kind: damage.Damage, max_count: int
) -> None:
    accepted = accepted_though_different(kind, parts[0])
    assert times(0, 1) <= accepted <= max_count * DAMAGES / 1000


@settings(max_examples=times(60, 1000))
@given(data=st.data())
def test_a_whole_jpeg_is_whole_whatever_its_kind(data: st.DataObject) -> None:
    draw = data.draw
    sampling, progressive = draw(st.sampled_from(SAMPLINGS)), draw(st.integers(0, 1))
    shape = (draw(st.integers(1, 70)), draw(st.integers(1, 70)), draw(st.sampled_from([1, 3])))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    levels = draw(st.sampled_from([1, 2, 40, 256]))
    pixels = (random.integers(0, levels, shape) * (255 // levels)).astype(np.uint8)
    content = jpeg(
        pixels,
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling),
        *(cv2.IMWRITE_JPEG_PROGRESSIVE, progressive),
        *(cv2.IMWRITE_JPEG_QUALITY, draw(st.sampled_from([1, 10, 50, 75, 95, 100]))),
        *(cv2.IMWRITE_JPEG_OPTIMIZE, draw(st.integers(0, 1))),
        *(cv2.IMWRITE_JPEG_RST_INTERVAL, draw(st.sampled_from([0, 1, 3, 20]))),
    )

    assert jpeg_fault(as_array(content)) == ""
    # What follows the end marker belongs to nobody, even another image.
    assert jpeg_fault(as_array(content + b"\0\0" + content[:-40])) == ""
    assert jpeg_fault(as_array(content[:-3] + content[-2:]))
    assert jpeg_fault(as_array(content[:-2]))


@given(share=st.floats(0, 1, exclude_max=True), quality=st.integers(1, 100))
def test_a_progressive_jpeg_that_lost_its_tail_is_refused(share: float, quality: int) -> None:
    content = jpeg(
        PATCH,
        *(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
    )
    cut = content[: int(share * (len(content) - 2))] + damage.END

    assert jpeg_fault(as_array(cut))


def test_a_jpeg_without_tables_of_codes_has_the_standard_ones() -> None:
    content = jpeg(noisy_part(0))
    place = content.index(b"\xff\xc4")
    while content[place + 1] == 0xC4:
        content = (
            content[:place]
            + content[place + 2 + int.from_bytes(content[place + 2 : place + 4], "big") :]
        )

    assert jpeg_fault(as_array(content)) == ""
    assert jpeg_fault(as_array(content[:-300] + damage.END))


@pytest.mark.parametrize(
    ("damaged", "reported"),
    [
        (lambda whole: whole[:-500], "the end marker is missing|ends before its last block"),
        (lambda whole: whole[:-500] + damage.END, "ends before its last block"),
        (lambda whole: whole[:-2] + b"\0\0" + whole[-2:], "bytes are left over behind"),
    ],
)
def test_a_damaged_file_is_refused_with_its_cause(
    tmp_path: Path, damaged: Callable[[bytes], bytes], reported: str
) -> None:
    (tmp_path / "part.jpg").write_bytes(damaged(jpeg(noisy_part(1))))

    with pytest.raises(ImageUnreadable, match=f"not a complete image.*({reported})"):
        read_image(tmp_path / "part.jpg")


def test_a_damaged_frame_of_a_video_is_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 480))
    for number in range(3):
        writer.write(noisy_part(number))
    writer.release()
    content = bytearray(path.read_bytes())
    second = content.index(b"\xff\xd8\xff", content.index(b"\xff\xd8\xff") + 3)
    content[second + 20_000 : second + 20_512] = bytes(512)
    path.write_bytes(content)

    with closing(open_camera(str(path), CameraSettings(uri=str(path)))) as camera:
        frames = [camera.read(GENEROUS_S) for _ in range(3)]

    assert [frame.status for frame in frames if frame] == [
        FrameStatus.COMPLETE,
        FrameStatus.INCOMPLETE,
        FrameStatus.COMPLETE,
    ]


def test_no_damaged_defective_part_of_a_network_camera_is_ok() -> None:
    """Decoders fill a lost tail with the image before: the good part hides the defect."""
    good = (DEMO / "frames" / "00_good.jpg").read_bytes()
    defective = (DEMO / "frames" / "02_scratch.jpg").read_bytes()
    start = damage.scan_start(defective)
    tails = [start + (len(defective) - start) * share // 12 for share in (1, 3, 5, 7, 9, 10)]
    # Two good parts by turns: the same again would be frozen, however few of them are seen.
    whole = [good, (DEMO / "frames" / "01_good.jpg").read_bytes()] * 3
    cut = [defective[:tail] + damage.END for tail in tails]
    images = [one for pair in zip(whole, cut, strict=True) for one in pair]

    with closing(NetworkCamera(images=[*images, good])) as camera:
        command = edge_run_command("--camera", camera.uri, "--model", DEMO / "bottle.xml")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as station:
            assert station.stdout is not None
            verdicts = [json.loads(station.stdout.readline()) for _ in range(24)]
            station.terminate()

    # By turns the camera sends a whole good part and a damaged defective one.
    results = {
        turn: {(one["result"], one["reason"]) for one in verdicts if one["frame"]["id"] % 2 == turn}
        for turn in (0, 1)
    }
    assert ("OK", "score_below") in results[0] | results[1]
    damaged = next(seen for seen in results.values() if ("OK", "score_below") not in seen)
    assert damaged == {("ERROR", "frame_incomplete")}
