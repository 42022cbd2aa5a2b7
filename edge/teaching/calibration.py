"""From the scores of images that a model was not fitted on to normalization and threshold."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Extent, Normalization, ScoreStatistics, Threshold, ThresholdMethod
from edge.inspection.thresholding import bootstrap_interval
from edge.teaching.threshold_choice import ThresholdChoice

_PROBABILITIES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class TrustedScores:
    """What a calibration rests on.

    Attributes:
        good, defective: ``(N,)`` and ``(M,) float32`` raw image scores.
        map_values: lowest and highest value of each raw map.
    """

    good: NDArray[np.float32]
    defective: NDArray[np.float32]
    map_values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CalibratedScores:
    """What a manifest says of scores."""

    normalization: Normalization
    threshold: Threshold
    statistics: ScoreStatistics


def calibrated_scores(
    scores: TrustedScores,
    image: float,
    pixel: float,
    choice: ThresholdChoice,
    *,
    seed: int,
    cross_validated: int,
) -> CalibratedScores:
    """Describe thresholds by the scores that they rest on.

    Args:
        image, pixel: raw thresholds.
        choice: what the image threshold was laid by.
        seed: of the bootstrap.
        cross_validated: how many of the good images are scored by models that were fitted without
            them.
    """
    good, defective = scores.good, scores.defective
    method = choice.used(good, defective)
    random = np.random.default_rng(seed)
    return CalibratedScores(
        normalization=Normalization(
            image=_extent(np.concatenate([good, defective]), image, len(defective)),
            map=_extent(scores.map_values, pixel, len(defective)),
        ),
        threshold=Threshold(
            image=image,
            pixel=pixel,
            method=method,
            good_count=len(good),
            defective_count=len(defective),
            interval=None
            if method is ThresholdMethod.MANUAL
            else bootstrap_interval(good, defective, random, method=choice.threshold),
            cross_validated_count=min(cross_validated, len(good)),
            guarantee=choice.guarantee(good, defective),
        ),
        statistics=ScoreStatistics(
            probabilities=_PROBABILITIES,
            scores=tuple(float(value) for value in np.quantile(good, _PROBABILITIES)),
        ),
    )


def _extent(values: NDArray[np.float32], threshold: float, defective_count: int) -> Extent:
    """Return the range seen; without defects its upper half is taken as wide as the lower."""
    low, high = float(values.min()), float(values.max())
    if defective_count == 0:
        high = max(high, 2.0 * threshold - low)
    return Extent(min=low, max=high)
