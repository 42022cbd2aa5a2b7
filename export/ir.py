"""From torch to ONNX to OpenVINO IR: uint8 NHWC pictures in, raw score and raw map out."""

import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import openvino as ov
import torch
from openvino.frontend import OpConversionFailure
from torch import nn

from export.errors import ConversionFailed

INPUT = "pictures"
OUTPUTS = ("score", "anomaly_map")

# Room for every tile of a frame; the runtime fixes the batch when it compiles.
_LARGEST_BATCH = 1024


def to_onnx(model: nn.Module, height: int, width: int, path: Path) -> None:
    """Write the model as ONNX with a free batch size.

    Raises:
        ConversionFailed: an operation has no ONNX form.
    """
    # A batch of one would be taken for a constant.
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    for chatty in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: batch},),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ConversionFailed(
            f"{type(model).__name__} cannot be written as ONNX ({error}). "
            "Replace the operation it names in the model file."
        ) from error
    assert program is not None
    program.save(str(path))


def to_openvino(onnx: Path) -> ov.Model:
    """Convert an ONNX file; the batch stays free.

    Raises:
        ConversionFailed: an operation is unknown to OpenVINO.
    """
    try:
        # Not ov.convert_model: it reports its use over the network.
        return ov.Core().read_model(onnx)
    except (RuntimeError, OpConversionFailure) as error:
        raise ConversionFailed(f"OpenVINO {ov.__version__} cannot convert it: {error}") from error


def ir_bytes(model: ov.Model, height: int, width: int) -> tuple[bytes, bytes]:
    """Fix the input to one picture and serialise: the ``.xml`` and the ``.bin``.

    Weights stay in float32: rounding them belongs to quantization, where its cost is measured.
    The same model gives the same bytes.
    """
    model.reshape([1, height, width, 3])
    # Automatic names count up through the process, whatever it converted before.
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
    with TemporaryDirectory() as folder:
        xml = Path(folder) / "model.xml"
        ov.save_model(model, xml, compress_to_fp16=False)
        return xml.read_bytes(), xml.with_suffix(".bin").read_bytes()
