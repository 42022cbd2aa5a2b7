"""Reads what the graph of an exported model says of itself, and puts our input before it.

Every function works on a graph of its own, read anew: cutting one open changes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from edge.inspection.openvino_core import openvino_core
from export.errors import ImportRefused

# What changes images pixel by pixel, before the first layer looks at neighbours.
_PIXELWISE = {"Convert", "Subtract", "Add", "Multiply", "Divide", "FakeQuantize", "Clamp"}
_PIXELWISE |= {"Gather", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Minimum", "Maximum"}
_CROPS = {"Slice", "StridedSlice", "Pad"}

# What leaves numbers as they are, and what clips them.
_SHAPING = {"Convert", "Reshape", "Squeeze", "Unsqueeze"}
_CLIPPING = {"Clamp", "Minimum", "Maximum"}

# A graph that resizes to its own size gives that for both.
_TRIED = ((256, 320), (352, 224))

# Scores, normalized or not, that thresholds are sought between.
_FARTHEST = 1e6


@dataclass(frozen=True, slots=True)
class InputTransform:
    """What a graph does to images before its first layer.

    Attributes:
        resized: height and width after its own resize; None without one.
        seen: height and width that the first layer gets.
    """

    resized: tuple[int, int] | None
    seen: tuple[int, int]


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """Outputs before they are clipped; without a score the map's highest value is it."""

    score: Any | None
    anomaly_map: Any


def read_graph(path: Path) -> ov.Model:
    """Read an exported graph.

    Raises:
        ImportRefused: no such file, or none that OpenVINO reads.
    """
    if path.suffix not in (".xml", ".onnx"):
        raise ImportRefused(
            f"{path}: give the .xml or .onnx of a model. A .ckpt or .pt runs code when it is "
            "loaded; export it first: anomalib export --model NAME --ckpt_path FILE "
            "--export_type openvino"
        )
    if not path.is_file():
        raise ImportRefused(f"{path}: no such file. Give what anomalib export wrote.")
    try:
        return openvino_core().read_model(path)
    except RuntimeError as error:
        raise ImportRefused(
            f"{path}: OpenVINO {ov.__version__} cannot read it ({last_line(error)}). Export it "
            "again; beside an .xml must lie its .bin."
        ) from error


def outputs_by_name(graph: ov.Model) -> dict[str, Any]:
    return {name: output for output in graph.outputs for name in output.names}


def entry(graph: ov.Model) -> InputTransform:
    """Follow the images of a graph of fixed size to its first layer."""
    start = graph.input(0)
    size = _size(start)
    resized = None
    for node in _pixelwise(start):
        if node.get_type_name() == "Interpolate" and resized is None:
            resized = size = _size(node.output(0))
        elif node.get_type_name() in _CROPS:
            size = _size(node.output(0))
    return InputTransform(resized, size)


def own_size(path: Path, batch: int) -> tuple[int, int] | None:
    """Return the size that a graph of free size resizes every image to; None if there is none."""
    found = set()
    for size in _TRIED:
        graph = read_graph(path)
        try:
            graph.reshape([batch, 3, *size])
        except RuntimeError:
            return None
        found.add(entry(graph).resized)
    return found.pop() if len(found) == 1 else None


def raw_outputs(path: Path, graph: ov.Model) -> RawOutputs:
    """Return the outputs of an image that verdict and map rest on, before they are clipped.

    Raises:
        ImportRefused: there is no map.
    """
    by_name = outputs_by_name(graph)
    maps = [output for output in graph.outputs if output.partial_shape.rank.get_length() >= 3]
    found = by_name.get("anomaly_map") or next(iter(maps), None)
    if found is None:
        raise ImportRefused(
            f"{path}: gives no anomaly map but {', '.join(sorted(by_name))}. Models that only "
            "classify cannot be imported; fit dfkde, or one that finds where a defect lies."
        )
    anomaly_map = unclipped(found)
    if "pred_score" in by_name:
        return RawOutputs(unclipped(by_name["pred_score"]), anomaly_map)
    # Anomalib 1 decides by its first output: a score where it is one, else the map's peak.
    first = graph.output(0)
    only_score = first.partial_shape.rank.get_length() < 3
    return RawOutputs(first.get_node().input_value(0) if only_score else None, anomaly_map)


def unclipped(output: Any) -> Any:
    """Return what comes before an output's last clipping; the output itself if there is none."""
    source = inner = output.get_node().input_value(0)
    while True:
        node = inner.get_node()
        kind = node.get_type_name()
        if kind not in _SHAPING | _CLIPPING:
            return source
        values = [value for value in node.input_values() if not _is_constant(value.get_node())]
        if len(values) != 1:
            return source
        inner = values[0]
        if kind in _CLIPPING:
            source = inner


