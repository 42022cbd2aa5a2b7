"""``export-model --from-anomalib``: a model that Anomalib exported becomes a bundle, untrained.

Two generations: those of Anomalib 1 lie beside a ``metadata.json`` with thresholds and ranges, and
give a raw map; those of Anomalib 2 normalize and decide inside the graph. Around either one our own
input is put, uint8 pictures of one size, and outputs by our names. Nothing inside is changed.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

import edge
from edge.errors import ModelError
from edge.files import check_writable, write_all
from edge.frame import PixelFormat
from edge.inspection.openvino_core import openvino_core
from edge.inspection.self_test import golden_pictures
from edge.manifest import (
    Extent,
    GateReport,
    Identity,
    InputSpec,
    Manifest,
    Normalization,
    OutputSpec,
    Precision,
    ScoreStatistics,
    Threshold,
    ThresholdMethod,
    Training,
    plain_text,
)
from export.errors import ImportRefused

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# What a graph with free height and width is given where nothing says otherwise.
_SIDE = 256


@dataclass(frozen=True, slots=True)
class _Source:
    """What an exported model says about itself.

    Attributes:
        picture: height and width of its input.
        mean, deviation: what its input is normalized by outside the graph, in [0, 1].
        image, pixel: raw thresholds.
        image_extent, map_extent: ranges that become one unit.
        notes: differences between its preparation and ours.
    """

    generation: str
    picture: tuple[int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    image: float
    pixel: float
    image_extent: Extent
    map_extent: Extent
    notes: tuple[str, ...]


def import_model(path: Path, output: Path) -> Iterator[str]:
    """Wrap a model of Anomalib; yields what a user must know about it.

    Args:
        path: ``.xml`` or ``.onnx`` that Anomalib exported.
        output: ``.xml`` of the bundle.

    Raises:
        ImportRefused: no such model, or its inputs and outputs are none that we know.
        ConfigurationError: not the name of a bundle.
        OutputNotWritable: folder or disk refused a file.
    """
    from export.bundle import bundle_files, manifest_text, with_self_test
    from export.ir import ir_bytes

    files = bundle_files(output)
    for file in files:
        check_writable(file)
    graph = _read(path)
    source = _source(path, graph)
    model, size = _wrapped(path, graph, source)
    xml, weights = ir_bytes(model, *source.picture)
    difference = _parity(path, source, xml, weights)
    manifest = with_self_test(
        _manifest(output.stem, path, source, size, xml, weights, difference), xml, weights
    )
    write_all(list(zip(files, (xml, weights, manifest_text(manifest)), strict=True)))
    yield (
        f"{output}: {source.generation}, {source.picture[1]}×{source.picture[0]}, map "
        f"{size[1]}×{size[0]}, threshold {source.image:.6g}"
    )
    yield "  Its preparation and ours differ; compare verdicts on pictures of your own:"
    for note in source.notes:
        yield f"  - {note}"


def _read(path: Path) -> ov.Model:
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
        reason = str(error).strip().splitlines()[-1]
        raise ImportRefused(
            f"{path}: OpenVINO {ov.__version__} cannot read it ({reason}). Export it again; beside "
            "an .xml must lie its .bin."
        ) from error


def _source(path: Path, graph: ov.Model) -> _Source:
    if len(graph.inputs) != 1 or graph.input(0).partial_shape.rank.get_length() != 4:
        inputs = ", ".join(f"{i.any_name} {i.partial_shape}" for i in graph.inputs)
        raise ImportRefused(
            f"{path}: its inputs are {inputs}; one input of pictures is expected. Export it "
            "without sensitivities as inputs."
        )
    metadata = _metadata(path)
    notes = ["resize: area-averaging to the input size, before the graph"]
    picture = _picture_size(graph, metadata, notes)
    if "pred_score" in _names(graph):
        return _second_generation(picture, notes)
    if metadata is None:
        raise ImportRefused(
            f"{path}: no output named pred_score, as models of Anomalib 2 have, and no "
            "metadata.json beside it, as those of Anomalib 1. Copy the whole export folder."
        )
    return _first_generation(path, picture, metadata, notes)


def _second_generation(picture: tuple[int, int], notes: list[str]) -> _Source:
    unit = Extent(min=0.0, max=1.0)
    return _Source(
        "Anomalib 2",
        picture,
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        0.5,
        0.5,
        unit,
        unit,
        (
            *notes,
            "inside the graph pictures are resized again if its own size is another, without "
            "antialiasing",
            "scores leave the graph normalized and clipped to 0…1: the threshold is 0.5, and of "
            "two scores at the end none is higher",
            "a score of exactly 0.5 is rejected here, and accepted there",
        ),
    )


def _first_generation(
    path: Path, picture: tuple[int, int], metadata: dict[str, Any], notes: list[str]
) -> _Source:
    image = _number(path, metadata, "image_threshold")
    pixel = _number(path, metadata, "pixel_threshold", image)
    low, high = _number(path, metadata, "min", 0.0), _number(path, metadata, "max", 2.0 * image)
    image_extent = _extent(path, metadata, "pred_scores", low, high)
    map_extent = _extent(path, metadata, "anomaly_maps", low, high)
    mean, deviation = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    found = [step for step in _steps(metadata.get("transform")) if _kind(step) == "Normalize"]
    if found:
        mean = tuple(found[0].get("mean", _IMAGENET[0]))
        deviation = tuple(found[0].get("std", _IMAGENET[1]))
        notes.append("mean and standard deviation of metadata.json are inside the bundle's graph")
    if any(_kind(step) == "CenterCrop" for step in _steps(metadata.get("transform"))):
        notes.append(
            "it was trained on a centre crop, which is not applied: set a crop at the station"
        )
    return _Source(
        "Anomalib 1",
        picture,
        mean,
        deviation,
        image,
        pixel,
        image_extent,
        map_extent,
        (*notes, "the image score is the highest value of the map"),
    )


def _wrapped(path: Path, graph: ov.Model, source: _Source) -> tuple[ov.Model, tuple[int, int]]:
    """Put our input before the graph and our outputs behind it; returns the map's size too."""
    height, width = source.picture
    try:
        graph.reshape([1, 3, height, width])
        pictures = ops.parameter([1, height, width, 3], np.uint8, name="pictures")
        rgb = ops.gather(
            ops.convert(pictures, np.float32), ops.constant([2, 1, 0]), ops.constant(3)
        )
        planes = ops.transpose(ops.divide(rgb, np.float32(255.0)), ops.constant([0, 3, 1, 2]))
        shape = (1, 3, 1, 1)
        centred = ops.subtract(planes, np.array(source.mean, np.float32).reshape(shape))
        scaled = ops.divide(centred, np.array(source.deviation, np.float32).reshape(shape))
        entry = graph.input(0)
        for target in list(entry.get_target_inputs()):
            target.replace_source_output(scaled.output(0))
        anomaly_map, score = _outputs(path, graph)
        # Before there is a model: its results take the names over.
        pictures.output(0).set_names({"pictures"})
        score.set_names({"score"})
        anomaly_map.set_names({"anomaly_map"})
        model = ov.Model([ops.result(score), ops.result(anomaly_map)], [pictures], "imported")
        model.validate_nodes_and_infer_types()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ImportRefused(
            f"{path}: does not take pictures of {width}×{height} ({reason}). Export it again for a "
            "fixed input size."
        ) from error
    size = anomaly_map.get_partial_shape()
    return model, (size[1].get_length(), size[2].get_length())


