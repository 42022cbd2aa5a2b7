"""``train-station benchmark``: every algorithm on every data set, one row each.

Every fit is a trial of a study, so that workstations share the work and a killed benchmark goes on.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from optuna import TrialPruned
from optuna.trial import Trial, TrialState

from training.code_version import code_version
from training.components.backbones import CACHE, DOWNLOAD, weights_identity
from training.config import FitConfig, taking_good_as_good
from training.confirmed_images import confirmed_images
from training.data.open_data_set import data_identity
from training.errors import SettingError
from training.measured_fit import run_trial
from training.models.registry import all_algorithms, find_algorithm
from training.studies import ERROR, OpenStudy, enqueue, work_off

FIGURES = (
    *("image_auroc", "pixel_auroc", "aupro"),
    *("fit_s", "infer_ms", "model_mib", "peak_mib"),
)
COLUMNS = ("algorithm", "backbone", "category", *FIGURES)

_KEY = "fit"

FitPlace = tuple[str, ...]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkRow:
    """One algorithm on one data set.

    Attributes:
        values: of every figure, one for each seed; empty where the figure does not exist.
        error: of the seeds that failed.
    """

    algorithm: str
    backbone: str
    category: str
    values: dict[str, list[float]]
    error: str | None = None

    def mean(self, figure: str) -> float | None:
        values = self.values.get(figure)
        return fmean(values) if values else None

    def spread(self, figure: str) -> float | None:
        values = self.values.get(figure, [])
        return stdev(values) if len(values) > 1 else None


@dataclass(frozen=True, slots=True)
class PlannedFit:
    """A fit, what tells it from others, and what a table calls its images."""

    key: str
    config: FitConfig
    data_name: str


def plan(base: FitConfig, algorithms: str, backbones: str, seeds: str) -> list[FitConfig]:
    """Return the fits of a benchmark of one data set.

    Args:
        base: what all fits have in common. Hyperparameters called ``ALGORITHM.NAME`` are this
            algorithm's only.
        algorithms, backbones, seeds: with commas between them; ``all`` for every algorithm.

    Raises:
        SettingError: an algorithm, a hyperparameter or a seed that does not exist.
    """
    names = sorted(all_algorithms()) if algorithms == "all" else _names(algorithms)
    base = _absolute(taking_good_as_good(base))
    fits: dict[str, FitConfig] = {}
    for name in names:
        needs_backbone = find_algorithm(name).model_class().needs_backbone
        for backbone in _names(backbones) if needs_backbone else [base.backbone]:
            for seed in _seeds(seeds):
                changes = {
                    "algorithm": name,
                    "backbone": backbone,
                    "seed": seed,
                    "hyperparameters": _own(base.hyperparameters, name, names),
                }
                fit = base.model_copy(update=changes)
                fits[json.dumps(fit.model_dump(mode="json"), sort_keys=True)] = fit
    return list(fits.values())


def make_key(fit: FitConfig) -> str:
    """Return what tells a fit from all others: what it is made from, and not where that lies.

    Images, masks and weights count by content, this software by its code.

    Raises:
        DataError: the data set is not there.
    """
    model_class = find_algorithm(fit.algorithm).model_class()
    document = fit.model_dump(mode="json", exclude={"track", "confirm_good"})
    del document["data"]["path"], document["data"]["also"]
    return json.dumps(
        {
            **document,
            "images": data_identity(fit.data, fit.seed),
            "confirmed": sorted(content.hex() for content in confirmed_images(fit.confirm_good)),
            "weights": weights_identity(fit.backbone, fit.weights)
            if model_class.needs_backbone
            else "",
            "version": code_version(model_class),
        },
        sort_keys=True,
    )


def unique_names(fits: Sequence[FitConfig]) -> dict[FitPlace, str]:
    """Return what a table calls the images of each fit: category or folder.

    Where several have one name, as many folders above as tell them apart stand before it.
    """
    places = {make_place(fit) for fit in fits}
    names = {}
    for place in places:
        length = 1
        while length < len(place) and any(
            other[-length:] == place[-length:] for other in places if other != place
        ):
            length += 1
        names[place] = "/".join(part.strip("/") for part in place[-length:])
    return names


def make_place(fit: FitConfig) -> FitPlace:
    """Return the folders that lead to the images of a fit, and their category."""
    category = (fit.data.category,) if fit.data.category else ()
    *parents, name = fit.data.path.resolve().parts
    parts = (*parents, "+".join([name, *(path.resolve().name for path in fit.data.also)]))
    return parts if parts[-1:] == category else (*parts, *category)


def checkpoint_name(fit: FitConfig, data_name: str) -> str:
    """Return the file name of a fit's checkpoint, such as ``padim-resnet18-bottle-0``."""
    needs_backbone = find_algorithm(fit.algorithm).model_class().needs_backbone
    parts = [fit.algorithm, *([fit.backbone] if needs_backbone else []), data_name]
    return f"{'-'.join(parts).replace('/', '~')}-{fit.seed}.safetensors"


