"""``train-station sweep``: a search for hyperparameters, judged by validation and never by test."""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.code_version import code_version
from training.components.backbones import weights_identity
from training.config import FitConfig, parse_assignments
from training.data.open_data_set import data_identity
from training.errors import SettingError, TrialFailed
from training.measured_fit import run_trial
from training.models.registry import find_algorithm
from training.studies import ERROR, OpenStudy, work_off

# Under which a study notes what it holds.
_DIGEST = "search"

# Settings of a fit that may be searched; every other name is a hyperparameter of the algorithm.
_OF_THE_FIT = ("algorithm", "backbone", "image_size", "tile", "overlap")


class Span(BaseModel):
    """Numbers from and to, both included; whole ones where both ends are."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "Span":
        if self.low > self.high or (self.log and self.low <= 0):
            raise ValueError("low must not lie above high, and above 0 where log is set")
        return self


class Choice(BaseModel):
    """One of several values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: Annotated[tuple[bool | int | float | str, ...], Field(min_length=1)]


class SweepConfig(FitConfig):
    """A fit, and what of it is searched.

    Attributes:
        search: by name, where to look.
        trials: fits in all, of all workers together.
        objective: figure of the validation images to raise.
    """

    search: Annotated[dict[str, Span | Choice], Field(min_length=1, strict=False)]
    trials: int = Field(default=20, ge=1, le=100_000)
    objective: Literal["image_auroc", "image_f1_max", "pixel_auroc", "pixel_f1_max", "aupro"] = (
        "image_auroc"
    )


def search_digest(config: SweepConfig) -> str:
    """Return what tells a search from others, by the content of its images and weights.

    A study holds one search; trials of other data, weights or code say nothing about it.

    Raises:
        DataError: the data set is not there.
    """
    document = config.model_dump(mode="json", exclude={"trials", "track"})
    del document["data"]["path"], document["data"]["also"]
    backbones = {config.backbone, *_searched(config, "backbone")}
    algorithms = {config.algorithm, *_searched(config, "algorithm")}
    document |= {
        "images": data_identity(config.data, config.seed),
        "weights": [weights_identity(name, config.weights) for name in sorted(backbones)],
        "version": [
            code_version(find_algorithm(name).model_class()) for name in sorted(algorithms)
        ],
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:8]


def claim_study(opened: OpenStudy, digest: str) -> None:
    """Note in a new study which search it holds.

    Raises:
        SettingError: it holds another one.
    """
    stored = opened.study.user_attrs.get(_DIGEST)
    if stored is None and not opened.trials():
        opened.study.set_user_attr(_DIGEST, digest)
    elif stored != digest:
        raise SettingError(
            f"--name {opened.place.name}: this study holds trials of other images, weights or "
            "settings, or of another version. Choose another name."
        )


def parse_search(options: list[str]) -> dict[str, dict[str, Any]]:
    """Read ``NAME=LOW..HIGH``, ``NAME=LOW..HIGH:log`` and ``NAME=A|B|C``.

    Raises:
        SettingError: an option of another form.
    """
    search: dict[str, dict[str, Any]] = {}
    for name, text in parse_assignments(options).items():
        span = re.fullmatch(r"([^.|]+(?:\.\d+)?)\.\.([^|:]+?)(:log)?", str(text))
        if span:
            ends = parse_assignments([f"low={span[1]}", f"high={span[2]}"])
            search[name] = {**ends, "log": span[3] is not None}
        else:
            parts = str(text).split("|")
            values = [parse_assignments([f"value={part}"])["value"] for part in parts]
            search[name] = {"values": values}
    return search


def sampler(config: SweepConfig) -> Callable[[bool], optuna.samplers.BaseSampler]:
    """Return what draws parameters.

    Who makes the study draws by the seed; who joins it must not draw the same.
    """

    def build(is_new: bool) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=config.seed if is_new else None, constant_liar=True)

    return build


def run_sweep(opened: OpenStudy, config: SweepConfig) -> list[FrozenTrial]:
    """Search until there are enough trials, and return the good ones, best first.

    Raises:
        SettingError: the objective does not exist for these images.
        StudyUnreachable: the study's database was lost.
    """

    def fit_one(trial: Trial) -> float:
        result = run_trial(with_parameters(config, draw(trial, config)), on_test=False)
        for name, value in result.items():
            trial.set_user_attr(name, value)
        if result[config.objective] is None:
            raise SettingError(
                f"objective {config.objective}: the validation images hold no defects"
                f"{_with_masks(config)}. Add validation/<defect> to the data, or pass "
                "--synthetic-defects 30."
            )
        return float(result[config.objective])

    work_off(opened, lambda study: _is_wanted(study, config.trials), fit_one)
    done = opened.trials(TrialState.COMPLETE)
    return sorted(done, key=lambda trial: (-(trial.value or 0.0), trial.number))


def draw(trial: Trial, config: SweepConfig) -> dict[str, Any]:
    """Return one value for everything that is searched."""
    drawn: dict[str, Any] = {}
    for name, where in config.search.items():
        if isinstance(where, Choice):
            drawn[name] = trial.suggest_categorical(name, list(where.values))
        elif isinstance(where.low, int) and isinstance(where.high, int):
            drawn[name] = trial.suggest_int(name, where.low, where.high, log=where.log)
        else:
            drawn[name] = trial.suggest_float(name, where.low, where.high, log=where.log)
    return drawn


def with_parameters(config: SweepConfig, parameters: dict[str, Any]) -> FitConfig:
    """Return the fit with these values in it.

    Raises:
        TrialFailed: a value is out of range of its setting.
    """
    of_fit = {name: value for name, value in parameters.items() if name in _OF_THE_FIT}
    own = {name: value for name, value in parameters.items() if name not in _OF_THE_FIT}
    document = config.model_dump(exclude={"search", "trials", "objective"}) | of_fit
    document["hyperparameters"] = {**config.hyperparameters, **own}
    try:
        return FitConfig.model_validate(document)
    except ValueError as error:
        raise TrialFailed(f"{parameters}: {error}") from error


def _searched(config: SweepConfig, name: str) -> list[str]:
    where = config.search.get(name)
    return [str(value) for value in where.values] if isinstance(where, Choice) else []


def _is_wanted(opened: OpenStudy, trials: int) -> bool:
    if opened.trials(TrialState.WAITING):
        return True
    begun = len(opened.trials(TrialState.COMPLETE, TrialState.RUNNING))
    failed = [t for t in opened.trials(TrialState.FAIL) if ERROR in t.user_attrs]
    return begun + len(failed) < trials


def _with_masks(config: SweepConfig) -> str:
    return "" if config.objective.startswith("image") else " with masks"
