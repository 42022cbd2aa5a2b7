"""Image files: read as stored, refused when cut, written whole or not at all."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ImageUnreadable, OutputNotWritable
from edge.imaging.frame import PixelFormat, pixel_format
from edge.imaging.image_files import SUFFIXES, is_image, read_image, write_image

LOSSLESS = (".png", ".bmp", ".tif")
BYTES_AFTER_THE_PIXELS = 8  # what a PNG may lose of its last chunk without losing a pixel


def textured(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def encoded(suffix: str, pixels: np.ndarray) -> bytes:
    done, content = cv2.imencode(suffix, pixels)
    assert done
    return content.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_a_written_image_is_read_back_the_same(tmp_path: Path, suffix: str) -> None:
    pixels = textured(20, 30, 3)
    write_image(tmp_path / f"part{suffix}", pixels)
    assert np.array_equal(read_image(tmp_path / f"part{suffix}"), pixels)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((20, 30), np.uint8, PixelFormat.GREY8),
        ((20, 30), np.uint16, PixelFormat.GREY16),
        ((20, 30, 3), np.uint16, PixelFormat.BGR16),
        ((20, 30, 4), np.uint8, PixelFormat.BGRA8),
        ((20, 30, 4), np.uint16, PixelFormat.BGRA16),
        ((1, 1), np.uint8, PixelFormat.GREY8),
    ],
)
def test_depth_and_channels_stay_as_stored(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, expected: PixelFormat
) -> None:
    pixels = textured(*shape, dtype=dtype)
    write_image(tmp_path / "part.png", pixels)

    read = read_image(tmp_path / "part.png")

    assert pixel_format(read) is expected
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
@given(share=st.floats(0.0, 1.0))
def test_a_cut_image_is_refused_wherever_it_was_cut(
    folder: Path, suffix: str, share: float
) -> None:
    whole = encoded(suffix, textured(40, 50, 3))
    path = folder / f"cut{suffix}"
    path.write_bytes(whole[: int(share * (len(whole) - BYTES_AFTER_THE_PIXELS))])
    with pytest.raises(ImageUnreadable, match="not a complete image"):
        read_image(path)


def test_a_cut_jpeg_with_a_whole_thumbnail_is_refused(tmp_path: Path) -> None:
    """The thumbnail lies near the end of so short a file, and ends like an image."""
    whole = encoded(".jpg", textured(40, 50, 3))
    thumbnail = encoded(".jpg", textured(8, 8, 3))
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    path = tmp_path / "part.jpg"

    path.write_bytes(whole[:2] + segment + whole[2:])
    assert read_image(path).shape == (40, 50, 3)

    path.write_bytes(whole[:2] + segment + whole[2:-300])
    with pytest.raises(ImageUnreadable):
        read_image(path)


def test_a_jpeg_with_bytes_after_its_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    path.write_bytes(encoded(".jpg", textured(40, 50, 3)) + b"\0" * 10_000)
    assert read_image(path).shape == (40, 50, 3)


def test_a_png_with_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    content = bytearray(encoded(".png", textured(40, 50, 3)))
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "part.png").write_bytes(content)
    with pytest.raises(ImageUnreadable):
        read_image(tmp_path / "part.png")


def tiff(pixels: np.ndarray, compressed: bool) -> bytes:
    """Return a grey TIFF of four strips whose directory comes before its pixels."""
    height, width = pixels.shape
    strips = [
        zlib.compress(strip.tobytes()) if compressed else strip.tobytes()
        for strip in np.split(pixels, 4)
    ]
    count = 9
    lists = 8 + 2 + 12 * count + 4
    starts = [lists + 32 + sum(len(one) for one in strips[:number]) for number in range(4)]
    fields = [
        *((256, 1, width), (257, 1, height), (258, 1, 8), (259, 1, 8 if compressed else 1)),
        *((262, 1, 1), (273, 4, lists), (277, 1, 1), (278, 1, height // 4), (279, 4, lists + 16)),
    ]
    return (
        struct.pack("<2sHIH", b"II", 42, 8, count)
        + b"".join(struct.pack("<HHII", tag, 4, values, value) for tag, values, value in fields)
        + bytes(4)
        + struct.pack("<4I", *starts)
        + struct.pack("<4I", *(len(one) for one in strips))
        + b"".join(strips)
    )


def lit_scene() -> np.ndarray:
    """Return a noisy grey scene, (240, 320)."""
    return np.random.default_rng(3).normal(120, 20, (240, 320)).clip(1, 255).astype(np.uint8)


KINDS = {
    "bmp": lambda pixels: encoded(".bmp", pixels),
    "colour bmp": lambda pixels: encoded(".bmp", cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)),
    "tiff": lambda pixels: tiff(pixels, compressed=False),
    "compressed tiff": lambda pixels: tiff(pixels, compressed=True),
    "webp": lambda pixels: cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 80])[
        1
    ].tobytes(),
    "lossless webp": lambda pixels: encoded(".webp", pixels),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_whose_end_never_came_is_refused(tmp_path: Path, kind: str) -> None:
    whole = KINDS[kind](lit_scene())
    path = tmp_path / "part.img"
    path.write_bytes(whole)
    assert read_image(path).shape[:2] == (240, 320)
    for share in (0.37, 0.5, 0.61, 0.83):
        # Not at the end of a row: there black may begin.
        came = int(len(whole) * share) // 320 * 320 + 60

        path.write_bytes(whole[:came] + bytes(len(whole) - came))
        with pytest.raises(ImageUnreadable, match="its end is zeros"):
            read_image(path)
        path.write_bytes(whole[:came])
        with pytest.raises(ImageUnreadable, match="its end is missing"):
            read_image(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", ["black", "black below", "black above", "bar", "drawn", "tilted"])
def test_an_image_that_is_black_at_its_end_is_read(tmp_path: Path, kind: str, scene: str) -> None:
    pixels = lit_scene()
    if scene == "black":
        pixels[:] = 0
    elif scene == "black below":
        pixels[100:] = 0
    elif scene == "black above":
        pixels[:100] = 0
    elif scene == "bar":
        pixels[-30:, 150:] = pixels[:30, 150:] = 0
    else:
        pixels[:80] = pixels[160:] = 0
        pixels[:, :30] = pixels[:, 280:] = 0
        if scene == "drawn":
            pixels[pixels > 0] = 255
        else:
            turned = cv2.getRotationMatrix2D((160, 120), 0.2, 1)
            pixels = cv2.warpAffine(pixels, turned, (320, 240))
    (tmp_path / "part.img").write_bytes(KINDS[kind](pixels))

    assert read_image(tmp_path / "part.img").shape[:2] == (240, 320)


def test_a_webp_whose_flat_end_is_coded_as_zeros_is_read_and_a_lost_end_still_refused(
    tmp_path: Path,
) -> None:
    """By libwebp's method 0: noisy areas of 120 ± 20 above a flat one, 517 × 130 pixels."""
    whole = Path(__file__).with_name("flat_end.webp").read_bytes()
    assert len(whole) - len(whole.rstrip(b"\0")) > 180
    path = tmp_path / "part.webp"
    path.write_bytes(whole)
    assert read_image(path).shape == (130, 517, 3)

    for came in (600, 1000, 1500):
        path.write_bytes(whole[:came] + bytes(len(whole) - came))
        with pytest.raises(ImageUnreadable, match="its end is zeros"):
            read_image(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"\x89PNG", b"not an image", b"\0" * 999])
