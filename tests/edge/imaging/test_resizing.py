"""The one resize: exact to a grey level, the same bytes on every thread."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.imaging.area_resize import axis_weights, resize_area
from edge.imaging.frame import Box

sides = st.integers(1, 90)


@st.composite
def shrunk_axes(draw: st.DrawFn) -> tuple[int, int]:
    """Draw the size of an axis and what it shrinks to."""
    size = draw(st.integers(1, 10_000))
    return size, draw(st.integers(1, min(size, 600)))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Box, int, int]:
    """Draw a box, and the height and width of a frame that holds it."""
    box = Box(draw(st.integers(0, 9)), draw(st.integers(0, 9)), draw(sides), draw(sides))
    return box, box.y + box.height + draw(st.integers(0, 9)), box.x + box.width


def image(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Return noise, or grey noise where ``channels`` is 1."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(height * 1000 + width).integers(0, 256, shape, np.uint8)


def whole(samples: np.ndarray) -> Box:
    return Box(0, 0, samples.shape[1], samples.shape[0])


def resized(samples: np.ndarray, height: int, width: int, box: Box | None = None) -> np.ndarray:
    out = np.full((height, width, 3), 77, np.uint8)
    resize_area(samples, box or whole(samples), out)
    return out


def exact_weights(size: int, target: int) -> np.ndarray:
    """Return ``(target, size)`` shares of each input pixel, in float64."""
    bounds = np.arange(target + 1) * size / target
    pixels = np.arange(size)
    ends = np.minimum(bounds[1:, None], pixels + 1)
    covered = np.clip(ends - np.maximum(bounds[:-1, None], pixels), 0.0, None)
    return covered * target / size


def exactly_resized(samples: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average areas in float64; sides that grow are interpolated by OpenCV as the last step."""
    colour = np.atleast_3d(samples)
    rows = exact_weights(samples.shape[0], min(height, samples.shape[0]))
    columns = exact_weights(samples.shape[1], min(width, samples.shape[1]))
    averaged = np.einsum("yh,hwc,xw->yxc", rows, colour, columns, optimize=True)
    if averaged.shape[:2] != (height, width):
        averaged = np.atleast_3d(cv2.resize(averaged, (width, height)))
    return np.broadcast_to(averaged, (height, width, 3))


@given(shrunk_axes())
def test_the_weights_of_every_pixel_sum_to_2048(axis: tuple[int, int]) -> None:
    weights = axis_weights(*axis).weight
    assert (weights.sum(axis=1) == 2048).all()
    assert (weights >= 0).all()


@given(shrunk_axes())
def test_the_covered_pixels_follow_each_other_and_stay_inside(axis: tuple[int, int]) -> None:
    size, _ = axis
    first, covered, weight = axis_weights(*axis)
    last = first + covered - 1
    assert (first[0], last[-1]) == (0, size - 1)
    assert (np.diff(first) >= 1).all()
    assert ((first[1:] - last[:-1] == 0) | (first[1:] - last[:-1] == 1)).all()
    assert covered.max() == weight.shape[1]


@given(shrunk_axes())
def test_no_run_of_pixels_weighs_more_than_it_covers(axis: tuple[int, int]) -> None:
    """With many small weights rounding must not pile up: an edge would move."""
    size, target = axis
    row = target // 2
    first, covered, weight = axis_weights(*axis)
    pixels = np.arange(first[row], first[row] + covered[row])
    start, stop = row * size / target, (row + 1) * size / target
    shares = (np.minimum(stop, pixels + 1) - np.maximum(start, pixels)) * target / size
    error = np.cumsum(weight[row, : covered[row]]) - np.cumsum(shares) * 2048
    assert np.abs(error).max() <= 0.5 + 1e-6


