"""The means that a model subtracts, taken anew behind rounded layers.

A model that compares a feature with its mean at the same place sees the rounding of the layers
before it as an anomaly of every picture: it is the same in all of them, and so small a thing only
because the mean is told. What NNCF corrects are the biases of channels, not their places.
"""

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13

Pictures = NDArray[np.uint8]


def take_mean_anew(quantized: ov.Model, reference: ov.Model, name: str, pictures: Pictures) -> None:
    """Shift a subtracted constant by what quantizing changed in the mean of what it is taken from.

    Args:
        quantized: changed in place.
        reference: the same graph in floating point.
        name: of a Subtract in both, whose second input is a constant.
        pictures: ``(N, H, W, 3) uint8`` good pictures.
    """
    subtraction = _operation(quantized, name)
    constant = subtraction.input_value(1).get_node()
    mean = constant.get_data().astype(np.float64)
    change = _mean_minuend(quantized, name, pictures) - _mean_minuend(reference, name, pictures)
    # A mean that many places share moves by what they have in common.
    shared = change.size // mean.size
    moved = mean + change.reshape(shared, *mean.shape).mean(0)
    again = opset13.constant(moved.astype(np.float32))
    subtraction.input(1).replace_source_output(again.output(0))


def _mean_minuend(model: ov.Model, name: str, pictures: Pictures) -> NDArray[np.float64]:
    copy = model.clone()
    minuend = _operation(copy, name).input_value(0)
    part = ov.Model([minuend], copy.get_parameters())
    part.reshape([1, *pictures.shape[1:]])
    compiled = ov.Core().compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    total = sum(np.asarray(compiled(picture[None])[0], np.float64) for picture in pictures)
    return np.asarray(total) / len(pictures)


def _operation(model: ov.Model, name: str) -> ov.Node:
    return next(one for one in model.get_ordered_ops() if one.get_friendly_name() == name)
