"""The detector: the bundle's IR on OpenVINO, prepared pictures in, raw numbers out."""

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from edge.errors import BundleDamaged, ModelError
from edge.inspection.prediction import NOT_FINITE, RawPrediction
from edge.manifest import Bundle, Manifest


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
            BundleDamaged: the graph's inputs and outputs are not those the manifest names.
            ModelError: the IR cannot be compiled on this device.
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
        except RuntimeError as error:
            raise ModelError(
                f"{bundle.path}: OpenVINO {ov.__version__} cannot read it ({_last_line(error)}). "
                "Export the model again with this version."
            ) from error
        expected = _expected_ports(manifest)
        found = _ports(model, expected)
        if found != expected:
            raise BundleDamaged(
                f"{bundle.path}: the graph has {_listed(found)}; its manifest says "
                f"{_listed(expected)}. Copy all three files of the bundle again, or export it "
                "again."
            )
        try:
            compiled = core.compile_model(model, device, properties)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            raise ModelError(
                f"{bundle.path}: OpenVINO {ov.__version__} cannot compile it for {device} "
                f"({_last_line(error)}). Choose a device that this PC has, or export the model "
                "again with this version."
            ) from error
        # Views of the request's own tensors: shapes are static, so these never move.
        self._input = self._request.get_tensor("pictures").data
        self._map = self._request.get_tensor("anomaly_map").data
        self._score = (
            self._request.get_tensor("score").data if manifest.output.image_score else None
        )

    def predict(self, prepared: NDArray[np.uint8]) -> RawPrediction:
        """Run the network on one prepared picture.

        Args:
            prepared: ``(H, W, 3) uint8`` BGR as ``edge.preparation.prepare`` gives it.

        Returns:
            Score and a map that the caller owns.

        Raises:
            ModelError: inference failed, or the numbers are not finite.
            ValueError: the picture was not prepared for this model.
        """
        if prepared.shape != self._input.shape[1:] or prepared.dtype != np.uint8:
            raise ValueError(
                f"prepared picture is {prepared.dtype} {prepared.shape}, the model takes uint8 "
                f"{self._input.shape[1:]}; use edge.preparation.prepare with the bundle's input"
            )
        self._input[0] = prepared
        try:
            self._request.infer()
        except RuntimeError as error:
            raise ModelError(
                f"inference failed ({_last_line(error)}). Restart; if it stays, export the model "
                "again."
            ) from error
        anomaly_map = self._map[0].copy()
        score = anomaly_map.max() if self._score is None else self._score[0]
        prediction = RawPrediction(float(score), anomaly_map)
        if not prediction.is_finite():
            raise ModelError(NOT_FINITE)
        return prediction


def _expected_ports(manifest: Manifest) -> dict[str, str]:
    size, output = manifest.input, manifest.output
    ports = {
        "pictures": f"u8 [1,{size.height},{size.width},3]",
        "anomaly_map": f"f32 [1,{output.map_height},{output.map_width}]",
    }
    return ports | {"score": "f32 [1]"} if output.image_score else ports


def _ports(model: Any, expected: dict[str, str]) -> dict[str, str]:
    """Return type and shape of each input and output, under its expected name if it has that."""
    ports = {}
    for port in [*model.inputs, *model.outputs]:
        names = sorted(port.names)
        name = next((name for name in names if name in expected), "/".join(names) or "(unnamed)")
        ports[name] = f"{port.element_type.get_type_name()} {port.partial_shape}"
    return ports


def _listed(ports: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in sorted(ports.items())) or "nothing"


def _last_line(error: Exception) -> str:
    """Return the line of an OpenVINO error that says what happened; those above say where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