@given(sides, sides, sides, sides, st.sampled_from([1, 3]))
def test_every_size_is_within_a_grey_level_of_exact_averaging(
    rows: int, columns: int, height: int, width: int, channels: int
) -> None:
    samples = image(rows, columns, channels)
    difference = resized(samples, height, width) - exactly_resized(samples, height, width)
    grows = height > rows or width > columns
    assert np.abs(difference).max() <= (1.25 if grows else 1.0)  # growing rounds a second time


@given(sides, sides, sides, sides, st.integers(0, 255))
def test_a_constant_image_stays_constant(
    rows: int, columns: int, height: int, width: int, grey: int
) -> None:
    assert (resized(np.full((rows, columns, 3), grey, np.uint8), height, width) == grey).all()
    assert (resized(np.full((rows, columns), grey, np.uint8), height, width) == grey).all()


@given(boxes(), sides, sides, st.sampled_from([1, 3]))
def test_a_box_gives_what_its_copy_gives(
    placed: tuple[Box, int, int], height: int, width: int, channels: int
) -> None:
    box, rows, columns = placed
    samples = image(rows, columns, channels)
    copy = samples[box.y : box.y + box.height, box.x : box.x + box.width].copy()
    assert np.array_equal(resized(samples, height, width, box), resized(copy, height, width))


@given(sides, sides, sides, sides)
def test_grey_gives_the_same_as_three_equal_channels(
    rows: int, columns: int, height: int, width: int
) -> None:
    grey = image(rows, columns, 1)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    assert np.array_equal(resized(grey, height, width), resized(colour, height, width))


@given(sides, sides, sides, sides)
def test_an_image_that_may_not_be_written_is_read_and_stays(
    rows: int, columns: int, height: int, width: int
) -> None:
    samples = image(rows, columns)
    before = samples.copy()
    samples.flags.writeable = False
    resized(samples, height, width)
    assert np.array_equal(samples, before)


@pytest.mark.parametrize("channels", [1, 3])
def test_four_threads_at_once_give_the_same_bytes(channels: int) -> None:
    samples = image(480, 641, channels)
    expected = resized(samples, 224, 200).tobytes()
    axis_weights.cache_clear()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: resized(samples, 224, 200).tobytes(), range(40)))

    assert set(found) == {expected}


@pytest.mark.parametrize(("height", "width"), [(20, 10_000), (10_000, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_sides_of_10_000_pixels_stay_exact(height: int, width: int, channels: int) -> None:
    samples = image(height, width, channels)
    target = min(height, 64), min(width, 64)
    difference = resized(samples, *target) - exactly_resized(samples, *target)
    assert np.abs(difference).max() <= 1.0


@pytest.mark.parametrize("target", [1, 3, 16, 1000])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_largest_sums_there_can_be_fit_32_bits(target: int, channels: int) -> None:
    shape = (300, 10_000) if channels == 1 else (300, 10_000, 3)
    assert (resized(np.full(shape, 255, np.uint8), min(target, 300), target) == 255).all()


def test_an_edge_in_a_huge_image_stays_where_it_is() -> None:
    """625 input pixels weigh three or four steps each; all fours on one side would move it."""
    samples = np.zeros((16, 10_000), np.uint8)
    samples[:, :173] = 255
    assert abs(int(resized(samples, 16, 16)[0, 0, 0]) - 255 * 173 / 625) <= 1.0


@pytest.mark.parametrize(
    "box",
    [Box(-1, 0, 10, 10), Box(0, 0, 41, 30), Box(0, 1, 40, 30), Box(5, 5, 0, 9), Box(5, 5, 9, 0)],
    ids=str,
)
def test_a_box_outside_the_image_is_refused_before_memory_is_read(box: Box) -> None:
    with pytest.raises(ValueError, match="cannot resize"):
        resized(image(30, 40), 16, 16, box)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1), (16, 16, 4), (0, 16, 3)])
def test_an_output_of_another_layout_is_refused_before_memory_is_written(
    shape: tuple[int, ...],
) -> None:
    with pytest.raises(ValueError, match="cannot resize"):
        resize_area(image(30, 40), Box(0, 0, 40, 30), np.zeros(shape, np.uint8))
