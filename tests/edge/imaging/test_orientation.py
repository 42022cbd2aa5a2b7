"""Files that are to be turned: every format alike, and frames of a camera as they came."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.imaging.image_files import decode_jpeg, read_image
from edge.imaging.orientation import orientation

# How an upright image looks when its file says 1 to 8 (EXIF 2.32, table of tag 274): stored pixels
# to shown pixels.
SHOWN: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda stored: stored,
    2: lambda stored: cv2.flip(stored, 1),
    3: lambda stored: cv2.rotate(stored, cv2.ROTATE_180),
    4: lambda stored: cv2.flip(stored, 0),
    5: lambda stored: cv2.transpose(stored),
    6: lambda stored: cv2.rotate(stored, cv2.ROTATE_90_CLOCKWISE),
    7: lambda stored: cv2.rotate(cv2.transpose(stored), cv2.ROTATE_180),
    8: lambda stored: cv2.rotate(stored, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def scene(dtype: type = np.uint8, channels: int = 3) -> NDArray[np.integer]:
    """Return four patches of different grey, (48, 64): no two turns of it are equal."""
    grey: NDArray[np.integer] = np.zeros((48, 64), dtype)
    grey[:24, :32], grey[:24, 32:], grey[24:, :32], grey[24:, 32:] = 40, 90, 150, 220
    return grey if channels == 1 else np.repeat(grey[:, :, None], channels, 2)


def exif(how: int, order: str = ">") -> bytes:
    start = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(order + "HHIHH", 274, 3, 1, how, 0)
    return start + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def jpeg(pixels: NDArray[np.integer], how: int) -> bytes:
    plain = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    body = b"Exif\0\0" + exif(how)
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]


def png(pixels: NDArray[np.integer], how: int) -> bytes:
    plain = cv2.imencode(".png", pixels)[1].tobytes()
    chunk = b"eXIf" + exif(how, "<")
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return plain[:-12] + whole + plain[-12:]


def webp(pixels: NDArray[np.integer], how: int) -> bytes:
    """Return an extended WebP: its header, the pixels, then EXIF."""
    plain = cv2.imencode(".webp", pixels)[1].tobytes()
    size = struct.pack("<I", pixels.shape[1] - 1)[:3] + struct.pack("<I", pixels.shape[0] - 1)[:3]
    header = b"VP8X" + struct.pack("<I", 10) + bytes([0x08, 0, 0, 0]) + size
    body = exif(how)
    content = b"WEBP" + header + plain[12:] + b"EXIF" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


def tiff(pixels: NDArray[np.integer], how: int) -> bytes:
    """Return a plain TIFF of one strip."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    stored = pixels if channels == 1 else pixels[:, :, ::-1]
    fields = [(256, 1, width), (257, 1, height), (258, 1, 8 * pixels.itemsize), (259, 1, 1)]
    fields += [(262, 1, 1 if channels == 1 else 2), (273, 1, 200), (274, 1, how)]
    fields += [(277, 1, channels), (278, 1, height), (279, 1, pixels.nbytes)]
    place = 200 + pixels.nbytes
    depths = struct.pack("<3H", *[8 * pixels.itemsize] * 3)
    entries = b"".join(
        struct.pack("<HHII", tag, 3, 3, place)
        if tag == 258 and channels == 3
        else struct.pack("<HHII", tag, 4 if tag == 279 else 3, count, value)
        for tag, count, value in fields
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + entries + bytes(4)
    return head.ljust(200, b"\0") + np.ascontiguousarray(stored).tobytes() + depths


FILES: dict[str, tuple[Callable[[NDArray[Any], int], bytes], Any, int]] = {
    "jpeg": (jpeg, np.uint8, 3),
    "grey jpeg": (jpeg, np.uint8, 1),
    "png": (png, np.uint8, 3),
    "grey 16-bit png": (png, np.uint16, 1),
    "png with alpha": (png, np.uint8, 4),
    "tiff": (tiff, np.uint8, 3),
    "grey tiff": (tiff, np.uint8, 1),
    "grey 16-bit tiff": (tiff, np.uint16, 1),
    "16-bit tiff": (tiff, np.uint16, 3),
    "webp": (webp, np.uint8, 3),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_read_as_viewers_show_it(tmp_path: Path, kind: str) -> None:
    written, dtype, channels = FILES[kind]
    stored = scene(dtype, channels)
    path = tmp_path / "part.img"
    for how, shown in SHOWN.items():
        content = written(stored, how)
        path.write_bytes(content)
        pixels = read_image(path)
        expected = shown(stored)
        assert pixels.shape == expected.shape, how
        assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= 2, how
        assert pixels.flags.c_contiguous
        assert orientation(io.BytesIO(content)) == how


@pytest.mark.parametrize("how", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(tmp_path: Path, how: int) -> None:
    path = tmp_path / "part.jpg"
    path.write_bytes(jpeg(scene(), how))
    assert read_image(path).shape == (48, 64, 3)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_damaged_notes_leave_an_image_upright_and_end(tmp_path: Path, kind: str) -> None:
    written, dtype, channels = FILES[kind]
    content = written(scene(dtype, channels), 6)
    place = (
        content.index(struct.pack(">HHI" if kind == "jpeg" else "<HHI", 274, 3, 1))
        if (kind in ("jpeg", "png", "tiff"))
        else content.index(b"MM\0*")
    )
    for end in range(place, place + 14):
        assert 1 <= orientation(io.BytesIO(content[:end])) <= 8
    random = np.random.default_rng(1)
    for _ in range(200):
        changed = bytearray(content)
        for at in random.integers(0, min(len(content), place + 60), 4):
            changed[at] = int(random.integers(256))
        assert 1 <= orientation(io.BytesIO(bytes(changed))) <= 8


def test_a_frame_of_a_camera_stays_as_it_came() -> None:
    pixels, fault = decode_jpeg(np.frombuffer(jpeg(scene(), 6), np.uint8))
    assert fault == ""
    assert pixels.shape == (48, 64, 3)
