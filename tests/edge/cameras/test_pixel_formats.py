"""GenICam pixel formats: small images whose bytes were written by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.cameras.genicam.frame_ids import SHORT_IDS, next_number
from edge.cameras.genicam.library import library
from edge.cameras.genicam.pixel_formats import FORMATS, ImageUndecodable
from edge.imaging.frame import Pixels, pixel_format
from tests.support.gige_camera import PIXEL_FORMATS, wire_bytes


def decoded(name: str, sent: list[int], width: int, height: int) -> Pixels:
    return FORMATS[name].decode(np.array(sent, np.uint8), width, height)


def test_mono8_is_taken_row_by_row() -> None:
    assert decoded("Mono8", [1, 2, 3, 4, 5, 6], 3, 2).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("name", "sent", "samples"),
    [
        # Little-endian containers; the sample is shifted up to 16 bits.
        ("Mono10", [0xFF, 0x03, 0x01, 0x00], [1023 * 64, 64]),
        ("Mono12", [0xFF, 0x0F, 0x34, 0x02], [4095 * 16, 0x2340]),
        ("Mono16", [0xFF, 0xFF, 0x34, 0x12], [65535, 0x1234]),
        # 0x001, 0x3FF, 0x200, 0x155 as one stream of bits, the lowest first.
        ("Mono10p", [0x01, 0xFC, 0x0F, 0x60, 0x55], [64, 1023 * 64, 512 * 64, 0x155 * 64]),
        # Three samples fill 30 of the 32 bits.
        ("Mono10p", [0x01, 0xFC, 0x0F, 0x20], [64, 1023 * 64, 512 * 64]),
        ("Mono12p", [0xBC, 0x3A, 0x12], [0xABC0, 0x1230]),
        ("Mono12p", [0xBC, 0x3A, 0x12, 0xFF, 0x0F], [0xABC0, 0x1230, 0xFFF0]),
    ],
)
def test_deep_grey_fills_16_bits(name: str, sent: list[int], samples: list[int]) -> None:
    pixels = decoded(name, sent, len(samples), 1)

    assert pixels.dtype == np.uint16
    assert pixels.tolist() == [samples]


def test_rgb8_becomes_bgr_and_bgr8_stays() -> None:
    assert decoded("RGB8", [1, 2, 3, 4, 5, 6], 2, 1).tolist() == [[[3, 2, 1], [6, 5, 4]]]
    assert decoded("BGR8", [1, 2, 3, 4, 5, 6], 2, 1).tolist() == [[[1, 2, 3], [4, 5, 6]]]


R, G, B = 200, 100, 40


@pytest.mark.parametrize(
    ("name", "even_row", "odd_row"),
    [
        ("BayerRG8", [R, G], [G, B]),
        ("BayerGR8", [G, R], [B, G]),
        ("BayerGB8", [G, B], [R, G]),
        ("BayerBG8", [B, G], [G, R]),
    ],
)
def test_a_mosaic_of_one_colour_becomes_that_colour(
    name: str, even_row: list[int], odd_row: list[int]
) -> None:
    sent = (even_row * 4 + odd_row * 4) * 4

    pixels = decoded(name, sent, 8, 8)

    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.full((8, 8, 3), (B, G, R)))


def test_a_mosaic_is_filled_in_from_its_neighbours() -> None:
    mosaic = [
        [10, 20, 30, 40],  # R G R G
        [50, 60, 70, 80],  # G B G B
        [90, 100, 110, 120],  # R G R G
        [130, 140, 150, 160],  # G B G B
    ]

    pixels = decoded("BayerRG8", [sample for row in mosaic for sample in row], 4, 4)

    # Second row, second column: blue itself, green from four sides, red from four corners.
    assert pixels[1, 1].tolist() == [60, (20 + 50 + 70 + 100) // 4, (10 + 30 + 90 + 110) // 4]
    # Third row, third column: red itself.
    assert pixels[2, 2].tolist() == [(60 + 80 + 140 + 160) // 4, (70 + 100 + 120 + 150) // 4, 110]
    # Second row, third column: green itself, red from above and below, blue from the sides.
    assert pixels[1, 2].tolist() == [(60 + 80) // 2, 70, (30 + 110) // 2]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_byte_too_few_or_too_many_is_no_image(name: str) -> None:
    form = FORMATS[name]
    needed = form.image_bytes(8, 6)

    assert pixel_format(form.decode(np.zeros(needed, np.uint8), 8, 6)) is form.becomes
    for size in (needed - 1, needed + 1, 0):
        with pytest.raises(ImageUndecodable, match=rf"{needed} bytes, {size} came"):
            form.decode(np.zeros(size, np.uint8), 8, 6)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_an_image_owns_its_pixels(name: str) -> None:
    sent = np.arange(FORMATS[name].image_bytes(8, 6), dtype=np.uint8)
    before = sent.copy()

    pixels = FORMATS[name].decode(sent, 8, 6)
    kept = pixels.copy()
    assert np.array_equal(sent, before)
    sent[:] = 0

    assert np.array_equal(pixels, kept)
    assert pixels.flags.c_contiguous


@given(
    name=st.sampled_from([name for name in FORMATS if not name.startswith("Bayer")]),
    width=st.integers(1, 13),
    height=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_what_a_camera_packs_is_unpacked(name: str, width: int, height: int, seed: int) -> None:
    colour = FORMATS[name].becomes.is_colour
    shape = (height, width, 3) if colour else (height, width)
    image: NDArray[np.uint8] = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)

    pixels = FORMATS[name].decode(wire_bytes(image, name), width, height)

    assert np.array_equal(pixels >> (8 if pixels.dtype == np.uint16 else 0), image)


def test_the_codes_are_those_of_aravis() -> None:
    api = library().api
    names = {
        "Mono8": api.PIXEL_FORMAT_MONO_8,
        "Mono10": api.PIXEL_FORMAT_MONO_10,
        "Mono12": api.PIXEL_FORMAT_MONO_12,
        "Mono16": api.PIXEL_FORMAT_MONO_16,
        "BayerGR8": api.PIXEL_FORMAT_BAYER_GR_8,
        "BayerRG8": api.PIXEL_FORMAT_BAYER_RG_8,
        "BayerGB8": api.PIXEL_FORMAT_BAYER_GB_8,
        "BayerBG8": api.PIXEL_FORMAT_BAYER_BG_8,
        "RGB8": api.PIXEL_FORMAT_RGB_8_PACKED,
        "BGR8": api.PIXEL_FORMAT_BGR_8_PACKED,
    }

    assert {name: FORMATS[name].code for name in names} == names
    assert {form.name: form.code for form in FORMATS.values()}.items() <= PIXEL_FORMATS.items()
    assert all(form.code >> 16 & 0xFF == form.bits for form in FORMATS.values())


@given(start=st.integers(1, SHORT_IDS), steps=st.lists(st.integers(0, 3), max_size=50))
def test_numbers_grow_by_what_the_short_ids_grow(start: int, steps: list[int]) -> None:
    true = number = start
    for step in steps:
        true += step
        frame_id = (true - 1) % SHORT_IDS + 1  # 65535, then 1

        number = next_number(number, frame_id, short=True)

        assert number == true


def test_short_ids_wrap_from_65535_to_1_without_a_gap() -> None:
    assert next_number(65535, 1, short=True) == 65536
    assert next_number(65536, 2, short=True) == 65537
    assert next_number(65534, 1, short=True) == 65536


def test_an_image_whose_id_was_lost_leaves_no_false_gap() -> None:
    number = next_number(100, 0, short=True)

    assert number == 101
    assert next_number(number, 102, short=True) == 102
    assert next_number(number, 103, short=True) == 103


def test_long_ids_are_numbers_already() -> None:
    assert next_number(70_000, 70_001, short=False) == 70_001
    assert next_number(0, 5, short=False) == 5
    assert next_number(None, 5, short=False) == 5


@pytest.mark.parametrize(
    ("ids", "short", "numbers"),
    [
        ((0, 1, 2), False, [0, 1, 2]),  # USB3 Vision begins with 0
        ((1, 2, 3), True, [1, 2, 3]),
        ((0, 2, 3), True, [1, 2, 3]),  # the first one of GigE Vision was lost
    ],
)
def test_each_image_after_the_opening_has_a_number_of_its_own(
    ids: tuple[int, ...], short: bool, numbers: list[int]
) -> None:
    number, given = None, []
    for frame_id in ids:
        number = next_number(number, frame_id, short)
        given.append(number)

    assert given == numbers
