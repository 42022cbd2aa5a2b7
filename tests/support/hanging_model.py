"""A network that never answers for an image with a white sample: a real native call that hangs."""

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from tests.support.small_bundle import difference_model

_MAX_TURNS = 2**40


def hanging_model() -> ov.Model:
    """Build the graph of the small bundle, its score sent through a loop.

    The loop turns once, or until doomsday for an image with a sample of 255.
    """
    model = difference_model()
    images = model.get_parameters()[0]
    brightest = ops.reduce_max(
        ops.convert(images, "i64"), ops.constant(np.array([0, 1, 2, 3])), False
    )
    white = ops.convert(ops.equal(brightest, ops.constant(np.int64(255))), "i64")
    turns = ops.add(
        ops.multiply(white, ops.constant(np.int64(_MAX_TURNS))), ops.constant(np.int64(1))
    )
    held = ops.parameter([1], np.float32)
    same = ops.result(ops.add(held, ops.constant(np.float32(0.0))))
    again = ops.result(ops.constant(np.array(True)))
    loop = ops.loop(turns, ops.constant(np.array(True)))
    loop.set_function(ov.Model([same, again], [held], "turn"))
    loop.set_special_body_ports([-1, 1])
    anomaly_map, score = (result.input_value(0) for result in model.get_results())
    loop.set_merged_input(held, score, same.output(0))
    score.set_names(set())
    last = ops.reshape(loop.get_iter_value(same.output(0), -1), ops.constant(np.array([1])), False)
    last.output(0).set_names({"score"})
    results = [ops.result(anomaly_map), ops.result(last.output(0))]
    return ov.Model(results, [images], "hanging")
