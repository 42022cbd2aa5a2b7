"""Loads and builds what torch needs for a first conversion to ONNX, so that others begin with it.

``warm_start`` imports this once, before it forks the workers of a run. It takes as long as three
conversions of the small models of tests.
"""

from functools import cache

import onnxscript.function_libs.torch_lib.ops
import onnxscript.optimizer  # noqa: F401
import torch
from torch import Tensor, nn
from torch.onnx._internal.exporter._registration import ONNXRegistry


class Mean(nn.Module):
    """Nearly no model."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        brightness = images.float().mean(3)
        return brightness.mean((1, 2)), brightness


# Each conversion builds the table of all operators anew; it is the same one every time.
ONNXRegistry.from_torchlib = staticmethod(cache(ONNXRegistry.from_torchlib))
ONNXRegistry.from_torchlib(opset_version=torch.onnx._constants.ONNX_DEFAULT_OPSET)

# No more than this of a conversion: the rest begins a thread, which a fork would lose.
with torch.no_grad():
    torch.export.export(
        Mean(),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8),),
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=8)},),
    )
