"""Features brought back to the mean that they have in floating point, place by place.

What rounding does to a feature depends on its place: on the border, on what a good part shows
there. It is nearly the same in every image, so a model that knows good parts takes it for an
anomaly of them all. NNCF corrects the mean of a channel over all places, not that of each.
"""

from collections.abc import Callable, Iterator

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13

from edge.inspection.openvino_core import openvino_core

Images = NDArray[np.uint8]


def correct_mean(
    quantized: ov.Model,
    reference: ov.Model,
    name: str,
    images: Images,
    *,
    is_consumer: Callable[[ov.Node], bool],
) -> None:
    """Subtract from an output what quantizing changed in its mean.

    Args:
        quantized: changed in place.
        reference: the same graph in floating point.
        name: of an operation of both.
        images: ``(N, H, W, 3) uint8`` good images.
        is_consumer: tells which operations get the corrected output; the others, by which the
            quantized layers go on, get it as it was.
    """
    change = _mean_output(quantized, name, images) - _mean_output(reference, name, images)
    constant = opset13.constant(change.astype(np.float32))
    for output, consumer in list(_consumers(_operation(quantized, name).output(0))):
        if is_consumer(consumer.get_node()):
            consumer.replace_source_output(opset13.subtract(output, constant).output(0))
    quantized.validate_nodes_and_infer_types()


def _consumers(output: ov.Output) -> Iterator[tuple[ov.Output, ov.Input]]:
    """Return who reads an output, also behind a rounding, and what each of them reads."""
    for consumer in output.get_target_inputs():
        if consumer.get_node().get_type_name() == "FakeQuantize":
            yield from _consumers(consumer.get_node().output(0))
        else:
            yield output, consumer


def _mean_output(model: ov.Model, name: str, images: Images) -> NDArray[np.float64]:
    copy = model.clone()
    part = ov.Model([_operation(copy, name).output(0)], copy.get_parameters())
    part.reshape([1, *images.shape[1:]])
    compiled = openvino_core().compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    total = sum(np.asarray(compiled(image[None])[0], np.float64) for image in images)
    return np.asarray(total) / len(images)


def _operation(model: ov.Model, name: str) -> ov.Node:
    return next(one for one in model.get_ordered_ops() if one.get_friendly_name() == name)
