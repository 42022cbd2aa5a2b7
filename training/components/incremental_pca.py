"""The principal components of ``edge.teaching.principal_components``, on tensors."""

from dataclasses import dataclass

from torch import Tensor, from_numpy

from edge.teaching.principal_components import ComponentAnalysis


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
    """Principal component analysis of a stream of tensors, on the CPU."""

    def __init__(self, limit: int = 512) -> None:
        """Set the bound: axes held, and vectors buffered between two merges."""
        self._analysis = ComponentAnalysis(limit)

    @property
    def held(self) -> int:
        """How many vectors are in the buffer."""
        return self._analysis.held

    @property
    def axes_held(self) -> int:
        """How many axes are held."""
        return self._analysis.axes_held

    def memory_bytes(self, width: int) -> int:
        """Return the most memory that vectors of this width take."""
        return self._analysis.memory_bytes(width)

    def add(self, vectors: Tensor) -> None:
        """Add ``(N, D) float32`` vectors; they are not changed."""
        self._analysis.add(vectors.detach().cpu().numpy())

    def finish(self, share: float = 1.0, max_count: int | None = None) -> PrincipalComponents:
        """Return the fewest components that hold a share of the variance, at least one.

        Args:
            share: of the total variance, from 0 to 1.
            max_count: components at most.
        """
        found = self._analysis.finish(share, max_count)
        return PrincipalComponents(
            from_numpy(found.mean),
            from_numpy(found.axes),
            from_numpy(found.deviations),
            found.share,
        )
