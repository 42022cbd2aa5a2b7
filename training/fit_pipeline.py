"""From a configuration to a fitted, calibrated checkpoint."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from edge.bundle.input_spec import Areas, InputSpec, Locator, TileSpec
from edge.bundle.manifest_types import plain_text
from edge.bundle.mask_file import read_mask_file
from edge.bundle.training_record import SplitMetrics, Training
from edge.imaging.frame import PixelFormat
from edge.inspection.areas import demand_areas
from edge.inspection.pieces import frame_pieces
from edge.teaching.used_images import HASH_BYTES
from training.alignment import (
    agreed_locator,
    check_alignment,
    demand_found,
    find_locator,
    found_parts,
)
from training.calibration import Calibration, calibrate
from training.checkpoint import Checkpoint, Description, ValidationImages
from training.components.backbones import Weights, find_weights
from training.components.feature_extractor import FeatureExtractor
from training.components.remembered_features import RememberedFeatures
from training.config import AUTO_ALGORITHM, FitConfig
from training.confirmed_images import check_confirmed, confirmed_images
from training.data.content import content_hashes, fingerprint
from training.data.image_sizes import image_sizes
from training.data.kept_images import KeptImages
from training.data.loading import check_samples, first_sight, prepare_sample, read_sample
from training.data.open_data_set import ValidateOn, open_splits
from training.data.samples import Sample, Splits
from training.data.splitting import split_off
from training.errors import DataError, SettingError
from training.evaluation import (
    Scored,
    TorchPredictor,
    score_samples,
    side_by_side,
    split_metrics,
)
from training.good_images import (
    GoodImages,
    is_cross_validated,
    look_at_good,
    make_check,
    refuse_suspects,
    without,
)
from training.gradient_fit import OnEpoch, fit_trained
from training.input_size import ChosenSize, SideUnit, choose_size, median_shape, size_advice
from training.marked_images import held_against, read_marked, with_learned_defects
from training.models.anomaly_model import AnomalyModel, StatisticalModel
from training.models.building import build_model, make_settings, model_around, side_unit
from training.models.registry import find_algorithm
from training.models.trained_model import MarkedImages, TrainedModel, TrainedSettings
from training.seen_images import SeenImages, seen
from training.state_file import StateFile, training_identity
from training.statistical_fit import fit_statistical
from training.training_images import TrainingImages
from training.zone_scores import zone_scores

_Item = TypeVar("_Item")

# Images that travel with a checkpoint: at most so many, and fewer large ones. Quantization takes
# its ranges from the good ones of the fit and is judged by the validation images.
_KEPT_TO_QUANTIZE = 64
_KEPT_TO_JUDGE = 256
_MIN_KEPT = 8
_KEPT_BYTES = 64 * 2**20
# Of images in tiles all tiles are kept: of large ones so few that they judge badly, then more.
_KEPT_TILES_BYTES = 256 * 2**20
_MAX_TILES_BYTES = 1024 * 2**20
_MIN_TILED = 2

# Of prepared images, and again of their features; more are read and extracted anew.
_REMEMBERED_BYTES = 2**29

# Of the images to fit on: they tell when to stop where nothing else may.
_STOPPING_SHARE = 0.1

# What a checkpoint names as the backbone of an algorithm that has none.
NO_BACKBONE = "none"

log = logging.getLogger(__name__)


def open_fit(config: FitConfig) -> Splits:
    """Open the data of a fit, with the defective images that its model learns set apart.

    Raises:
        DataError: nothing usable there, or too few images; the message says what is missing
            where.
        SettingError: a hyperparameter or a transform that does not exist or is refused.
    """
    splits = open_splits(config.data, config.validate_on, config.seed)
    return with_learned_defects(splits, config.seed) if _learns_defects(config) else splits


def _learns_defects(config: FitConfig) -> bool:
    if config.algorithm == AUTO_ALGORITHM:
        return False
    settings = make_settings(config.algorithm, config.hyperparameters)
    return isinstance(settings, TrainedSettings) and settings.learns_defects


def fit_checkpoint(
    config: FitConfig,
    state_path: Path | None = None,
    on_epoch: OnEpoch | None = None,
    splits: Splits | None = None,
) -> Checkpoint:
    """Fit and calibrate a model as configured.

    Args:
        state_path: where a training that takes long keeps what a killed fit goes on from; the
            caller removes it when the checkpoint is written.
        on_epoch: called with the number of each epoch of a training and its figures.
        splits: of the data, where ``open_fit`` opened them already.

    Raises:
        StationError: a setting, the weights or the data cannot be used; found before the fit
            wherever it can be.
    """
    prepared = _prepare(config, splits)
    splits = prepared.splits
    confirmed = confirmed_images(config.confirm_good)
    good, trusted, learned = _learn(
        config, prepared, confirmed, state_path=state_path, on_epoch=on_epoch
    )
    spec = learned.spec
    scored = score_samples(
        TorchPredictor(prepared.model, spec, prepared.device), splits.validation, spec, "calibrate"
    )
    everything = [*good.cross_validated, *scored]
    if config.validate_on is ValidateOn.TEST:
        everything = scored
    calibration = calibrate(
        everything,
        spec,
        config.seed,
        config.threshold_choice,
        suspects=good.suspects,
        check_good=config.check_good,
        confirmed=confirmed,
        cross_validated=sum(item.sample not in good.suspects for item in good.cross_validated),
    )
    if config.strict:
        refuse_suspects(calibration.suspects)
    check = None
    if config.check_good:
        check = make_check(
            splits, good, calibration, scored=everything, confirmed=[*confirmed.values()]
        )
    to_quantize = _kept_to_quantize(trusted.fit, spec)
    return Checkpoint(
        model=prepared.model.cpu(),
        description=_describe(
            config,
            prepared,
            learned,
            calibration=calibration,
            training=_training(
                config,
                trusted,
                prepared.dataset,
                notes=learned.notes,
                metrics={"validation": split_metrics(everything, spec)},
            ).model_copy(
                update={
                    "validation_good_count": calibration.threshold.good_count,
                    "good_check": check,
                }
            ),
        ),
        validation=validation_images(
            [item for item in scored if item.sample not in calibration.suspects] or scored, spec
        ),
        calibration=calibration_images(to_quantize, spec),
        records=calibration.records,
        seen=SeenImages(
            # What was left out is not new to the model: it decided about the others.
            seen([*learned.fit, *trusted.learned, *good.suspects]),
            seen(learned.stopping),
            seen([*splits.validation, *(item.sample for item in good.cross_validated)]),
            seen(to_quantize),
        ),
        zones=zone_scores(
            everything,
            spec,
            calibration.threshold.image,
            config.threshold_choice,
            suspects=calibration.suspects,
        ),
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Prepared:
    """What a fit begins with, all of it checked as far as it can be before the fit.

    Attributes:
        settings: hyperparameters of the algorithm.
        backbone, weights: of the model; what a checkpoint says where it has none.
        size: of the input, and why.
        spec: of the input, without the pixel formats of the images to fit on.
        formats: pixel formats of all other images.
        dataset: fingerprint of all images.
    """

    device: torch.device
    settings: Any
    splits: Splits
    backbone: str
    weights: Weights
    size: ChosenSize
    model: AnomalyModel
    spec: InputSpec
    formats: frozenset[PixelFormat]
    dataset: str


def _prepare(config: FitConfig, splits: Splits | None) -> _Prepared:
    device = find_device(config.device)
    settings = make_settings(config.algorithm, config.hyperparameters)
    splits = splits or open_fit(config)
    model_class = find_algorithm(config.algorithm).model_class()
    backbone, weights = (
        NO_BACKBONE,
        Weights({}, "none needed: trained on the user's images alone"),
    )
    if model_class.needs_backbone:
        backbone = config.backbone
        weights = find_weights(backbone, config.weights, config.weights_licence)
    _refuse_impossible_tiles(config, per_position=model_class.per_position)
    check_alignment(config)
    locator = find_locator(config, splits)
    size = input_size(config, splits, settings, locator)
    log.info("model input %s", size.sentence)
    model = build_model(
        config.algorithm, backbone, weights, size.size, settings=settings, seed=config.seed
    )
    spec = _input_spec(config, splits, model, size=size, locator=locator)
    formats = check_samples([*splits.validation, *splits.learned], spec)
    check_threshold(config, splits, is_cross_validated(model, splits))
    advice = size_advice(
        read_sample(splits.validation[0]).shape,
        spec,
        overlap=config.overlap,
        tileable=not model_class.per_position,
        follows=size.follows,
    )
    if advice is not None:
        log.warning("%s", advice)
    return _Prepared(
        device=device,
        settings=settings,
        splits=splits,
        backbone=backbone,
        weights=weights,
        size=size,
        model=model,
        spec=spec,
        formats=frozenset(formats),
        dataset=fingerprint([*splits.fit, *splits.validation, *splits.learned]),
    )


def _refuse_impossible_tiles(config: FitConfig, *, per_position: bool) -> None:
    if config.tile is None:
        return
    if per_position:
        raise SettingError(
            f"{config.algorithm} compares each position with itself and cannot be tiled: a tile "
            "shows another position in every frame size. Use patchcore, or leave out --tile."
        )
    if _learns_defects(config):
        raise SettingError(
            f"{config.algorithm} learns marked defects of whole images only. Leave out --tile, or "
            "the setting that it learns defects by."
        )


def _input_spec(
    config: FitConfig,
    splits: Splits,
    model: AnomalyModel,
    *,
    size: ChosenSize,
    locator: Locator | None,
) -> InputSpec:
    """Return what the model's input is made of, with the part found in every image to fit on."""
    tiles = None
    if config.tile is not None:
        tiles = TileSpec(height=config.tile, width=config.tile, overlap=config.overlap)
    areas = _areas(config, splits)
    spec = first_sight(size.size, config.levels, config.crop, tiles, locator=locator, areas=areas)
    demand_areas(spec, model.map_score, model.grid)
    if locator is None:
        return spec
    images = [sample for sample in splits.fit if sample.view is None]
    found = found_parts([*images, *splits.validation, *splits.learned], spec)
    demand_found(found)
    if config.likeness is None:
        spec = spec.model_copy(update={"locator": agreed_locator(locator, found)})
    return spec


