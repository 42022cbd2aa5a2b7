"""The detector: the bundle's IR on OpenVINO, prepared pictures in, raw numbers out."""

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.inspection.prediction import RawPrediction
from edge.manifest import Bundle


class Detector:
    """One compiled network with one request and one input tensor of its own.

    Not thread-safe: one owner calls ``predict``.
    """

    def __init__(self, bundle: Bundle, device: str = "CPU", threads: int = 0) -> None:
        """Compile the IR with the arithmetic it was validated with.

        Args:
            bundle: verified bundle; its bytes are compiled, the files are not opened again.
            device: an OpenVINO device.
            threads: inference threads; 0 leaves the choice to OpenVINO.

        Raises:
            ModelError: the IR cannot be compiled, or its shapes are not the manifest's.
        """
        manifest = bundle.manifest
        properties: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": manifest.precision.inference,
            # Several stations on one PC would otherwise pin themselves to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            properties["INFERENCE_NUM_THREADS"] = threads
        if device != "CPU":
            del properties["ENABLE_CPU_PINNING"]
        try:
            core = ov.Core()
            weights = np.frombuffer(bundle.weights, np.uint8)
            model = core.read_model(bundle.xml, ov.Tensor(weights))
            compiled = core.compile_model(model, device, properties)
        except RuntimeError as error:
            raise ModelError(
                f"{bundle.path}: OpenVINO {ov.__version__} cannot compile it on {device} "
                f"({_first_line(error)}). Export the model again with this version."
            ) from error
        expected = {
            "pictures": (1, manifest.input.height, manifest.input.width, 3),
            "score": (1,),
            "anomaly_map": (1, manifest.output.map_height, manifest.output.map_width),
        }
        found = {port.any_name: tuple(port.shape) for port in [*compiled.inputs, *compiled.outputs]}
        if found != expected:
            raise ModelError(
                f"{bundle.path}: the graph has {found}, its manifest says {expected}. "
                "Export the model again."
            )
        self._request = compiled.create_infer_request()
        self._input = self._request.get_input_tensor().data
        self._score = self._request.get_tensor("score").data
        self._map = self._request.get_tensor("anomaly_map").data

    def predict(self, prepared: NDArray[np.uint8]) -> RawPrediction:
        """Run the network on one prepared picture.

        Args:
            prepared: ``(H, W, 3) uint8`` BGR as ``edge.preparation.prepare`` gives it.

        Returns:
            Score and a map that the caller owns.

        Raises:
            ModelError: inference failed, or the numbers are not finite.
        """
        self._input[0] = prepared
        try:
            self._request.infer()
        except RuntimeError as error:
            raise ModelError(f"inference failed ({_first_line(error)})") from error
        score = float(self._score[0])
        anomaly_map = self._map[0].copy()
        if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
            raise ModelError("the network gave numbers that are not finite; check the bundle")
        return RawPrediction(score, anomaly_map)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