def test_a_file_that_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(content)
    with pytest.raises(ImageUnreadable, match=r"part\.png: .*Copy it again or remove it"):
        read_image(path)


def test_a_missing_image_is_named_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match=r"gone\.png: cannot be read \(No such file"):
        read_image(tmp_path / "gone.png")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match="Is a directory"):
        read_image(tmp_path)


def test_float_samples_are_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "part.tif").write_bytes(encoded(".tif", np.ones((20, 30), np.float32)))
    with pytest.raises(ImageUnreadable, match=r"float32.*8- or 16-bit PNG"):
        read_image(tmp_path / "part.tif")


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.Jpeg", "ä ö.tif"])
def test_images_are_known_by_their_suffix(name: str) -> None:
    assert is_image(Path(name))


@pytest.mark.parametrize("name", ["a.txt", "png", ".a.png", ".a.png.partial", "a.png.partial"])
def test_hidden_partial_and_other_files_are_no_images(name: str) -> None:
    assert not is_image(Path(name))


def test_an_image_replaces_its_predecessor_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    write_image(path, textured(20, 30))
    write_image(path, np.zeros((20, 30), np.uint8))
    assert not read_image(path).any()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder_name", ["missing", "file/below"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, folder_name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputNotWritable, match=r"part\.png: cannot be written .*permissions"):
        write_image(tmp_path / folder_name / "part.png", textured(20, 30))


def test_a_name_that_is_taken_by_a_folder_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "part.png").mkdir()
    with pytest.raises(OutputNotWritable):
        write_image(tmp_path / "part.png", textured(20, 30))
    assert [path.name for path in tmp_path.iterdir()] == ["part.png"]


@pytest.mark.parametrize("name", ["part.xyz", "part"])
def test_a_suffix_without_encoder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputNotWritable, match=r"Use \.png or \.jpg"):
        write_image(tmp_path / name, textured(20, 30))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "HEIC"),
        (b"\0\0\0\x1cftypavif" + bytes(200), "AVIF"),
        (b"GIF89a" + bytes(200), "GIF"),
        (b"%PDF-1.7\n" + bytes(200), "PDF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200), "JPEG 2000"),
        (b"<!DOCTYPE html><html>not found</html>", "HTML"),
    ],
)
def test_a_file_of_another_type_is_called_what_it_is(
    tmp_path: Path, content: bytes, kind: str
) -> None:
    path = tmp_path / "part.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageUnreadable, match=rf"part\.jpg: a {kind} file, whatever its name"):
        read_image(path)


def test_transparency_that_is_opaque_everywhere_is_left_out(tmp_path: Path) -> None:
    for suffix in (".png", ".webp", ".tif"):
        pixels = textured(20, 30, 4)
        pixels[:, :, 3] = 255
        path = tmp_path / f"part{suffix}"
        path.write_bytes(encoded(suffix, pixels))
        assert read_image(path).shape == (20, 30, 3)
        pixels[4, 5, 3] = 254
        path.write_bytes(encoded(suffix, pixels))
        assert read_image(path).shape == (20, 30, 4)
