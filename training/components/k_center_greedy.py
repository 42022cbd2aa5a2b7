"""Greedy k-centre core-set, exact and streamed.

Source: Sener and Savarese, Active learning for convolutional neural networks, 2018, algorithm 1;
used by Roth et al., PatchCore, 2022.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Progress = Callable[[int], None]


def ignore(steps: int) -> None:
    """The progress nobody watches."""


# Vectors that compete for the next centres in one round: enough that a round finds many, small
# enough that their mutual distances stay in the processor's cache.
_POOL = 1024

# Rows of one matrix product: bounds the memory of the distances.
_ROWS = 16_384

# Below every distance: among equal vectors none is picked twice.
_PICKED = -1.0


def k_center_greedy(
    vectors: Tensor, count: int, start: int = 0, progress: Progress = ignore
) -> Tensor:
    """Pick ``count`` vectors, each the farthest from those picked before.

    The textbook loop reads all vectors once per pick. Distances to the picked set only ever fall,
    so a stale distance is an upper bound: as long as the best of a small pool lies above the
    highest stale distance outside it, it is the true farthest vector. Several picks then share one
    matrix product over all vectors, with the same result.

    Args:
        vectors: ``(N, D) float32``. Not changed.
        count: centres to pick; all vectors if N is not larger.
        start: index of the first centre.
        progress: called with the number of new picks.

    Returns:
        ``(min(count, N),) int64`` indices in the order of picking.
    """
    total = len(vectors)
    if count >= total:
        progress(total)
        return torch.arange(total)
    centred = vectors - vectors.mean(0)
    norms = centred.square().sum(1)
    picked = [start]
    progress(1)
    nearest = _squared_distances(centred, norms, centred[start : start + 1]).squeeze(1)
    nearest[start] = _PICKED
    while len(picked) < count:
        size = min(_POOL, total - 1)
        stale, pool = nearest.topk(size + 1)
        outside = float(stale[-1])
        pool = pool[:-1]
        distances = stale[:-1].clone()
        mutual = _squared_distances(centred[pool], norms[pool], centred[pool])
        fresh: list[int] = []
        while len(picked) + len(fresh) < count:
            best = int(distances.argmax())
            if fresh and float(distances[best]) < outside:
                break
            fresh.append(best)
            torch.minimum(distances, mutual[best], out=distances)
            distances[best] = _PICKED
        centres = pool[torch.tensor(fresh)]
        for first in range(0, total, _ROWS):
            rows = slice(first, first + _ROWS)
            squared = _squared_distances(centred[rows], norms[rows], centred[centres])
            nearest[rows] = torch.minimum(nearest[rows], squared.amin(1))
        nearest[centres] = _PICKED
        picked.extend(centres.tolist())
        progress(len(fresh))
    return torch.tensor(picked)


class KCenterGreedy:
    """A core-set of a stream: memory is bounded whatever the length of the stream.

    Vectors collect in a buffer; when it is full it is reduced to ``count`` centres, which stay in
    it and compete with what comes (merge and reduce). A stream that fits the buffer gives the
    plain greedy core-set.
    """

    def __init__(self, count: int, buffer_size: int = 262_144, seed: int = 0) -> None:
        """Set the bounds.

        Args:
            count: vectors of the finished core-set.
            buffer_size: vectors held at most; at least twice ``count``.
        """
        self.count = count
        self.buffer_size = max(buffer_size, 2 * count)
        self._generator = torch.Generator().manual_seed(seed)
        self._chunks: list[Tensor] = []
        self._held = 0

    @property
    def picks(self) -> int:
        """How many vectors ``finish`` is going to pick, and report."""
        return min(self.count, self._held)

    def memory_bytes(self, width: int) -> int:
        """Return the most memory that vectors of this width take: the buffer and a copy of it."""
        distances = (_ROWS + _POOL) * _POOL
        return 4 * (2 * self.buffer_size * (width + 1) + distances)

    def add(self, vectors: Tensor) -> None:
        """Add ``(N, D) float32`` vectors of the stream."""
        for part in vectors.cpu().split(self.buffer_size - self.count):
            if self._held + len(part) > self.buffer_size:
                self._reduce(ignore)
            self._chunks.append(part)
            self._held += len(part)

    def finish(self, progress: Progress = ignore) -> Tensor:
        """Return the ``(min(count, N), D)`` core-set and let go of the buffer."""
        self._reduce(progress)
        core_set = self._chunks[0]
        self._chunks, self._held = [], 0
        return core_set

    def _reduce(self, progress: Progress) -> None:
        vectors = torch.cat(self._chunks)
        self._chunks = [vectors]  # the parts are freed before distances need the room
        start = int(torch.randint(len(vectors), (1,), generator=self._generator))
        self._chunks = [vectors[k_center_greedy(vectors, self.count, start, progress)]]
        self._held = len(self._chunks[0])


def _squared_distances(vectors: Tensor, norms: Tensor, others: Tensor) -> Tensor:
    """Return ``(N, K)`` squared distances of ``(N, D)`` and ``(K, D)`` vectors."""
    squared = torch.addmm(others.square().sum(1)[None, :], vectors, others.T, alpha=-2.0)
    return squared.add_(norms[:, None]).clamp_(min=0.0)
