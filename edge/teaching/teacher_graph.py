"""The teacher's graph on OpenVINO: features of an image, scores by a bank, and the bank laid in."""

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13
from openvino.passes import ConstantFolding, Manager

from edge.bundle.teacher import (
    AXES,
    BANK,
    CENTRE,
    FEATURES,
    IMAGE,
    MAP,
    SCORE,
    Teacher,
    TeacherManifest,
)
from edge.errors import BundleDamaged, ModelError
from edge.inspection.graph_ports import find_ports, last_line, listed
from edge.inspection.openvino_core import openvino_core
from edge.inspection.predictor import NOT_FINITE, RawPrediction
from edge.teaching.ir import serialized
from edge.teaching.memory_bank import MemoryBank

Image = NDArray[np.uint8]


class TeacherGraph:
    """A teacher's graph, read and checked; each part of it is compiled when it is asked for."""

    def __init__(self, teacher: Teacher, threads: int) -> None:
        """Read the graph.

        Args:
            threads: of inference, at most.

        Raises:
            BundleDamaged: its inputs and outputs are not those that its manifest names.
            ModelError: OpenVINO cannot read it.
        """
        self.manifest = teacher.manifest
        self._teacher = teacher
        self._threads = threads
        model = self._read()
        expected = _expected_ports(teacher.manifest)
        found = find_ports(model, expected)
        if found != expected:
            raise BundleDamaged(
                f"{teacher.path}: the graph has {listed(found)}; its manifest says "
                f"{listed(expected)}. Copy all three files of the teacher again, or make it again."
            )

    def features(self) -> "PatchFeatures":
        """Compile what gives features.

        Raises:
            ModelError: OpenVINO cannot compile it here.
        """
        model = self._read()
        part = ov.Model([model.output(FEATURES)], [model.input(IMAGE).get_node()])
        return PatchFeatures(self._compiled(part))

    def judge(self) -> "BankJudge":
        """Compile what compares with a bank that may change.

        Raises:
            ModelError: OpenVINO cannot compile it here.
        """
        return BankJudge(self._compiled(_without_features(self._read())), self.manifest)

    def laid_in(self, bank: MemoryBank) -> tuple[bytes, bytes]:
        """Return the graph with a bank as constants: the ``.xml`` and ``.bin`` of a bundle."""
        model = _without_features(self._read())
        lay_in(model, _inputs(bank, self.manifest))
        # Automatic names count up through the process, whatever it made before.
        model.set_friendly_name("taught")
        return serialized(model)

    def _read(self) -> ov.Model:
        try:
            weights = np.frombuffer(self._teacher.weights, np.uint8)
            return openvino_core().read_model(self._teacher.xml, ov.Tensor(weights))
        except RuntimeError as error:
            raise ModelError(
                f"{self._teacher.path}: OpenVINO {ov.__version__} cannot read it "
                f"({last_line(error)}). Make the teacher again with this version."
            ) from error

    def _compiled(self, model: ov.Model) -> Any:
        try:
            return openvino_core().compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": self.manifest.inference,
                    "INFERENCE_NUM_THREADS": self._threads,
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": 1,
                    "ENABLE_CPU_PINNING": False,
                },
            )
        except RuntimeError as error:
            raise ModelError(
                f"{self._teacher.path}: OpenVINO {ov.__version__} cannot compile it "
                f"({last_line(error)}). Make the teacher again with this version."
            ) from error


class PatchFeatures:
    """Gives the features of prepared images, one at a time."""

    def __init__(self, compiled: Any) -> None:
        """Take a compiled graph from images to features."""
        self._request = compiled.create_infer_request()

    def of(self, image: Image) -> NDArray[np.float32]:
        """Return the ``(P, C)`` patches of a prepared ``(H, W, 3)`` image.

        Raises:
            ModelError: inference failed, or gave numbers that are not finite.
        """
        found = _inferred(self._request, image)[FEATURES][0].copy()
        if not np.isfinite(found).all():
            raise ModelError(NOT_FINITE)
        return found


