"""Where figures of a fit are logged: CSV, TensorBoard, Weights & Biases, behind one interface."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TextIO

from edge.atomic_files import refuse_foreign_links
from edge.csv_table import write_rows
from edge.errors import OutputNotWritable
from edge.system.process_start import READABLE
from training.errors import SettingError

FORMS = "csv:FILE, tensorboard:FOLDER or wandb:PROJECT"


class Tracker(Protocol):
    """Takes in figures while they come up."""

    def start(self, settings: Mapping[str, Any]) -> None:
        """Take in what was asked for, once, before any figure."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take in figures of a step: an epoch, or a trial."""

    def close(self) -> None:
        """Finish; nothing is logged afterwards."""


class CsvTracker:
    """A table with the columns step, name, value; each line is on disk when ``log`` returns.

    Not lightning-fabric's CSVLogger: that one chooses the file's name, removes the table before,
    takes no settings, and writes the whole file anew for every new figure.
    """

    def __init__(self, path: Path) -> None:
        """Begin the table anew.

        Raises:
            OutputNotWritable: folder or disk refused it.
        """
        self._file = _opened(path)
        write_rows(self._file, [["step", "name", "value"]])

    def start(self, settings: Mapping[str, Any]) -> None:
        self._write(0, {f"setting/{name}": value for name, value in settings.items()})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._write(step, values)

    def close(self) -> None:
        self._file.close()

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        write_rows(self._file, ([step, name, value] for name, value in values.items()))
        self._file.flush()


class TensorBoardTracker:
    """Event files for ``tensorboard --logdir FOLDER``."""

    def __init__(self, folder: Path) -> None:
        """Begin an event file.

        Raises:
            OutputNotWritable: the folder cannot be made.
        """
        # lightning-fabric's loggers import torch and tensorboard, which only this tracker needs.
        from lightning_fabric.loggers import TensorBoardLogger

        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputNotWritable(
                f"{folder}: cannot be made ({error.strerror}). Check its parent and permissions."
            ) from error
        # Without a name and a version, so that the events lie in the folder itself.
        self._logger = TensorBoardLogger(folder.absolute(), name="", version="")

    def start(self, settings: Mapping[str, Any]) -> None:
        table = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
        text = f"| setting | value |\n|---|---|\n{table}"
        self._logger.experiment.add_text("settings", text)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._logger.log_metrics(values, step)
        self._logger.save()

    def close(self) -> None:
        self._logger.finalize("success")


class WandbTracker:
    """A run of Weights & Biases; offline unless ``WANDB_MODE`` says otherwise."""

    def __init__(self, project: str) -> None:
        """Begin a run.

        Raises:
            SettingError: wandb is not installed; it is no dependency of ours.
        """
        try:
            wandb = import_module("wandb")
        except ModuleNotFoundError as error:
            raise SettingError(
                "wandb is not installed. Run: pip install wandb, or track with csv: or "
                "tensorboard:."
            ) from error
        # A fit uses no network by itself: `wandb sync` uploads the run when somebody wants it.
        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(project=project, mode=mode, reinit="create_new")

    def start(self, settings: Mapping[str, Any]) -> None:
        self._run.config.update(dict(settings), allow_val_change=True)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackers:
    """Several trackers as one; none at all is fine."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers
        self._step = 0

    def start(self, settings: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.start(settings)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._step = step
        for tracker in self._trackers:
            tracker.log(step, values)

    def log_result(self, values: Mapping[str, float]) -> None:
        """Take in figures of the end, at the latest step: a step never goes back."""
        self.log(self._step, values)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_trackers(places: Sequence[str]) -> Trackers:
    """Open trackers by name, for example ``csv:losses.csv``.

    Raises:
        SettingError: no such tracker, or nothing after the colon.
        OutputNotWritable: its file or folder cannot be made.
    """
    return Trackers([_open(place) for place in places])


def read_numbers(document: Mapping[str, Any]) -> dict[str, float]:
    """Return the plain numbers of a document of figures; what is not known is left out."""
    return {
        name: float(value)
        for name, value in document.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _open(place: str) -> Tracker:
    kind, _, where = place.partition(":")
    if kind not in ("csv", "tensorboard", "wandb") or not where:
        raise SettingError(f"track {place!r}: give {FORMS}.")
    if kind == "csv":
        return CsvTracker(Path(where))
    if kind == "tensorboard":
        return TensorBoardTracker(Path(where))
    return WandbTracker(where)


def _opened(path: Path) -> TextIO:
    refuse_foreign_links(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", newline="", encoding="utf-8", errors=READABLE)
    except OSError as error:
        raise OutputNotWritable(
            f"{path}: cannot be written ({error.strerror}). Check its folder and permissions."
        ) from error
