"""Makes ``import torchvision`` work beside a CPU-only torch, and without loading a compiler.

The registries carry torchvision only as a CUDA-linked wheel. Its compiled library does not load
beside a CPU build of torch, and the import then fails because the operators ``nms`` and ``qnms``
are unknown. We use neither; declaring them is enough for models, transforms and data sets. Where
the compiled library loads (a GPU machine, a matching CPU build) this module declares nothing.

For its RoI align, which is none of our layers, torchvision imports torch's compiler
(``torch._dynamo``): 800 modules, the longest part of the start of every command.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

_COMPILER = "torch._dynamo"
_ASKED_FOR = "torch._dynamo.utils"


def load_torchvision() -> None:
    """Import torchvision; whatever is imported from it afterwards is already prepared."""
    declare_missing_operators()
    with _compiler_delayed():
        importlib.import_module("torchvision")


@contextmanager
def _compiler_delayed() -> Iterator[None]:
    """Let ``torch._dynamo`` be imported in name only, unless it is there already."""
    if _COMPILER in sys.modules:
        yield
        return
    package, utilities = _Delayed(_COMPILER), _Delayed(_ASKED_FOR)
    package.__path__ = []
    utilities.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update({_COMPILER: package, _ASKED_FOR: utilities})
    try:
        yield
    finally:
        _drop(package, utilities)


class _Delayed(ModuleType):
    """Stands for a module; the first question for a name that it lacks loads the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system itself looks for
            raise AttributeError(name)
        _drop(*(module for module in sys.modules.values() if isinstance(module, _Delayed)))
        return getattr(importlib.import_module(self.__name__), name)


def _drop(*modules: ModuleType) -> None:
    for module in modules:
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(_ASKED_FOR).is_compile_supported(device_type))


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
