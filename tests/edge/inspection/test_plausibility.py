"""Whether an image can show a part: exact grey levels, and sentences that help."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.inspection.decision import Reason
from edge.inspection.image_limits import ImageLimits
from edge.inspection.plausibility import (
    COUNTED_BELOW,
    ImageStatistics,
    image_fault,
    image_statistics,
)

LIMITS = ImageLimits()
images = arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3)))


@given(images)
def test_statistics_are_those_of_all_samples(image: np.ndarray) -> None:
    image.flags.writeable = False
    statistics = image_statistics(image)
    assert (statistics.lowest, statistics.highest) == (image.min(), image.max())
    assert statistics.mean == pytest.approx(image.mean())
    light = (image >= LIMITS.light_level).mean() if image.mean() < COUNTED_BELOW else 1.0
    assert statistics.light == pytest.approx(light)


@pytest.mark.parametrize("grey", [0, 1, 255])
def test_large_images_are_summed_without_overflow(grey: int) -> None:
    statistics = image_statistics(np.full((3000, 3001, 3), grey, np.uint8))
    assert statistics == ImageStatistics(grey, grey, grey, float(grey >= LIMITS.light_level))


@given(images)
def test_a_view_has_the_statistics_of_its_copy(image: np.ndarray) -> None:
    for view in (image[::-1, ::2], image.transpose(1, 0, 2), image[:, :, ::-1]):
        assert image_statistics(view) == image_statistics(view.copy())


@given(st.lists(arrays(np.uint8, (4, 5, 3)), min_size=1, max_size=6))
def test_joined_statistics_are_those_of_one_image_of_all(tiles: list[np.ndarray]) -> None:
    joined = image_statistics(tiles[0])
    for index, tile in enumerate(tiles[1:], start=1):
        joined = joined.joined(image_statistics(tile), 1.0 / (index + 1))

    together = image_statistics(np.concatenate(tiles))
    assert (joined.lowest, joined.highest) == (together.lowest, together.highest)
    assert joined.mean == pytest.approx(together.mean)


@pytest.mark.parametrize(
    ("statistics", "reason", "printed"),
    [
        (ImageStatistics(0, 200, LIMITS.min_mean - 0.1), Reason.EXPOSURE_OUT_OF_RANGE, "all dark"),
        (ImageStatistics(9, 255, LIMITS.max_mean + 0.1), Reason.EXPOSURE_OUT_OF_RANGE, "white"),
        (ImageStatistics(90, 89 + LIMITS.min_contrast, 93.0), Reason.BLUR_OR_DARK, "no contrast"),
        (ImageStatistics(90, 90, 90.0), Reason.BLUR_OR_DARK, r"0 grey levels"),
    ],
)
def test_an_image_that_shows_nothing_is_reported_with_the_next_step(
    statistics: ImageStatistics, reason: Reason, printed: str
) -> None:
    fault = image_fault(statistics)
    assert fault is not None
    assert fault[0] is reason
    assert printed in fault[1]
    assert "Check" in fault[1]


@pytest.mark.parametrize(
    "statistics",
    [
        ImageStatistics(0, LIMITS.min_contrast, LIMITS.min_mean),
        ImageStatistics(255 - LIMITS.min_contrast, 255, LIMITS.max_mean),
        ImageStatistics(0, 255, 128.0),
    ],
    ids=str,
)
def test_the_limits_themselves_are_no_fault(statistics: ImageStatistics) -> None:
    assert image_fault(statistics) is None


def test_a_dark_field_shows_a_part_and_hot_pixels_under_the_cap_do_not() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    image[100, 20:180] = 200  # a scratch that scatters, mean grey 0.5
    assert image_fault(image_statistics(image)) is None

    capped = np.random.default_rng(0).integers(0, 4, (256, 256, 3)).astype(np.uint8)
    capped.reshape(-1, 3)[::6600] = 255  # ten hot pixels
    fault = image_fault(image_statistics(capped))
    assert fault is not None
    assert fault[0] is Reason.EXPOSURE_OUT_OF_RANGE


def test_other_limits_hold_in_place_of_the_usual_ones() -> None:
    limits = ImageLimits(min_mean=90, max_mean=120, min_contrast=40, min_light_share=1.0)
    random = np.random.default_rng(0)
    for mean, spread, reason in (
        (80, 30, Reason.EXPOSURE_OUT_OF_RANGE),
        (130, 30, Reason.EXPOSURE_OUT_OF_RANGE),
        (100, 15, Reason.BLUR_OR_DARK),
        (100, 30, None),
    ):
        image = (mean + random.integers(-spread, spread + 1, (64, 64, 3))).astype(np.uint8)
        assert image_fault(image_statistics(image)) is None
        fault = image_fault(image_statistics(image, limits), limits)
        assert (fault and fault[0]) == reason

    dark_field = replace(limits, min_light_share=0.5, min_contrast=0)  # half of it is light enough
    for grey, found in ((31, Reason.EXPOSURE_OUT_OF_RANGE), (32, None)):
        statistics = image_statistics(np.full((8, 8, 3), grey, np.uint8), dark_field)
        fault = image_fault(statistics, dark_field)
        assert (fault and fault[0]) == found


def test_a_mean_that_is_no_number_is_a_fault() -> None:
    assert image_fault(ImageStatistics(0, 255, float("nan"))) is not None
