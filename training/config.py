"""What ``train-station fit`` is asked to do: YAML and command line, validated."""

import difflib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.manifest import Crop, Levels
from edge.settings_file import SettingsFile, read_settings_file
from training.data.opening import ValidateOn
from training.errors import SettingError


class FitConfig(BaseModel):
    """One fit.

    Attributes:
        data: folder in the MVTec layout or a plain one.
        algorithm, backbone, weights, weights_licence: see ``train-station fit --help``.
        image_size: side of the square model input in pixels.
        crop: region of interest, kept as the bundle's default.
        levels: mapping of 16-bit samples.
        validate_on: pictures the threshold rests on.
        hyperparameters: changes of the algorithm's defaults.
        seed: of every random choice.
        device: where to fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    algorithm: str = "patchcore"
    backbone: str = "resnet18"
    weights: str = "cache"
    weights_licence: str | None = None
    image_size: int = Field(default=256, ge=32, le=4096)
    crop: Crop | None = None
    levels: Levels | None = None
    validate_on: ValidateOn = ValidateOn.HELD_OUT
    hyperparameters: dict[str, bool | int | float | str | list[str]] = {}
    seed: int = Field(default=0, ge=0)
    device: Literal["cpu", "cuda"] = "cpu"


def load_fit_config(path: Path | None, options: dict[str, Any]) -> FitConfig:
    """Read a YAML file and lay the command line over it.

    Args:
        path: the YAML; None for the command line alone. Paths in it are relative to it.
        options: values from the command line; None where not given.

    Raises:
        ConfigurationError: names file, line and key, what was found and what is allowed.
    """
    file = read_settings_file(path) if path else SettingsFile(Path("command line"), {}, {})
    values = dict(file.values)
    if path:
        for key in ("data", "weights"):
            beside = path.parent / str(values.get(key, ""))
            if key in values and beside.exists():
                values[key] = str(beside)
    chosen = {key: value for key, value in options.items() if value is not None}
    hyperparameters = {**(values.get("hyperparameters") or {}), **chosen.pop("hyperparameters", {})}
    values = {**values, **chosen, "hyperparameters": hyperparameters}
    try:
        return FitConfig.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        location = tuple(fault["loc"])
        place = "command line" if location[:1] and location[0] in chosen else file.place(location)
        raise SettingError(f"{place}: {_sentence(fault['type'], location, fault)}") from error


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Turn ``NAME=VALUE`` options into values: whole number, number, yes/no, or text.

    Raises:
        SettingError: an option without ``=``.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise SettingError(f"--set {assignment}: write NAME=VALUE, for example bank_size=2048.")
        values[name] = _value(text)
    return values


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _sentence(kind: str, location: tuple[str | int, ...], fault: Any) -> str:
    key = ".".join(str(part) for part in location)
    if kind == "missing":
        return f"{key} is missing. Give --{key.replace('_', '-')} or set it in the YAML."
    if kind == "extra_forbidden":
        known = list(FitConfig.model_fields)
        near = difflib.get_close_matches(key, known, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return f"{key} is unknown. {hint}Allowed: {', '.join(known)}."
    return f"{key}: found {fault['input']!r}: {fault['msg']}."
