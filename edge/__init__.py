"""The inspection runtime: camera to verdict. Needs none of the training libraries.

The names in ``__all__`` are the Python API, described in docs/api.md. Each is loaded when it is
first used: ``import edge`` alone loads no other library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge.system.no_telemetry import switch_off_telemetry

if TYPE_CHECKING:
    from edge.api import InspectionModel, load_model
    from edge.bundle.loading import Bundle, load_bundle
    from edge.errors import StationError
    from edge.imaging.image_files import read_image, write_image
    from edge.inspection.criteria import Limits
    from edge.inspection.decision import Result
    from edge.inspection.inspector import Inspection
    from edge.inspection.overlay import draw_overlay

__version__ = "0.2.0"

__all__ = [
    "Bundle",
    "Inspection",
    "InspectionModel",
    "Limits",
    "Result",
    "StationError",
    "__version__",
    "draw_overlay",
    "load_bundle",
    "load_model",
    "read_image",
    "write_image",
]

_PLACES = {
    "Bundle": "edge.bundle.loading",
    "Inspection": "edge.inspection.inspector",
    "InspectionModel": "edge.api",
    "Limits": "edge.inspection.criteria",
    "Result": "edge.inspection.decision",
    "StationError": "edge.errors",
    "draw_overlay": "edge.inspection.overlay",
    "load_bundle": "edge.bundle.loading",
    "load_model": "edge.api",
    "read_image": "edge.imaging.image_files",
    "write_image": "edge.imaging.image_files",
}

switch_off_telemetry()  # before any library that would phone home


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
