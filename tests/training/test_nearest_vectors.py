"""The search for near vectors, and the blocks of cells that share one."""

import math

import pytest
import torch

from tests.support.nearest import nearest_of_groups
from training.components.cell_blocks import block_means, from_blocks, to_blocks
from training.components.nearest_vectors import NearestVectors


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 130, 300])
def test_the_search_finds_the_nearest_vector_and_the_nearest_of_other_groups(
    size: int, count: int
) -> None:
    generator = torch.Generator().manual_seed(size)
    bank, patches = (torch.randn(n, 6, generator=generator) for n in (size, 400))
    grid = patches.unflatten(0, (2, 10, 20)).permute(0, 3, 1, 2)
    found = NearestVectors()(grid, bank, count)
    assert found.shape == (2, 200, count)
    vectors = found.flatten(0, 1).numpy()
    distances = torch.cdist(patches.double(), bank.double()).numpy()
    assert vectors[:, 0].tolist() == distances.argmin(1).tolist()
    expected = nearest_of_groups(patches.double().numpy(), bank.double().numpy(), count)
    # The last one fills its group up, and is found again after itself.
    others = (expected != size - 1).all(1)
    assert vectors[others].tolist() == expected[others].tolist()


@pytest.mark.parametrize(("height", "width", "side"), [(4, 6, 2), (5, 4, 3), (3, 3, 1), (1, 1, 2)])
def test_blocks_hold_the_cells_of_their_square_and_give_them_back(
    height: int, width: int, side: int
) -> None:
    grid = torch.arange(2.0 * 3 * height * width).view(2, 3, height, width)
    blocks = to_blocks(grid, side)
    across = math.ceil(width / side)
    assert blocks.shape == (2, math.ceil(height / side) * across, side**2, 3)
    for block in range(blocks.shape[1]):
        top, left = block // across * side, block % across * side
        for cell in range(side**2):
            row = min(top + cell // side, height - 1)  # the last ones go on
            column = min(left + cell % side, width - 1)
            assert blocks[:, block, cell].equal(grid[:, :, row, column])
        square = grid[:, :, top : top + side, left : left + side]
        means = block_means(grid, side).flatten(2)[:, :, block]
        assert means.numpy() == pytest.approx(square.mean((2, 3)).numpy())
    assert from_blocks(blocks[..., 1], side, height, width).equal(grid[:, 1])
