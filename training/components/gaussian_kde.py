"""Kernel density estimation with one Gaussian kernel per point."""

import math

import torch
from torch import Tensor, nn

# Added to the covariance's diagonal, as a share of its mean: points may lie in a plane.
_RIDGE = 1e-6


class GaussianKDE(nn.Module):
    """Density of points with full covariance and Scott's bandwidth, as a log-density.

    Everything stays in logarithms: the density of a far point is tiny, not zero, so that of two far
    points the farther one is still told apart.

    Source: Scott, Multivariate density estimation, 1992, section 6.5.
    """

    points: Tensor
    centre: Tensor
    whitening: Tensor
    constant: Tensor

    def __init__(self) -> None:
        """Make an empty estimate; fitting gives it its width."""
        super().__init__()
        self.register_buffer("points", torch.empty(0, 0))
        self.register_buffer("centre", torch.empty(0))
        self.register_buffer("whitening", torch.empty(0, 0))
        self.register_buffer("constant", torch.zeros(()))

    def fit(self, vectors: Tensor) -> None:
        """Estimate the density of ``(n, d)`` vectors; they are not changed."""
        count, width = vectors.shape
        centre = vectors.double().mean(0)
        centred = vectors.double() - centre
        covariance = centred.T @ centred / max(count - 1, 1)
        mean_variance = float(covariance.diagonal().mean())
        covariance.diagonal().add_(_RIDGE * mean_variance or _RIDGE)
        factor = count ** (-1.0 / (width + 4))
        # L with Lᵀ L = (factor² Σ)⁻¹: the kernels are round in the whitened space.
        lower = torch.linalg.cholesky(covariance * factor**2)
        eye = torch.eye(width, dtype=torch.float64, device=lower.device)
        whitening = torch.linalg.solve_triangular(lower, eye, upper=False)
        log_volume = lower.diagonal().log().sum() + width / 2 * math.log(2 * math.pi)
        # As a checkpoint gives them back: another layout multiplies to other last digits.
        self.points = (centred @ whitening.T).float().contiguous()
        self.centre = centre.float()
        self.whitening = whitening.float().contiguous()
        self.constant = (-math.log(count) - log_volume).float()

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the ``(N,)`` log-density of ``(N, d)`` vectors."""
        whitened = (vectors - self.centre) @ self.whitening.T
        squared = (
            whitened.square().sum(1, keepdim=True)
            - 2.0 * whitened @ self.points.T
            + self.points.square().sum(1)
        )
        return (-0.5 * squared.clamp(min=0.0)).logsumexp(1) + self.constant
