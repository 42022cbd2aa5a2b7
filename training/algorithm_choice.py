"""``--algorithm auto``: which of a few models suits the data.

Few on purpose: who chooses among dozens takes what chance favours. The default stays unless another
one is shown to be better, on images of the fit that none of them learned and on synthetic defects
in them. What the threshold rests on, and test images, are not touched.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from edge.bundle.input_spec import InputSpec, Locator, TileSpec
from edge.bundle.manifest_types import plain_text
from edge.bundle.training_record import AlgorithmChoice, TriedModel
from edge.teaching.lots import MAX_CROSS_VALIDATED
from edge.teaching.outliers import far_above
from edge.wording import counted
from training.alignment import check_alignment, find_locator
from training.components.backbones import Weights, find_weights
from training.config import AUTO_ALGORITHM, FitConfig
from training.confirmed_images import confirmed_images
from training.data.content import image_hash
from training.data.image_sizes import image_sizes
from training.data.loading import first_sight, prepare_sample, read_sample
from training.data.samples import Sample, Splits
from training.data.splitting import split_off
from training.data.synthetic_defects import KINDS, Flaw
from training.errors import DataError, SettingError
from training.evaluation import TorchPredictor, score_samples
from training.fit_pipeline import check_threshold, find_device, input_size
from training.input_size import median_shape
from training.metrics.clustered import ClusteredScores, auroc_gain, clustered_auroc
from training.models.anomaly_model import StatisticalModel
from training.models.building import build_model, make_settings, side_unit
from training.models.registry import find_algorithm
from training.size_text import Size, size_fault, size_text
from training.statistical_fit import fit_statistical

DEFAULT = "patchcore"
_OTHERS = ("dfm", "padim")
LARGER = f"{DEFAULT}, larger input"
# Each side of the larger input: 2.25 times the pixels, and about so many times the time.
_LARGER_SIDE = 1.5

# Of the images to fit on; those that judge are learned by the final model again.
_JUDGED_SHARE = 1 / 3
_MAX_JUDGED = 50
_MAX_LEARNED = 100
# The spread of fewer says too little.
MIN_JUDGED = 10

# All intervals together.
_CONFIDENCE = 0.95

# A flaw that the prepared image does not show is drawn anew: it lies beside the crop, or is small.
_DRAWS = 5
_SEEN_LEVELS = 8

log = logging.getLogger(__name__)


class Candidate(NamedTuple):
    """One of the models that are compared: its name, and the fit that would make it."""

    name: str
    config: FitConfig


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """How a candidate judged images that it was not fitted on."""

    candidate: Candidate
    size: Size
    scores: ClusteredScores


def with_chosen_algorithm(
    config: FitConfig, splits: Splits
) -> tuple[FitConfig, AlgorithmChoice | None]:
    """Return the configuration with an algorithm; where ``auto`` is asked for, with a chosen one.

    Raises:
        StationError: a setting, the weights or the data cannot be used.
    """
    if config.algorithm != AUTO_ALGORITHM:
        return config, None
    _check(config, splits)
    first = _with_algorithm(config, DEFAULT)
    weights = find_weights(first.backbone, first.weights, first.weights_licence)
    locator = find_locator(first, splits)
    candidates, not_tried = _candidates(config, splits, locator)
    images = [sample for sample in splits.fit if sample.view is None]
    learned, judged = split_off(images, _JUDGED_SHARE, first.seed, "choice of the algorithm")
    learned, judged = _spread(learned, _MAX_LEARNED), _spread(judged, _MAX_JUDGED)
    trials: list[Trial] = []
    if len(judged) >= MIN_JUDGED and len(candidates) > 1:
        log.info(
            "--algorithm auto: %s compared", counted(len(candidates), "model is", "models are")
        )
        trials = _trials(candidates, learned, judged, weights=weights, locator=locator)
    choice = decide(trials, len(judged), not_tried)
    for line in choice_lines(choice):
        log.info("%s", line)
    chosen = {candidate.name: candidate.config for candidate in candidates}[choice.chosen]
    return chosen, choice


def decide(
    trials: Sequence[Trial], held_out: int, not_tried: Sequence[str] = ()
) -> AlgorithmChoice:
    """Return the candidate with the highest AUROC of those shown to be better than the first.

    Args:
        trials: the default first; of the same images each. Of fewer images than 10, or of none, the
            first is taken.
        held_out: images that there were to judge.
    """
    good = len(trials[0].scores.good) if trials else held_out
    chosen, shown = DEFAULT, False
    # Bonferroni: all comparisons together are wrong in one of twenty choices.
    confidence = 1.0 - (1.0 - _CONFIDENCE) / max(len(trials) - 1, 1)
    tried = []
    for trial in trials if good >= MIN_JUDGED else ():
        first = trials[0].scores
        gain = auroc_gain(first, trial.scores, confidence)
        tried.append(
            TriedModel(
                name=trial.candidate.name,
                width=trial.size[1],
                height=trial.size[0],
                auroc=clustered_auroc(trial.scores),
                gained=gain.gain,
                gained_interval=(gain.low, gain.high) if trial is not trials[0] else None,
            )
        )
    better = [one for one in tried if one.gained_interval and one.gained_interval[0] > 0.0]
    if better:
        chosen, shown = max(better, key=lambda one: one.auroc).name, True
    return AlgorithmChoice(
        chosen=chosen,
        shown_better=shown,
        good_count=good,
        synthetic_count=trials[0].scores.defective.size if trials else 0,
        confidence=confidence,
        tried=tuple(tried),
        not_tried=tuple(plain_text(text) for text in not_tried),
    )


def choice_lines(choice: AlgorithmChoice) -> list[str]:
    """Return what is chosen, on which evidence, and what comes next, in sentences."""
    not_tried = [f"not tried: {text}" for text in choice.not_tried]
    if not choice.tried:
        why = "there is nothing to compare it with"
        if choice.good_count < MIN_JUDGED:
            why = (
                f"too few to compare models by: {counted(choice.good_count, 'good image')} held "
                "out of the fit;"
                f" {MIN_JUDGED} are needed, a third of those to fit on"
            )
        return [f"algorithm {choice.chosen}, the default: {why}", *not_tried]
    first, *others = choice.tried
    taken = next(one for one in choice.tried if one.name == choice.chosen)
    rest = [one for one in choice.tried if one is not taken]
    next_best = max(rest, key=lambda one: one.auroc, default=None)
    runner_up = f"runner-up: {_described(next_best)}" if next_best else "nothing else was tried"
    judged = (
        f"{counted(choice.good_count, 'good image')} held out of the fit and "
        f"{counted(choice.synthetic_count, 'synthetic defect')} in them"
    )
    if choice.shown_better:
        text = f"algorithm {_described(taken)}; the default {first.name} has {first.auroc:.4f}"
    else:
        text = f"algorithm {_described(taken)}, the default: none of the others is proven better"
    lines = [f"{text}. Judged by {judged}, with intervals of {choice.confidence:.1%}", runner_up]
    lines += [_described(one) for one in others if one not in (taken, next_best)]
    return lines + not_tried


def _described(one: TriedModel) -> str:
    gained = ""
    if one.gained_interval is not None:
        low, high = one.gained_interval
        gained = f" ({one.gained:+.4f}, between {low:+.4f} and {high:+.4f})"
    return f"{one.name} at {one.width}×{one.height}: AUROC {one.auroc:.4f}{gained}"


def _check(config: FitConfig, splits: Splits) -> None:
    """Find out before the comparison what would end the fit after it.

    Raises:
        SettingError: a hyperparameter that no candidate has, or a setting without another.
        DataError: there are not the images that the threshold asks for.
    """
    if config.mask is not None:
        raise SettingError(
            "--mask cannot be combined with --algorithm auto, whose synthetic defects "
            "may lie where the mask leaves everything out. Name the algorithm, for "
            "example patchcore."
        )
    known = {name for algorithm in (DEFAULT, *_OTHERS) for name in _hyperparameters(algorithm)}
    for name in config.hyperparameters:
        if name not in known:
            raise SettingError(
                f"--set {name}: none of {', '.join((DEFAULT, *_OTHERS))}, which --algorithm auto "
                f"compares, has it. They have: {', '.join(sorted(known))}."
            )
    check_alignment(config)
    if config.mask is not None:
        raise SettingError(
            "--mask: --algorithm auto compares models by defects that it pastes anywhere, also "
            "under a mask. Name the algorithm, for example patchcore."
        )
    good = [sample for sample in splits.validation if not sample.is_defective]
    count = len(good) + sum(sample.view is None for sample in splits.fit)
    check_threshold(config, splits, count <= MAX_CROSS_VALIDATED)


def _hyperparameters(algorithm: str) -> set[str]:
    return {field.name for field in fields(find_algorithm(algorithm).settings_class())}


def _with_algorithm(config: FitConfig, algorithm: str) -> FitConfig:
    """Return the fit with an algorithm and those of the hyperparameters that it has."""
    known = _hyperparameters(algorithm)
    kept = {name: value for name, value in config.hyperparameters.items() if name in known}
    return config.model_copy(update={"algorithm": algorithm, "hyperparameters": kept})


def _candidates(
    config: FitConfig, splits: Splits, locator: Locator | None
) -> tuple[list[Candidate], list[str]]:
    """Return what is to be compared, the default first, and why other models are not.

    Raises:
        DataError: an image cannot be read; names the file.
        SettingError: the backbone takes no images of this size.
    """
    first = _with_algorithm(config, DEFAULT)
    found, not_tried = [Candidate(DEFAULT, first)], []
    for algorithm in _OTHERS:
        if first.tile is not None and find_algorithm(algorithm).model_class().per_position:
            not_tried.append(f"{algorithm}, which takes no tiles")
        else:
            found.append(Candidate(algorithm, _with_algorithm(config, algorithm)))
    settings = make_settings(DEFAULT, first.hyperparameters)
    height, width = input_size(first, splits, settings, locator).size
    shown = _inspected(first, splits, locator)
    try:
        step = side_unit(DEFAULT, first.backbone, settings).step_px
        larger = tuple(round(_LARGER_SIDE * side / step) * step for side in (height, width))
        fault = size_fault(*larger)
    except SettingError as error:
        fault = str(error)
    if shown[0] * shown[1] <= height * width:
        fault = f"what is inspected, {shown[1]}×{shown[0]}, has no more pixels"
    if fault is None:
        text = size_text((larger[0], larger[1]))
        found.append(Candidate(LARGER, first.model_copy(update={"image_size": text})))
    else:
        not_tried.append(f"{LARGER}: {fault}")
    return found, not_tried


def _inspected(config: FitConfig, splits: Splits, locator: Locator | None) -> Size:
    """Return height and width of what becomes the model's input, in pixels of the frame."""
    if config.tile is not None:
        return config.tile, config.tile
    if config.crop is not None:
        return config.crop.height, config.crop.width
    if locator is not None:
        return locator.roi.height, locator.roi.width
    return median_shape(image_sizes(splits.fit))


