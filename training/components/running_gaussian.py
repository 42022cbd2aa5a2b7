"""One multivariate Gaussian per position, by running sums."""

import torch
from torch import Tensor


class RunningGaussian:
    """Mean and covariance of a stream of ``(N, P, D)`` vectors, one Gaussian for each of P.

    Sums are kept in float64 relative to the first batch's mean; nothing of the stream is stored.
    """

    def __init__(self, positions: int, width: int) -> None:
        self.count = 0
        self._shift: Tensor | None = None
        self._sum = torch.zeros(positions, width, dtype=torch.float64)
        self._products = torch.zeros(positions, width, width, dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        """Add ``(N, P, D) float32`` vectors."""
        vectors = vectors.cpu()
        if self._shift is None:
            self._shift = vectors.mean(0)
        shifted = (vectors - self._shift).transpose(0, 1)
        self.count += vectors.shape[0]
        self._sum += shifted.sum(1, dtype=torch.float64)
        self._products += shifted.transpose(1, 2) @ shifted

    def mean(self) -> Tensor:
        """Return the ``(P, D) float64`` means."""
        assert self._shift is not None
        return self._shift + self._sum / self.count

    def covariance(self, positions: slice = slice(None)) -> Tensor:
        """Return the unbiased ``(P, D, D) float64`` covariances; zero for a single vector.

        Args:
            positions: which of them; a few at a time need little memory.
        """
        mean = self._sum[positions] / self.count
        centred = self._products[positions] - self.count * mean[:, :, None] * mean[:, None, :]
        return centred / max(self.count - 1, 1)


class RunningDiagonalGaussian:
    """Mean and variances of a stream of ``(N, P, D)`` vectors; channels count as independent.

    As ``RunningGaussian``, in a D-th of its memory.
    """

    def __init__(self, positions: int, width: int) -> None:
        self.count = 0
        self._shift: Tensor | None = None
        self._sum = torch.zeros(positions, width, dtype=torch.float64)
        self._squares = torch.zeros(positions, width, dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        """Add ``(N, P, D) float32`` vectors."""
        vectors = vectors.cpu()
        if self._shift is None:
            self._shift = vectors.mean(0)
        shifted = (vectors - self._shift).double()
        self.count += vectors.shape[0]
        self._sum += shifted.sum(0)
        self._squares += shifted.square().sum(0)

    def mean(self) -> Tensor:
        """Return the ``(P, D) float64`` means."""
        assert self._shift is not None
        return self._shift + self._sum / self.count

    def variance(self) -> Tensor:
        """Return the unbiased ``(P, D) float64`` variances; zero for a single vector."""
        centred = self._squares - self._sum.square() / self.count
        return centred.clamp(min=0.0) / max(self.count - 1, 1)


def whitening_factor(covariance: Tensor) -> Tensor:
    """Return W with Σ⁻¹ = Wᵀ W, so that the Mahalanobis distance is ‖W (x − μ)‖.

    Args:
        covariance: ``(P, D, D) float64``, positive definite.

    Returns:
        ``(P, D, D)`` lower-triangular.
    """
    lower = torch.linalg.cholesky(covariance)
    eye = torch.eye(covariance.shape[1], dtype=covariance.dtype).expand_as(covariance)
    return torch.linalg.solve_triangular(lower, eye, upper=False)
