"""The algorithms, registered once by name; everything else finds them here."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from training.errors import SettingError


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Where an algorithm lives; its module is imported only when it is used."""

    name: str
    module: str
    model: str
    settings: str

    def model_class(self) -> Any:
        return getattr(import_module(self.module), self.model)

    def settings_class(self) -> Any:
        return getattr(import_module(self.module), self.settings)


_ALGORITHMS = (
    Algorithm("padim", "training.models.padim", "PaDiM", "PaDiMSettings"),
    Algorithm("patchcore", "training.models.patchcore", "PatchCore", "PatchCoreSettings"),
)

ALGORITHMS = {algorithm.name: algorithm for algorithm in _ALGORITHMS}


def find_algorithm(name: str) -> Algorithm:
    """Return a registered algorithm.

    Raises:
        SettingError: there is none of that name; the message lists those that exist.
    """
    if name not in ALGORITHMS:
        raise SettingError(
            f"algorithm {name!r} does not exist. There are: {', '.join(sorted(ALGORITHMS))}."
        )
    return ALGORITHMS[name]
