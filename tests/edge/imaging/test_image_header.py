"""Sizes are read from headers as decoders read them, and bounded before anything is decoded."""

import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import ImageUnreadable
from edge.imaging.image_files import read_image
from edge.imaging.image_header import image_header
from tests.support.decoding import decode_file

SIZES = [(1, 1), (7, 300), (257, 64)]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_header_says_what_the_decoder_gives(
    tmp_path: Path, suffix: str, height: int, width: int, channels: int
) -> None:
    if suffix == ".jpg" and channels == 4:
        channels = 3
    path = tmp_path / f"part{suffix}"
    assert cv2.imwrite(str(path), np.full((height, width, channels), 90, np.uint8))
    decoded = decode_file(path)
    with path.open("rb") as file:
        header = image_header(file)
    assert header is not None
    assert (header.height_px, header.width_px) == decoded.shape[:2] == (height, width)
    assert header.pixel_bytes >= decoded.nbytes // (height * width)


def make_png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)


def make_tiff(width: int, height: int, *, big: bool = False, order: str = "<") -> bytes:
    """Return the header of an uncompressed grey TIFF in one strip."""
    fields = {256: width, 257: height, 258: 8, 259: 1, 273: 512, 277: 1, 278: height, 279: 9}
    mark = b"II" if order == "<" else b"MM"
    if big:
        start = mark + struct.pack(order + "HHHQ", 43, 8, 0, 16) + struct.pack(order + "Q", 8)
        entries = [struct.pack(order + "HHQQ", tag, 16, 1, one) for tag, one in fields.items()]
    else:
        start = mark + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", 8)
        entries = [struct.pack(order + "HHII", tag, 4, 1, one) for tag, one in fields.items()]
    return start + b"".join(entries)


def make_bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, width, height, 1, 24, 0) + bytes(24)


def make_jpeg(width: int, height: int) -> bytes:
    size = struct.pack(">BHHB", 8, height, width, 1)
    return b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x0b" + size + b"\1\x11\0"


def make_webp(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x64\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + sides + bytes(20)


BOMBS = {
    "png": make_png(32_768, 32_768),
    "jpeg": make_jpeg(65_000, 65_000),
    "bmp": make_bmp(600_000, -600_000),
    "tiff": make_tiff(110_000, 110_000),
    "tiff, big end first": make_tiff(110_000, 110_000, order=">"),
    "big tiff": make_tiff(110_000, 110_000, big=True),
    "webp": make_webp(2**24, 2**24),
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_that_says_it_is_huge_is_not_decoded(tmp_path: Path, name: str) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(BOMBS[name])
    with pytest.raises(ImageUnreadable, match=r"part\.png: \d+×\d+ pixels.*camera\.max_pixels"):
        read_image(path)


def test_a_tiff_with_a_huge_tile_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "part.tif"
    pixels = np.full((64, 64), 90, np.uint8)
    assert cv2.imwrite(str(path), pixels)
    content = bytearray(path.read_bytes())
    (place,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, place)
    entries = content[place + 2 : place + 2 + 12 * count]
    tiles = b"".join(struct.pack("<HHII", tag, 4, 1, 2**20) for tag in (322, 323))
    moved = len(content)
    content[4:8] = struct.pack("<I", moved)
    path.write_bytes(bytes(content) + struct.pack("<H", count + 2) + entries + tiles + bytes(4))
    with pytest.raises(ImageUnreadable, match="1048576×1048576 pixels"):
        read_image(path)


@pytest.mark.parametrize(
    "content", [make_bmp(64, 64), make_tiff(64, 64), make_png(64, 64), b"none"]
)
def test_a_file_far_larger_than_its_image_is_not_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "part.bmp"
    with path.open("wb") as file:
        file.write(content)
        file.truncate(10**12)
    with pytest.raises(ImageUnreadable, match="1000000000000 bytes"):
        read_image(path)


def test_a_station_bounds_its_images_lower(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    cv2.imwrite(str(path), np.full((100, 100), 90, np.uint8))
    assert read_image(path, max_pixels=10_000).shape == (100, 100)
    with pytest.raises(ImageUnreadable, match="100×100 pixels"):
        read_image(path, max_pixels=9_999)


def test_content_of_another_format_than_the_five_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(b"P5 64 64 255\n" + bytes(64 * 64))
    with pytest.raises(ImageUnreadable, match="not a complete image"):
        read_image(path)


def test_too_little_memory_is_the_fault_of_that_image_alone(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    cv2.imwrite(str(path), np.zeros((12_000, 12_000), np.uint8))
    cv2.imwrite(str(tmp_path / "small.png"), np.full((10, 10), 90, np.uint8))
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from edge.errors import ImageUnreadable\n"
        "from edge.imaging.image_files import read_image\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**26,) * 2)\n"
        "try: read_image(Path(sys.argv[1]))\n"
        "except ImageUnreadable as error: print(error)\n"
        "print(read_image(Path(sys.argv[2])).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path, tmp_path / "small.png"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "more memory is needed" in done.stdout
    assert "(10, 10)" in done.stdout
