"""Conversions and graphs that many tests of exports begin with, made once."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import openvino as ov
from torch import Tensor, nn

from edge.teaching.ir import serialized
from export.engines import openvino_engine
from export.ir import make_onnx, to_onnx
from export.parity_gate import Engine
from export.quantization import Images, Quantizable, QuantizationRecipe, quantize
from tests.support.shared_files import done_once
from training.tensor_hash import tensors_sha256

_ADDRESS = re.compile(" at 0x[0-9a-f]+")


def to_onnx_once(model: nn.Module, height: int, width: int, path: Path, *, shared: Path) -> None:
    """Write what ``to_onnx`` wrote of an equal model before: its bytes are always the same.

    test_exporting_int8_twice_gives_the_same_bytes holds that, and converts anew.
    """
    name = f"{_identity(model)}-{width}x{height}.onnx"
    made = done_once(shared, name, lambda part: to_onnx(model, height, width, part))
    path.write_bytes(made.read_bytes())


def make_onnx_once(
    model: nn.Module,
    examples: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    path: Path,
    shared: Path,
) -> None:
    """Write what ``make_onnx`` wrote of an equal model, and equal names and shapes, before."""
    asked = f"{[example.shape for example in examples]} {[*inputs, *outputs]}"
    digest = hashlib.sha256(f"{_identity(model)} {asked}".encode()).hexdigest()
    made = done_once(
        shared,
        f"{digest}.onnx",
        lambda part: make_onnx(model, examples, inputs, outputs, path=part),
    )
    path.write_bytes(made.read_bytes())


@lru_cache(maxsize=64)
def openvino_engine_once(xml: bytes, weights: bytes, precision: str, device: str = "CPU") -> Engine:
    """Return the engine that ran equal bytes before: it keeps nothing but what it compiled.

    test_exporting_int8_twice_gives_the_same_bytes compiles anew.
    """
    return openvino_engine(xml, weights, precision, device)


class QuantizedOnce:
    """Gives what ``quantize`` gave for equal arguments before, as its docstring has it.

    test_exporting_int8_twice_gives_the_same_bytes holds that, and quantizes anew.
    """

    def __init__(self) -> None:
        self._made: dict[str, ov.Model] = {}

    def __call__(
        self, subject: Quantizable, calibration: Images, recipe: QuantizationRecipe
    ) -> ov.Model:
        """Return a quantized model of the caller's own."""
        graph = subject.model.clone()
        # Some operations are named by how many the process had made before.
        layers = [subject.layer(operation) for operation in graph.get_ordered_ops()]
        xml, weights = serialized(graph)
        asked = f"{layers} {subject.floating} {subject.mean_corrected} {recipe} {calibration.shape}"
        content = b"\0".join((xml, weights, calibration.tobytes(), asked.encode()))
        key = hashlib.sha256(content).hexdigest()
        if key not in self._made:
            self._made[key] = quantize(subject, calibration, recipe)
        return self._made[key].clone()


def _identity(model: nn.Module) -> str:
    """Return a hash of the modules of a model, their settings and all tensors."""
    plain = vars(nn.Module()).keys()
    traits = [
        (path, type(module).__qualname__, name, _ADDRESS.sub("", repr(value)))
        for path, module in model.named_modules()
        for name, value in sorted(vars(module).items())
        if name not in plain or name == "training"
    ]
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    return hashlib.sha256(f"{traits} {tensors_sha256(tensors)}".encode()).hexdigest()
