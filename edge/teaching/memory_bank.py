"""PatchCore's memory bank: a core-set of good patches, centred and along their components.

Source: Roth et al., PatchCore, CVPR 2022, section 3.2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.teaching.principal_components import ComponentAnalysis


@dataclass(frozen=True, slots=True, eq=False)
class MemoryBank:
    """What patches are compared with.

    Attributes:
        centre: ``(C,) float32`` mean of the core-set.
        axes: ``(C, q) float32`` principal components, in columns.
        vectors: ``(K, q) float32`` the core-set around its centre, along the axes.
    """

    centre: NDArray[np.float32]
    axes: NDArray[np.float32]
    vectors: NDArray[np.float32]

    def padded(self, count: int, width: int) -> "MemoryBank":
        """Return the same bank with ``count`` vectors of ``width`` components.

        A vector twice changes nothing, nor does a component along which all are zero.
        """
        axes = np.zeros((len(self.centre), width), np.float32)
        axes[:, : self.axes.shape[1]] = self.axes
        vectors = np.zeros((count, width), np.float32)
        vectors[: len(self.vectors), : self.vectors.shape[1]] = self.vectors
        vectors[len(self.vectors) :] = vectors[len(self.vectors) - 1]
        return MemoryBank(self.centre, axes, vectors)


def make_bank(core_set: NDArray[np.float32], variance: float) -> MemoryBank:
    """Centre a core-set, so that distances by norms keep their digits, and turn it.

    Which way patches differ most is found among the core-set's own: it holds what is rare about the
    good patches as often as what is frequent.

    Args:
        core_set: ``(K, C) float32``.
        variance: share of the core-set's that the components keep.
    """
    centre = core_set.mean(0)
    components = ComponentAnalysis(len(core_set))
    components.add(core_set)
    axes = np.ascontiguousarray(components.finish(variance).axes.T)
    return MemoryBank(centre, axes, (core_set - centre) @ axes)
