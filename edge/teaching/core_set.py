"""Greedy k-centre core-set, exact and streamed.

Source: Sener and Savarese, Active learning for convolutional neural networks, 2018, algorithm 1;
used by Roth et al., PatchCore, 2022.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from edge.imaging.kernels import kernel

Vectors = NDArray[np.float32]
Progress = Callable[[int], None]


def ignore(steps: int) -> None:
    """The progress nobody watches."""


# Principal directions by which vectors are told apart first; a multiple of the block that a sum is
# broken off after.
_LEADING = 64
_BLOCK = 16
# Vectors that these directions are found among, in so many rounds.
_SAMPLED = 8192
_ROUNDS = 2

# Picks between two reports of progress.
_PICKS_PER_REPORT = 256

# A bound is taken so much lower, because sums of squares are rounded.
_BELOW = 0.999

# Below every distance: among equal vectors none is picked twice.
_PICKED = -1.0


def k_center_greedy(
    vectors: Vectors, count: int, start: int = 0, progress: Progress = ignore
) -> NDArray[np.int64]:
    """Pick ``count`` vectors, each the farthest from those picked before.

    The textbook loop measures every vector at every pick. Here each vector belongs to its nearest
    pick, and a new one is compared with the old ones first: the vectors of a pick that is further
    away than twice its farthest vector cannot come nearer to the new one (triangle inequality), and
    most others are told from the new one by their leading components. The picks are the same.

    Source: Elkan, Using the triangle inequality to accelerate k-means, ICML 2003, lemma 1.

    Args:
        vectors: ``(N, D) float32``. Not changed.
        count: centres to pick; all vectors if N is not larger.
        start: index of the first centre.
        progress: called with the number of new picks.

    Returns:
        ``(min(count, N),) int64`` indices in the order of picking.
    """
    return _farthest(np.ascontiguousarray(vectors), count, start, progress)


def _farthest(vectors: Vectors, count: int, start: int, progress: Progress) -> NDArray[np.int64]:
    """Pick as ``k_center_greedy`` does, from vectors that lie row by row."""
    total = len(vectors)
    if count >= total:
        progress(total)
        return np.arange(total)
    leading = _leading_components(vectors)
    distances = np.full(total, np.inf, np.float32)
    nearest = np.zeros(total, np.int32)
    picked = np.zeros(count, np.int64)
    picked[0] = start
    for begin in range(0, count, _PICKS_PER_REPORT):
        end = min(begin + _PICKS_PER_REPORT, count)
        _pick(vectors, leading, distances, nearest, picked, begin, end)
        progress(end - begin)
    return picked


def _leading_components(vectors: Vectors) -> Vectors:
    """Return ``(N, 4, 16)`` coordinates along about the directions in which vectors differ most.

    The directions are orthonormal, so distances along them are at most the whole ones; that they
    are nearly those of most variance only saves time.

    Source: Halko, Martinsson and Tropp, Finding structure with randomness, 2011, algorithm 4.4.
    """
    sample = vectors[:: max(len(vectors) // _SAMPLED, 1)][:_SAMPLED]
    mean = sample.mean(0)
    sample = sample - mean
    width = min(_LEADING, vectors.shape[1])
    axes = np.random.RandomState(0).standard_normal((vectors.shape[1], width)).astype(np.float32)
    for _ in range(_ROUNDS):
        axes = np.linalg.qr(sample.T @ (sample @ axes))[0]
    # The first block of them shall tell most apart.
    turned = np.linalg.eigh(np.cov(sample @ axes, rowvar=False).reshape(width, width))[1]
    axes = np.ascontiguousarray(axes @ turned[:, ::-1].astype(np.float32))
    found = np.zeros((len(vectors), -(-width // _BLOCK) * _BLOCK), np.float32)
    found[:, :width] = vectors @ axes - mean @ axes
    return found.reshape(len(vectors), -1, _BLOCK)


@kernel(
    numba.void(
        numba.types.Array(numba.float32, 2, "C", readonly=True),
        numba.float32[:, :, ::1],
        numba.float32[::1],
        numba.int32[::1],
        numba.int64[::1],
        numba.int64,
        numba.int64,
    ),
    reorder_sums=True,
)
def _pick(
    vectors: Any,
    leading: Any,
    distances: Any,
    nearest: Any,
    picked: Any,
    begin: int,
    end: int,
) -> None:
    """Take in the picks ``begin`` to ``end``, each of which determines the one after it.

    Args:
        distances: ``(N,)`` squared distance of each vector to its pick; is lowered.
        nearest: ``(N,)`` which pick that is, by its number; is changed.
        picked: ``(K,)`` indices of vectors; those up to ``begin`` are known, those after are filled
            in.
    """
    total, width = vectors.shape
    blocks = leading.shape[1]
    reach = np.empty(len(picked), np.float32)
    own, whole_own = np.empty(leading.shape[1:], np.float32), np.empty(width, np.float32)
    for number in range(begin, end):
        new = picked[number]
        for block in range(blocks):
            for index in range(_BLOCK):
                own[block, index] = leading[new, block, index]
        for index in range(width):
            whole_own[index] = vectors[new, index]
        # No vector is further from its pick than this one was.
        radius = distances[new]
        distances[new] = _PICKED
        for other in range(number):
            # Half of the way to another pick: so near to it, a vector is no nearer to this one.
            old = picked[other]
            apart = np.float32(0.0)
            for block in range(blocks):
                part = np.float32(0.0)
                for index in range(_BLOCK):
                    step = leading[old, block, index] - own[block, index]
                    part += step * step
                apart += part
                if np.float32(0.25 * _BELOW) * apart >= radius:
                    break
            reach[other] = np.float32(0.25 * _BELOW) * apart
        farthest, largest = new, np.float32(_PICKED)
        for vector in range(total):
            distance = distances[vector]
            if number == 0 or distance > reach[nearest[vector]]:
                along = np.float32(0.0)
                for block in range(blocks):
                    part = np.float32(0.0)
                    for index in range(_BLOCK):
                        step = leading[vector, block, index] - own[block, index]
                        part += step * step
                    along += part
                    if np.float32(_BELOW) * along >= distance:
                        break
                if np.float32(_BELOW) * along < distance:
                    whole = np.float32(0.0)
                    for index in range(width):
                        step = vectors[vector, index] - whole_own[index]
                        whole += step * step
                    if whole < distance:
                        distance = whole
                        distances[vector] = whole
                        nearest[vector] = number
            if distance > largest:
                largest, farthest = distance, vector
        if number + 1 < len(picked):
            picked[number + 1] = farthest


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
        # Made with the first vectors, whose width it has; the system gives memory as it is filled.
        self._buffer = np.empty((0, 0), np.float32)
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
        """Return the most memory that vectors of this width take: buffer and picked ones."""
        beside = 2 * _LEADING + 3  # their components, and what is known of each
        apart = (3 * _SAMPLED + self.count) * width
        return 4 * (self.buffer_size * (width + beside) + apart)

    def add(self, vectors: Vectors) -> None:
        """Add ``(N, D) float32`` vectors of the stream; they are copied."""
        if not len(self._buffer) and len(vectors):
            self._buffer = np.empty((self.buffer_size, vectors.shape[1]), np.float32)
        room = self.buffer_size - self.count
        for first in range(0, len(vectors), room):
            part = vectors[first : first + room]
            if self._held + len(part) > self.buffer_size:
                self._reduce(ignore)
            self._buffer[self._held : self._held + len(part)] = part
            self._held += len(part)

    def finish(self, progress: Progress = ignore) -> Vectors:
        """Return the ``(min(count, N), D)`` core-set and let go of the buffer."""
        self._reduce(progress)
        core_set = self._buffer[: self._held].copy()
        self._buffer, self._held = np.empty((0, 0), np.float32), 0
        return core_set

    def _reduce(self, progress: Progress) -> None:
        # Its 32 bits are those that torch's generator gives: fits with the same seed stay as they
        # were.
        start = int.from_bytes(self._random.bytes(4), "little") % self._held
        picked = _farthest(self._buffer[: self._held], self.count, start, progress)
        self._buffer[: len(picked)] = self._buffer[picked]
        self._held = len(picked)
