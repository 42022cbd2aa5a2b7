"""Makes ``import torchvision`` work beside a CPU-only torch.

The registries carry torchvision only as a CUDA-linked wheel. Its compiled library does not load
beside a CPU build of torch, and the import then fails because the operators ``nms`` and ``qnms``
are unknown. We use neither; declaring them is enough for models, transforms and data sets. Where
the compiled library loads (a GPU machine, a matching CPU build) this module declares nothing.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def declare_missing_operators() -> None:
    """Declare the operators that torchvision asks for, unless its own library brings them."""
    if _compiled_library_loads():
        return
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            _LIBRARY.define(schema)


def _compiled_library_loads() -> bool:
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return False
    libraries = list(Path(found.origin).parent.glob("_C*.so"))
    try:
        for library in libraries:
            torch.ops.load_library(library)
    except OSError:
        return False
    return bool(libraries)


_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
