"""Two matrix products stand for interpolation and blur."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.components.gaussian_smoothing import GaussianSmoothing

SIZES = [((8, 8), (64, 64)), ((5, 9), (40, 72)), ((7, 7), (50, 61)), ((16, 4), (32, 33))]


def grid(rows: int, columns: int, count: int = 2) -> Tensor:
    return torch.rand(count, rows, columns, generator=torch.Generator().manual_seed(1))


def blurred(enlarged: Tensor, sigma_px: float) -> Tensor:
    radius = int(4.0 * sigma_px + 0.5)
    offsets = torch.arange(-radius, radius + 1.0)
    line = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    padded = F.pad(enlarged[:, None], (radius,) * 4, mode="reflect")
    return F.conv2d(padded, kernel[None, None])[:, 0]


@pytest.mark.parametrize(("cells", "pixels"), SIZES)
@pytest.mark.parametrize("sigma_px", [1.0, 4.0])
def test_the_map_is_bilinear_interpolation_and_a_gaussian_with_reflected_borders(
    cells: tuple[int, int], pixels: tuple[int, int], sigma_px: float
) -> None:
    scores = grid(*cells)
    enlarged = F.interpolate(scores[:, None], size=pixels, mode="bilinear", align_corners=False)
    expected = blurred(enlarged[:, 0], sigma_px)

    found = GaussianSmoothing(cells, pixels, sigma_px)(scores)

    assert found.shape == (2, *pixels)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("cells", "pixels"), SIZES)
def test_the_small_map_is_the_large_one_at_the_cells_centres(
    cells: tuple[int, int], pixels: tuple[int, int]
) -> None:
    smoothing = GaussianSmoothing(cells, pixels)
    scores = grid(*cells)
    expected = F.interpolate(
        smoothing(scores)[:, None], size=cells, mode="bilinear", align_corners=False
    )

    assert torch.allclose(smoothing.at_grid(scores), expected[:, 0], atol=1e-5)


def test_a_flat_grid_stays_flat() -> None:
    flat = torch.full((1, 6, 6), 2.5)
    assert torch.allclose(GaussianSmoothing((6, 6), (48, 48))(flat), torch.tensor(2.5), atol=1e-5)


def test_the_matrices_are_no_part_of_a_checkpoint() -> None:
    assert not GaussianSmoothing((4, 4), (32, 32)).state_dict()


def test_an_image_narrower_than_the_kernel_is_smoothed_too() -> None:
    assert GaussianSmoothing((2, 2), (10, 12))(grid(2, 2)).isfinite().all()
