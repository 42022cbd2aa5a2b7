"""Tiling: every pixel is inspected, nothing is padded, and what was cut blends back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.bundle.input_spec import TileSpec
from edge.errors import FrameUnsuitable
from edge.imaging.frame import Box
from edge.inspection.tiling import MAX_TILES, TilePlan, blend, plan_tiles, starts

tiles = st.integers(16, 40)
overlaps = st.sampled_from([0.0, 0.1, 0.25, 0.29, 0.5, 0.7, 0.71, 0.9]) | st.floats(0.0, 0.9)


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, float]:
    """Draw the size of an axis, a tile that fits and an overlap."""
    tile = draw(tiles)
    return draw(st.integers(tile, 5 * tile)), tile, draw(overlaps)


@st.composite
def plans(draw: st.DrawFn) -> TilePlan:
    """Draw a plan of any box, tile and overlap, of a few hundred tiles at most."""
    height, width = draw(tiles), draw(tiles)
    overlap = draw(st.floats(0.0, 0.6))
    box = Box(
        x=draw(st.integers(0, 50)),
        y=draw(st.integers(0, 50)),
        width=draw(st.integers(width, 4 * width)),
        height=draw(st.integers(height, 4 * height)),
    )
    return plan_tiles(box, TileSpec(height=height, width=width, overlap=overlap))


def cut(frame: np.ndarray, plan: TilePlan) -> np.ndarray:
    boxes = [plan.tile(index) for index in range(len(plan))]
    return np.stack([frame[b.y : b.y + b.height, b.x : b.x + b.width] for b in boxes])


def make_frame(plan: TilePlan) -> np.ndarray:
    """Return whole grey levels as float32, of the smallest frame that holds the plan's box."""
    shape = plan.box.y + plan.box.height, plan.box.x + plan.box.width
    return np.random.default_rng(len(plan)).integers(0, 256, shape).astype(np.float32)


@given(plans())
def test_what_was_cut_blends_back_into_the_frame(plan: TilePlan) -> None:
    frame = make_frame(plan)

    blended = blend(cut(frame, plan), plan)

    assert blended.dtype == np.float32
    assert np.array_equal(np.rint(blended), frame[plan.box.y :, plan.box.x :])
    # Weights are float32; nothing else is lost.
    assert np.abs(blended - frame[plan.box.y :, plan.box.x :]).max() <= 1e-4


