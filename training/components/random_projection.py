"""Sparse random projection: fewer dimensions that keep distances.

Source: Li, Hastie and Church, Very sparse random projections, KDD 2006.
"""

import math

import torch
from torch import Tensor


class SparseRandomProjection:
    """A fixed random matrix whose entries are 0 or ±1/√(d·k), with density d = 1/√D."""

    def __init__(self, width: int, target: int, seed: int = 0) -> None:
        """Draw the matrix.

        Args:
            width: D, of the vectors.
            target: k, of their projections.
        """
        random = torch.Generator().manual_seed(seed)
        density = 1.0 / math.sqrt(width)
        kept = torch.rand(width, target, generator=random) < density
        signs = torch.randint(0, 2, (width, target), generator=random) * 2 - 1
        self.matrix = kept * signs / math.sqrt(density * target)

    def project(self, vectors: Tensor) -> Tensor:
        """Return the ``(N, k)`` projections of ``(N, D)`` vectors."""
        return vectors @ self.matrix.to(vectors)
