"""From torch to ONNX to OpenVINO IR: uint8 NHWC images in, raw score and raw map out."""

import ast
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx as onnx_format
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino import opset13
from openvino.frontend import OpConversionFailure
from openvino.passes import ConstantFolding, Manager
from torch import nn

from edge.inspection.openvino_core import openvino_core
from edge.teaching.ir import serialized
from export.errors import ConversionFailed

INPUT = "pictures"
OUTPUTS = ("score", "anomaly_map")

# Where the exporter notes from which module of the model an operation came.
_SCOPES = "pkg.torch.onnx.name_scopes"

# Room for every tile of a frame; the runtime fixes the batch when it compiles.
_MAX_BATCH = 1024

# Numbers from which a constant is worth storing in half the bytes.
_TABLE = 1024

# What may be lost by that, as a share: what 16 bits round a number of their range by.
_ROUNDING = 2.0**-10

# What adds many numbers of a table up, or adds one to something else: one near zero does not count.
# Anything else may divide by it, or make it large again.
_ADDS_UP = frozenset(
    {"Add", "Convolution", "ConvolutionBackpropData", "Gather", "GroupConvolution", "MatMul"}
    | {"Subtract"}
)


def to_onnx(model: nn.Module, height: int, width: int, path: Path) -> None:
    """Write the model as ONNX with a free batch size.

    Raises:
        ConversionFailed: an operation has no ONNX form.
    """
    # A batch of one would be taken for a constant.
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    make_onnx(model, (example,), (INPUT,), OUTPUTS, path=path)


def make_onnx(
    model: nn.Module,
    examples: tuple[torch.Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    path: Path,
) -> None:
    """Write a model as ONNX; the batch of its first input stays free, the rest is fixed.

    Raises:
        ConversionFailed: an operation has no ONNX form.
    """
    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    for chatty in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                examples,
                dynamo=True,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=({0: batch}, *[None] * (len(examples) - 1)),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ConversionFailed(
            f"{type(model).__name__} cannot be written as ONNX ({error}). "
            "Replace the operation it names in the model file."
        ) from error
    assert program is not None
    program.save(str(path))


def read_layers(onnx: Path) -> dict[str, str]:
    """Return the module path of every operation, such as ``extractor.body.layer1.0.conv1``.

    An operation that the model's own ``forward`` does, outside its modules, has an empty path.

    Args:
        onnx: what ``to_onnx`` wrote; operations keep their names in ``to_openvino``.
    """
    graph = onnx_format.load(str(onnx), load_external_data=False).graph
    layers = {}
    for node in graph.node:
        scopes = {entry.key: entry.value for entry in node.metadata_props}.get(_SCOPES, "['']")
        *modules, _ = ast.literal_eval(scopes)
        weight = next((name for name in node.input if name.endswith(".weight")), None)
        # Of fused operations the weight says more than the module they were fused from.
        path = modules[-1] if modules else ""
        layers[node.name] = weight.removesuffix(".weight") if weight else path
    return layers


def stripped_onnx(onnx: Path) -> bytes:
    """Return an ONNX file without notes of where on this disk the model's source lies."""
    model = onnx_format.load(str(onnx))
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    return bytes(model.SerializeToString(deterministic=True))


def to_openvino(onnx: Path) -> ov.Model:
    """Convert an ONNX file; the batch stays free and constant parts are folded.

    Raises:
        ConversionFailed: an operation is unknown to OpenVINO; it is named.
    """
    try:
        # Not ov.convert_model: it reports its use over the network.
        model = openvino_core().read_model(onnx)
    except (RuntimeError, OpConversionFailure) as error:
        raise ConversionFailed(f"OpenVINO {ov.__version__} cannot convert it: {error}") from error
    # Biases and weights are recognised as such only when they are plain constants.
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    return model


def ir_bytes(
    model: ov.Model, height: int, width: int, half_weights: bool = False
) -> tuple[bytes, bytes]:
    """Fix the input to one image and serialise: the ``.xml`` and the ``.bin``.

    The same model gives the same bytes.

    Args:
        half_weights: store floating-point weights in 16 bits; the arithmetic stays as it is.
    """
    without_notes(model)
    model.reshape({model.inputs[0]: [1, height, width, 3]})
    if half_weights:
        store_floats_in_half(model)
    return serialized(model)


def store_floats_in_half(model: ov.Model) -> None:
    """Keep tables of 32-bit floats in 16 bits; what reads them gets 32 again.

    One that 16 bits have no room for stays: of too large, infinite or too small numbers.
    OpenVINO's own compression does nothing for a quantized graph, where they are half the size.
    """
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "Constant" or operation.get_element_type() != ov.Type.f32:
            continue
        values = operation.data
        if values.size < _TABLE or not np.abs(values).max() <= np.finfo(np.float16).max:
            continue
        readers = operation.output(0).get_target_inputs()
        half = values.astype(np.float16)
        adds_up = {reader.get_node().get_type_name() for reader in readers} <= _ADDS_UP
        if not _are_kept(values, half, each=not adds_up):
            continue
        restored = opset13.convert(opset13.constant(half), ov.Type.f32)
        for reader in readers:
            rows = half.ndim == 2 and reader.get_node().get_type_name() == "Gather"
            reader.replace_source_output((_make_row_table(half) if rows else restored).output(0))


def _make_row_table(half: NDArray[np.float16]) -> ov.Node:
    """Return a table in 32 bits whose rows are gathered.

    It is stored in columns: so OpenVINO widens it when it compiles the model, and not each row
    number by number whenever it is gathered.
    """
    columns = opset13.convert(opset13.constant(np.ascontiguousarray(half.T)), ov.Type.f32)
    return opset13.transpose(columns, opset13.constant([1, 0]))


def _are_kept(values: NDArray[np.float32], half: NDArray[np.float16], *, each: bool) -> bool:
    """Tell whether numbers are the same but for rounding, each of them or all together."""
    exact = values.astype(np.float64)
    lost = np.abs(half.astype(np.float64) - exact)
    if each:
        return bool((lost <= _ROUNDING * np.abs(exact)).all())
    return bool(np.linalg.norm(lost) <= _ROUNDING * np.linalg.norm(exact))


def without_notes(model: ov.Model) -> None:
    """Remove what a quantizer notes about itself: it may name times and places."""
    for note in ("nncf", "conversion_parameters", "optimization"):
        if model.has_rt_info([note]):
            del model.rt_info[note]
