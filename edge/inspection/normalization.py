"""Min-max normalization: raw scores onto a scale where the threshold is always 0.5."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Extent

THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """Raw threshold and the raw range that becomes one unit."""

    threshold: float
    range: float


def score_scale(threshold: float, extent: Extent) -> ScoreScale:
    """Build the scale; a range of zero (constant validation scores) becomes one raw unit."""
    span = extent.max - extent.min
    return ScoreScale(threshold, span if span > 0.0 else 1.0)


def normalize(scores: NDArray[np.floating], scale: ScoreScale) -> NDArray[np.floating]:
    """Map raw scores so that the threshold lies at 0.5.

    Args:
        scores: raw anomaly scores, any shape, higher is more anomalous.
        scale: threshold and range, from the manifest.

    Returns:
        Same shape and type, in [0, 1]; below 0.5 exactly where a score is below the threshold.
        For display and messages only: decisions and metrics use raw scores.

    Source: Akcay et al., Anomalib, 2022, section 3.4.
    """
    normalized = np.clip((scores - scale.threshold) / scale.range + THRESHOLD, 0.0, 1.0)
    # A score a hair below the threshold would round onto it and contradict its own verdict.
    just_below = np.nextafter(normalized.dtype.type(THRESHOLD), normalized.dtype.type(0))
    return np.where(scores < scale.threshold, np.minimum(normalized, just_below), normalized)
