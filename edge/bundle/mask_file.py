"""Mask files: YAML with polygons and zones, or an image in which the ignored is painted."""

import io
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.bundle.bounds import MAX_POLYGONS, MAX_RUNS, MAX_SIDE_PX, MAX_ZONES
from edge.bundle.input_spec import Areas, Polygon, Zone
from edge.errors import ConfigurationInvalid, ImageUnreadable
from edge.imaging.image_files import is_image, read_image
from edge.validation import in_words
from edge.yaml_lines import SettingsFile, read_settings_file

_MAX_FAULTS = 10
_Side = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]


class _MaskYaml(BaseModel):
    """What a YAML file says.

    Attributes:
        size: width and height of the image that it was drawn on; those of the painted image
            where it is left out.
        painted: image beside the file; what is not black in it is ignored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: tuple[_Side, _Side] | None = None
    ignore: tuple[Polygon, ...] = Field(default=(), max_length=MAX_POLYGONS)
    painted: str | None = Field(default=None, min_length=1)
    zones: tuple[Zone, ...] = Field(default=(), max_length=MAX_ZONES)


def read_mask_file(path: Path) -> Areas:
    """Read a mask.

    Returns:
        What of an image counts, in pixels of the whole frame; of parts that are found first, of
        the whole reference image.

    Raises:
        ConfigurationError: the file cannot be read, or draws nothing that could be used; names
            file, line and cause.
    """
    if is_image(path):
        ignored = _painted(path)
        if not ignored.any():
            raise ConfigurationInvalid(
                f"{path}: the mask is black everywhere, so nothing is ignored. Paint the "
                "areas to ignore in white."
            )
        return Areas(
            width=ignored.shape[1], height=ignored.shape[0], ignored_runs=_runs(path, ignored)
        )
    file = read_settings_file(path)
    try:
        drawn = _MaskYaml.model_validate(file.values)
    except ValidationError as error:
        raise ConfigurationInvalid(*_sentences(file, error)) from error
    size, runs = drawn.size, tuple[int, ...]()
    if drawn.painted is not None:
        image = path.parent / drawn.painted
        ignored = _painted(image)
        found = (ignored.shape[1], ignored.shape[0])
        if size is not None and size != found:
            raise ConfigurationInvalid(
                f"{file.place(('size',))}: size is {size[0]}×{size[1]}, but {image} has "
                f"{found[0]}×{found[1]}. Both are those of the image that is inspected."
            )
        size, runs = found, _runs(image, ignored)
    if size is None:
        raise ConfigurationInvalid(
            f"{path}: size is missing. Set size: [WIDTH, HEIGHT] of the image that it was drawn on."
        )
    if not (drawn.ignore or runs or drawn.zones):
        raise ConfigurationInvalid(
            f"{path}: draws nothing. Add ignore: with polygons, painted: with an image, or zones:."
        )
    try:
        return Areas(
            width=size[0],
            height=size[1],
            ignore=drawn.ignore,
            ignored_runs=runs,
            zones=drawn.zones,
        )
    except ValidationError as error:
        raise ConfigurationInvalid(*_sentences(file, error)) from error


def painted_beside(path: Path) -> Path | None:
    """Return the image that a mask file names; None of one that is an image, or names none.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    if is_image(path):
        return None
    painted = read_settings_file(path).values.get("painted")
    return path.parent / painted if isinstance(painted, str) else None


def _painted(path: Path) -> NDArray[np.bool_]:
    """Return ``(H, W) bool``, what is not black in an image."""
    try:
        pixels = read_image(path)
    except ImageUnreadable as error:
        raise ConfigurationInvalid(str(error)) from error
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        raise ConfigurationInvalid(
            f"{path}: the mask has transparent pixels, whose meaning is not clear. Save "
            "it without transparency: black counts, white is ignored."
        )
    return np.asarray(pixels > 0 if pixels.ndim == 2 else pixels.any(axis=2), np.bool_)


def _runs(path: Path, ignored: NDArray[np.bool_]) -> tuple[int, ...]:
    runs = make_runs(ignored)
    if len(runs) > MAX_RUNS:
        raise ConfigurationInvalid(
            f"{path}: the mask changes between black and white {len(runs)} times, which looks like "
            "a photo or like noise. Paint plain areas, and save it as PNG."
        )
    return runs


def mask_content(areas: Areas, path: Path) -> list[tuple[Path, bytes]]:
    """Return the files of a mask that ``read_mask_file(path)`` reads as these areas.

    Args:
        path: of the YAML; what is painted lies beside it as PNG, which comes first.
    """
    content: dict[str, object] = {"size": [areas.width, areas.height]}
    files = []
    if areas.ignored_runs:
        painted = path.with_suffix(".png")
        content["painted"] = painted.name
        files.append((painted, painted_png(areas)))
    drawn = areas.model_dump(mode="json", include={"ignore", "zones"}, exclude_none=True)
    content |= {name: value for name, value in drawn.items() if value}
    text = io.StringIO()
    yaml.safe_dump(content, text, sort_keys=False, default_flow_style=None, allow_unicode=True)
    return [*files, (path, text.getvalue().encode())]


def painted_png(areas: Areas) -> bytes:
    """Return what is painted of a mask as PNG, white where it is ignored."""
    turns = np.arange(len(areas.ignored_runs)) % 2 == 1
    painted = np.repeat(turns, areas.ignored_runs).reshape(areas.height, areas.width)
    _, content = cv2.imencode(".png", painted.astype(np.uint8) * 255)
    return content.tobytes()


def make_runs(ignored: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return ``(H, W) bool`` as ``Areas.ignored_runs``; empty where nothing is ignored."""
    flat = ignored.ravel()
    if not flat.any():
        return ()
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [len(flat)]])
    runs = tuple(int(run) for run in np.diff(edges))
    return (0, *runs) if flat[0] else runs


def _sentences(file: SettingsFile, error: ValidationError) -> list[str]:
    sentences = []
    for fault in error.errors()[:_MAX_FAULTS]:
        location = tuple(fault["loc"])
        key = ".".join(str(part) for part in location)
        message = in_words(fault)
        sentences.append(f"{file.place(location)}: {f'{key}: ' if key else ''}{message}.")
    return sentences
