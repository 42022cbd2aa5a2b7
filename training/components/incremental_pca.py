"""Principal components of a stream of vectors, in memory that does not grow with its length."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class PrincipalComponents:
    """The directions in which vectors differ most, most first.

    Attributes:
        mean: ``(D,) float32``.
        axes: ``(q, D) float32``, orthonormal; zero where there is no variance at all.
        deviations: ``(q,) float32`` standard deviations along the axes.
        share: of the total variance that the axes hold.
    """

    mean: Tensor
    axes: Tensor
    deviations: Tensor
    share: float

    def project(self, vectors: Tensor) -> Tensor:
        """Return the ``(N, q)`` coordinates of ``(N, D)`` vectors."""
        return (vectors - self.mean) @ self.axes.T


class PCA:
    """Principal component analysis of a stream.

    What was seen is held as at most ``limit`` scaled axes R with ``RᵀR`` the centred scatter, and a
    buffer as large. Up to ``limit`` vectors that is exact; beyond, the least of the axes are let
    go, and still counted in the total variance.

    Source: Ross et al., Incremental learning for robust visual tracking, IJCV 2008, section 3.1.
    """

    def __init__(self, limit: int = 512) -> None:
        """Set the bound: axes held, and vectors buffered between two merges."""
        self.limit = limit
        self._count = 0
        self._mean = torch.zeros(0, dtype=torch.float64)
        self._axes = torch.zeros(0, 0, dtype=torch.float64)
        self._scatter = 0.0
        self._pending: list[Tensor] = []
        self._held = 0

    def memory_bytes(self, width: int) -> int:
        """Return the most memory that vectors of this width take, in float64 while merging."""
        return 8 * (2 * self.limit + 1) * (2 * width + 2 * self.limit)

    def add(self, vectors: Tensor) -> None:
        """Add ``(N, D) float32`` vectors; they are not changed."""
        for part in vectors.detach().cpu().split(self.limit):
            self._pending.append(part)
            self._held += len(part)
            if self._held >= self.limit:
                self._merge()

    def finish(self, share: float = 1.0, most: int | None = None) -> PrincipalComponents:
        """Return the fewest components that hold a share of the variance, at least one.

        Args:
            share: of the total variance, from 0 to 1.
            most: components at most.
        """
        self._merge()
        assert self._count, "add comes first"
        lengths = self._axes.norm(dim=1)
        held = lengths.square().cumsum(0) / max(self._scatter, 1e-300)
        # Sums lose a last digit: a share of all of it is reached within that.
        enough = int((held < share * (1.0 - 1e-9)).sum()) + 1
        if enough > len(lengths):
            if self._count > self.limit and self._scatter > 0:
                log.warning(
                    "%d components hold %.1f %% of the variance, %.1f %% were asked for. "
                    "Allow more of them, or ask for less.",
                    len(lengths),
                    100.0 * float(held[-1]),
                    100.0 * share,
                )
            enough = len(lengths) if self._scatter > 0 else 1
        kept = min(enough, most or enough)
        lengths = lengths[:kept]
        axes = self._axes[:kept] / lengths.clamp(min=1e-300)[:, None]
        # An axis has two directions; the one of its largest entry's sign is taken.
        largest = axes.abs().argmax(1, keepdim=True)
        axes = axes * torch.where(axes.gather(1, largest) < 0, -1.0, 1.0)
        return PrincipalComponents(
            self._mean.float(),
            axes.float(),
            (lengths / max(self._count - 1, 1) ** 0.5).float(),
            float(held[kept - 1]) if self._scatter > 0 else 1.0,
        )

    def _merge(self) -> None:
        """Fold the buffer into mean and axes."""
        if not self._pending:
            return
        fresh = torch.cat(self._pending).double()
        self._pending, self._held = [], 0
        count, mean = len(fresh), fresh.mean(0)
        fresh -= mean
        scatter = float(fresh.square().sum())
        rows = [fresh]
        if self._count:
            # The two means differ: that is scatter along one more direction.
            weight = self._count * count / (self._count + count)
            between = weight**0.5 * (mean - self._mean)
            scatter += float(between.square().sum())
            rows += [self._axes, between[None]]
            mean = self._mean + (mean - self._mean) * (count / (self._count + count))
        stacked = torch.cat(rows)
        # Rows are few and wide: the eigenvectors of M Mᵀ give the singular vectors of M.
        eigenvalues, vectors = torch.linalg.eigh(stacked @ stacked.T)
        kept = min(self.limit, max(self._count + count - 1, 1))
        turned = vectors[:, -kept:].flip(1).T @ stacked
        # Directions without variance are noise of the arithmetic.
        real = eigenvalues[-kept:].flip(0) > 1e-12 * max(float(eigenvalues[-1]), 1e-300)
        self._axes = turned * real[:, None]
        self._mean, self._count = mean, self._count + count
        self._scatter += scatter
