"""The detector: the bundle's IR on OpenVINO, prepared images in, raw numbers out."""

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from edge.bundle.loading import Bundle
from edge.bundle.manifest import Manifest, computes
from edge.errors import BundleDamaged, ModelError
from edge.inspection.graph_ports import find_ports, last_line, listed
from edge.inspection.openvino_core import openvino_core
from edge.inspection.predictor import Fill, RawPredictions
from edge.system.processor import processor_features


@dataclass(frozen=True, slots=True)
class RunPlan:
    """How the network uses this PC.

    Attributes:
        batch: images of one request; only tiles come in batches.
        streams: requests that run side by side. One uses all threads for the lowest latency.
        threads: inference threads of all streams together; 0 leaves the number to OpenVINO.
    """

    batch: int = 1
    streams: int = 1
    threads: int = 0


class CompiledModel:
    """A compiled bundle; its detectors share weights and threads."""

    def __init__(self, bundle: Bundle, device: str = "CPU", plan: RunPlan = RunPlan()) -> None:
        """Compile the IR with the arithmetic it was validated with.

        Args:
            bundle: verified bundle; its bytes are compiled, the files are not opened again.
            device: an OpenVINO device.
            plan: how to use the PC.

        Raises:
            BundleDamaged: the graph's inputs and outputs are not those the manifest names.
            ModelError: the IR cannot be compiled on this device, or not in its arithmetic.
        """
        manifest = bundle.manifest
        self.plan = plan
        self.manifest = manifest
        if device == "CPU" and not computes(manifest.precision, processor_features()):
            raise ModelError(
                f"{bundle.path}: was validated only in {manifest.precision.inference}, for "
                "which the processor needs one of "
                f"{', '.join(manifest.precision.cpu_features)}; this processor has none of "
                "them. Export the model again in another precision, or use another PC."
            )
        try:
            core = openvino_core()
            weights = np.frombuffer(bundle.weights, np.uint8)
            model = core.read_model(bundle.xml, ov.Tensor(weights))
        except RuntimeError as error:
            raise ModelError(
                f"{bundle.path}: OpenVINO {ov.__version__} cannot read it ({last_line(error)}). "
                "Export the model again with this version."
            ) from error
        expected = _expected_ports(manifest)
        found = find_ports(model, expected)
        if found != expected:
            raise BundleDamaged(
                f"{bundle.path}: the graph has {listed(found)}; its manifest says "
                f"{listed(expected)}. Copy all three files of the bundle again, or export it "
                "again."
            )
        try:
            if plan.batch > 1:
                model.reshape([plan.batch, manifest.input.height, manifest.input.width, 3])
                _check_batch(model, manifest, plan.batch)
            self._compiled = core.compile_model(model, device, _properties(manifest, device, plan))
        except RuntimeError as error:
            raise ModelError(
                f"{bundle.path}: OpenVINO {ov.__version__} cannot compile it for {device} "
                f"({last_line(error)}). Choose a device that this PC has, or export the model "
                "again with this version."
            ) from error

    def new_request(self) -> Any:
        return self._compiled.create_infer_request()


class Detector:
    """Some requests of a network, with input tensors of their own.

    Not thread-safe: one owner calls it. Several owners take a detector each.
    """

    def __init__(self, network: CompiledModel, requests: int = 1) -> None:
        """Create the requests; ``requests`` run side by side on the tiles of one frame."""
        self._plan = network.plan
        output = network.manifest.output
        self.map_score = output.map_score
        self._map_shape = (output.map_height, output.map_width)
        self._requests = [
            _Request(network.new_request(), output.image_score) for _ in range(requests)
        ]

    def predict_all(self, count: int, fill: Fill) -> RawPredictions:
        """Run the network on ``count`` images, prepared straight into its input.

        While requests run, ``fill`` prepares for the next one.

        Returns:
            Scores and maps that the caller owns.

        Raises:
            ModelError: inference failed.
        """
        batch = self._plan.batch
        scores = np.empty(count, np.float32)
        maps = np.empty((count, *self._map_shape), np.float32)
        running: deque[tuple[_Request, int]] = deque()
        try:
            for turn, first in enumerate(range(0, count, batch)):
                if len(running) == len(self._requests):
                    _collect(running, scores, maps)
                request = self._requests[turn % len(self._requests)]
                for index in range(first, min(first + batch, count)):
                    fill(index, request.images[index - first])
                if count <= batch:
                    request.run()
                else:
                    request.start()
                running.append((request, first))
            while running:
                _collect(running, scores, maps)
        except RuntimeError as error:
            raise ModelError(
                f"inference failed ({last_line(error)}). Restart; if the error remains, "
                "export the model again."
            ) from error
        finally:
            for request, _ in running:
                request.settle()
        return RawPredictions(scores, maps)


class _Request:
    """One request and views of its tensors: shapes are static, so these never move."""

    def __init__(self, request: Any, image_score: bool) -> None:
        self._request = request
        self._started = False
        self.images = request.get_tensor("pictures").data
        self.maps = request.get_tensor("anomaly_map").data
        self._scores = request.get_tensor("score").data if image_score else None

    def run(self) -> None:
        self._request.infer()

    def start(self) -> None:
        self._request.start_async()
        self._started = True

    def wait(self) -> None:
        if self._started:
            self._started = False
            self._request.wait()

    def settle(self) -> None:
        """Wait for a request whose numbers nobody wants any more, however it ends."""
        with suppress(RuntimeError):
            self.wait()

    def scores(self) -> NDArray[np.float32]:
        return self.maps.max(axis=(1, 2)) if self._scores is None else self._scores


def _collect(
    running: "deque[tuple[_Request, int]]",
    scores: NDArray[np.float32],
    maps: NDArray[np.float32],
) -> None:
    """Wait for the oldest request and take its numbers."""
    request, first = running.popleft()
    request.wait()
    size = min(len(request.maps), len(scores) - first)
    scores[first : first + size] = request.scores()[:size]
    maps[first : first + size] = request.maps[:size]


def _properties(manifest: Manifest, device: str, plan: RunPlan) -> dict[str, object]:
    properties: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": manifest.precision.inference,
        "PERFORMANCE_HINT": "LATENCY" if plan.streams == 1 else "THROUGHPUT",
    }
    if device == "CPU":
        properties["NUM_STREAMS"] = plan.streams
        # Several stations on one PC would otherwise pin themselves to the same cores.
        properties["ENABLE_CPU_PINNING"] = False
        if plan.threads:
            properties["INFERENCE_NUM_THREADS"] = plan.threads
    return properties


def _expected_ports(manifest: Manifest, batch: int = 1) -> dict[str, str]:
    size, output = manifest.input, manifest.output
    ports = {
        "pictures": f"u8 [{batch},{size.height},{size.width},3]",
        "anomaly_map": f"f32 [{batch},{output.map_height},{output.map_width}]",
    }
    return ports | {"score": f"f32 [{batch}]"} if output.image_score else ports


def _check_batch(model: Any, manifest: Manifest, batch: int) -> None:
    """Refuse a graph that would give all images of a batch one and the same score."""
    expected = _expected_ports(manifest, batch)
    found = find_ports(model, expected)
    if found != expected:
        raise RuntimeError(f"batches of {batch} make it {listed(found)}")
