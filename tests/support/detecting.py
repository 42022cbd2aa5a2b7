"""One prepared image at a time, for tests of the network alone."""

import numpy as np
from numpy.typing import NDArray

from edge.inspection.detector import Detector
from edge.inspection.predictor import RawPrediction


def predict_one(detector: Detector, prepared: NDArray[np.uint8]) -> RawPrediction:
    """Run the network on ``(H, W, 3) uint8`` BGR as ``preprocessing.prepare`` gives it."""
    scores, maps = detector.predict_all(1, lambda _, out: np.copyto(out, prepared))
    return RawPrediction(float(scores[0]), maps[0])
