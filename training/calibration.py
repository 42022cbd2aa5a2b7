"""From the scores of the validation split to normalization, thresholds and statistics."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.inspection.thresholding import bootstrap_interval, f1_adaptive, quantile
from edge.manifest import (
    Extent,
    InputSpec,
    Normalization,
    ScoreStatistics,
    Threshold,
    ThresholdMethod,
)
from training.errors import CalibrationError
from training.evaluation import Scored, maps_and_masks
from training.metrics import f1_at, f1_reject_all

_PROBABILITIES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_FEW_DEFECTS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a checkpoint holds beside the fitted model."""

    normalization: Normalization
    threshold: Threshold
    statistics: ScoreStatistics


def calibrate(scored: Sequence[Scored], spec: InputSpec, seed: int) -> Calibration:
    """Calibrate on validation samples.

    With defects among them the image threshold is the mid-gap adaptive F1, without it is a quantile
    of the good scores with a margin. The pixel threshold is the adaptive F1 over pixels where masks
    are known, else the same quantile over the peaks of the good maps.

    Raises:
        CalibrationError: no good validation pictures, or a score that is not finite.
    """
    # In the scores' own precision, so that thresholds compare alike as float32 and as float64.
    good = np.array([item.score for item in scored if not item.sample.is_defective], np.float32)
    defective = np.array([item.score for item in scored if item.sample.is_defective], np.float32)
    if len(good) == 0:
        raise CalibrationError("no good pictures to calibrate on; at least one is needed.")
    scores = np.concatenate([good, defective])
    peaks = np.array([item.anomaly_map.max() for item in scored], np.float32)
    lows = np.array([item.anomaly_map.min() for item in scored], np.float32)
    if not all(np.isfinite(values).all() for values in (scores, peaks, lows)):
        raise CalibrationError(
            "the model gives scores that are not finite. Check the weights and the pictures."
        )
    image, method = _image_threshold(good, defective)
    pixel = _pixel_threshold(scored, spec)
    random = np.random.default_rng(seed)
    return Calibration(
        Normalization(
            image=_extent(scores, image, len(defective)),
            map=_extent(np.concatenate([lows, peaks]), pixel, len(defective)),
        ),
        Threshold(
            image=image,
            pixel=pixel,
            method=method,
            good_count=len(good),
            defective_count=len(defective),
            interval=bootstrap_interval(good, defective, random),
        ),
        ScoreStatistics(
            probabilities=_PROBABILITIES,
            scores=tuple(float(value) for value in np.quantile(good, _PROBABILITIES)),
        ),
    )


def _image_threshold(
    good: NDArray[np.float32], defective: NDArray[np.float32]
) -> tuple[float, ThresholdMethod]:
    if len(defective) == 0:
        if len(good) < _FEW_DEFECTS:
            log.warning("the threshold rests on %d good pictures only", len(good))
        return quantile(good), ThresholdMethod.QUANTILE
    threshold = f1_adaptive(good, defective)
    if len(defective) < _FEW_DEFECTS:
        log.warning("the threshold rests on %d defective pictures only", len(defective))
    scores = np.concatenate([good, defective])
    labels = np.arange(len(scores)) >= len(good)
    if f1_at(scores, labels, threshold) <= f1_reject_all(labels):
        log.warning(
            "the best F1 is that of rejecting every part: the model does not tell these defects "
            "from good parts"
        )
    return threshold, ThresholdMethod.F1_ADAPTIVE


def _pixel_threshold(scored: Sequence[Scored], spec: InputSpec) -> float:
    maps, masks = maps_and_masks(scored, spec)
    pixels = np.concatenate([m.ravel() for m in maps])
    truth = np.concatenate([m.ravel() for m in masks])
    if truth.any():
        return f1_adaptive(pixels[~truth], pixels[truth])
    # Without masks only good maps are known; at the resolution in which regions are found.
    return quantile(np.array([m.max() for m in maps], np.float32))


def _extent(values: NDArray[np.float32], threshold: float, defective_count: int) -> Extent:
    """Return the range seen; without defects its upper half is taken as wide as the lower."""
    low, high = float(values.min()), float(values.max())
    if defective_count == 0:
        high = max(high, 2.0 * threshold - low)
    return Extent(min=low, max=high)