def smallest_rejected(graph: ov.Model, value: str, verdict: str) -> float | None:
    """Return the smallest number, unclipped, for which a graph of fixed size gives a verdict.

    Args:
        value, verdict: names of its outputs, such as ``pred_score`` and ``pred_label``.

    Returns:
        A float32, found to the last bit; None if no number or every number is rejected, or the
        verdict rests on something else.
    """
    by_name = outputs_by_name(graph)
    cut = unclipped(by_name[value])
    shape = [int(side) for side in cut.get_shape()]
    numbers = ops.parameter(shape, np.float32, name="numbers")
    for target in list(cut.get_target_inputs()):
        target.replace_source_output(numbers.output(0))
    answer = ops.result(by_name[verdict].get_node().input_value(0))
    try:
        model = ov.Model([answer], [numbers], "verdict")
        compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError:
        return None

    def rejected(place: int) -> bool:
        answers = compiled(np.full(shape, _float_at(place), np.float32))
        return bool(np.any(answers[0]))

    high = int(np.float32(_FARTHEST).view(np.int32))
    low = -high
    if rejected(low) or not rejected(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rejected(middle) else (middle, high)
    return float(_float_at(high))


def wrapped(
    path: Path,
    size: tuple[int, int],
    batch: int,
    norm: tuple[tuple[float, ...], tuple[float, ...]],
    *,
    fill: float,
) -> tuple[ov.Model, tuple[int, int]]:
    """Put our input before a graph and our outputs behind it; returns the map's size too.

    Args:
        size: height and width of the input.
        batch: images that the graph takes at a time; ours is given to it as often.
        norm: mean and deviation of a normalization outside the graph, of RGB in [0, 1].
        fill: of the map, where the graph's own crop leaves images out.

    Raises:
        ImportRefused: it does not take images of this size.
    """
    graph = read_graph(path)
    height, width = size
    try:
        graph.reshape([batch, 3, height, width])
        crop = entry(graph)
        images = ops.parameter([1, height, width, 3], np.uint8, name="pictures")
        rgb = ops.gather(ops.convert(images, np.float32), ops.constant([2, 1, 0]), ops.constant(3))
        planes = ops.transpose(ops.divide(rgb, np.float32(255.0)), ops.constant([0, 3, 1, 2]))
        mean, deviation = (np.array(part, np.float32).reshape(1, 3, 1, 1) for part in norm)
        planes = ops.divide(ops.subtract(planes, mean), deviation)
        repeated = planes if batch == 1 else ops.concat([planes] * batch, 0)
        for target in list(graph.input(0).get_target_inputs()):
            target.replace_source_output(repeated.output(0))
        raw = raw_outputs(path, graph)
        sides = [int(side) for side in raw.anomaly_map.get_partial_shape().to_shape()][-2:]
        maps = _first(raw.anomaly_map, sides)
        score = ops.reduce_max(maps, ops.constant([1, 2]), False)
        if raw.score is not None:
            score = _first(raw.score, [])
        maps = _uncropped(maps, (sides[0], sides[1]), crop.resized or size, crop.seen, fill=fill)
        images.output(0).set_names({"pictures"})
        score.output(0).set_names({"score"})
        maps.output(0).set_names({"anomaly_map"})
        model = ov.Model([ops.result(score), ops.result(maps)], [images], "imported")
        model.validate_nodes_and_infer_types()
    except RuntimeError as error:
        raise ImportRefused(
            f"{path}: does not take images of {width}×{height} ({last_line(error)}). Give the size "
            "that it was trained with: --image-size WIDTHxHEIGHT."
        ) from error
    found = maps.output(0).get_partial_shape()
    return model, (found[1].get_length(), found[2].get_length())


def last_line(error: Exception) -> str:
    """Return the line of an OpenVINO error that says what happened."""
    return next(iter(reversed(str(error).strip().splitlines())), type(error).__name__)


def _first(output: Any, sides: list[int]) -> Any:
    """Return what the first image of the batch got, ``(1, *sides)`` float32, under no name."""
    output.get_tensor().set_names(set())  # ours will have its name
    flat = ops.reshape(output, ops.constant([-1, *sides]), special_zero=False)
    return ops.convert(ops.gather(flat, ops.constant([0]), ops.constant(0)), np.float32)


def _uncropped(
    maps: Any,
    sides: tuple[int, int],
    whole: tuple[int, int],
    seen: tuple[int, int],
    *,
    fill: float,
) -> Any:
    """Return the map of the whole image where the graph sees, and maps, its middle only."""
    missing = (whole[0] - sides[0], whole[1] - sides[1])
    if seen != sides or min(missing) < 0 or max(missing) == 0:
        return maps
    before = [0, *(side // 2 for side in missing)]
    after = [0, *(side - side // 2 for side in missing)]
    return ops.pad(maps, before, after, "constant", np.float32(fill))


def _pixelwise(start: Any) -> Iterator[Any]:
    """Yield the operations between the images and the first layer, nearest first."""
    waiting, seen = [start], set()
    while waiting:
        for target in waiting.pop(0).get_target_inputs():
            node = target.get_node()
            kind, name = node.get_type_name(), node.get_friendly_name()
            shape = node.get_output_partial_shape(0) if node.get_output_size() else None
            is_image = shape is not None and shape.rank.is_static and shape.rank.get_length() == 4
            if name in seen or not is_image or kind not in _PIXELWISE | _CROPS | {"Interpolate"}:
                continue
            seen.add(name)
            yield node
            waiting.append(node.output(0))


def _is_constant(node: Any) -> bool:
    """Tell a constant, also one that is stored in 16 bits and widened before it is used."""
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def _size(output: Any) -> tuple[int, int]:
    shape = [int(side) for side in output.get_partial_shape().get_max_shape()]
    return shape[2], shape[3]


def _float_at(place: int) -> np.float32:
    """Return float32 numbers in ascending order, by whole numbers; 0 is 0."""
    number = np.int32(abs(place)).view(np.float32)
    return np.float32(-number if place < 0 else number)
