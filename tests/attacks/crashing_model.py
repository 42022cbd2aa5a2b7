"""A graph that is valid, and ends the process that runs it: it reads far beyond a tensor."""

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from tests.support.small_bundle import difference_model

_FAR = 500_000_000


def crashing_model() -> ov.Model:
    """Build the graph of the small bundle, its score beside a value from nowhere."""
    model = difference_model()
    images = model.get_parameters()[0]
    places = ops.add(ops.convert(images, "i32"), ops.constant(np.int32(_FAR)))
    nowhere = ops.gather_nd(ops.convert(images, np.float32), places)
    anomaly_map, score = (result.input_value(0) for result in model.get_results())
    score.set_names(set())
    total = ops.add(score, ops.reduce_max(nowhere, ops.constant(np.array([0, 1, 2, 3])), False))
    total.output(0).set_names({"score"})
    return ov.Model([ops.result(anomaly_map), ops.result(total.output(0))], [images], "crashing")