def run_benchmark(
    opened: OpenStudy, fits: Sequence[FitConfig], keep: Path | None = None
) -> list[BenchmarkRow]:
    """Make the fits that nobody has made yet, and return all rows.

    Args:
        keep: folder for the checkpoints of the fits made here; None forgets them.

    Raises:
        StudyUnreachable: the study's database was lost.
    """
    names = unique_names(fits)
    planned = list(
        {
            (key, name): PlannedFit(key, fit, name)
            for fit in fits
            for key, name in [(make_key(fit), names[make_place(fit)])]
        }.values()
    )
    by_key = {fit.key: fit for fit in planned}
    under_way = {
        trial.user_attrs.get(_KEY)
        for trial in opened.trials(TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
    }
    for key in by_key:
        if key not in under_way:
            enqueue(opened, {_KEY: key})

    def fit_one(trial: Trial) -> float:
        key = trial.user_attrs.get(_KEY)
        if key is None or _is_done(opened, key, trial.number):
            # Two workers asked for the last one in line, or put the same fit in line.
            raise TrialPruned
        if key not in by_key:
            enqueue(opened, {_KEY: key})  # of another command, which will come back to it
            raise TrialPruned
        fit, name = by_key[key].config, by_key[key].data_name
        log.info(
            "fit %d of %d: %s %s on %s",
            *(len(opened.trials(TrialState.COMPLETE)) + 1, len(by_key)),
            *(fit.algorithm, fit.backbone, name),
        )
        result = run_trial(fit, True, None if keep is None else keep / checkpoint_name(fit, name))
        for name, value in result.items():
            trial.set_user_attr(name, value)
        return float(result["image_auroc"] or 0.0)

    def wanted(study: OpenStudy) -> bool:
        return any(t.user_attrs.get(_KEY) in by_key for t in study.trials(TrialState.WAITING))

    work_off(opened, wanted, fit_one)
    return make_rows(opened, planned)


def make_rows(opened: OpenStudy, fits: Sequence[PlannedFit]) -> list[BenchmarkRow]:
    """Return one row for each algorithm, backbone and data set, its seeds together."""
    keys = {fit.key for fit in fits}
    done: dict[str, dict[str, Any]] = {}
    errors: dict[str, str] = {}
    for trial in opened.trials(TrialState.COMPLETE, TrialState.FAIL):
        key = trial.user_attrs.get(_KEY)
        if key in keys and trial.state is TrialState.COMPLETE:
            done[key] = trial.user_attrs
        elif key in keys and ERROR in trial.user_attrs:
            errors[key] = trial.user_attrs[ERROR]
    values: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    failed: dict[tuple[str, str, str], str] = {}
    for fit in fits:
        result = done.get(fit.key)
        row = (
            fit.config.algorithm,
            result["backbone"] if result else fit.config.backbone,
            fit.data_name,
        )
        figures = values.setdefault(row, defaultdict(list))
        if result is None:
            failed[row] = errors.get(fit.key, "was not made")
            continue
        for figure in FIGURES:
            if result.get(figure) is not None:
                figures[figure].append(float(result[figure]))
    return [
        BenchmarkRow(
            algorithm=row[0],
            backbone=row[1],
            category=row[2],
            values=figures,
            error=failed.get(row),
        )
        for row, figures in values.items()
    ]


def _is_done(opened: OpenStudy, key: str, number: int) -> bool:
    """Tell whether an earlier trial made this fit, or is at it."""
    others = opened.trials(TrialState.COMPLETE, TrialState.RUNNING)
    return any(t.user_attrs.get(_KEY) == key and t.number < number for t in others)


def _absolute(fit: FitConfig) -> FitConfig:
    """Return the same fit for whichever folder a worker was started in."""
    places = {"path": fit.data.path.resolve(), "also": tuple(p.resolve() for p in fit.data.also)}
    data = fit.data.model_copy(update=places)
    weights = fit.weights
    if weights not in (CACHE, DOWNLOAD):
        weights = str(Path(weights).resolve())
    confirmed = tuple(path.resolve() for path in fit.confirm_good)
    return fit.model_copy(update={"data": data, "weights": weights, "confirm_good": confirmed})


def _own(hyperparameters: dict[str, Any], name: str, names: Iterable[str]) -> dict[str, Any]:
    own: dict[str, Any] = {}
    for key, value in hyperparameters.items():
        algorithm, dot, parameter = key.partition(".")
        if dot and algorithm not in names:
            raise SettingError(f"--set {key}: {algorithm!r} is not among the algorithms.")
        if not dot:
            own.setdefault(key, value)
        elif algorithm == name:
            own[parameter] = value
    return own


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise SettingError(f"{text!r}: give names with commas between them.")
    return names


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in _names(text)]
    except ValueError:
        raise SettingError(f"--seeds {text}: give whole numbers, for example 0,1,2.") from None