@dataclass(frozen=True, slots=True, eq=False)
class _Memory:
    """What is read and extracted once, though the look at the images and the fit both need it.

    Attributes:
        images: None where each is needed once.
        features: of the model itself where each image is needed once; None of a model without a
            backbone.
    """

    images: KeptImages | None
    features: FeatureExtractor | RememberedFeatures | None

    @classmethod
    def of(cls, config: FitConfig, prepared: _Prepared) -> Self:
        model = prepared.model
        if model.extractor is not None:
            model.extractor.to(prepared.device)
        # A training reads its images in an order and a memory of its own, and what is learned in
        # tiles is looked at whole.
        whole = isinstance(model, StatisticalModel) and prepared.spec.tile_plan is None
        if not (is_cross_validated(model, prepared.splits) or (whole and config.check_good)):
            return cls(None, model.extractor)
        features = None
        if model.extractor is not None:
            features = RememberedFeatures(model.extractor, _REMEMBERED_BYTES)
        return cls(KeptImages(_REMEMBERED_BYTES), features)


@contextmanager
def _with_extractor(
    model: AnomalyModel, extractor: FeatureExtractor | RememberedFeatures | None
) -> Iterator[None]:
    """Let a model take its features from a memory."""
    own = model.extractor
    if extractor is own:
        yield
        return
    model.extractor = extractor  # type: ignore[assignment]
    try:
        yield
    finally:
        model.extractor = own


