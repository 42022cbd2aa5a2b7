"""The core-set: greedy as in the textbook, bounded as promised."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training.components.k_center_greedy import KCenterGreedy, k_center_greedy


def textbook(vectors: Tensor, count: int, start: int) -> list[int]:
    points = vectors.double().numpy()
    picked = [start]
    nearest = np.linalg.norm(points - points[start], axis=1)
    while len(picked) < count:
        nearest[picked] = -1.0
        picked.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[picked[-1]], axis=1))
    return picked


def random_vectors(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("total", [3, 37, 1500, 5000])
@pytest.mark.parametrize("seed", range(3))
def test_the_picks_are_those_of_the_textbook_loop(total: int, seed: int) -> None:
    vectors = random_vectors(total, 5, seed)
    count = min(total // 2 + 1, 400)

    assert k_center_greedy(vectors, count, start=1).tolist() == textbook(vectors, count, 1)


@given(st.integers(2, 60), st.integers(1, 4), st.integers(0, 10_000), st.integers(1, 60), st.data())
def test_each_pick_is_a_farthest_vector_also_among_duplicates(
    total: int, width: int, seed: int, count: int, data: st.DataObject
) -> None:
    kinds = random_vectors(max(total // 3, 1), width, seed) * 50.0 + 100.0
    vectors = kinds[
        torch.randint(len(kinds), (total,), generator=torch.Generator().manual_seed(seed))
    ]
    start = data.draw(st.integers(0, total - 1))
    count = min(count, total - 1)
    picked = k_center_greedy(vectors, count, start).tolist()

    assert len(set(picked)) == count
    assert picked[0] == start
    distances = torch.cdist(vectors.double(), vectors.double())
    for number in range(1, count):
        nearest = distances[:, picked[:number]].amin(1)
        assert nearest[picked[number]] == pytest.approx(float(nearest.max()), abs=0.05)


@pytest.mark.parametrize("count", [6, 7, 100])
def test_a_set_that_is_small_enough_is_taken_whole(count: int) -> None:
    assert k_center_greedy(random_vectors(6, 3, 0), count).tolist() == list(range(6))


def test_the_vectors_are_not_changed() -> None:
    vectors = random_vectors(300, 4, 0)
    before = vectors.clone()
    k_center_greedy(vectors, 100)
    assert torch.equal(vectors, before)


def test_every_pick_is_reported() -> None:
    steps: list[int] = []
    k_center_greedy(random_vectors(3000, 4, 0), 500, progress=steps.append)
    assert sum(steps) == 500


def test_a_stream_that_fits_the_buffer_gives_the_plain_core_set() -> None:
    vectors = random_vectors(1000, 6, 1)
    stream = KCenterGreedy(50, buffer_size=1000, seed=4)
    for part in vectors.split(77):
        stream.add(part)
    start = int(torch.randint(1000, (1,), generator=torch.Generator().manual_seed(4)))

    assert torch.equal(stream.finish(), vectors[textbook(vectors, 50, start)])


@pytest.mark.parametrize(("size", "part"), [(200, 1000), (200, 31), (60, 7), (10, 500)])
def test_the_buffer_never_holds_more_than_its_bound(size: int, part: int) -> None:
    stream = KCenterGreedy(30, buffer_size=size)
    for vectors in random_vectors(2000, 3, 2).split(part):
        stream.add(vectors)
        assert stream.held <= stream.buffer_size == max(size, 60)
    assert len(stream.finish()) == 30


def test_a_streamed_core_set_covers_almost_as_well_as_the_plain_one() -> None:
    vectors = random_vectors(4000, 3, 3)
    stream = KCenterGreedy(100, buffer_size=400)
    stream.add(vectors)
    streamed = torch.cdist(vectors, stream.finish()).amin(1).max()
    plain = torch.cdist(vectors, vectors[k_center_greedy(vectors, 100)]).amin(1).max()

    assert streamed < 2.0 * plain


def test_a_stream_shorter_than_the_core_set_is_kept_whole() -> None:
    stream = KCenterGreedy(100)
    stream.add(random_vectors(8, 3, 0))
    assert stream.picks == 8
    assert torch.equal(stream.finish(), random_vectors(8, 3, 0))


def test_the_stated_memory_grows_with_the_buffer_and_not_with_the_stream() -> None:
    small, large = KCenterGreedy(100, 1000), KCenterGreedy(100, 100_000)
    before = small.memory_bytes(64)
    small.add(random_vectors(5000, 64, 0))

    assert small.memory_bytes(64) == before
    beside = 2 * 64 + 3  # components, and what is known of each vector
    assert large.memory_bytes(64) - before == 4 * 99_000 * (64 + beside)
