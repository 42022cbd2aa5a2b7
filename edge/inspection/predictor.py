"""What a network says about prepared images, whatever runs the network."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import MapScore

NOT_FINITE = (
    "the network returned numbers that are not finite. Export the model again; "
    "if the error remains, train again."
)

# Prepares the image of this index into a ``(H, W, 3) uint8`` BGR array, the network's own input.
Fill = Callable[[int, NDArray[np.uint8]], None]


class RawPrediction(NamedTuple):
    """Raw numbers of one image: image score and ``(h, w) float32`` map at feature resolution."""

    score: float
    anomaly_map: NDArray[np.float32]

    def is_finite(self) -> bool:
        """Tell whether a part may be decided by these numbers: neither NaN nor infinity."""
        return math.isfinite(self.score) and bool(np.isfinite(self.anomaly_map).all())


class RawPredictions(NamedTuple):
    """Raw numbers of several images: ``(N,) float32`` scores and ``(N, h, w) float32`` maps."""

    scores: NDArray[np.float32]
    anomaly_maps: NDArray[np.float32]


class Predictor(Protocol):
    """What gives raw numbers: the detector on the line, the torch model in training.

    Attributes:
        map_score: how its scores follow from its maps; None where they do not.
    """

    @property
    def map_score(self) -> MapScore | None: ...

    def predict_all(self, count: int, fill: Fill) -> RawPredictions:
        """Predict ``count`` images, each on its own; ``fill`` is called for each in order."""
        ...
