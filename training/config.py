"""What ``train-station fit`` is asked to do: YAML and command line, validated."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from edge.bundle.bounds import MAX_SCALE_SHARE
from edge.bundle.input_spec import AlignMode, Crop, Levels
from edge.yaml_lines import Location, SettingsFile, read_settings_file
from training.components.backbones import CACHE, DOWNLOAD
from training.data.open_data_set import ValidateOn
from training.data.settings import DataSettings
from training.errors import SettingError
from training.input_size import SizeChoice, parse_size_choice
from training.threshold_option import AUTOMATIC, ThresholdChoice, parse_threshold

_MAX_FAULTS = 10

# As ``algorithm``: a few are compared on the data.
AUTO_ALGORITHM = "auto"

# Options of the command line that belong into the section ``data``.
DATA_OPTIONS = tuple(name for name in DataSettings.model_fields if name not in ("path", "also"))


def _as_section(value: Any) -> Any:
    return {"path": value} if isinstance(value, str | Path) else value


def _threshold(text: Any) -> str:
    try:
        return parse_threshold(str(text)).text
    except SettingError as error:
        raise ValueError(str(error)) from error


def _region(value: Any) -> Any:
    """Read ``x,y,w,h``."""
    if not isinstance(value, str):
        return value
    numbers = value.split(",")
    if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
        raise ValueError("must be four whole numbers x,y,w,h, for example 40,30,200,150")
    names = ("x", "y", "width", "height")
    return dict(zip(names, map(int, numbers), strict=True))


def _image_size(value: object) -> str | None:
    return parse_size_choice(value).text


class FitConfig(BaseModel):
    """One fit.

    Attributes:
        data: the images; in YAML the folder alone, or a section with what else is set.
        algorithm, backbone, weights, weights_licence: see ``train-station fit --help``; the
            algorithm ``auto`` is one of a few that are compared on these images.
        image_size: model input in pixels: ``320x160`` (width first), ``256`` for a square, or
            ``auto``, the images' own shape with about as many pixels as ``256``, ``auto=PX`` with
            others; None is ``auto`` for images longer than 1.5 : 1, else ``256``.
        tile: side of the square pieces of a frame that are inspected one by one, in frame pixels;
            None inspects the frame whole.
        overlap: share of a tile that neighbours have in common at least.
        crop: region of interest, kept as the bundle's default; with ``align`` it lies in the
            reference image.
        align: how the part may lie, which is found first and shown as in the reference; None takes
            every frame as it is.
        reference: image that shows the part; None takes the most typical good one.
        roi: where the part lies in the reference, ``x,y,w,h``; None where it stands out from its
            background.
        likeness: to the reference, that a part reaches at least; None is 0.2 below the lowest of
            the good images, at least 0.5.
        outside: share of what is inspected that may lie outside the frame; None is 0.
        scale: share by which the part may be larger or smaller than in the reference; None is 0.
        mask: YAML or image that says what of an image counts, and in which zones.
        levels: mapping of 16-bit samples.
        validate_on: images the threshold rests on.
        threshold: ``auto``, ``f1``, ``recall=…``, ``false-reject-rate=…``, ``quantile=…`` or
            ``manual=…``.
        check_good: look for defects among the good images, and leave out what looks like one.
        strict: end with an error where a good image looks like a defect.
        confirm_good: images that are good whatever they look like, or .txt files that list some.
        track: where to log figures: ``csv:FILE``, ``tensorboard:FOLDER``, ``wandb:PROJECT``.
        hyperparameters: changes of the algorithm's defaults.
        seed: of every random choice.
        device: where to fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    data: Annotated[DataSettings, BeforeValidator(_as_section)]
    algorithm: str = "patchcore"
    backbone: str = "resnet18"
    weights: str = "cache"
    weights_licence: str | None = None
    image_size: Annotated[str | None, BeforeValidator(_image_size)] = None
    tile: int | None = Field(default=None, ge=16, le=16384)
    overlap: float = Field(default=0.25, ge=0.0, le=0.9)
    crop: Crop | None = None
    align: Annotated[AlignMode | None, Field(strict=False)] = None
    reference: Annotated[Path | None, Field(strict=False)] = None
    roi: Annotated[Crop | None, BeforeValidator(_region)] = None
    likeness: float | None = Field(default=None, ge=0.2, le=1.0)
    outside: float | None = Field(default=None, ge=0.0, le=0.5)
    scale: float | None = Field(default=None, ge=0.0, le=MAX_SCALE_SHARE)
    mask: Annotated[Path | None, Field(strict=False)] = None
    levels: Levels | None = None
    validate_on: Annotated[ValidateOn, Field(strict=False)] = ValidateOn.HELD_OUT
    threshold: Annotated[str, BeforeValidator(_threshold)] = AUTOMATIC
    check_good: bool = True
    strict: bool = False
    confirm_good: tuple[Annotated[Path, Field(strict=False)], ...] = Field(default=(), strict=False)
    track: tuple[str, ...] = Field(default=(), strict=False)
    hyperparameters: dict[str, bool | int | float | str | list[str]] = {}
    seed: int = Field(default=0, ge=0)
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def size_choice(self) -> SizeChoice:
        return parse_size_choice(self.image_size)

    @property
    def threshold_choice(self) -> ThresholdChoice:
        return parse_threshold(self.threshold)


