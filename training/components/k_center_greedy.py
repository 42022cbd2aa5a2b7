"""The greedy core-set of ``edge.teaching.core_set``, on tensors: it is picked on the CPU."""

from torch import Tensor, from_numpy

from edge.teaching import core_set
from edge.teaching.core_set import Progress, ignore

__all__ = ["KCenterGreedy", "Progress", "ignore", "k_center_greedy"]


def k_center_greedy(
    vectors: Tensor, count: int, start: int = 0, progress: Progress = ignore
) -> Tensor:
    """Pick ``count`` of ``(N, D) float32`` vectors: ``(min(count, N),) int64`` indices."""
    return from_numpy(core_set.k_center_greedy(vectors.cpu().numpy(), count, start, progress))


class KCenterGreedy:
    """A core-set of a stream of tensors, in bounded memory."""

    def __init__(self, count: int, buffer_size: int = 262_144, seed: int = 0) -> None:
        """Set the bounds.

        Args:
            count: vectors of the finished core-set.
            buffer_size: vectors held at most; at least twice ``count``.
        """
        self._core_set = core_set.CoreSetStream(count, buffer_size, seed)
        self.buffer_size = self._core_set.buffer_size

    @property
    def held(self) -> int:
        """How many vectors are in the buffer."""
        return self._core_set.held

    @property
    def picks(self) -> int:
        """How many vectors ``finish`` is going to pick, and report."""
        return self._core_set.picks

    def memory_bytes(self, width: int) -> int:
        """Return the most memory that vectors of this width take."""
        return self._core_set.memory_bytes(width)

    def add(self, vectors: Tensor) -> None:
        """Add ``(N, D) float32`` vectors of the stream."""
        self._core_set.add(vectors.detach().cpu().numpy())

    def finish(self, progress: Progress = ignore) -> Tensor:
        """Return the ``(min(count, N), D)`` core-set and let go of the buffer."""
        return from_numpy(self._core_set.finish(progress))