def _look_at_good(
    config: FitConfig, prepared: _Prepared, confirmed: Mapping[bytes, Path], memory: _Memory
) -> GoodImages:
    """Cross-validate a small fit, and look for defects among the good images."""
    model, splits = prepared.model, prepared.splits

    def unfitted() -> StatisticalModel:
        other = model_around(
            config.algorithm,
            memory.features,
            prepared.size.size,
            prepared.settings,
            seed=config.seed,
        )
        assert isinstance(other, StatisticalModel)
        return other

    images = [*splits.fit, *splits.validation]
    check_confirmed(confirmed, (sample for sample in images if not sample.is_defective))
    return look_at_good(
        model,
        splits,
        prepared.spec,
        prepared.device,
        features=memory.features,
        kept=memory.images,
        unfitted=unfitted,
        check=config.check_good,
        confirmed=confirmed,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Learned:
    """What a fit leaves beside the model itself.

    Attributes:
        spec: of the input, with the pixel formats of all images.
        fit: images that were learned.
        stopping: images that told when to stop.
        notes: on the fit, for the manifest.
    """

    spec: InputSpec
    fit: tuple[Sample, ...]
    stopping: tuple[Sample, ...]
    notes: dict[str, Any]


def _learn(
    config: FitConfig,
    prepared: _Prepared,
    confirmed: Mapping[bytes, Path],
    *,
    state_path: Path | None,
    on_epoch: OnEpoch | None,
) -> tuple[GoodImages, Splits, _Learned]:
    """Look at the good images and fit the model to those that are trusted.

    What both need of the images takes memory until then and no longer.

    Returns:
        What is known of the good images, the splits without suspects, and what was learned.
    """
    memory = _Memory.of(config, prepared)
    good = _look_at_good(config, prepared, confirmed, memory)
    if config.strict:
        refuse_suspects(good.suspects)
    splits = prepared.splits
    trusted = replace(
        splits,
        fit=without(splits.fit, good.suspects),
        validation=without(splits.validation, good.suspects),
    )
    learned = _fit(
        config, prepared, trusted, memory=memory, state_path=state_path, on_epoch=on_epoch
    )
    return good, trusted, learned


def _fit(
    config: FitConfig,
    prepared: _Prepared,
    trusted: Splits,
    *,
    memory: _Memory,
    state_path: Path | None,
    on_epoch: OnEpoch | None,
) -> _Learned:
    """Fit the prepared model to the good images that are trusted."""
    model, spec = prepared.model, prepared.spec
    fit, stopping = trusted.fit, tuple[Sample, ...]()
    notes = {**_hyperparameters(prepared.settings), "image_size": prepared.size.sentence}
    if isinstance(model, StatisticalModel):
        with _with_extractor(model, memory.features):
            formats = fit_statistical(model, fit, spec, prepared.device, kept=memory.images)
    else:
        fit, stopping = _stopping(trusted, config)
        state_file = None
        if state_path is not None:
            identity = training_identity(
                config.data,
                fit,
                stopping,
                spec,
                model=type(model),
                defective=(*trusted.learned, *held_against(trusted)),
            )
            state_file = StateFile(state_path, identity)
        marked, marked_held_out = _marked(model, trusted, spec, config)
        formats = _train(
            model,
            fit,
            stopping,
            spec,
            marked=marked,
            marked_held_out=marked_held_out,
            config=config,
            state_file=state_file,
            on_epoch=on_epoch,
        )
        stopping += held_against(trusted)
        if _learns_defects(config):
            notes["learned_defects"] = len(marked or ())
    all_formats = tuple(sorted(prepared.formats.union(formats)))
    spec = spec.model_copy(update={"pixel_formats": all_formats})
    return _Learned(spec, fit, stopping, notes)


def _describe(
    config: FitConfig,
    prepared: _Prepared,
    learned: _Learned,
    *,
    calibration: Calibration,
    training: Training,
) -> Description:
    model = prepared.model
    return Description(
        algorithm=config.algorithm,
        backbone=prepared.backbone,
        weights_licence=plain_text(prepared.weights.licence),
        settings=asdict(prepared.settings),
        seed=config.seed,
        input=learned.spec,
        map_height=model.grid[0],
        map_width=model.grid[1],
        map_score=model.map_score,
        normalization=calibration.normalization,
        threshold=calibration.threshold,
        statistics=calibration.statistics,
        training=training,
    )


def _areas(config: FitConfig, splits: Splits) -> Areas | None:
    """Return what of an image counts; None where all of it does.

    Raises:
        ConfigurationError: the mask cannot be read, or images are turned and mirrored at random.
    """
    if config.mask is None:
        return None
    if any(sample.view is not None for sample in splits.fit):
        raise SettingError(
            "--mask: the images to fit on are varied at random, and a mask would not move with "
            "them. Leave out the transforms of the data, or the mask."
        )
    return read_mask_file(config.mask)


def input_size(
    config: FitConfig, splits: Splits, settings: Any, locator: Locator | None
) -> ChosenSize:
    """Choose the size of the input, by the shape of what is inspected where none is set.

    Raises:
        DataError: an image cannot be read; names the file.
        SettingError: the backbone takes no images of about this size.
    """
    choice = config.size_choice
    if config.tile is not None:
        shape, what = (config.tile, config.tile), "the tiles"
    elif config.crop is not None:
        shape, what = (config.crop.height, config.crop.width), "the crop"
    elif locator is not None:
        shape, what = (locator.roi.height, locator.roi.width), "the part's region"
    elif choice.size is None:
        sizes = image_sizes(splits.fit)
        shape, what = median_shape(sizes), f"the images (median of {len(sizes)})"
    else:
        shape, what = choice.size, "the images"

    def unit() -> SideUnit:
        return side_unit(config.algorithm, config.backbone, settings)

    return choose_size(choice, shape, f"{what} of {shape[1]}×{shape[0]}", unit)


def _stopping(splits: Splits, config: FitConfig) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Return what a training learns from and the good images that tell when to stop.

    These are the good validation images, and where those are test images, others.
    """
    fit, held_out = splits.fit, tuple(s for s in splits.validation if not s.is_defective)
    if config.validate_on is ValidateOn.TEST or not held_out:
        fit, held_out = split_off(splits.fit, _STOPPING_SHARE, config.seed, "early stopping")
        held_out = tuple(replace(sample, view=None) for sample in held_out or fit)
    return fit, held_out


def check_threshold(config: FitConfig, splits: Splits, cross_validated: bool) -> None:
    """Find out before the fit whether there are the images that a threshold asks for.

    Args:
        cross_validated: the images of the fit count, too.

    Raises:
        DataError: says what is needed.
    """
    defective = np.array([sample.is_defective for sample in splits.validation], np.bool_)
    good_count = int((~defective).sum())
    if cross_validated and config.validate_on is not ValidateOn.TEST:
        good_count += sum(sample.view is None for sample in splits.fit)
    choice = config.threshold_choice
    # Any scores will do: only their numbers count here.
    good, bad = np.zeros(good_count, np.float32), np.ones(int(defective.sum()), np.float32)
    try:
        choice.threshold(good, bad)
    except ValueError as error:
        raise DataError(f"threshold {choice.text}: {error}.") from error


def _marked(
    model: AnomalyModel, splits: Splits, spec: InputSpec, config: FitConfig
) -> tuple[MarkedImages | None, MarkedImages | None]:
    """Return the defective images to learn and those to stop by; None where there are none.

    Raises:
        DataError: an image or a mask cannot be used; names the file.
    """
    marked = read_marked(splits.learned, spec, model.grid)
    if marked is None:
        if _learns_defects(config):
            log.warning(
                "%s learns good images alone: no defective one is left beside those for tests, "
                "synthetic ones and those outside of what is inspected. Add some to the data",
                config.algorithm,
            )
        return None, None
    return marked, read_marked(held_against(splits), spec, model.grid)


def _train(
    model: AnomalyModel,
    fit: tuple[Sample, ...],
    held_out: tuple[Sample, ...],
    spec: InputSpec,
    *,
    marked: MarkedImages | None,
    marked_held_out: MarkedImages | None,
    config: FitConfig,
    state_file: StateFile | None,
    on_epoch: OnEpoch | None,
) -> tuple[PixelFormat, ...]:
    """Train a model.

    Raises:
        SettingError: the algorithm is of neither kind.
    """
    if not isinstance(model, TrainedModel):
        raise SettingError(
            f"{config.algorithm}: {type(model).__name__} is neither a StatisticalModel nor a "
            "TrainedModel. Derive it from one of them."
        )
    images, stopping = TrainingImages(fit, spec), TrainingImages(held_out, spec)
    fit_trained(
        model,
        images,
        stopping,
        find_device(config.device),
        seed=config.seed,
        marked=marked,
        marked_held_out=marked_held_out,
        state_file=state_file,
        on_epoch=on_epoch,
    )
    return tuple(sorted(images.formats))


def validation_images(scored: Sequence[Scored], spec: InputSpec) -> ValidationImages:
    """Prepare up to 256 validation images, half of them defective, for the export gate.

    Of images that are inspected in tiles all tiles of each, and so many images as fit: the gate
    judges what the station makes of them.
    """
    max_count = _max_judging([item.frame for item in scored], spec)
    defective = [item for item in scored if item.sample.is_defective]
    good = [item for item in scored if not item.sample.is_defective]
    few = min(len(defective), max(max_count // 2, max_count - len(good)))
    kept = _spread(good, max_count - few) + _spread(defective, few)
    images = list(_prepared_images([item.sample for item in kept], spec))
    hashes = content_hashes(item.sample for item in kept)
    tiled = spec.tile_plan is not None
    return ValidationImages(
        np.concatenate(images),
        np.array([item.sample.is_defective for item in kept], np.bool_),
        np.stack([_row(hashes[item.sample]) for item in kept]),
        np.array([item.frame for item in kept], np.int32) if tiled else None,
    )


def joined_images(
    earlier: ValidationImages, newer: ValidationImages, spec: InputSpec
) -> ValidationImages:
    """Return the newer images and, as far as there is room, the earlier ones beside them.

    Of images that are inspected in tiles earlier ones of which one tile alone is known go.
    """
    if spec.tile_plan is not None and earlier.frames is None:
        return newer
    both = [one.frames for one in (newer, earlier) if one.frames is not None]
    most = _max_judging([frame for frames in both for frame in frames], spec)
    pieces = _by_image(earlier, spec)
    known = {one.tobytes() for one in _by_image(newer, spec)}
    rows = [n for n, one in enumerate(pieces) if one.tobytes() not in known]
    rows = _spread(rows, max(most - len(newer.defective), 0))
    return ValidationImages(
        np.concatenate([newer.images, *(pieces[row] for row in rows)]),
        np.concatenate([newer.defective, earlier.defective[rows]]),
        np.concatenate([newer.hashes, earlier.hashes[rows]]),
        None if earlier.frames is None else np.concatenate([both[0], earlier.frames[rows]]),
    )


def _by_image(kept: ValidationImages, spec: InputSpec) -> list[NDArray[np.uint8]]:
    """Return the pieces of each image."""
    if kept.frames is None:
        return [image[None] for image in kept.images]
    counts = [len(frame_pieces((int(h), int(w)), spec).boxes) for h, w in kept.frames]
    return np.split(kept.images, np.cumsum(counts[:-1], dtype=np.intp))


def _max_judging(frames: Sequence[Sequence[int]], spec: InputSpec) -> int:
    """Return how many images of these sizes may be kept to judge by."""
    if spec.tile_plan is None:
        return _max_kept(spec, _KEPT_TO_JUDGE)
    tiles = max((len(frame_pieces((int(h), int(w)), spec).boxes) for h, w in frames), default=1)
    each = 3 * spec.height * spec.width * tiles
    least = min(_MIN_KEPT, max(_MIN_TILED, _MAX_TILES_BYTES // each))
    return min(_KEPT_TO_JUDGE, max(least, _KEPT_TILES_BYTES // each))


def _row(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content[:HASH_BYTES], np.uint8)


def _kept_to_quantize(fit: Sequence[Sample], spec: InputSpec) -> list[Sample]:
    """Return up to 64 good images of the fit, which quantization takes its ranges from."""
    plain = [sample for sample in fit if sample.view is None]
    return _spread(plain, _max_kept(spec, _KEPT_TO_QUANTIZE))


def calibration_images(kept: Sequence[Sample], spec: InputSpec) -> NDArray[np.uint8]:
    """Prepare images for quantization; of a tiled image one tile, another place in each."""
    prepared = _prepared_images(kept, spec)
    return np.stack([tiles[number % len(tiles)] for number, tiles in enumerate(prepared)])


def _prepared_images(samples: Sequence[Sample], spec: InputSpec) -> Iterator[NDArray[np.uint8]]:
    """Yield images as the model takes them, ``(T, H, W, 3) uint8``; several are read at a time."""

    def prepared(sample: Sample) -> NDArray[np.uint8]:
        return prepare_sample(sample, read_sample(sample), spec)

    return side_by_side(prepared, samples, spec, "")


def _max_kept(spec: InputSpec, max_count: int) -> int:
    room = _KEPT_BYTES // (3 * spec.height * spec.width)
    return min(max_count, max(_MIN_KEPT, room))


def _spread(items: list[_Item], count: int) -> list[_Item]:
    """Return at most ``count`` of them, evenly over the list."""
    if len(items) <= count:
        return items
    return [items[index * len(items) // count] for index in range(count)]


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
    *,
    notes: dict[str, Any],
    metrics: dict[str, SplitMetrics],
) -> Training:
    defective = sum(sample.is_defective for sample in splits.validation)
    return Training(
        dataset=plain_text(splits.name),
        dataset_fingerprint=dataset,
        fit_count=len(splits.fit),
        validation_good_count=len(splits.validation) - defective,
        validation_defective_count=defective,
        seed=config.seed,
        hyperparameters=notes | {"validate_on": config.validate_on.value},
        metrics=metrics,
    )


def _hyperparameters(settings: Any) -> dict[str, Any]:
    """Return hyperparameters as a manifest has them."""
    return {
        key: plain_text(",".join(value)) if isinstance(value, tuple) else value
        for key, value in asdict(settings).items()
    }