def _outputs(path: Path, graph: ov.Model) -> tuple[Any, Any]:
    """Return a map of three dimensions and a score of one."""
    by_name = {name: output for output in graph.outputs for name in output.names}
    found = by_name.get("anomaly_map")
    if found is None:
        maps = [o for o in graph.outputs if o.partial_shape.rank.get_length() >= 3]
        found = maps[0] if maps else None
    if found is None:
        raise ImportRefused(
            f"{path}: gives no anomaly map but {', '.join(sorted(by_name))}. Models that only "
            "classify cannot be imported; fit dfkde, or one that finds where a defect lies."
        )
    source = found.get_node().input_value(0)
    source.get_tensor().set_names(set())  # ours will have its name
    sides = [int(side) for side in found.partial_shape.to_shape()][-2:]
    anomaly_map = ops.convert(
        ops.reshape(source, ops.constant([-1, *sides]), special_zero=False), np.float32
    )
    if "pred_score" in by_name:
        scores = by_name["pred_score"].get_node().input_value(0)
        flat = ops.reshape(scores, ops.constant([-1]), special_zero=False)
        return anomaly_map.output(0), ops.convert(flat, np.float32).output(0)
    peak = ops.reduce_max(anomaly_map, ops.constant([1, 2]), False)
    return anomaly_map.output(0), peak.output(0)


