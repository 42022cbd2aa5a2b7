"""Regions: boxes in frame pixels that hold what they name, wherever the map lies."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.imaging.frame import Box
from edge.inspection.regions import MAX_REGIONS, Region, enlarge, find_regions

maps = arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.integers(0, 4).map(float),
)
placements = st.builds(
    Box,
    x=st.integers(0, 50),
    y=st.integers(0, 50),
    width=st.integers(1, 60),
    height=st.integers(1, 60),
)
THRESHOLD = 2.0


def whole(anomaly_map: np.ndarray) -> Box:
    return Box(0, 0, anomaly_map.shape[1], anomaly_map.shape[0])


def spots(count: int) -> np.ndarray:
    """Return a map with ``count`` separate cells, each stronger than the one before."""
    anomaly_map = np.zeros((20, 20), np.float32)
    anomaly_map[::2, ::2].flat[:count] = np.arange(1, count + 1)
    return anomaly_map


def covered(regions: tuple[Region, ...], placement: Box) -> np.ndarray:
    """Return which frame pixels of the placement lie in some box."""
    canvas = np.zeros((placement.height, placement.width), bool)
    for r in regions:
        y, x = r.y - placement.y, r.x - placement.x
        canvas[y : y + r.height, x : x + r.width] = True
    return canvas


@given(maps, placements)
def test_boxes_lie_inside_the_placement(anomaly_map: np.ndarray, placement: Box) -> None:
    for region in find_regions(anomaly_map, THRESHOLD, placement)[0]:
        assert region.width >= 1
        assert region.height >= 1
        assert placement.x <= region.x
        assert placement.y <= region.y
        assert region.x + region.width <= placement.x + placement.width
        assert region.y + region.height <= placement.y + placement.height
        assert 1 <= region.area_px <= region.width * region.height


@given(maps, placements)
def test_boxes_hold_every_anomalous_pixel(anomaly_map: np.ndarray, placement: Box) -> None:
    regions, truncated = find_regions(anomaly_map, THRESHOLD, placement)
    assert not truncated
    rows, columns = anomaly_map.shape
    ys = np.arange(placement.height) * rows // placement.height
    xs = np.arange(placement.width) * columns // placement.width
    anomalous = (anomaly_map >= THRESHOLD)[np.ix_(ys, xs)]
    assert (covered(regions, placement) >= anomalous).all()


@given(maps)
def test_areas_add_up_to_the_anomalous_cells(anomaly_map: np.ndarray) -> None:
    regions, _ = find_regions(anomaly_map, THRESHOLD, whole(anomaly_map))
    assert sum(region.area_px for region in regions) == (anomaly_map >= THRESHOLD).sum()


@given(maps)
def test_the_peak_is_the_highest_value_in_the_box_of_the_strongest(anomaly_map: np.ndarray) -> None:
    regions, _ = find_regions(anomaly_map, THRESHOLD, whole(anomaly_map))
    peaks = [region.peak for region in regions]
    assert peaks[:1] == ([anomaly_map.max()] if (anomaly_map >= THRESHOLD).any() else [])
    assert peaks == sorted(peaks, reverse=True)


@given(maps, placements)
def test_the_same_map_gives_the_same_regions_and_stays_as_it_is(
    anomaly_map: np.ndarray, placement: Box
) -> None:
    anomaly_map.flags.writeable = False
    first = find_regions(anomaly_map, THRESHOLD, placement)
    assert find_regions(anomaly_map, THRESHOLD, placement) == first


@given(maps, placements)
def test_a_crop_only_moves_the_boxes(anomaly_map: np.ndarray, placement: Box) -> None:
    at_origin = Box(0, 0, placement.width, placement.height)
    moved = [
        (x + placement.x, y + placement.y, *rest)
        for x, y, *rest in map(astuple, find_regions(anomaly_map, THRESHOLD, at_origin)[0])
    ]
    assert [astuple(r) for r in find_regions(anomaly_map, THRESHOLD, placement)[0]] == moved


def test_a_blob_is_named_in_frame_pixels() -> None:
    anomaly_map = np.zeros((8, 10), np.float32)
    anomaly_map[2:4, 5:8] = 3.0
    regions, _ = find_regions(anomaly_map, THRESHOLD, Box(100, 50, 40, 32))
    assert regions == (Region(x=120, y=58, width=12, height=8, area_px=96, peak=3.0),)


def test_a_value_on_the_threshold_belongs_to_a_region() -> None:
    anomaly_map = np.full((2, 2), 2.0, np.float32)
    assert len(find_regions(anomaly_map, 2.0, whole(anomaly_map))[0]) == 1


def test_nothing_above_the_threshold_is_no_region() -> None:
    assert find_regions(np.ones((4, 4), np.float32), 2.0, Box(0, 0, 4, 4)) == ((), False)


def test_cells_that_touch_at_a_corner_are_one_region() -> None:
    anomaly_map = np.eye(4, dtype=np.float32)
    assert len(find_regions(anomaly_map, 0.5, whole(anomaly_map))[0]) == 1


def test_small_regions_are_left_out_by_their_area_in_the_frame() -> None:
    anomaly_map = np.zeros((10, 10), np.float32)
    anomaly_map[0, 0] = 9.0
    anomaly_map[5:7, 5:7] = 3.0
    placement = Box(0, 0, 20, 20)  # one cell is four pixels
    kept, _ = find_regions(anomaly_map, 1.0, placement, min_area_px=5)
    assert [region.area_px for region in kept] == [16]


def test_no_more_than_32_regions_are_listed_and_they_are_the_strongest() -> None:
    regions, truncated = find_regions(spots(MAX_REGIONS + 1), 0.5, Box(0, 0, 20, 20))
    assert truncated
    assert [region.peak for region in regions] == list(range(MAX_REGIONS + 1, 1, -1))


def test_32_regions_are_all_of_them() -> None:
    regions, truncated = find_regions(spots(MAX_REGIONS), 0.5, Box(0, 0, 20, 20))
    assert (len(regions), truncated) == (MAX_REGIONS, False)


def test_regions_that_are_too_small_do_not_count_as_truncated() -> None:
    regions, truncated = find_regions(spots(90), 0.5, Box(0, 0, 20, 20), min_area_px=2)
    assert (regions, truncated) == ((), False)


@given(maps, st.integers(1, 40), st.integers(1, 40))
def test_enlarging_stays_within_the_values_of_the_map(
    anomaly_map: np.ndarray, height: int, width: int
) -> None:
    anomaly_map.flags.writeable = False
    enlarged = enlarge(anomaly_map, height, width)
    assert enlarged.shape == (height, width)
    assert enlarged.dtype == np.float32
    assert anomaly_map.min() - 1e-5 <= enlarged.min() <= enlarged.max() <= anomaly_map.max() + 1e-5


@pytest.mark.parametrize("times", [2, 4, 8])
def test_enlarging_keeps_the_place_of_a_peak(times: int) -> None:
    """Half-pixel centres: a shifted map would point at the wrong spot of the part."""
    anomaly_map = np.zeros((9, 9), np.float32)
    anomaly_map[2, 6] = 1.0
    enlarged = enlarge(anomaly_map, 9 * times, 9 * times)
    ys, xs = np.nonzero(enlarged > 0.0)
    assert ys.mean() == pytest.approx((2 + 0.5) * times - 0.5)
    assert xs.mean() == pytest.approx((6 + 0.5) * times - 0.5)
