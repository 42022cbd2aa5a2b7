"""Tiny graphs built like those that Anomalib exports: resize, network, normalization, verdict."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

THRESHOLD, RANGE = 0.6, 0.3


def redness(images: Any, layers: bool = False) -> Any:
    """Return raw maps, ``(N, 1, h/4, w/4)``: how red each cell is.

    Args:
        layers: see it by a convolution, which has weights.
    """
    if layers:
        mixed = ops.convolution(
            images,
            np.array([1.0, 0.0, -0.5], np.float32).reshape(1, 3, 1, 1),
            *([1, 1], [0, 0], [0, 0], [1, 1]),
            name="/model/layer1/layer1.0/conv1/Conv",
        )
        biased = ops.add(mixed, np.full((1, 1, 1, 1), 0.01, np.float32), name="/model/bias/Add")
        seen = ops.subtract(ops.relu(biased), np.float32(0.01))
        return ops.avg_pool(seen, [4, 4], [0, 0], [0, 0], [4, 4], exclude_pad=False)
    red = ops.gather(images, ops.constant([0]), ops.constant(1))
    blue = ops.gather(images, ops.constant([2]), ops.constant(1))
    seen = ops.subtract(red, ops.multiply(blue, np.float32(0.5)))
    return ops.avg_pool(seen, [4, 4], [0, 0], [0, 0], [4, 4], exclude_pad=False)


def write_second_generation(
    folder: Path,
    *,
    shape: tuple[int, ...] = (1, 3, 32, 32),
    resize: tuple[int, int] | None = None,
    crop: int | None = None,
    sensitivities: tuple[float, float] = (0.5, 0.5),
    outputs: tuple[str, ...] = ("pred_score", "pred_label", "anomaly_map", "pred_mask"),
    half: bool = False,
    constant: bool = False,
    layers: bool = False,
    integers: bool = False,
) -> Path:
    """Write what Anomalib 2 exports: everything lies inside the graph, at its end a clip to 0…1.

    Args:
        shape: of the input; a batch of two is fixed in the network, too, as PatchCore's can be.
        resize: height and width that images are resized to first.
        crop: side of the middle that is looked at.
        half: store constants in 16 bits.
        constant: give every image one and the same score and map.
        layers: look by a convolution, which may become INT8.
        integers: as quantizers leave it.
    """
    given = ops.parameter(ov.PartialShape(list(shape)), np.float32, name="input")
    images = given
    if resize is not None:
        images = ops.interpolate(
            images,
            np.array(resize, np.int64),
            "linear",
            "sizes",
            coordinate_transformation_mode="half_pixel",
            axes=np.array([2, 3], np.int64),
        )
    if crop is not None and resize is not None:
        first = [(side - crop) // 2 for side in resize]
        images = ops.slice(
            images,
            np.array(first, np.int64),
            np.array([side + crop for side in first], np.int64),
            np.array([1, 1], np.int64),
            np.array([2, 3], np.int64),
        )
    if integers:
        ends = (np.float32(0.0), np.float32(1.0))
        images = ops.fake_quantize(images, *ends, *ends, 256)
    raw = redness(images, layers)
    if constant:
        raw = ops.add(ops.multiply(raw, np.float32(0.0)), np.float32(0.7))
    cells = ops.reshape(raw, np.array([shape[0] if shape[0] > 0 else 0, -1], np.int64), True)
    peaks = ops.reduce_max(cells, ops.constant([1]), False)
    if crop is not None:  # maps come at the size of what is looked at
        raw = ops.interpolate(
            raw,
            np.array([crop, crop], np.int64),
            "linear",
            "sizes",
            coordinate_transformation_mode="half_pixel",
            axes=np.array([2, 3], np.int64),
        )
    score, anomaly_map = _normalized(peaks), _normalized(raw)
    found = {
        "pred_score": score,
        "pred_label": ops.greater(score, np.float32(1.0 - sensitivities[0])),
        "anomaly_map": anomaly_map,
        "pred_mask": ops.greater(anomaly_map, np.float32(1.0 - sensitivities[1])),
    }
    for name in outputs:
        found[name].output(0).set_names({name})
    given.output(0).set_names({"input"})
    model = ov.Model([ops.result(found[name]) for name in outputs], [given], "second")
    ov.save_model(model, folder / "model.xml", compress_to_fp16=half)
    return folder / "model.xml"


def verdicts(path: Path, frames: list[np.ndarray]) -> list[bool]:
    """Return what an exported graph itself says of ``(H, W, 3) uint8`` BGR frames."""
    graph = ov.Core().read_model(path)
    batch = graph.input(0).partial_shape[0]
    count = batch.get_length() if batch.is_static else 1
    compiled = ov.Core().compile_model(graph, "CPU")
    planes = [
        frame[None, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 255.0 for frame in frames
    ]
    return [
        bool(compiled(np.concatenate([image] * count))["pred_label"].ravel()[0]) for image in planes
    ]


def _normalized(raw: Any) -> Any:
    centred = ops.divide(ops.subtract(raw, np.float32(THRESHOLD)), np.float32(RANGE))
    above = ops.maximum(ops.add(centred, np.float32(0.5)), np.float32(0.0))
    return ops.minimum(np.float32(1.0), above)
