"""Training: data sets, algorithms, fits and their reports.

The names in ``__all__`` are the Python API, described in docs/api.md; each is loaded when it is
first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import edge  # noqa: F401 (switches telemetry off before torch and Lightning are loaded)

if TYPE_CHECKING:
    from training.api import FittedModel, Model, data_set

__all__ = ["FittedModel", "Model", "data_set"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("training.api"), name)
