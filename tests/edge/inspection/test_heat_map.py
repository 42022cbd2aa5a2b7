"""The heat map in one pass: what OpenCV draws step by step, and nothing outside its box."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.imaging.frame import Box
from edge.inspection.heat_map import (
    DENSEST_AT,
    DENSITY,
    VISIBLE_FROM,
    blend_heat_map,
)
from edge.inspection.normalization import THRESHOLD, ScoreScale, normalize

SCALE = ScoreScale(threshold=5.0, range=10.0)
WHITE, INK = 255, 24

sides = st.integers(1, 60)
cells = st.integers(1, 12)


@st.composite
def places(draw: st.DrawFn) -> tuple[Box, int, int]:
    """Draw a box and the size of a canvas that holds it, often with the box at its edge."""
    box = Box(draw(st.integers(0, 5)), draw(st.integers(0, 5)), draw(sides), draw(sides))
    margin = st.sampled_from([0, 0, 1, 4])
    return box, box.y + box.height + draw(margin), box.x + box.width + draw(margin)


def image(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(height * 1000 + width)
    return random.integers(0, 256, (height, width, 3), np.uint8)


def random_map(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(rows * 100 + columns).uniform(-2, 12, (rows, columns)).astype("f4")


def smooth_map(rows: int, columns: int, highest: float) -> np.ndarray:
    """Return a hill that rises to the lower right."""
    y, x = np.mgrid[0:rows, 0:columns]
    return (highest * (y + x) / max(rows + columns - 2, 1)).astype(np.float32)


def whole(pixels: np.ndarray) -> Box:
    return Box(0, 0, pixels.shape[1], pixels.shape[0])


def blended(pixels: np.ndarray, anomaly_map: np.ndarray, box: Box | None = None) -> np.ndarray:
    canvas = pixels.copy()
    blend_heat_map(canvas, box or whole(pixels), anomaly_map, SCALE)
    return canvas


def step_by_step(pixels: np.ndarray, anomaly_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Enlarge, normalize, colour and blend one after the other; also return the enlarged map."""
    height, width = pixels.shape[:2]
    values = cv2.resize(normalize(anomaly_map, SCALE), (width, height))
    colours = cv2.applyColorMap((values * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    shown = np.clip((values - VISIBLE_FROM) / (DENSEST_AT - VISIBLE_FROM), 0, 1) * DENSITY
    mixed = pixels + (colours.astype(float) - pixels) * shown[:, :, None]
    return mixed, values


def away_from_contour(values: np.ndarray, reach_px: int = 3) -> np.ndarray:
    """Return where no value on the other side of the threshold is within reach."""
    inside = (values >= THRESHOLD).astype(np.uint8)
    kernel = np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)
    return cv2.dilate(inside, kernel) == cv2.erode(inside, kernel)


@pytest.mark.parametrize(
    ("height", "width"), [(480, 640), (479, 641), (240, 1001), (1001, 240), (256, 256)]
)
def test_it_is_close_to_doing_it_step_by_step(height: int, width: int) -> None:
    pixels, anomaly_map = image(height, width), smooth_map(16, 20, 10.0)
    expected, values = step_by_step(pixels, anomaly_map)

    difference = np.abs(blended(pixels, anomaly_map) - expected).max(axis=2)

    far = away_from_contour(values)
    assert far.mean() > 0.9
    # Two by two pixels share a level of the map: a few grey levels on a slope.
    assert difference[far].max() <= 8.0
    assert difference[far].mean() <= 1.0


@given(places(), cells, cells)
def test_nothing_outside_the_box_changes(
    place: tuple[Box, int, int], rows: int, columns: int
) -> None:
    box, height, width = place
    pixels = image(height, width)
    drawn = blended(pixels, random_map(rows, columns), box)
    inside = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
    drawn[inside] = pixels[inside]
    assert np.array_equal(drawn, pixels)


@given(places(), cells, cells)
def test_a_box_gives_what_its_copy_gives(
    place: tuple[Box, int, int], rows: int, columns: int
) -> None:
    box, height, width = place
    pixels, anomaly_map = image(height, width), random_map(rows, columns)
    inside = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
    alone = blended(pixels[inside].copy(), anomaly_map)
    assert np.array_equal(blended(pixels, anomaly_map, box)[inside], alone)


@given(sides, sides, st.floats(-100.0, 100.0, width=32))
def test_an_even_map_gives_every_pixel_the_same_treatment(
    height: int, width: int, value: float
) -> None:
    """Odd sizes and single pixels, too: no pixel of the box is left out, none is a contour."""
    pixels = np.full((height, width, 3), 100, np.uint8)
    anomaly_map = np.full((3, 4), value, np.float32)

    drawn = blended(pixels, anomaly_map)

    assert (drawn == drawn[0, 0]).all()
    expected, _ = step_by_step(pixels, anomaly_map)
    assert np.abs(drawn - expected).max() <= 2.0


@given(sides, sides)
def test_a_map_below_the_visible_values_changes_nothing(height: int, width: int) -> None:
    pixels = image(height, width)
    highest = SCALE.threshold + (VISIBLE_FROM - THRESHOLD) * SCALE.range
    assert np.array_equal(blended(pixels, smooth_map(5, 5, highest)), pixels)


@pytest.mark.parametrize(
    ("height", "width", "cells", "reach_px"),
    [(300, 400, 12, 3), (301, 399, 12, 3), (600, 800, 9, 6), (601, 799, 9, 6)],
    ids=["blocks of 2", "blocks of 2, odd", "blocks of 4", "blocks of 4, odd"],
)
def test_the_contour_lies_between_values_on_either_side_of_the_threshold(
    height: int, width: int, cells: int, reach_px: int
) -> None:
    pixels, anomaly_map = np.full((height, width, 3), 100, np.uint8), smooth_map(cells, cells, 10.0)
    _, values = step_by_step(pixels, anomaly_map)

    drawn = blended(pixels, anomaly_map)

    far = away_from_contour(values, reach_px)
    contour = (drawn == WHITE).all(axis=2), (drawn == INK).all(axis=2)
    for line in contour:
        assert line.sum() >= min(height, width)  # it crosses the image
        assert not line[far].any()
    # White lies on the side at or above the threshold, ink on the other.
    slack = np.abs(np.gradient(values)).max() * 3
    assert values[contour[0]].min() >= THRESHOLD - slack
    assert values[contour[1]].max() <= THRESHOLD + slack


def test_a_hot_spot_is_coloured_where_it_is() -> None:
    anomaly_map = np.zeros((10, 10), np.float32)
    anomaly_map[2, 7] = 10.0
    pixels = np.full((200, 200, 3), 100, np.uint8)

    rows, columns = np.nonzero((blended(pixels, anomaly_map) != pixels).any(axis=2))

    assert rows.mean() == pytest.approx(49.5, abs=1.0)
    assert columns.mean() == pytest.approx(149.5, abs=1.0)


@given(sides, sides, cells, cells)
def test_a_map_that_may_not_be_written_is_read_and_stays(
    height: int, width: int, rows: int, columns: int
) -> None:
    anomaly_map = random_map(rows, columns)
    before = anomaly_map.copy()
    anomaly_map.flags.writeable = False
    blended(image(height, width), anomaly_map)
    assert np.array_equal(anomaly_map, before)


def test_a_part_of_a_larger_map_is_read_as_its_copy() -> None:
    pixels, larger = image(90, 70), random_map(20, 20)
    assert np.array_equal(
        blended(pixels, larger[2:12:2, 3:9]), blended(pixels, larger[2:12:2, 3:9].copy())
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_drawn_as_the_worst(value: float) -> None:
    pixels = image(40, 40)
    worst = blended(pixels, np.full((4, 4), 1e6, np.float32))
    assert np.array_equal(blended(pixels, np.full((4, 4), value, np.float32)), worst)


@pytest.mark.parametrize(
    "box",
    [Box(-1, 0, 9, 9), Box(0, 0, 41, 30), Box(0, 1, 40, 30), Box(5, 5, 0, 9), Box(5, 5, 9, 0)],
    ids=str,
)
def test_a_box_outside_the_canvas_is_refused_before_memory_is_written(box: Box) -> None:
    with pytest.raises(ValueError, match="cannot blend"):
        blended(image(30, 40), random_map(4, 4), box)


def test_a_canvas_that_would_be_copied_is_refused() -> None:
    canvas = image(60, 40)[::2]
    with pytest.raises(ValueError, match="cannot blend"):
        blend_heat_map(canvas, whole(canvas), random_map(4, 4), SCALE)