def _parity(path: Path, source: _Source, xml: bytes, weights: bytes) -> float:
    """Run both on the golden pictures; returns the largest score difference in spreads.

    Raises:
        ImportRefused: they differ, or give numbers that are not finite.
    """
    from export.engines import openvino_engine

    height, width = source.picture
    original = _read(path)
    original.reshape([1, 3, height, width])
    try:
        compiled = openvino_core().compile_model(
            original, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
    except RuntimeError as error:
        raise ModelError(f"{path}: OpenVINO {ov.__version__} cannot run it ({error}).") from error
    engine = openvino_engine(xml, weights, "f32")
    spread = max(source.image_extent.max - source.image_extent.min, 1e-6)
    largest = 0.0
    for picture in golden_pictures(height, width).values():
        planes = picture[None, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 255.0
        shape = (1, 3, 1, 1)
        planes = (planes - np.reshape(source.mean, shape)) / np.reshape(source.deviation, shape)
        outputs = compiled(np.ascontiguousarray(planes, np.float32))
        named = {name: outputs[port] for port in compiled.outputs for name in port.names}
        expected = named.get("pred_score", next(iter(named.values())))
        found = engine(picture[None])[0]
        largest = max(largest, abs(found.score - float(np.max(expected))) / spread)
        if not found.is_finite():
            largest = math.nan
    if not largest <= 1e-3:
        raise ImportRefused(
            f"{path}: the wrapped model differs from it by {largest:.3g} of the spread. Export it "
            "again with a recent Anomalib."
        )
    return largest


def _manifest(
    name: str,
    path: Path,
    source: _Source,
    size: tuple[int, int],
    xml: bytes,
    weights: bytes,
    difference: float,
) -> Manifest:
    height, width = source.picture
    return Manifest(
        identity=Identity(
            name=name,
            algorithm="imported",
            backbone=f"of {source.generation}",
            weights_licence="as of the imported model",
            created=datetime.now(UTC).replace(microsecond=0),
            made_with={"inspection-station": edge.__version__, "openvino": ov.__version__},
            xml_sha256=hashlib.sha256(xml).hexdigest(),
            bin_sha256=hashlib.sha256(weights).hexdigest(),
            xml_bytes=len(xml),
            bin_bytes=len(weights),
        ),
        input=InputSpec(
            height=height, width=width, pixel_formats=(PixelFormat.BGR8, PixelFormat.GREY8)
        ),
        output=OutputSpec(map_height=size[0], map_width=size[1], image_score=True),
        normalization=Normalization(image=source.image_extent, map=source.map_extent),
        threshold=Threshold(
            image=source.image,
            pixel=source.pixel,
            method=ThresholdMethod.MANUAL,
            good_count=0,
            defective_count=0,
            interval=None,
        ),
        statistics=ScoreStatistics(probabilities=(), scores=()),
        precision=Precision(
            weights="fp32",
            inference="f32",
            gate=GateReport(
                pictures=len(golden_pictures(height, width)),
                largest_score_difference=difference,
                smallest_map_correlation=1.0,
                verdict_flips=0.0,
                auroc_before=None,
                auroc_after=None,
            ),
        ),
        training=Training(
            dataset=f"of {source.generation}",
            # Nobody knows its pictures; the file at least can be told from others.
            dataset_fingerprint=hashlib.sha256(path.read_bytes()).hexdigest(),
            fit_count=1,
            validation_good_count=0,
            validation_defective_count=0,
            seed=0,
            hyperparameters={"imported_from": plain_text(path.name)},
            metrics={},
        ),
    )


def _metadata(path: Path) -> dict[str, Any] | None:
    file = path.with_name("metadata.json")
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ImportRefused(f"{file}: cannot be read ({error}). Copy it again.") from error
    if not isinstance(content, dict):
        raise ImportRefused(f"{file}: no metadata of Anomalib. Copy it again.")
    return content


def _picture_size(
    graph: ov.Model, metadata: dict[str, Any] | None, notes: list[str]
) -> tuple[int, int]:
    shape = graph.input(0).partial_shape
    if shape[2].is_static and shape[3].is_static:
        return shape[2].get_length(), shape[3].get_length()
    for step in _steps((metadata or {}).get("transform")):
        if _kind(step) == "Resize" and "height" in step and "width" in step:
            return int(step["height"]), int(step["width"])
    notes.append(f"the graph takes any size; the bundle fixes it to {_SIDE}×{_SIDE}")
    return _SIDE, _SIDE


def _steps(transform: Any) -> list[dict[str, Any]]:
    """Return all steps of a serialised transform, however deep."""
    if isinstance(transform, list):
        return [step for item in transform for step in _steps(item)]
    if not isinstance(transform, dict):
        return []
    inner = [step for value in transform.values() for step in _steps(value)]
    return [transform, *inner]


def _kind(step: dict[str, Any]) -> str:
    return str(step.get("__class_fullname__", "")).rpartition(".")[2]


def _number(
    path: Path, metadata: dict[str, Any], key: str, otherwise: float | None = None
) -> float:
    value = metadata.get(key, otherwise)
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ImportRefused(
            f"{path.with_name('metadata.json')}: {key} is {value!r}, a number is expected. Copy "
            "the metadata.json that was exported with the model."
        )
    return float(value)


def _extent(path: Path, metadata: dict[str, Any], kind: str, low: float, high: float) -> Extent:
    low = _number(path, metadata, f"{kind}.min", low)
    high = _number(path, metadata, f"{kind}.max", high)
    return Extent(min=min(low, high), max=max(low, high))


def _names(graph: ov.Model) -> set[str]:
    return {name for output in graph.outputs for name in output.names}
