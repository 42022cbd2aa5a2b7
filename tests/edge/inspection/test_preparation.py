"""The one pre-processing: shape, levels, crop, grey and colour, and what it refuses."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.bundle.input_spec import Crop, InputSpec, Levels
from edge.errors import FrameUnsuitable
from edge.imaging.frame import PixelFormat
from edge.inspection.preprocessing import MIN_SIDE_PX, prepare, to_8_bit

LEVELS = Levels(black=0, white=65535)
SHAPES: dict[PixelFormat, tuple[tuple[int, ...], type[np.unsignedinteger]]] = {
    PixelFormat.GREY8: ((), np.uint8),
    PixelFormat.GREY16: ((), np.uint16),
    PixelFormat.BGR8: ((3,), np.uint8),
    PixelFormat.BGR16: ((3,), np.uint16),
    PixelFormat.BGRA8: ((4,), np.uint8),
    PixelFormat.BGRA16: ((4,), np.uint16),
}

sides = st.integers(MIN_SIDE_PX, 90)
formats = st.sampled_from(PixelFormat)
any_levels = st.lists(st.integers(0, 65535), min_size=2, max_size=2, unique=True).map(
    lambda ends: Levels(black=min(ends), white=max(ends))
)


def spec(
    height: int = 32,
    width: int = 48,
    *formats: PixelFormat,
    levels: Levels = LEVELS,
    crop: Crop | None = None,
) -> InputSpec:
    return InputSpec(
        height=height,
        width=width,
        pixel_formats=formats or (PixelFormat.BGR8,),
        levels=levels,
        crop=crop,
    )


def image(height: int, width: int, layout: PixelFormat = PixelFormat.BGR8) -> np.ndarray:
    channels, dtype = SHAPES[layout]
    highest = np.iinfo(dtype).max
    random = np.random.default_rng(height * 1000 + width)
    return random.integers(0, highest, (height, width, *channels), dtype, endpoint=True)


@given(sides, sides, sides, sides, formats)
def test_every_frame_size_gives_the_stated_input(
    rows: int, columns: int, height: int, width: int, layout: PixelFormat
) -> None:
    prepared = prepare(image(rows, columns, layout), spec(height, width, layout))
    assert prepared.shape == (height, width, 3)
    assert prepared.dtype == np.uint8
    assert prepared.flags.c_contiguous


@given(sides, sides, sides, sides, formats)
def test_the_frame_is_never_changed_nor_handed_out(
    rows: int, columns: int, height: int, width: int, layout: PixelFormat
) -> None:
    pixels = image(rows, columns, layout)
    before = pixels.copy()
    pixels.flags.writeable = False

    prepared = prepare(pixels, spec(height, width, layout))
    prepared[:] = 0

    assert np.array_equal(pixels, before)
    assert not np.may_share_memory(prepared, pixels)


@given(sides, sides)
def test_a_frame_of_the_input_size_stays_as_it_is(height: int, width: int) -> None:
    pixels = image(height, width)
    assert np.array_equal(prepare(pixels, spec(height, width)), pixels)


@given(sides, sides, sides, sides, st.integers(0, 255))
def test_an_even_frame_stays_even(
    rows: int, columns: int, height: int, width: int, grey: int
) -> None:
    pixels = np.full((rows, columns, 3), grey, np.uint8)
    assert (prepare(pixels, spec(height, width)) == grey).all()


@given(sides, sides, sides, sides)
def test_preparing_twice_gives_the_same_bytes(
    rows: int, columns: int, height: int, width: int
) -> None:
    pixels = image(rows, columns)
    first = prepare(pixels, spec(height, width))
    assert np.array_equal(first, prepare(pixels, spec(height, width)))


@given(st.integers(2, 5), st.integers(2, 5))
def test_shrinking_averages_the_area(times_y: int, times_x: int) -> None:
    pixels = image(16 * times_y, 20 * times_x)
    means = pixels.reshape(16, times_y, 20, times_x, 3).mean(axis=(1, 3))
    difference = prepare(pixels, spec(16, 20)).astype(float) - means
    assert np.abs(difference).max() <= 0.75


def test_shrinking_keeps_fine_texture_from_aliasing() -> None:
    """A 1600×1200 checkerboard of single pixels is grey at a quarter of its size."""
    board = np.indices((1200, 1600)).sum(axis=0) % 2 * np.uint8(255)
    pixels = np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8)
    prepared = prepare(pixels, spec(300, 400)).astype(int)
    assert np.abs(prepared - 127.5).max() <= 0.5


def test_growing_is_bilinear() -> None:
    pixels = image(20, 24)
    expected = cv2.resize(pixels, (60, 50), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(prepare(pixels, spec(50, 60)), expected)


@pytest.mark.parametrize(("rows", "columns"), [(20, 96), (96, 20)])
def test_one_side_may_shrink_while_the_other_grows(rows: int, columns: int) -> None:
    pixels = image(rows, columns)
    shrunk = cv2.resize(pixels, (min(columns, 48), min(rows, 32)), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(shrunk, (48, 32), interpolation=cv2.INTER_LINEAR)
    difference = prepare(pixels, spec(32, 48)).astype(int) - expected
    assert np.abs(difference).max() <= 1


@given(sides, sides, sides, sides)
def test_mirroring_the_frame_mirrors_the_input(
    rows: int, columns: int, height: int, width: int
) -> None:
    pixels = image(rows, columns)
    mirrored = prepare(pixels[:, ::-1], spec(height, width))
    difference = mirrored[:, ::-1].astype(int) - prepare(pixels, spec(height, width))
    assert np.abs(difference).max() <= 1


def test_a_view_gives_what_its_copy_gives() -> None:
    whole = image(120, 150)
    view = whole[10:110:2, 140:20:-1, ::-1]
    assert np.array_equal(prepare(view, spec()), prepare(view.copy(), spec()))


def test_a_crop_gives_what_the_cropped_frame_gives() -> None:
    pixels = image(120, 150)
    cropped = prepare(pixels, spec(crop=Crop(x=30, y=10, width=70, height=40)))
    assert np.array_equal(cropped, prepare(pixels[10:50, 30:100], spec()))


def test_a_crop_of_the_input_size_is_copied_out_of_the_frame() -> None:
    pixels = image(120, 150)
    prepared = prepare(pixels, spec(crop=Crop(x=30, y=10, width=48, height=32)))
    assert np.array_equal(prepared, pixels[10:42, 30:78])
    assert not np.may_share_memory(prepared, pixels)


@pytest.mark.parametrize(("x", "y", "fits"), [(100, 80, True), (101, 80, False), (100, 81, False)])
def test_a_crop_must_lie_inside_the_frame(x: int, y: int, fits: bool) -> None:
    crop = Crop(x=x, y=y, width=50, height=40)
    if fits:
        prepare(image(120, 150), spec(crop=crop))
        return
    with pytest.raises(FrameUnsuitable, match=r"does not fit the 150×120 frame.*Change the crop"):
        prepare(image(120, 150), spec(crop=crop))


def test_grey_fills_all_three_channels() -> None:
    grey = image(40, 50, PixelFormat.GREY8)
    prepared = prepare(grey, spec(32, 48, PixelFormat.GREY8))
    assert (prepared == prepared[:, :, :1]).all()
    assert np.array_equal(prepared, prepare(np.repeat(grey[:, :, None], 3, axis=2), spec(32, 48)))


def test_a_colour_camera_that_shows_grey_gives_what_a_grey_camera_gives() -> None:
    grey = image(40, 50, PixelFormat.GREY8)
    as_colour = np.repeat(grey[:, :, None], 3, axis=2)
    grey_model = spec(32, 48, PixelFormat.GREY8)
    assert np.array_equal(prepare(as_colour, grey_model), prepare(grey, grey_model))


def test_a_model_of_both_grey_and_colour_keeps_colour() -> None:
    pixels = image(32, 48)
    both = spec(32, 48, PixelFormat.GREY8, PixelFormat.BGR8)
    assert np.array_equal(prepare(pixels, both), pixels)


def test_transparency_is_left_out() -> None:
    pixels = image(40, 50, PixelFormat.BGRA8)
    prepared = prepare(pixels, spec(32, 48, PixelFormat.BGRA8))
    assert np.array_equal(prepared, prepare(pixels[:, :, :3].copy(), spec(32, 48)))


def test_16_bit_transparency_is_left_out() -> None:
    pixels = image(40, 50, PixelFormat.BGRA16)
    prepared = prepare(pixels, spec(32, 48, PixelFormat.BGRA16))
    colour = prepare(pixels[:, :, :3].copy(), spec(32, 48, PixelFormat.BGR16))
    assert np.array_equal(prepared, colour)


@given(
    arrays(np.uint16, st.tuples(st.integers(1, 6), st.integers(1, 6))),
    any_levels,
)
def test_levels_map_linearly_clipped_and_rounded(pixels: np.ndarray, levels: Levels) -> None:
    share = (pixels.astype(float) - levels.black) / (levels.white - levels.black)
    exact = np.clip(share * 255.0, 0.0, 255.0)
    mapped = to_8_bit(pixels, levels)
    # Half a grey level of rounding; the arithmetic is float32.
    assert np.abs(mapped - exact).max() <= 0.5 + 0.02


@given(any_levels)
def test_black_becomes_0_and_white_255(levels: Levels) -> None:
    pixels = np.array([[0, levels.black, levels.white, 65535]], np.uint16)
    assert to_8_bit(pixels, levels).tolist() == [[0, 0, 255, 255]]


def test_12_bit_samples_in_16_bit_words_use_the_full_range() -> None:
    pixels = np.linspace(0, 4095, 32 * 48).reshape(32, 48).astype(np.uint16)
    levels = Levels(black=0, white=4095)
    prepared = prepare(pixels, spec(32, 48, PixelFormat.GREY16, levels=levels))
    assert (prepared.min(), prepared.max()) == (0, 255)


def test_a_dark_frame_is_not_brightened() -> None:
    """No scaling is ever guessed from the largest sample."""
    assert (prepare(np.ones((40, 50, 3), np.uint8), spec()) == 1).all()


@pytest.mark.parametrize(
    ("found", "trained_on"),
    [
        (PixelFormat.GREY8, PixelFormat.BGR8),
        (PixelFormat.BGR16, PixelFormat.BGR8),
        (PixelFormat.BGRA8, PixelFormat.BGR8),
        (PixelFormat.BGR8, PixelFormat.BGR16),
        (PixelFormat.GREY16, PixelFormat.GREY8),
        (PixelFormat.BGR16, PixelFormat.GREY16),
    ],
)
def test_a_format_the_model_never_saw_is_refused(
    found: PixelFormat, trained_on: PixelFormat
) -> None:
    with pytest.raises(FrameUnsuitable, match=f"is {found}, .*trained on {trained_on}.*Set the"):
        prepare(image(40, 50, found), spec(32, 48, trained_on))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((40, 50, 1), np.uint8),
        np.zeros((40, 50, 2), np.uint8),
        np.zeros((1, 40, 50, 3), np.uint8),
        np.zeros(4000, np.uint8),
        np.zeros((40, 50, 3), np.float32),
        np.zeros((40, 50, 3), np.int8),
        np.zeros((40, 50, 3), bool),
        np.zeros((), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype}{pixels.shape}",
)
def test_an_array_that_is_no_frame_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(FrameUnsuitable, match="of shape"):
        prepare(pixels, spec(32, 48, *PixelFormat))


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (1, 1), (15, 400), (400, 15), (0, 50)])
def test_a_frame_too_small_to_show_a_part_is_refused(rows: int, columns: int) -> None:
    with pytest.raises(FrameUnsuitable, match=f"{columns}×{rows} pixels .*at least 16"):
        prepare(np.zeros((rows, columns, 3), np.uint8), spec())


def test_a_crop_too_small_to_show_a_part_is_refused() -> None:
    with pytest.raises(FrameUnsuitable, match=r"4×4 pixels .*Check the crop"):
        prepare(image(120, 150), spec(crop=Crop(x=0, y=0, width=4, height=4)))
