"""Principal components of a stream of vectors, in memory that does not grow with its length."""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """The directions in which vectors differ most, most first.

    Attributes:
        mean: ``(D,) float32``.
        axes: ``(q, D) float32``, orthonormal; zero where there is no variance at all.
        deviations: ``(q,) float32`` standard deviations along the axes.
        share: of the total variance that the axes hold.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    deviations: NDArray[np.float32]
    share: float


class ComponentAnalysis:
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
        self._mean = np.zeros(0)
        self._axes = np.zeros((0, 0))
        self._scatter = 0.0
        self._pending: list[NDArray[np.float32]] = []
        self._held = 0

    @property
    def held(self) -> int:
        """How many vectors are in the buffer."""
        return self._held

    @property
    def axes_held(self) -> int:
        """How many axes are held."""
        return len(self._axes)

    def memory_bytes(self, width: int) -> int:
        """Return the most memory that vectors of this width take, in float64 while merging."""
        return 8 * (2 * self.limit + 1) * (2 * width + 2 * self.limit)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add ``(N, D) float32`` vectors; they are not changed."""
        for first in range(0, len(vectors), self.limit):
            part = vectors[first : first + self.limit]
            self._pending.append(part)
            self._held += len(part)
            if self._held >= self.limit:
                self._merge()

    def finish(self, share: float = 1.0, max_count: int | None = None) -> Components:
        """Return the fewest components that hold a share of the variance, at least one.

        Args:
            share: of the total variance, from 0 to 1.
            max_count: components at most.
        """
        self._merge()
        assert self._count, "add comes first"
        lengths = np.linalg.norm(self._axes, axis=1)
        held = np.square(lengths).cumsum() / max(self._scatter, 1e-300)
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
        kept = min(enough, max_count or enough)
        lengths = lengths[:kept]
        axes = self._axes[:kept] / np.maximum(lengths, 1e-300)[:, None]
        # An axis has two directions; the one of its largest entry's sign is taken.
        largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1)
        axes = axes * np.where(largest < 0, -1.0, 1.0)
        return Components(
            self._mean.astype(np.float32),
            axes.astype(np.float32),
            (lengths / max(self._count - 1, 1) ** 0.5).astype(np.float32),
            float(held[kept - 1]) if self._scatter > 0 else 1.0,
        )

    def _merge(self) -> None:
        """Fold the buffer into mean and axes."""
        if not self._pending:
            return
        fresh = np.concatenate(self._pending).astype(np.float64)
        self._pending, self._held = [], 0
        count, mean = len(fresh), fresh.mean(0)
        fresh -= mean
        scatter = float(np.square(fresh).sum())
        rows = [fresh]
        if self._count:
            # The two means differ: that is scatter along one more direction.
            weight = self._count * count / (self._count + count)
            between = weight**0.5 * (mean - self._mean)
            scatter += float(np.square(between).sum())
            rows += [self._axes, between[None]]
            mean = self._mean + (mean - self._mean) * (count / (self._count + count))
        stacked = np.concatenate(rows)
        kept = min(self.limit, max(self._count + count - 1, 1))
        if len(stacked) > stacked.shape[1]:
            eigenvalues, vectors = np.linalg.eigh(stacked.T @ stacked)
            turned = (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))).T
        else:
            # Rows are few and wide: the eigenvectors of M Mᵀ give the singular vectors of M.
            eigenvalues, vectors = np.linalg.eigh(stacked @ stacked.T)
            turned = vectors[:, -kept:].T @ stacked
        turned, eigenvalues = turned[-kept:][::-1], eigenvalues[-kept:][::-1]
        # Directions without variance are noise of the arithmetic.
        real = eigenvalues > 1e-12 * max(float(eigenvalues[0]), 1e-300)
        self._axes = turned * real[:, None]
        self._mean, self._count = mean, self._count + count
        self._scatter += scatter
