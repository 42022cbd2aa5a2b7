"""A fit with everything around it: the chosen threshold, and notes on how the data were used."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.bundle.mask_file import read_mask_file
from edge.bundle.training_record import AlgorithmChoice, SplitMetrics
from edge.inspection.areas import demand_areas
from training.algorithm_choice import with_chosen_algorithm
from training.calibration import EarlierCalibration, calibrate
from training.checkpoint import Checkpoint
from training.config import FitConfig
from training.data.open_data_set import ValidateOn
from training.data.samples import Sample, Splits
from training.data.settings import DataSettings
from training.errors import SettingError
from training.evaluation import Scored, TorchPredictor, score_samples, split_metrics
from training.fit_pipeline import (
    find_device,
    fit_checkpoint,
    joined_images,
    open_fit,
    validation_images,
)
from training.good_images import make_calibration_check, refuse_suspects, warn_about
from training.gradient_fit import OnEpoch
from training.metrics import auroc, f1_max, f1_reject_all
from training.seen_images import seen
from training.threshold_option import ThresholdChoice
from training.zone_scores import zone_scores


def fitted(
    config: FitConfig,
    state_path: Path | None = None,
    on_epoch: OnEpoch | None = None,
    splits: Splits | None = None,
) -> Checkpoint:
    """Fit and calibrate a model, with the threshold that was asked for.

    Args:
        state_path: where a long training keeps what a killed fit goes on from.
        on_epoch: called with the number of each epoch of a training and its figures.
        splits: of the data, where they are open already.

    Raises:
        StationError: a setting, the weights or the data cannot be used.
    """
    splits = splits or open_fit(config)
    config, choice = with_chosen_algorithm(config, splits)
    checkpoint = fit_checkpoint(config, state_path, on_epoch, splits)
    notes = {"threshold": config.threshold_choice.text, **data_notes(config.data)}
    return _updated(checkpoint, notes, config, choice)


def scores(checkpoint: Checkpoint, samples: Sequence[Sample], device: str) -> list[Scored]:
    """Score samples to calibrate on.

    Raises:
        DataError: an image cannot be used; names the file.
    """
    spec = checkpoint.description.input
    predictor = TorchPredictor(checkpoint.model, spec, find_device(device))
    scored = score_samples(predictor, samples, spec, "calibrate")
    checkpoint.model.cpu()
    return scored


def masked(checkpoint: Checkpoint, mask: Path, *, replaced: bool) -> Checkpoint:
    """Return the same model with another mask and other zones, to be calibrated.

    Args:
        replaced: nothing of the calibration before counts.

    Raises:
        ConfigurationError: the mask cannot be used, or scores without it would count.
    """
    description = checkpoint.description
    areas, own = read_mask_file(mask), description.input.areas
    if not replaced and (own is None or not areas.scores_like(own)):
        raise SettingError(
            f"{mask}: the images of the calibration before were scored "
            f"{'without a mask' if own is None else 'with another mask'}, and their maps "
            "are not kept. Add --replace, and give all images to calibrate on with "
            "--data."
        )
    spec = description.input.model_copy(update={"areas": areas})
    demand_areas(spec, description.map_score, description.map_shape)
    return replace(checkpoint, description=description.model_copy(update={"input": spec}))


def calibrated_on(
    checkpoint: Checkpoint,
    scored: Sequence[Scored],
    choice: ThresholdChoice,
    *,
    name: str,
    seed: int,
    adding: bool = True,
    check_good: bool = True,
    strict: bool = False,
    confirmed: Mapping[bytes, Path] | None = None,
) -> Checkpoint:
    """Return the same model, calibrated on scores.

    Args:
        name: of the data set that the scored images come from.
        adding: the images that it was calibrated on before count, too.
        check_good: good images that score far above the others do not count.
        strict: end where there are such.
        confirmed: good images that count whatever they score, by content.

    Raises:
        DataError: the images cannot show what the threshold asks for, or a strict calibration met
            good images that look like defects.
        CalibrationError: a score is not finite.
    """
    description = checkpoint.description
    spec = description.input
    earlier = None
    if adding:
        earlier = EarlierCalibration(checkpoint.records, description.threshold.pixel)
    before = description.threshold.cross_validated_count if earlier is not None else 0
    confirmed = confirmed or {}
    calibration = calibrate(
        scored,
        spec,
        seed,
        choice,
        earlier=earlier,
        check_good=check_good,
        confirmed=confirmed,
        cross_validated=before,
    )
    if strict:
        refuse_suspects(calibration.suspects)
    warn_about(tuple(calibration.suspects), calibration)
    records = calibration.records
    defective = int(records.defective.sum())
    metrics = split_metrics(scored, spec)
    if len(records) > len(scored):
        # Of images that were added to others only the scores of all are known.
        metrics = SplitMetrics(
            good_count=len(records) - defective,
            defective_count=defective,
            image_auroc=auroc(records.scores, records.defective),
            image_f1_max=f1_max(records.scores, records.defective),
            f1_reject_all=f1_reject_all(records.defective) if defective else None,
        )
    training = description.training.model_copy(
        update={
            "validation_good_count": calibration.threshold.good_count,
            "good_check": make_calibration_check(calibration, [*confirmed.values()])
            if check_good
            else None,
            "validation_defective_count": defective,
            "metrics": {**description.training.metrics, "validation": metrics},
            "hyperparameters": {
                **description.training.hyperparameters,
                "threshold": choice.text,
                "calibrated_on": name,
            },
        }
    )
    updated = description.model_copy(
        update={
            "normalization": calibration.normalization,
            "threshold": calibration.threshold,
            "statistics": calibration.statistics,
            "training": training,
        }
    )
    validation = validation_images(scored, spec)
    if earlier is not None:
        validation = joined_images(checkpoint.validation, validation, spec)
    calibrated = seen(item.sample for item in scored)
    known = checkpoint.seen
    if known is not None:
        if earlier is not None:
            calibrated |= known.calibrated
        known = replace(known, calibrated=calibrated)
    zones = zone_scores(
        scored, spec, calibration.threshold.image, choice, suspects=calibration.suspects
    )
    return replace(
        checkpoint,
        description=updated,
        validation=validation,
        records=records,
        seen=known,
        zones=zones,
    )


def rests_on_test(checkpoint: Checkpoint) -> bool:
    """Tell whether test images serve as validation by choice, as published tables have it."""
    notes = checkpoint.description.training.hyperparameters
    return bool(notes.get("calibrated_on_test", notes.get("validate_on") == ValidateOn.TEST))


def data_notes(data: DataSettings) -> dict[str, str | int | bool]:
    """Return what a manifest says about how the images were used, beyond the defaults."""
    notes: dict[str, str | int | bool] = {}
    if data.layout is not None:
        notes["layout"] = data.layout.value
    if data.category is not None:
        notes["category"] = data.category
    if data.skip_unreadable:
        notes["skip_unreadable"] = True
    if data.synthetic_defects:
        notes["synthetic_defects"] = data.synthetic_defects
    if data.transforms:
        notes["transforms"] = ", ".join(str(step) for step in data.transforms)
        notes["transform_copies"] = data.transform_copies
    return notes


def _updated(
    checkpoint: Checkpoint,
    notes: dict[str, Any],
    config: FitConfig,
    choice: AlgorithmChoice | None,
) -> Checkpoint:
    description = checkpoint.description
    training = description.training
    # Views are the same images again.
    views = 1 + config.data.transform_copies if config.data.transforms else 1
    updated = training.model_copy(
        update={
            "hyperparameters": {**training.hyperparameters, **notes},
            "fit_count": training.fit_count // views,
            "choice": choice,
        }
    )
    described = description.model_copy(update={"training": updated})
    return replace(checkpoint, description=described)
