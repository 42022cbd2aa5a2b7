"""Greedy k-centre core-set, exact and streamed.

Source: Sener and Savarese, Active learning for convolutional neural networks, 2018, algorithm 1;
used by Roth et al., PatchCore, 2022.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Progress = Callable[[int], None]


def ignore(steps: int) -> None:
    """The progress nobody watches."""


# Vectors that compete for the next centres in one round: enough that a round finds many, small
# enough that their mutual distances stay in the processor's cache.
_POOL = 1024

# Rows of one matrix product: bounds the memory of the distances.
_ROWS = 4096

# Below every distance: among equal vectors none is picked twice.
_PICKED = -1.0


def k_center_greedy(
    vectors: Vectors, count: int, start: int = 0, progress: Progress = ignore
) -> NDArray[np.int64]:
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
    return _farthest(vectors - vectors.mean(0), count, start, progress)


def _farthest(centred: Vectors, count: int, start: int, progress: Progress) -> NDArray[np.int64]:
    """Pick as ``k_center_greedy`` does; around their mean, distances by norms keep their digits."""
    total = len(centred)
    if count >= total:
        progress(total)
        return np.arange(total)
    norms = np.square(centred).sum(1)
    nearest = np.full(total, np.inf, np.float32)
    _approach(nearest, centred, norms, np.array([start]))
    picked = [start]
    progress(1)
    while len(picked) < count:
        size = min(_POOL, total - 1)
        pool = np.argpartition(-nearest, size)[: size + 1]
        pool = pool[np.argsort(-nearest[pool], kind="stable")]
        outside = float(nearest[pool[-1]])
        pool = pool[:-1]
        distances = nearest[pool]
        mutual = _squared_distances(centred[pool], norms[pool], centred[pool], norms[pool])
        fresh: list[int] = []
        while len(picked) + len(fresh) < count:
            best = int(distances.argmax())
            if fresh and float(distances[best]) < outside:
                break
            fresh.append(best)
            np.minimum(distances, mutual[best], out=distances)
            distances[best] = _PICKED
        centres = pool[fresh]
        _approach(nearest, centred, norms, centres)
        picked.extend(centres.tolist())
        progress(len(fresh))
    return np.array(picked)


class CoreSetStream:
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
        self._random = np.random.RandomState(seed)
        self._chunks: list[Vectors] = []
        self._held = 0

    @property
    def held(self) -> int:
        """How many vectors are in the buffer."""
        return self._held

    @property
    def picks(self) -> int:
        """How many vectors ``finish`` is going to pick, and report."""
        return min(self.count, self._held)

    def memory_bytes(self, width: int) -> int:
        """Return the most memory that vectors of this width take: the buffer and a copy of it."""
        distances = (2 * _ROWS + _POOL) * _POOL
        return 4 * (2 * self.buffer_size * (width + 1) + distances)

    def add(self, vectors: Vectors) -> None:
        """Add ``(N, D) float32`` vectors of the stream; they are kept, not copied."""
        room = self.buffer_size - self.count
        for first in range(0, len(vectors), room):
            part = vectors[first : first + room]
            if self._held + len(part) > self.buffer_size:
                self._reduce(ignore)
            self._chunks.append(part)
            self._held += len(part)

    def finish(self, progress: Progress = ignore) -> Vectors:
        """Return the ``(min(count, N), D)`` core-set and let go of the buffer."""
        self._reduce(progress)
        core_set = self._chunks[0]
        self._chunks, self._held = [], 0
        return core_set

    def _reduce(self, progress: Progress) -> None:
        # Its 32 bits are those that torch's generator gives: fits of earlier versions stay as they
        # were.
        start = int.from_bytes(self._random.bytes(4), "little") % self._held
        centred = np.concatenate(self._chunks)
        centred -= centred.mean(0)
        picked = _farthest(centred, self.count, start, progress)
        del centred  # before the picked ones need room
        ends = np.cumsum([len(chunk) for chunk in self._chunks])
        places = np.searchsorted(ends, picked, side="right")
        core_set = np.stack(
            [
                self._chunks[place][index - ends[place]]
                for place, index in zip(places.tolist(), picked.tolist(), strict=True)
            ]
        )
        self._chunks, self._held = [core_set], len(core_set)


def _approach(
    nearest: Vectors, centred: Vectors, norms: Vectors, centres: NDArray[np.int64]
) -> None:
    """Lower the squared distances to the picked set by new centres."""
    fresh, fresh_norms = centred[centres], norms[centres]
    for first in range(0, len(centred), _ROWS):
        rows = slice(first, first + _ROWS)
        squared = _squared_distances(centred[rows], norms[rows], fresh, fresh_norms).min(1)
        np.minimum(nearest[rows], squared, out=nearest[rows])
    nearest[centres] = _PICKED


def _squared_distances(
    vectors: Vectors, norms: Vectors, others: Vectors, other_norms: Vectors
) -> Vectors:
    """Return ``(N, K)`` squared distances of ``(N, D)`` and ``(K, D)`` vectors of known norms."""
    squared: Vectors = vectors @ others.T
    squared *= -2.0
    squared += other_norms
    squared += norms[:, None]
    return np.maximum(squared, 0.0, out=squared)
