"""Running sums give the Gaussian of all vectors at once."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training.components.running_gaussian import RunningGaussian, whitening_factor


def vectors(count: int, positions: int = 3, width: int = 4, offset: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, positions, width, generator=generator) + offset


def accumulated(stream: Tensor, sizes: list[int]) -> RunningGaussian:
    gaussian = RunningGaussian(stream.shape[1], stream.shape[2])
    for part in stream.split(sizes):
        gaussian.add(part)
    return gaussian


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6).filter(lambda s: sum(s) > 1))
def test_mean_and_covariance_are_numpys_whatever_the_batching(sizes: list[int]) -> None:
    stream = vectors(sum(sizes))
    gaussian = accumulated(stream, sizes)
    for position in range(3):
        samples = stream[:, position].double().numpy()
        assert gaussian.mean()[position].numpy() == pytest.approx(samples.mean(0), abs=1e-5)
        expected = np.cov(samples, rowvar=False)
        assert gaussian.covariance()[position].numpy() == pytest.approx(expected, abs=1e-5)


def test_a_large_common_offset_costs_no_digits() -> None:
    near, far = vectors(50), vectors(50, offset=3000.0)
    covariance = accumulated(far, [5] * 10).covariance()
    expected = accumulated(far.double() - 3000.0, [5] * 10).covariance()

    assert covariance == pytest.approx(expected.numpy(), abs=1e-3)
    assert covariance == pytest.approx(accumulated(near, [50]).covariance().numpy(), abs=1e-2)


def test_one_vector_has_no_covariance() -> None:
    assert not accumulated(vectors(1), [1]).covariance().any()


def test_a_few_positions_at_a_time_are_the_same() -> None:
    gaussian = accumulated(vectors(9), [4, 5])
    assert torch.equal(gaussian.covariance(slice(1, 3)), gaussian.covariance()[1:3])


def test_vectors_are_not_changed() -> None:
    stream = vectors(6)
    accumulated(stream, [2, 4])
    assert torch.equal(stream, vectors(6))


def test_whitening_gives_the_mahalanobis_distance() -> None:
    stream = vectors(40)
    covariance = accumulated(stream, [40]).covariance()
    difference = torch.linspace(-2.0, 3.0, 4, dtype=torch.float64)
    for position in range(3):
        inverse = np.linalg.inv(covariance[position].numpy())
        expected = np.sqrt(difference.numpy() @ inverse @ difference.numpy())
        whitened = whitening_factor(covariance)[position] @ difference
        assert float(whitened.norm()) == pytest.approx(expected, rel=1e-9)
