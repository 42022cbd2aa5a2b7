"""Prepared images that a fit needs several times: read once, while there is room."""

from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.imaging.frame import PixelFormat
from training.data.samples import Sample


class KeptImages:
    """Images or tiles of samples as the models take them, each with the format of its file.

    Those that come first are kept; one that finds no room is read anew.
    """

    def __init__(self, room_bytes: int) -> None:
        """Set the bound.

        Args:
            room_bytes: that prepared images take at most.
        """
        self._room = room_bytes
        self._kept: dict[Hashable, tuple[PixelFormat | None, NDArray[np.uint8]]] = {}

    def get(
        self, sample: Sample, spec: InputSpec
    ) -> tuple[PixelFormat | None, NDArray[np.uint8]] | None:
        """Return ``(T, H, W, 3) uint8`` BGR as ``spec`` asks for it; None where it is not kept."""
        return self._kept.get((sample, spec))

    def keep(
        self,
        sample: Sample,
        spec: InputSpec,
        found: PixelFormat | None,
        prepared: NDArray[np.uint8],
    ) -> None:
        """Keep a prepared image, if there is room."""
        if (sample, spec) not in self._kept and prepared.nbytes <= self._room:
            self._room -= prepared.nbytes
            self._kept[sample, spec] = (found, prepared)