@given(plans())
def test_every_pixel_lies_in_a_tile_and_no_tile_lies_outside_the_box(plan: TilePlan) -> None:
    box = plan.box
    covered = np.zeros((box.y + box.height, box.x + box.width), bool)
    for index in range(len(plan)):
        tile = plan.tile(index)
        assert (tile.height, tile.width) == (plan.height, plan.width)
        assert box.x <= tile.x <= box.x + box.width - tile.width
        assert box.y <= tile.y <= box.y + box.height - tile.height
        covered[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = True
    assert covered[box.y :, box.x :].all()


@given(axes())
def test_the_first_and_last_tile_are_aligned_to_the_edges(axis: tuple[int, int, float]) -> None:
    size, tile, _ = axis
    positions = starts(*axis)
    assert positions[0] == 0
    assert positions[-1] + tile == size


@given(axes())
def test_neighbours_share_at_least_the_overlap(axis: tuple[int, int, float]) -> None:
    _, tile, overlap = axis
    steps = np.diff(starts(*axis))
    assert (steps >= 1).all()
    assert (tile - steps >= overlap * tile - 1e-6).all()


@given(axes())
def test_no_fewer_tiles_would_do(axis: tuple[int, int, float]) -> None:
    size, tile, overlap = axis
    longest_step = max(math.floor(tile - overlap * tile + 1e-6), 1)
    fewer = len(starts(*axis)) - 1
    assert fewer == 0 or tile + (fewer - 1) * longest_step < size


@given(axes())
def test_tiles_are_evenly_spread(axis: tuple[int, int, float]) -> None:
    steps = np.diff(starts(*axis))
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_a_share_that_floats_cannot_hold_costs_no_extra_tile() -> None:
    """In floats 640 × (1 − 0.9) is a hair below 64."""
    assert starts(1280, 640, 0.9) == tuple(range(0, 641, 64))


def test_a_frame_of_one_tile_is_one_tile() -> None:
    plan = plan_tiles(Box(3, 4, 32, 24), TileSpec(height=24, width=32, overlap=0.5))
    assert [plan.tile(index) for index in range(len(plan))] == [Box(3, 4, 32, 24)]


def test_tiles_run_row_by_row() -> None:
    plan = plan_tiles(Box(10, 20, 64, 48), TileSpec(height=32, width=32, overlap=0.0))
    corners = [(plan.tile(index).x, plan.tile(index).y) for index in range(len(plan))]
    assert corners == [(10, 20), (42, 20), (10, 36), (42, 36)]


@given(plans(), st.integers(1, 24), st.integers(1, 24))
def test_maps_of_any_resolution_blend_without_gaps(plan: TilePlan, rows: int, columns: int) -> None:
    ones = np.ones((len(plan), rows, columns), np.float32)

    blended = blend(ones, plan)

    assert blended == pytest.approx(1.0, abs=1e-5)
    # The blended map has the resolution of the tiles' maps, to half a cell.
    assert abs(blended.shape[0] - plan.box.height * rows / plan.height) <= 0.5
    assert abs(blended.shape[1] - plan.box.width * columns / plan.width) <= 0.5


@given(plans(), st.integers(1, 12), st.integers(1, 12))
def test_blending_stays_within_the_values_of_the_tiles(
    plan: TilePlan, rows: int, columns: int
) -> None:
    maps = np.random.default_rng(rows).random((len(plan), rows, columns), np.float32)
    blended = blend(maps, plan)
    assert maps.min() - 1e-5 <= blended.min() <= blended.max() <= maps.max() + 1e-5


@given(plans(), st.data())
def test_a_number_that_is_none_in_any_tile_stays_none_in_the_map(
    plan: TilePlan, data: st.DataObject
) -> None:
    maps = np.zeros((len(plan), 4, 4), np.float32)
    place = tuple(data.draw(st.integers(0, side - 1)) for side in maps.shape)
    maps[place] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    assert not np.isfinite(blend(maps, plan)).all()


@pytest.mark.parametrize("overlap", [1.0, 1.5, 0.95, -0.1, math.nan])
def test_the_manifest_refuses_an_overlap_that_never_moves_on(overlap: float) -> None:
    with pytest.raises(ValidationError, match="overlap"):
        TileSpec(height=32, width=32, overlap=overlap)


@pytest.mark.parametrize(("width", "height"), [(63, 64), (64, 47), (0, 0), (1, 1)])
def test_a_frame_smaller_than_a_tile_is_refused_with_both_sizes(width: int, height: int) -> None:
    with pytest.raises(FrameUnsuitable, match=rf"{width}×{height} pixels .*64×48 tile.*Use"):
        plan_tiles(Box(0, 0, width, height), TileSpec(height=48, width=64, overlap=0.25))


def test_a_frame_of_endless_tiles_is_refused() -> None:
    with pytest.raises(FrameUnsuitable, match=rf"more than {MAX_TILES}.*larger tiles"):
        plan_tiles(Box(0, 0, 9000, 9000), TileSpec(height=16, width=16, overlap=0.9))


def test_tiles_that_disagree_blend_without_a_seam() -> None:
    plan = plan_tiles(Box(0, 0, 96, 64), TileSpec(height=64, width=64, overlap=0.5))
    maps = np.stack([np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)])

    steps = np.diff(blend(maps, plan), axis=1)

    assert len(plan) == 2
    assert (steps >= 0.0).all()
    assert steps.max() <= 0.06  # of 32 shared columns; and none at the tiles' own edges
    assert steps[:, 31].max() <= 0.01 and steps[:, 63].max() <= 0.01
