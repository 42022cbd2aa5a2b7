"""What ``train-station fit`` is asked to do: YAML and command line, validated."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from edge.manifest import Crop, Levels
from edge.settings_file import Location, SettingsFile, read_settings_file
from training.components.backbones import CACHE, DOWNLOAD
from training.data.opening import ValidateOn
from training.errors import SettingError

_MOST_FAULTS = 10


class FitConfig(BaseModel):
    """One fit.

    Attributes:
        data: folder in the MVTec layout or a plain one.
        algorithm, backbone, weights, weights_licence: see ``train-station fit --help``.
        image_size: side of the square model input in pixels.
        tile: side of the square pieces of a frame that are inspected one by one, in frame pixels;
            None inspects the frame whole.
        overlap: share of a tile that neighbours have in common at least.
        crop: region of interest, kept as the bundle's default.
        levels: mapping of 16-bit samples.
        validate_on: pictures the threshold rests on.
        hyperparameters: changes of the algorithm's defaults.
        seed: of every random choice.
        device: where to fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    data: Annotated[Path, Field(strict=False)]
    algorithm: str = "patchcore"
    backbone: str = "resnet18"
    weights: str = "cache"
    weights_licence: str | None = None
    image_size: int = Field(default=256, ge=32, le=4096)
    tile: int | None = Field(default=None, ge=16, le=16384)
    overlap: float = Field(default=0.25, ge=0.0, le=0.9)
    crop: Crop | None = None
    levels: Levels | None = None
    validate_on: Annotated[ValidateOn, Field(strict=False)] = ValidateOn.HELD_OUT
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
    # A key without a value is one that was left blank.
    values = {key: value for key, value in file.values.items() if value is not None}
    for key in ("data", "weights"):
        text = values.get(key)
        if isinstance(text, str) and text not in (CACHE, DOWNLOAD):
            values[key] = str(file.path.parent / text)
    chosen = {key: value for key, value in options.items() if value is not None}
    assigned = chosen.pop("hyperparameters", {})
    values |= chosen
    if assigned and isinstance(values.setdefault("hyperparameters", {}), dict):
        values["hyperparameters"] = {**values["hyperparameters"], **assigned}
    try:
        return FitConfig.model_validate(values)
    except ValidationError as error:
        sentences: dict[Location, str] = {}
        for fault in error.errors():
            location = tuple(fault["loc"])
            if location[:1] == ("hyperparameters",):
                location = location[:2]  # what follows names the kinds that were tried
            place = (
                "command line" if location[:1] and location[0] in chosen else file.place(location)
            )
            sentences.setdefault(location, f"{place}: {_sentence(location, fault)}")
        raise SettingError("\n".join(list(sentences.values())[:_MOST_FAULTS])) from error


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


def _sentence(location: Location, fault: ErrorDetails) -> str:
    key = ".".join(str(part) for part in location)
    if fault["type"] == "missing":
        if len(location) > 1:
            return f"{key} is missing. Set it beside the others."
        return f"{key} is missing. Give --{key.replace('_', '-')} or set it in the YAML."
    if fault["type"] == "extra_forbidden":
        sections: dict[str, type[BaseModel]] = {"crop": Crop, "levels": Levels}
        known = list(sections.get(str(location[0]), FitConfig).model_fields)
        near = difflib.get_close_matches(str(location[-1]), known, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return f"{key} is unknown. {hint}Allowed here: {', '.join(known)}."
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if location[0] == "hyperparameters":
        message = "must be a number, yes/no, text or a list of names"
        if len(location) == 1:
            message = "must hold keys, for example bank_size: 2048"
    if isinstance(fault["input"], dict):
        return f"{key}: {message}."
    return f"{key}: found {fault['input']!r}, {message}."
