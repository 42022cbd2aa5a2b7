"""The algorithms, registered once by name; everything else finds them here.

An installed package adds its own by an entry point, and every verb takes it like ours::

    [project.entry-points."inspection_station.algorithms"]
    my_algorithm = "my_package.my_model:MyModel"

Beside ``MyModel``, an ``AnomalyModel``, lies ``MyModelSettings``, a frozen dataclass with defaults.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

from training.errors import SettingError

ENTRY_POINTS = "inspection_station.algorithms"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Where an algorithm lives; its module is imported only when it is used.

    Attributes:
        model: class in the module; its hyperparameters are the class of that name + ``Settings``.
        origin: distribution it comes with.
    """

    name: str
    module: str
    model: str
    origin: str = "inspection-station"

    def model_class(self) -> Any:
        return self._member(self.model)

    def settings_class(self) -> Any:
        return self._member(f"{self.model}Settings")

    def _member(self, name: str) -> Any:
        try:
            return getattr(import_module(self.module), name)
        except (ImportError, AttributeError) as error:
            raise SettingError(
                f"algorithm {self.name!r} of {self.origin} cannot be used ({error}). Install what "
                f"it needs, or correct its entry point {self.module}:{self.model}."
            ) from error


_ALGORITHMS = (
    Algorithm("cflow", "training.models.cflow", "CFLOW"),
    Algorithm("dfkde", "training.models.dfkde", "DFKDE"),
    Algorithm("dfm", "training.models.dfm", "DFM"),
    Algorithm("efficientad", "training.models.efficientad", "EfficientAD"),
    Algorithm("fastflow", "training.models.fastflow", "FastFlow"),
    Algorithm("ganomaly", "training.models.ganomaly", "GANomaly"),
    Algorithm("padim", "training.models.padim", "PaDiM"),
    Algorithm("patchcore", "training.models.patchcore", "PatchCore"),
    Algorithm(
        "reverse_distillation", "training.models.reverse_distillation", "ReverseDistillation"
    ),
    Algorithm("stfpm", "training.models.stfpm", "STFPM"),
    Algorithm("supersimplenet", "training.models.supersimplenet", "SuperSimpleNet"),
)

ALGORITHMS = {algorithm.name: algorithm for algorithm in _ALGORITHMS}


def find_algorithm(name: str) -> Algorithm:
    """Return a registered algorithm, ours or an installed package's.

    Raises:
        SettingError: there is none of that name, or two; the message lists those that exist.
    """
    known = all_algorithms()
    if name == "auto":
        raise SettingError(
            "algorithm 'auto' chooses one for a fit, after all else is set. Here name those that "
            f"are to be compared, of {', '.join(sorted(known))}."
        )
    if name not in known:
        raise SettingError(
            f"algorithm {name!r} does not exist. There are: {', '.join(sorted(known))}."
        )
    return known[name]


def all_algorithms() -> dict[str, Algorithm]:
    """Return all algorithms by name, ours and those of installed packages.

    Raises:
        SettingError: two of one name.
    """
    return ALGORITHMS | plug_ins(_installed(tuple(sys.path)))


@cache
def _installed(_: tuple[str, ...]) -> EntryPoints:
    """Return the entry points of all packages on a search path.

    A fit asks ten times, and reading the notes of every package would take a tenth of a small one.
    """
    return entry_points(group=ENTRY_POINTS)


def plug_ins(points: Iterable[EntryPoint]) -> dict[str, Algorithm]:
    """Return the algorithms of entry points by name; nothing of them is imported.

    Raises:
        SettingError: a name is taken already.
    """
    found: dict[str, Algorithm] = {}
    for point in points:
        origin = point.dist.name if point.dist is not None else point.value
        added = Algorithm(point.name, point.module, point.attr, origin)
        taken = {**ALGORITHMS, **found}.get(point.name)
        if taken is not None and taken != added:
            raise SettingError(
                f"algorithm {point.name!r} comes both with {taken.origin} and with {origin}. "
                "Uninstall one of them."
            )
        found[point.name] = added
    return found