class BankJudge:
    """Gives the scores of prepared images by a bank."""

    def __init__(self, compiled: Any, manifest: TeacherManifest) -> None:
        """Take a compiled graph from images and a bank to score and map."""
        self._request = compiled.create_infer_request()
        self._manifest = manifest

    def compare_with(self, bank: MemoryBank) -> None:
        """Judge by this bank from now on."""
        for name, values in _inputs(bank, self._manifest).items():
            self._request.set_tensor(name, ov.Tensor(values))

    def judge(self, image: Image) -> RawPrediction:
        """Return score and map of a prepared ``(H, W, 3)`` image.

        Raises:
            ModelError: inference failed, or gave numbers that are not finite.
        """
        found = _inferred(self._request, image)
        raw = RawPrediction(float(found[SCORE][0]), found[MAP][0].copy())
        if not raw.is_finite():
            raise ModelError(NOT_FINITE)
        return raw


def lay_in(model: ov.Model, inputs: dict[str, NDArray[np.float32]]) -> None:
    """Exchange inputs of a graph for constants, and fold what they determine.

    Nothing else is folded: the weights of a graph in INT8 stay integers.
    """
    for name, values in inputs.items():
        parameter = model.input(name).get_node()
        constant = opset13.constant(values)
        constant.set_friendly_name(name)
        parameter.output(0).replace(constant.output(0))
        model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()
    found = _determined_by(model, set(inputs))
    folded = ov.Model(found, []).clone()
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(folded)
    for output, result in zip(found, folded.get_results(), strict=True):
        known = result.input_value(0).get_node()
        if known.get_type_name() == "Constant":
            output.replace(opset13.constant(known.get_data()).output(0))
    model.validate_nodes_and_infer_types()


def _determined_by(model: ov.Model, names: set[str]) -> list[Any]:
    """Return the outputs that constants of these names determine, and that others go on with."""
    determined, constant = set(names), set()
    for node in model.get_ordered_ops():
        sources = {value.get_node().get_friendly_name() for value in node.input_values()}
        if node.get_type_name() == "Constant":
            constant.add(node.get_friendly_name())
        elif sources & determined and sources <= determined | constant:
            determined.add(node.get_friendly_name())
    return [
        output
        for node in model.get_ordered_ops()
        if node.get_friendly_name() in determined and node.get_type_name() != "Constant"
        for output in node.outputs()
        if any(
            reader.get_node().get_friendly_name() not in determined
            for reader in output.get_target_inputs()
        )
    ]


def _inputs(bank: MemoryBank, manifest: TeacherManifest) -> dict[str, NDArray[np.float32]]:
    whole = bank.padded(*manifest.bank_shape)
    return {AXES: whole.axes, CENTRE: whole.centre, BANK: whole.vectors}


def _without_features(model: ov.Model) -> ov.Model:
    return ov.Model([model.output(SCORE), model.output(MAP)], model.get_parameters())


def _inferred(request: Any, image: Image) -> dict[str, NDArray[np.float32]]:
    try:
        request.infer({IMAGE: image[None]})
    except RuntimeError as error:
        raise ModelError(
            f"inference failed ({last_line(error)}). Try again; if the error remains, "
            "make the teacher again."
        ) from error
    return {
        name: request.get_tensor(name).data
        for port in request.model_outputs
        for name in port.names
        if name in (SCORE, MAP, FEATURES)
    }


def _expected_ports(manifest: TeacherManifest) -> dict[str, str]:
    size, output = manifest.input, manifest.output
    count, width = manifest.bank_shape
    cells = output.map_height * output.map_width
    return {
        IMAGE: f"u8 [1,{size.height},{size.width},3]",
        AXES: f"f32 [{width},{width}]",
        CENTRE: f"f32 [{width}]",
        BANK: f"f32 [{count},{width}]",
        SCORE: "f32 [1]",
        MAP: f"f32 [1,{output.map_height},{output.map_width}]",
        FEATURES: f"f32 [1,{cells},{width}]",
    }