SomeConfig = TypeVar("SomeConfig", bound=FitConfig)


def taking_good_as_good(config: SomeConfig) -> SomeConfig:
    """Return a configuration of fits whose figures are compared with published ones.

    All good images are taken as good, as published figures do, unless the site says otherwise.
    """
    given = {"check_good", "strict", "confirm_good"} & config.model_fields_set
    return config if given else config.model_copy(update={"check_good": False})


def load_fit_config(path: Path | None, options: dict[str, Any]) -> FitConfig:
    """Read a YAML file and lay the command line over it.

    Args:
        path: the YAML; None for the command line alone. Paths in it are relative to it.
        options: values from the command line; None where not given. Those of ``DATA_OPTIONS`` go
            into the section ``data``, of which ``data`` itself lists the folders.

    Raises:
        ConfigurationError: names file, line and key, what was found and what is allowed.
    """
    return load_config(FitConfig, path, options)


def load_config(kind: type[SomeConfig], path: Path | None, options: dict[str, Any]) -> SomeConfig:
    """Read the configuration of a fit, or of what is made of fits.

    Raises:
        ConfigurationError: as ``load_fit_config``.
    """
    file = read_settings_file(path) if path else SettingsFile(Path("command line"), {}, {})
    # A key without a value is one that was left blank.
    values = {key: value for key, value in file.values.items() if value is not None}
    values["data"] = _section(values.get("data"))
    for section, key in ((values, "weights"), (values["data"], "path")):
        text = section.get(key)
        if isinstance(text, str) and text not in (CACHE, DOWNLOAD):
            section[key] = str(file.path.parent / text)
    for name in ("reference", "mask"):
        if isinstance(values.get(name), str):
            values[name] = str(file.path.parent / values[name])
    also = values["data"].get("also")
    if isinstance(also, list | tuple):
        values["data"]["also"] = [str(file.path.parent / str(folder)) for folder in also]
    confirmed = values.get("confirm_good")
    if isinstance(confirmed, list | tuple):
        values["confirm_good"] = [str(file.path.parent / str(one)) for one in confirmed]
    chosen = {key: value for key, value in options.items() if value is not None}
    values["data"] |= {key: chosen[key] for key in DATA_OPTIONS if key in chosen}
    if "data" in chosen:
        values["data"]["path"], *values["data"]["also"] = dict.fromkeys(chosen["data"])
    assigned = chosen.pop("hyperparameters", {})
    values |= {k: v for k, v in chosen.items() if k not in DATA_OPTIONS and k != "data"}
    if assigned and isinstance(values.setdefault("hyperparameters", {}), dict):
        values["hyperparameters"] = {**values["hyperparameters"], **assigned}
    if not values["data"]:
        del values["data"]
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        sentences: dict[Location, str] = {}
        for fault in error.errors():
            location = tuple(fault["loc"])
            if location[:1] == ("hyperparameters",):
                location = location[:2]  # what follows names the kinds that were tried
            if location[:1] == ("data",):
                location = location[:2]
            place = "command line" if _option(location) in chosen else file.place(location)
            sentences.setdefault(location, f"{place}: {_sentence(kind, location, fault)}")
        raise SettingError(*list(sentences.values())[:_MAX_FAULTS]) from error


def _section(data: Any) -> dict[str, Any]:
    """Return the section ``data`` to write into, also where a file gave the folder alone."""
    if data is None:
        return {}
    return dict(data) if isinstance(data, dict) else {"path": data}


def _option(location: Location) -> str:
    """Return the option of the command line that sets a place."""
    if location[:1] == ("data",):
        return "data" if location[1:] in ((), ("path",)) else str(location[1])
    return str(location[0]) if location else ""


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
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _sentence(kind: type[BaseModel], location: Location, fault: ErrorDetails) -> str:
    key = ".".join(str(part) for part in location)
    if fault["type"] == "missing":
        if location == ("data", "path"):
            return "data.path is missing. Give --data or set it in the YAML."
        if len(location) > 1:
            return f"{key} is missing. Set it beside the others."
        return f"{key} is missing. Give --{key.replace('_', '-')} or set it in the YAML."
    if fault["type"] == "extra_forbidden":
        sections: dict[str, type[BaseModel]] = {
            "crop": Crop,
            "roi": Crop,
            "levels": Levels,
            "data": DataSettings,
        }
        section = sections.get(str(location[0]), kind) if len(location) > 1 else kind
        known = list(section.model_fields)
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
