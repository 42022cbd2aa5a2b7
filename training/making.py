"""From a configuration to a fitted, calibrated checkpoint."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from edge.manifest import InputSpec, TileSpec, Training
from training.calibration import calibrate
from training.checkpoint import Checkpoint, Description, ValidationPictures
from training.components.backbones import find_weights
from training.config import FitConfig
from training.data.loading import check_samples, first_sight, prepare_sample, read_sample
from training.data.opening import open_splits
from training.data.samples import Splits, fingerprint
from training.errors import SettingError
from training.evaluation import Scored, TorchPredictor, score_samples, split_metrics
from training.fitting import fit_statistical
from training.models import find_algorithm
from training.models.building import build_model, make_settings

# Validation pictures that travel with a checkpoint: at most so many, and fewer large ones.
_KEPT = 64
_FEWEST_KEPT = 8
_KEPT_BYTES = 64 * 2**20


def fit_checkpoint(config: FitConfig) -> Checkpoint:
    """Fit and calibrate a model as configured.

    Raises:
        StationError: a setting, the weights or the data cannot be used; found before the fit
            wherever it can be.
    """
    device = find_device(config.device)
    settings = make_settings(config.algorithm, config.hyperparameters)
    splits = open_splits(config.data, config.validate_on, config.seed)
    weights = find_weights(config.backbone, config.weights, config.weights_licence)
    picture = (config.image_size, config.image_size)
    if config.tile is not None and find_algorithm(config.algorithm).model_class().per_position:
        raise SettingError(
            f"{config.algorithm} compares each position with itself and cannot be tiled: a tile "
            "shows another position in every frame size. Use patchcore, or leave out --tile."
        )
    model = build_model(config.algorithm, config.backbone, weights, picture, settings, config.seed)
    tiles = None
    if config.tile is not None:
        tiles = TileSpec(height=config.tile, width=config.tile, overlap=config.overlap)
    spec = first_sight(picture, config.levels, config.crop, tiles)
    check_samples(splits.validation, spec)
    dataset = fingerprint([*splits.fit, *splits.validation])
    formats = fit_statistical(model, splits.fit, spec, device)
    spec = spec.model_copy(update={"pixel_formats": formats})
    scored = score_samples(
        TorchPredictor(model, spec, device), splits.validation, spec, "calibrate"
    )
    calibration = calibrate(scored, spec, config.seed)
    description = Description(
        algorithm=config.algorithm,
        backbone=config.backbone,
        weights_licence=weights.licence,
        settings=asdict(settings),
        seed=config.seed,
        input=spec,
        map_height=model.grid[0],
        map_width=model.grid[1],
        normalization=calibration.normalization,
        threshold=calibration.threshold,
        statistics=calibration.statistics,
        training=_training(config, splits, dataset, settings, scored, spec),
    )
    return Checkpoint(model.cpu(), description, validation_pictures(scored, spec))


def validation_pictures(scored: Sequence[Scored], spec: InputSpec) -> ValidationPictures:
    """Prepare up to 64 validation pictures, half of them defective, for the export gate.

    Of a tiled picture the tile that gave its score is enough: the gate compares scores.
    """
    room = _KEPT_BYTES // (3 * spec.height * spec.width)
    most = min(_KEPT, max(_FEWEST_KEPT, room))
    defective = [item for item in scored if item.sample.is_defective]
    good = [item for item in scored if not item.sample.is_defective]
    few = min(len(defective), most // 2)
    kept = _spread(good, most - few) + _spread(defective, few)
    pictures = [
        prepare_sample(item.sample, read_sample(item.sample), spec)[item.worst] for item in kept
    ]
    return ValidationPictures(
        np.stack(pictures), np.array([item.sample.is_defective for item in kept], np.bool_)
    )


def _spread(scored: list[Scored], count: int) -> list[Scored]:
    """Return at most ``count`` of them, evenly over the list."""
    if len(scored) <= count:
        return scored
    return [scored[index * len(scored) // count] for index in range(count)]


def find_device(name: str) -> torch.device:
    """Return the device.

    Raises:
        SettingError: no such device, or CUDA was asked for and is not there.
    """
    if name not in ("cpu", "cuda"):
        raise SettingError(f"--device {name}: does not exist. There are: cpu, cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError("--device cuda: this torch sees no GPU. Use cpu, or a CUDA build.")
    return torch.device(name)


def _training(
    config: FitConfig,
    splits: Splits,
    dataset: str,
    settings: Any,
    scored: list[Scored],
    spec: InputSpec,
) -> Training:
    defective = sum(sample.is_defective for sample in splits.validation)
    return Training(
        dataset=splits.name,
        dataset_fingerprint=dataset,
        fit_count=len(splits.fit),
        validation_good_count=len(splits.validation) - defective,
        validation_defective_count=defective,
        seed=config.seed,
        hyperparameters={
            key: ",".join(value) if isinstance(value, tuple) else value
            for key, value in asdict(settings).items()
        }
        | {"validate_on": config.validate_on.value},
        metrics={"validation": split_metrics(scored, spec)},
    )
