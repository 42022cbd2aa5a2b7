"""Whether a picture can show a part: exact grey levels, and sentences that help."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.inspection.plausibility import (
    BRIGHTEST_MEAN,
    COUNTED_BELOW,
    DARKEST_MEAN,
    LEAST_CONTRAST,
    LIGHT,
    PictureStatistics,
    picture_fault,
    picture_statistics,
)
from edge.inspection.thresholding import Reason

pictures = arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3)))


@given(pictures)
def test_statistics_are_those_of_all_samples(picture: np.ndarray) -> None:
    picture.flags.writeable = False
    statistics = picture_statistics(picture)
    assert (statistics.lowest, statistics.highest) == (picture.min(), picture.max())
    assert statistics.mean == pytest.approx(picture.mean())
    light = (picture >= LIGHT).mean() if picture.mean() < COUNTED_BELOW else 1.0
    assert statistics.light == pytest.approx(light)


@pytest.mark.parametrize("grey", [0, 1, 255])
def test_large_pictures_are_summed_without_overflow(grey: int) -> None:
    statistics = picture_statistics(np.full((3000, 3001, 3), grey, np.uint8))
    assert statistics == PictureStatistics(grey, grey, grey, float(grey >= LIGHT))


@given(pictures)
def test_a_view_has_the_statistics_of_its_copy(picture: np.ndarray) -> None:
    for view in (picture[::-1, ::2], picture.transpose(1, 0, 2), picture[:, :, ::-1]):
        assert picture_statistics(view) == picture_statistics(view.copy())


@given(st.lists(arrays(np.uint8, (4, 5, 3)), min_size=1, max_size=6))
def test_joined_statistics_are_those_of_one_picture_of_all(tiles: list[np.ndarray]) -> None:
    joined = picture_statistics(tiles[0])
    for index, tile in enumerate(tiles[1:], start=1):
        joined = joined.joined(picture_statistics(tile), 1.0 / (index + 1))

    together = picture_statistics(np.concatenate(tiles))
    assert (joined.lowest, joined.highest) == (together.lowest, together.highest)
    assert joined.mean == pytest.approx(together.mean)


@pytest.mark.parametrize(
    ("statistics", "reason", "said"),
    [
        (PictureStatistics(0, 200, DARKEST_MEAN - 0.1), Reason.EXPOSURE_OUT_OF_RANGE, "all dark"),
        (PictureStatistics(9, 255, BRIGHTEST_MEAN + 0.1), Reason.EXPOSURE_OUT_OF_RANGE, "white"),
        (PictureStatistics(90, 89 + LEAST_CONTRAST, 93.0), Reason.BLUR_OR_DARK, "no contrast"),
        (PictureStatistics(90, 90, 90.0), Reason.BLUR_OR_DARK, r"0 grey levels"),
    ],
)
def test_a_picture_that_shows_nothing_is_told_with_the_next_step(
    statistics: PictureStatistics, reason: Reason, said: str
) -> None:
    fault = picture_fault(statistics)
    assert fault is not None
    assert fault[0] is reason
    assert said in fault[1]
    assert "Check" in fault[1]


@pytest.mark.parametrize(
    "statistics",
    [
        PictureStatistics(0, LEAST_CONTRAST, DARKEST_MEAN),
        PictureStatistics(255 - LEAST_CONTRAST, 255, BRIGHTEST_MEAN),
        PictureStatistics(0, 255, 128.0),
    ],
    ids=str,
)
def test_the_limits_themselves_are_no_fault(statistics: PictureStatistics) -> None:
    assert picture_fault(statistics) is None


def test_a_dark_field_shows_a_part_and_hot_pixels_under_the_cap_do_not() -> None:
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[100, 20:180] = 200  # a scratch that scatters, mean grey 0.5
    assert picture_fault(picture_statistics(picture)) is None

    capped = np.random.default_rng(0).integers(0, 4, (256, 256, 3)).astype(np.uint8)
    capped.reshape(-1, 3)[::6600] = 255  # ten hot pixels
    fault = picture_fault(picture_statistics(capped))
    assert fault is not None
    assert fault[0] is Reason.EXPOSURE_OUT_OF_RANGE


def test_a_mean_that_is_no_number_is_a_fault() -> None:
    assert picture_fault(PictureStatistics(0, 255, float("nan"))) is not None
