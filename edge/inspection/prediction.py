"""What a network says about one prepared picture, whatever runs the network."""

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

NOT_FINITE = (
    "the network gave numbers that are not finite. Export the model again; if it stays, train "
    "again."
)


class RawPrediction(NamedTuple):
    """Raw numbers of one picture: image score and ``(h, w) float32`` map at feature resolution."""

    score: float
    anomaly_map: NDArray[np.float32]

    def is_finite(self) -> bool:
        """Tell whether a part may be decided by these numbers: neither NaN nor infinity."""
        return math.isfinite(self.score) and bool(np.isfinite(self.anomaly_map).all())


class Predictor(Protocol):
    """What gives raw numbers: the detector on the line, the torch model in training."""

    def predict(self, prepared: NDArray[np.uint8]) -> RawPrediction:
        """Predict one ``(H, W, 3) uint8`` BGR picture as ``edge.preparation.prepare`` gives it."""
        ...
