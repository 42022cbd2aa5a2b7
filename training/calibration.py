"""From the scores of the validation split to normalization, thresholds and statistics."""

import logging
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.bundle.manifest import Normalization, ScoreStatistics, Threshold, ThresholdMethod
from edge.inspection.thresholding import quantile
from edge.teaching.calibration import TrustedScores, calibrated_scores
from edge.teaching.outliers import far_above
from edge.teaching.threshold_choice import AUTOMATIC, ThresholdChoice
from edge.wording import counted
from training.calibration_records import CalibrationRecords, make_records
from training.data.samples import Sample
from training.errors import CalibrationError, DataError
from training.figures import Scored, add_pixels
from training.metrics import PixelTotals, f1_at, f1_reject_all

_FEW_DEFECTS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a checkpoint holds beside the fitted model.

    Attributes:
        records: of all scored images, those that are not trusted included.
        suspects: good images that nothing rests on, because they look like defects; the score of
            each, highest first.
        earlier_suspects: how many more there are among the images that were added to.
        with_suspects: image and pixel threshold, had the suspects counted.
    """

    normalization: Normalization
    threshold: Threshold
    statistics: ScoreStatistics
    records: CalibrationRecords = field(compare=False)
    suspects: dict[Sample, float] = field(default_factory=dict)
    earlier_suspects: int = 0
    with_suspects: tuple[float, float] | None = None


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
    *,
    earlier: EarlierCalibration | None = None,
    suspects: Collection[Sample] = (),
    check_good: bool = True,
    confirmed: Container[bytes] = (),
    cross_validated: int = 0,
) -> Calibration:
    """Calibrate on validation samples.

    Unless chosen otherwise the image threshold is the mid-gap adaptive F1 where defects are among
    them, and a quantile of the good scores with a margin without. The pixel threshold is the
    adaptive F1 over pixels where masks are known, else that quantile over the peaks of the good
    maps.

    Args:
        earlier: images that were calibrated on before and count, too.
        suspects: good images that must not count, because they may show a defect.
        check_good: look for more of them among the scores; what lies far above the others does
            not count either.
        confirmed: contents of good images that count all the same.
        cross_validated: how many of the good images are scored by models that were fitted without
            them.

    Raises:
        CalibrationError: no good validation images, or a score that is not finite.
        DataError: the images cannot show what the chosen threshold asks for.
    """
    # In the scores' own precision, so that thresholds compare alike as float32 and as float64.
    records = make_records(scored, spec)
    own = scored[len(scored) - len(records) :]
    if earlier is not None:
        records = earlier.records.joined(records)
    if records.defective.all():
        raise CalibrationError("no good images to calibrate on; at least one is needed.")
    if not all(np.isfinite(v).all() for v in (records.scores, records.peaks, records.lows)):
        raise CalibrationError(
            "the model gives scores that are not finite. Check the weights and the images."
        )
    distrusted = _distrusted(records, own, suspects, check_good)
    distrusted &= np.array([row.tobytes() not in confirmed for row in records.hashes], np.bool_)
    found = {
        item.sample: item.score
        for item, out in zip(own, distrusted[len(records) - len(own) :], strict=True)
        if out
    }
    trusted = records.only(~distrusted)
    if choice.method is ThresholdMethod.MISS_RATE and any(s.sample.is_synthetic for s in scored):
        raise DataError(
            f"threshold {choice.text}: synthetic defects do not show how many real ones "
            "are missed. Give images of real defects."
        )
    if trusted.defective.all():
        raise CalibrationError(
            "all good images to calibrate on look like defects. Check them; "
            "--no-check-good uses them as good."
        )
    good, defective = trusted.scores[~trusted.defective], trusted.scores[trusted.defective]
    method = choice.used(good, defective)
    kept = [item for item in scored if item.sample not in found]
    image = _image_threshold(choice, good, defective)
    pixel = _pixel_threshold(kept, spec, trusted, earlier)
    with_suspects = None
    if distrusted.any():
        of_all = records.scores[~records.defective]
        with_suspects = (
            _image_threshold(choice, of_all, defective),
            _pixel_threshold(scored, spec, records, earlier),
        )
    _warn(kept, good, defective, image, method=method)
    described = calibrated_scores(
        TrustedScores(
            good=good,
            defective=defective,
            map_values=np.concatenate([trusted.lows, trusted.peaks]),
        ),
        image,
        pixel,
        choice,
        seed=seed,
        cross_validated=cross_validated,
    )
    return Calibration(
        normalization=described.normalization,
        threshold=described.threshold,
        statistics=described.statistics,
        records=records,
        suspects=dict(sorted(found.items(), key=lambda pair: -pair[1])),
        earlier_suspects=int(distrusted.sum()) - len(found),
        with_suspects=with_suspects,
    )


def _distrusted(
    records: CalibrationRecords,
    own: Sequence[Scored],
    suspects: Collection[Sample],
    check_good: bool,
) -> NDArray[np.bool_]:
    """Tell of each record whether it is a good image that may show a defect.

    Args:
        own: the images of the last records.
    """
    distrusted = np.zeros(len(records), np.bool_)
    first = len(records) - len(own)
    for place, item in enumerate(own, first):
        distrusted[place] = item.sample in suspects and not item.sample.is_defective
    if check_good:
        good = np.flatnonzero(~records.defective)
        distrusted[good[far_above(records.scores[good])]] = True
    return distrusted


def _image_threshold(
    choice: ThresholdChoice, good: NDArray[np.float32], defective: NDArray[np.float32]
) -> float:
    try:
        return choice.threshold(good, defective)
    except ValueError as error:
        raise DataError(f"threshold {choice.text}: {error}.") from error


def _warn(
    scored: Sequence[Scored],
    good: NDArray[np.float32],
    defective: NDArray[np.float32],
    threshold: float,
    *,
    method: ThresholdMethod,
) -> None:
    """Say what a user should know before relying on the threshold."""
    if any(item.sample.is_synthetic for item in scored):
        log.warning(
            "the threshold rests on synthetic defects; calibrate again once there are real ones"
        )
    if len(defective) == 0:
        if len(good) < _FEW_DEFECTS:
            log.warning("the threshold rests on %s only", counted(len(good), "good image"))
        return
    if len(defective) < _FEW_DEFECTS:
        log.warning("the threshold rests on %s only", counted(len(defective), "defective image"))
    scores = np.concatenate([good, defective])
    labels = np.arange(len(scores)) >= len(good)
    rejects_all = f1_at(scores, labels, threshold) <= f1_reject_all(labels)
    if method is ThresholdMethod.F1_ADAPTIVE and rejects_all:
        log.warning(
            "the best F1 is that of rejecting every part: the model cannot tell these "
            "defects from good parts"
        )


def _pixel_threshold(
    scored: Sequence[Scored],
    spec: InputSpec,
    records: CalibrationRecords,
    earlier: EarlierCalibration | None,
) -> float:
    pixels = PixelTotals()
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
