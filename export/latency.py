"""How long one inference takes in each precision, on this PC."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from edge.inspection.openvino_core import openvino_core
from export.ir import INPUT
from export.variants import ExportPrecision

_ROUNDS = 30
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Latency:
    """Medians of one precision.

    Attributes:
        milliseconds: of one inference.
        relative: to FP32, of pairs measured one after the other: other load cancels out.
    """

    milliseconds: float
    relative: float


def measure_latency(
    graphs: Mapping[ExportPrecision, tuple[bytes, bytes]], inference: str, image: NDArray[np.uint8]
) -> dict[ExportPrecision, Latency]:
    """Time every graph in turn, again and again, as the runtime compiles it.

    Args:
        graphs: the IR of each precision; FP32 must be among them.
        inference: arithmetic of what is not integer.
        image: ``(H, W, 3) uint8``, prepared.
    """
    requests = {
        precision: _request(xml, weights, inference, image)
        for precision, (xml, weights) in graphs.items()
    }
    taken: dict[ExportPrecision, list[float]] = {precision: [] for precision in requests}
    for turn in range(_WARM_UP + _ROUNDS):
        for precision, request in requests.items():
            started = time.perf_counter()
            request.infer()
            if turn >= _WARM_UP:
                taken[precision].append(1e3 * (time.perf_counter() - started))
    base = np.array(taken[ExportPrecision.FP32])
    return {
        precision: Latency(float(np.median(times)), float(np.median(np.array(times) / base)))
        for precision, times in taken.items()
    }


def _request(xml: bytes, weights: bytes, inference: str, image: NDArray[np.uint8]) -> Any:
    core = openvino_core()
    model = core.read_model(xml, ov.Tensor(np.frombuffer(weights, np.uint8)))
    settings = {
        "INFERENCE_PRECISION_HINT": inference,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.get_tensor(INPUT).data[:] = image
    return request
