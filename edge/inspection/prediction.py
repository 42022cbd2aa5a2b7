"""What a network says about one prepared picture, whatever runs the network."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class RawPrediction(NamedTuple):
    """Raw numbers of one picture: image score and ``(h, w) float32`` map at feature resolution."""

    score: float
    anomaly_map: NDArray[np.float32]


class Predictor(Protocol):
    """What gives raw numbers: the detector on the line, the torch model in training."""

    def predict(self, prepared: NDArray[np.uint8]) -> RawPrediction:
        """Predict one ``(H, W, 3) uint8`` BGR picture as ``edge.preparation.prepare`` gives it."""
        ...
