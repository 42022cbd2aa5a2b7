"""How long one inference takes in each precision, on this PC."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from edge.inspection.openvino_core import openvino_core
from export.ir import INPUT
from export.variants import ExportPrecision, Variant

_ROUNDS = 30
_WARM_UP = 3
# Times that differ by less may be alike.
_ALIKE = 0.05


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
    graphs: Mapping[ExportPrecision, Variant], image: NDArray[np.uint8]
) -> dict[ExportPrecision, Latency]:
    """Time every graph in turn, again and again, as the runtime compiles it.

    Args:
        graphs: of each precision; FP32 must be among them.
        image: ``(H, W, 3) uint8``, prepared.
    """
    requests = {precision: _request(graph, image) for precision, graph in graphs.items()}
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


def fastest(
    latencies: Mapping[ExportPrecision, Latency], by_exactness: Sequence[ExportPrecision]
) -> ExportPrecision:
    """Return the fastest precision; of those that are about as fast, the most exact one.

    Args:
        by_exactness: the most exact one first.
    """
    found = [precision for precision in by_exactness if precision in latencies]
    least = min(latencies[precision].relative for precision in found)
    return next(p for p in found if latencies[p].relative <= (1.0 + _ALIKE) * least)


def _request(graph: Variant, image: NDArray[np.uint8]) -> Any:
    core = openvino_core()
    model = core.read_model(graph.xml, ov.Tensor(np.frombuffer(graph.weights, np.uint8)))
    settings = {
        "INFERENCE_PRECISION_HINT": graph.inference,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.get_tensor(INPUT).data[:] = image
    return request
