"""A frame in grey and reduced, from few of its pixels: its brightness and places stay."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.imaging.sampled_grey import can_sample, sampled_grey


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(2.0, 9.0), st.sampled_from([1, 3]))
def test_a_constant_image_stays_constant(
    width: int, height: int, factor: float, channels: int
) -> None:
    shape = (int(np.ceil(height * factor)), int(np.ceil(width * factor)), channels)
    samples = np.broadcast_to(np.array([40, 130, 210], np.uint8)[:channels], shape).copy()
    samples = samples if channels == 3 else samples[:, :, 0]
    grey = 40 if channels == 1 else cv2.cvtColor(samples, cv2.COLOR_BGR2GRAY)[0, 0]
    found = sampled_grey(samples, width, height)
    assert found.shape == (height, width)
    assert (found == grey).all()


@pytest.mark.parametrize("factor", [2.0, 2.7, 3.9, 4.0, 6.95])
def test_no_place_is_shifted(factor: float) -> None:
    height, width = 30, 44
    rows, columns = round(height * factor), round(width * factor)
    y, x = np.mgrid[0:rows, 0:columns]
    ramp = np.rint(40 + 160 * (x / columns + y / rows) / 2).astype(np.uint8)
    apart = []
    for samples in (ramp, 255 - ramp):
        whole = cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA)
        grey = sampled_grey(samples, width, height)
        assert np.array_equal(
            grey, sampled_grey(np.repeat(samples[:, :, None], 3, 2), width, height)
        )
        apart.append((grey.astype(float) - whole).mean())
        assert np.abs(grey.astype(float) - whole).max() <= 2.0
    step = 160 / 2 * (1 / width + 1 / height)  # from one pixel to the next, along both axes
    assert abs(apart[0] - apart[1]) / 2 < 0.02 * step


def test_an_image_that_is_hardly_larger_is_not_sampled() -> None:
    assert not can_sample(np.zeros((19, 40), np.uint8), 20, 10)
    with pytest.raises(ValueError, match="cannot sample"):
        sampled_grey(np.zeros((19, 40), np.uint8), 20, 10)
    with pytest.raises(ValueError, match="cannot sample"):
        sampled_grey(np.zeros((40, 40, 4), np.uint8), 10, 10)