def _trials(
    candidates: Sequence[Candidate],
    learned: Sequence[Sample],
    judged: Sequence[Sample],
    *,
    weights: Weights,
    locator: Locator | None,
) -> list[Trial]:
    """Fit each candidate to the same images, and have it judge the same others.

    Raises:
        DataError: an image cannot be used; names the file.
        OutOfMemory: names the settings to lower.
    """
    trials: list[Trial] = []
    flawed: dict[Sample, tuple[Sample, ...]] = {}
    for candidate in candidates:
        config = candidate.config
        settings = make_settings(config.algorithm, config.hyperparameters)
        # The images set nothing here that they do not set in the fit: all are of one data set.
        fit = Splits(name="", fit=tuple(learned), validation=(), test=())
        size = input_size(config, fit, settings, locator).size
        model = build_model(
            config.algorithm, config.backbone, weights, size, settings=settings, seed=config.seed
        )
        assert isinstance(model, StatisticalModel)
        tiles = None
        if config.tile is not None:
            tiles = TileSpec(height=config.tile, width=config.tile, overlap=config.overlap)
        spec = first_sight(size, config.levels, config.crop, tiles, locator=locator)
        if not flawed:
            flawed = dict(_flawed(judged, spec, config.seed))
        device = find_device(config.device)
        fit_statistical(model, learned, spec, device)
        everything = [one for image, defects in flawed.items() for one in (image, *defects)]
        scored = score_samples(
            TorchPredictor(model, spec, device), everything, spec, config.algorithm
        )
        scores = np.array([item.score for item in scored]).reshape(len(flawed), 1 + len(KINDS))
        trials.append(Trial(candidate, size, ClusteredScores(scores[:, 0], scores[:, 1:])))
    return _without_suspects(trials, [*flawed])


