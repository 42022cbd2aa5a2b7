"""What several verbs make of their options."""

import argparse
from pathlib import Path
from typing import Any

from edge.atomic_files import check_writable
from training.config import DATA_OPTIONS, parse_assignments
from training.data.settings import DataSettings
from training.errors import SettingError


def fit_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a fit as ``load_config`` takes them; None where not given.

    Raises:
        SettingError: ``--set`` without a value.
    """
    return {
        "data": arguments.data,
        **data_options(arguments),
        "algorithm": arguments.algorithm,
        "backbone": arguments.backbone,
        "weights": arguments.weights,
        "weights_licence": arguments.weights_licence,
        "image_size": arguments.image_size,
        "tile": arguments.tile,
        "overlap": arguments.overlap,
        "crop": _named(("x", "y", "width", "height"), arguments.crop),
        "align": arguments.align,
        "reference": arguments.reference,
        "mask": arguments.mask,
        "roi": arguments.roi,
        "likeness": arguments.likeness,
        "outside": arguments.outside,
        "scale": arguments.scale,
        "levels": _named(("black", "white"), arguments.levels),
        "validate_on": arguments.validate_on,
        "threshold": arguments.threshold,
        "check_good": False if getattr(arguments, "no_check_good", False) else None,
        "strict": True if getattr(arguments, "strict", False) else None,
        "confirm_good": tuple(getattr(arguments, "confirm_good", ())) or None,
        "track": tuple(arguments.track) or None,
        "hyperparameters": parse_assignments(arguments.set),
        "seed": arguments.seed,
        "device": arguments.device,
    }


def data_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how the data are to be used; None where not said."""
    given = {name: getattr(arguments, name, None) for name in DATA_OPTIONS}
    return {name: value or None for name, value in given.items()}


def data_settings(arguments: argparse.Namespace, known: dict[str, Any], path: Path) -> DataSettings:
    """Return the data of a verb that takes a checkpoint.

    Args:
        known: notes of the fit; layout and category hold on for the same folder.
        path: of the folder.

    Raises:
        SettingError: an option out of range.
    """
    given = {name: value for name, value in data_options(arguments).items() if value is not None}
    layout = {name: known[name] for name in ("layout", "category") if name in known}
    try:
        return DataSettings.model_validate({**layout, **given, "path": path})
    except ValueError as error:
        raise SettingError(f"--data: {error}") from error


def check_outputs(outputs: dict[str, Path | None], kept: Path | None = None) -> None:
    """Find out before long work whether files can be written, each to a place of its own.

    Args:
        outputs: what is written, by what it is; None for what was not asked for.
        kept: a file that is read and must not be written over.

    Raises:
        SettingError: two are the same file, or one is that which is read.
        OutputNotWritable: folder or disk refuses one.
    """
    taken: dict[Path, str] = {} if kept is None else {kept.resolve(): "the file that is read"}
    for what, path in outputs.items():
        if path is None:
            continue
        other = taken.setdefault(path.resolve(), what)
        if other != what:
            raise SettingError(
                f"{path}: {what} would take the place of {other}. Give each a name of its own, for "
                "example a checkpoint one that ends in .safetensors."
            )
        check_writable(path)


def _named(names: tuple[str, ...], values: list[int] | None) -> dict[str, int] | None:
    return None if values is None else dict(zip(names, values, strict=True))
