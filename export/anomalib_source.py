"""What a model that Anomalib exported says about itself: in its graph, or in files beside it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import openvino as ov

from edge.atomic_files import open_regular
from edge.bundle.bounds import MAX_INPUT_PX, MAX_SCORE
from edge.bundle.manifest import Extent
from edge.wording import counted
from export.anomalib_graph import (
    entry,
    outputs_by_name,
    own_size,
    read_graph,
    smallest_rejected,
)
from export.errors import ImportRefused

FIRST, SECOND = "Anomalib 1", "Anomalib 2"

_MAX_METADATA_BYTES = 16 * 2**20
_MAX_AT_ONCE = 64
_MIN_DEVIATION = 1e-6

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_AS_THEY_ARE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalibSource:
    """What an exported model says about itself.

    Attributes:
        size: height and width of the bundle's input.
        batch: images that it takes at a time.
        free: whether it takes images of any size and resizes them itself; what takes any size and
            resizes nothing has the size that it is given here.
        any_shape: whether it makes one size of images of every shape.
        norm: mean and deviation of a normalization outside the graph, of RGB in [0, 1].
        image, pixel: unclipped numbers from which on it rejects.
        image_extent, map_extent: ranges that become one unit.
        notes: what a user must know.
    """

    generation: str
    size: tuple[int, int]
    batch: int
    free: bool
    any_shape: bool
    norm: tuple[tuple[float, ...], tuple[float, ...]]
    image: float
    pixel: float
    image_extent: Extent
    map_extent: Extent
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Input:
    """The part of a source that only concerns images."""

    size: tuple[int, int]
    batch: int
    free: bool
    any_shape: bool
    notes: tuple[str, ...]


def read_source(path: Path, size: tuple[int, int] | None) -> AnomalibSource:
    """Read what an exported model says about itself.

    Args:
        size: height and width that the user asks for; None: its own.

    Raises:
        ImportRefused: no model, none of Anomalib's, or something that has to be known is not said.
    """
    graph = read_graph(path)
    ranks = [one.partial_shape.rank for one in graph.inputs]
    if len(ranks) != 1 or ranks[0].is_dynamic or ranks[0].get_length() != 4:
        inputs = ", ".join(f"{i.any_name} {i.partial_shape}" for i in graph.inputs)
        raise ImportRefused(
            f"{path}: its inputs are {inputs}; one input of images is expected. Export it "
            "without sensitivities as inputs."
        )
    metadata = _metadata(path)
    taken = _input(path, graph, metadata, size)
    if "pred_score" in outputs_by_name(graph):
        return _second_generation(path, taken)
    if metadata is None:
        raise ImportRefused(
            f"{path}: no output named pred_score, as models of Anomalib 2 have, and no "
            "metadata.json beside it, as those of Anomalib 1. Copy the whole export folder."
        )
    return _first_generation(path, taken, metadata)


def _input(
    path: Path, graph: ov.Model, metadata: dict[str, Any] | None, asked: tuple[int, int] | None
) -> _Input:
    shape = graph.input(0).partial_shape
    batch = shape[0].get_length() if shape[0].is_static else 1
    free = shape[2].is_dynamic or shape[3].is_dynamic
    notes = []
    if not 1 <= batch <= _MAX_AT_ONCE:
        raise ImportRefused(
            f"{path}: takes {counted(batch, 'image')} at a time. Export it for one image at a time."
        )
    if free:
        own: tuple[int, int] | None = own_size(path, batch)
        size = asked or own or _resized_outside(metadata)
        if size is None:
            raise ImportRefused(
                f"{path}: takes images of any size and makes no one size of them. Give the size it "
                "was trained with, in the shape of your images: --image-size WIDTHxHEIGHT."
            )
        if own and size != own:
            notes.append(
                f"it resizes {_text(size)} to its own {_text(own)} again, without antialiasing; "
                "leave out --image-size"
            )
    else:
        size = (shape[2].get_length(), shape[3].get_length())
        if asked not in (None, size):
            raise ImportRefused(
                f"{path}: takes images of {_text(size)} only. Leave out --image-size, or export it "
                "again for another input size."
            )
        own = size
    if size[0] * size[1] > MAX_INPUT_PX or min(size) < 1:
        raise ImportRefused(
            f"{path}: takes images of {_text(size)}; at most {MAX_INPUT_PX} pixels are possible. "
            "Export it again for a smaller input size."
        )
    if batch > 1:
        notes.append(
            f"the graph takes {counted(batch, 'image')} at a time, so each is given to it "
            f"{batch} times: an "
            f"image takes {batch} times as long. Export it for one image at a time"
        )
    graph.reshape([batch, 3, *size])
    inside = entry(graph)
    whole = inside.resized or size
    if not free and inside.resized not in (None, size):
        notes.append(f"inside, images are resized again, to {_text(whole)}, without antialiasing")
    if inside.seen != whole:
        notes.append(
            f"it looks at the middle {_text(inside.seen)} of {_text(whole)} only: a defect at the "
            "edge is not seen, and the map says nothing there"
        )
    if free and inside.resized is None:
        notes.append("it resizes nothing itself: its own program gave it frames as they were")
        free = False
    return _Input(size=size, batch=batch, free=free, any_shape=own is not None, notes=tuple(notes))


def _second_generation(path: Path, taken: _Input) -> AnomalibSource:
    unit = Extent(min=0.0, max=1.0)
    return AnomalibSource(
        generation=SECOND,
        size=taken.size,
        batch=taken.batch,
        free=taken.free,
        any_shape=taken.any_shape,
        norm=_AS_THEY_ARE,
        image=_threshold(path, taken, "image", "pred_score", verdict="pred_label"),
        pixel=_threshold(path, taken, "pixel", "anomaly_map", verdict="pred_mask"),
        image_extent=unit,
        map_extent=unit,
        notes=taken.notes,
    )


def _threshold(path: Path, taken: _Input, what: str, value: str, *, verdict: str) -> float:
    """Return the number from which on the graph itself rejects, with its sensitivity."""
    graph = read_graph(path)
    missing = [name for name in (value, verdict) if name not in outputs_by_name(graph)]
    if missing:
        raise ImportRefused(
            f"{path}: gives no {missing[0]}, so nobody knows from which {what} score on it "
            "rejects. Export it again with thresholding enabled in its post-processor."
        )
    graph.reshape([taken.batch, 3, *taken.size])
    found = smallest_rejected(graph, value, verdict)
    if found is None:
        raise ImportRefused(
            f"{path}: {verdict} rejects every {value} or none, or rests on something else. Export "
            f"it again with an {what}_sensitivity above 0 and at most 1."
        )
    return found


def _first_generation(path: Path, taken: _Input, metadata: dict[str, Any]) -> AnomalibSource:
    image = _number(path, metadata, "image_threshold")
    pixel = _number(path, metadata, "pixel_threshold", image)
    low, high = _number(path, metadata, "min", 0.0), _number(path, metadata, "max", 2.0 * image)
    notes = list(taken.notes)
    norm: tuple[tuple[float, ...], tuple[float, ...]] = _AS_THEY_ARE
    found = [step for step in _steps(metadata.get("transform")) if _kind(step) == "Normalize"]
    if found:
        norm = (
            _three(path, found[0], "mean", _IMAGENET[0]),
            _three(path, found[0], "std", _IMAGENET[1]),
        )
        if min(map(abs, norm[1])) < _MIN_DEVIATION:
            raise _unexpected(path, "std", norm[1], "deviations above 0 are")
        notes.append("mean and standard deviation of metadata.json are inside the bundle's graph")
    if any(_kind(step) == "CenterCrop" for step in _steps(metadata.get("transform"))):
        notes.append(
            "it was trained on a centre crop, which is not applied: set a crop at the station"
        )
    return AnomalibSource(
        generation=FIRST,
        size=taken.size,
        batch=taken.batch,
        free=taken.free,
        any_shape=taken.any_shape,
        norm=norm,
        image=image,
        pixel=pixel,
        image_extent=_extent(path, metadata, "pred_scores", low=low, high=high),
        map_extent=_extent(path, metadata, "anomaly_maps", low=low, high=high),
        notes=tuple(notes),
    )


def _resized_outside(metadata: dict[str, Any] | None) -> tuple[int, int] | None:
    for step in _steps((metadata or {}).get("transform")):
        if _kind(step) == "Resize" and "height" in step and "width" in step:
            height, width = step["height"], step["width"]
            if type(height) is int and type(width) is int:
                return height, width
    return None


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"


def _metadata(path: Path) -> dict[str, Any] | None:
    file = path.with_name("metadata.json")
    if not file.is_file():
        return None
    try:
        with open_regular(file) as opened:
            text = opened.read(_MAX_METADATA_BYTES + 1)
        if len(text) > _MAX_METADATA_BYTES:
            raise ImportRefused(f"{file}: larger than {_MAX_METADATA_BYTES} bytes. Copy it again.")
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ImportRefused(f"{file}: cannot be read ({error}). Copy it again.") from error
    if not isinstance(content, dict):
        raise ImportRefused(f"{file}: no metadata of Anomalib. Copy it again.")
    return content


def _steps(transform: Any) -> list[dict[str, Any]]:
    """Return all steps of a serialised transform, however deep."""
    steps, waiting = [], [transform]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            steps.append(one)
            waiting += reversed(one.values())
        elif isinstance(one, list):
            waiting += reversed(one)
    return steps


def _kind(step: dict[str, Any]) -> str:
    return str(step.get("__class_fullname__", "")).rpartition(".")[2]


def _number(
    path: Path, metadata: dict[str, Any], key: str, otherwise: float | None = None
) -> float:
    value = metadata.get(key, otherwise)
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not _is_number(value):
        raise _unexpected(path, key, value, "a number is")
    return float(value)


def _three(
    path: Path, step: dict[str, Any], key: str, otherwise: tuple[float, ...]
) -> tuple[float, ...]:
    values = step.get(key, otherwise)
    if not isinstance(values, list | tuple) or len(values) != 3 or not all(map(_is_number, values)):
        raise _unexpected(path, key, values, "three numbers are")
    return tuple(map(float, values))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return type(value) in (int, float) and abs(value) <= MAX_SCORE


def _unexpected(path: Path, key: str, value: Any, expected: str) -> ImportRefused:
    return ImportRefused(
        f"{path.with_name('metadata.json')}: {key} is {repr(value)[:50]}, {expected} expected. "
        "Copy the metadata.json that was exported with the model."
    )


def _extent(path: Path, metadata: dict[str, Any], kind: str, *, low: float, high: float) -> Extent:
    low = _number(path, metadata, f"{kind}.min", low)
    high = _number(path, metadata, f"{kind}.max", high)
    return Extent(min=min(low, high), max=max(low, high))
