"""Export: from a checkpoint to a verified model bundle.

The names in ``__all__`` are the Python API, described in docs/api.md; each is loaded when it is
first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import edge  # noqa: F401 (switches telemetry off before OpenVINO, NNCF and ONNX Runtime are loaded)

if TYPE_CHECKING:
    from export.bundle import ExportRequest, export_bundle
    from export.variants import ExportPrecision

__all__ = ["ExportPrecision", "ExportRequest", "export_bundle"]

_PLACES = {"ExportPrecision": "export.variants"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES.get(name, "export.bundle")), name)