def _without_suspects(trials: list[Trial], images: Sequence[Sample]) -> list[Trial]:
    """Leave out good images that look like defects to the default: they would judge upside down."""
    config = trials[0].candidate.config
    if not config.check_good:
        return trials
    confirmed = confirmed_images(config.confirm_good)
    strange = {
        index
        for index in far_above(trials[0].scores.good)
        if image_hash(images[index]) not in confirmed
    }
    kept = [index for index in range(len(images)) if index not in strange]
    return [
        replace(one, scores=ClusteredScores(one.scores.good[kept], one.scores.defective[kept]))
        for one in trials
    ]


def _flawed(
    judged: Sequence[Sample], spec: InputSpec, seed: int
) -> Iterator[tuple[Sample, tuple[Sample, ...]]]:
    """Yield images, each with as many defective copies as there are kinds of synthetic defects.

    An image in which a defect cannot be shown is left out.

    Raises:
        DataError: an image cannot be used; names the file.
    """
    for number, sample in enumerate(judged):
        plain = prepare_sample(sample, read_sample(sample), spec).astype(np.int16)
        defects = []
        for kind in sorted(KINDS):
            for draw in range(_DRAWS):
                flaw = Flaw(kind, (seed * 100_003 + number) * _DRAWS + draw)
                defective = replace(sample, kind=kind, name=f"{sample.identity}~{kind}", flaw=flaw)
                try:
                    shown = prepare_sample(defective, read_sample(defective), spec)
                except DataError:  # the part is not found any more
                    continue
                if np.abs(shown - plain).max() >= _SEEN_LEVELS:
                    defects.append(defective)
                    break
        if len(defects) == len(KINDS):
            yield sample, tuple(defects)


def _spread(samples: Sequence[Sample], max_count: int) -> tuple[Sample, ...]:
    """Return at most so many samples, evenly over all."""
    count = len(samples)
    return tuple(samples[n * count // min(count, max_count)] for n in range(min(count, max_count)))
