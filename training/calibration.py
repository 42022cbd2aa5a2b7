"""From the scores of the validation split to normalization, thresholds and statistics."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.inspection.thresholding import bootstrap_interval, quantile
from edge.manifest import (
    Extent,
    InputSpec,
    Normalization,
    ScoreStatistics,
    Threshold,
    ThresholdMethod,
)
from training.calibration_records import CalibrationRecords, make_records
from training.errors import CalibrationError, DataError
from training.figures import Scored, add_pixels
from training.metrics import PixelTally, f1_at, f1_reject_all
from training.threshold_choice import ThresholdChoice

_PROBABILITIES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_FEW_DEFECTS = 10

# A good picture so many times farther above the median than is usual may show a defect.
_OUTLYING = 8.0
_FEWEST_TO_OUTLIE = 8
_MOST_NAMED = 5
_SPREAD_OF_MAD = 1.4826  # median deviation to standard deviation, of a normal distribution

AUTOMATIC = ThresholdChoice(None)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a checkpoint holds beside the fitted model."""

    normalization: Normalization
    threshold: Threshold
    statistics: ScoreStatistics
    records: CalibrationRecords = field(compare=False)


@dataclass(frozen=True, slots=True)
class EarlierCalibration:
    """What new images are added to: the records of a calibration and its pixel threshold."""

    records: CalibrationRecords
    pixel: float


def calibrate(
    scored: Sequence[Scored],
    spec: InputSpec,
    seed: int,
    choice: ThresholdChoice = AUTOMATIC,
    earlier: EarlierCalibration | None = None,
) -> Calibration:
    """Calibrate on validation samples.

    Unless chosen otherwise the image threshold is the mid-gap adaptive F1 where defects are among
    them, and a quantile of the good scores with a margin without. The pixel threshold is the
    adaptive F1 over pixels where masks are known, else that quantile over the peaks of the good
    maps.

    Args:
        earlier: images that were calibrated on before and count, too.

    Raises:
        CalibrationError: no good validation pictures, or a score that is not finite.
        DataError: the pictures cannot show what the chosen threshold asks for.
    """
    # In the scores' own precision, so that thresholds compare alike as float32 and as float64.
    records = make_records(scored, spec)
    if earlier is not None:
        records = earlier.records.joined(records)
    good, defective = records.scores[~records.defective], records.scores[records.defective]
    if len(good) == 0:
        raise CalibrationError("no good pictures to calibrate on; at least one is needed.")
    scores = np.concatenate([good, defective])
    peaks, lows = records.peaks, records.lows
    if not all(np.isfinite(values).all() for values in (scores, peaks, lows)):
        raise CalibrationError(
            "the model gives scores that are not finite. Check the weights and the pictures."
        )
    method = choice.used(good, defective)
    try:
        image = choice.threshold(good, defective)
    except ValueError as error:
        raise DataError(f"threshold {choice.text}: {error}.") from error
    _warn(scored, good, defective, image, method)
    pixel = _pixel_threshold(scored, spec, records, earlier)
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
            interval=None
            if method is ThresholdMethod.MANUAL
            else bootstrap_interval(good, defective, random, method=choice.threshold),
        ),
        ScoreStatistics(
            probabilities=_PROBABILITIES,
            scores=tuple(float(value) for value in np.quantile(good, _PROBABILITIES)),
        ),
        records,
    )


def _warn(
    scored: Sequence[Scored],
    good: NDArray[np.float32],
    defective: NDArray[np.float32],
    threshold: float,
    method: ThresholdMethod,
) -> None:
    """Say what a user should know before relying on the threshold."""
    outlying = outlying_good(scored)
    if outlying:
        log.warning(
            "%d good pictures score far above the others; look whether they show a defect: %s",
            len(outlying),
            ", ".join(item.sample.label for item in outlying[:_MOST_NAMED]),
        )
    if any(item.sample.is_synthetic for item in scored):
        log.warning(
            "the threshold rests on synthetic defects; calibrate again once there are real ones"
        )
    if len(defective) == 0:
        if len(good) < _FEW_DEFECTS:
            log.warning("the threshold rests on %d good pictures only", len(good))
        return
    if len(defective) < _FEW_DEFECTS:
        log.warning("the threshold rests on %d defective pictures only", len(defective))
    scores = np.concatenate([good, defective])
    labels = np.arange(len(scores)) >= len(good)
    rejects_all = f1_at(scores, labels, threshold) <= f1_reject_all(labels)
    if method is ThresholdMethod.F1_ADAPTIVE and rejects_all:
        log.warning(
            "the best F1 is that of rejecting every part: the model does not tell these defects "
            "from good parts"
        )


def outlying_good(scored: Sequence[Scored]) -> list[Scored]:
    """Return good pictures whose score lies far above the others', highest first."""
    good = [item for item in scored if not item.sample.is_defective]
    return [good[index] for index in far_above(np.array([item.score for item in good]))]


def far_above(scores: NDArray[np.floating]) -> list[int]:
    """Return which scores lie more than 8 robust standard deviations above the median.

    Highest first; none of fewer than 8 scores, or where most of them are equal.
    """
    if len(scores) < _FEWEST_TO_OUTLIE:
        return []
    middle = np.median(scores)
    spread = _SPREAD_OF_MAD * float(np.median(np.abs(scores - middle)))
    if spread == 0.0:
        return []
    found = np.flatnonzero((scores - middle) / spread > _OUTLYING)
    return [int(index) for index in found[np.argsort(-scores[found], kind="stable")]]


def _pixel_threshold(
    scored: Sequence[Scored],
    spec: InputSpec,
    records: CalibrationRecords,
    earlier: EarlierCalibration | None,
) -> float:
    pixels = PixelTally()
    for item in scored:
        add_pixels(pixels, item, spec)
    threshold = pixels.f1_adaptive()
    if threshold is not None:
        return threshold
    if earlier is not None and earlier.pixel != _of_good_maps(earlier.records):
        return earlier.pixel  # it rests on masks, which say more than good maps
    return _of_good_maps(records)


def _of_good_maps(records: CalibrationRecords) -> float:
    """Without masks only good maps are known; at the resolution in which regions are found."""
    return quantile(records.region_peaks[~records.defective])


def _extent(values: NDArray[np.float32], threshold: float, defective_count: int) -> Extent:
    """Return the range seen; without defects its upper half is taken as wide as the lower."""
    low, high = float(values.min()), float(values.max())
    if defective_count == 0:
        high = max(high, 2.0 * threshold - low)
    return Extent(min=low, max=high)
