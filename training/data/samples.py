"""What a data set is here: lists of pictures, each good or defective."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge.imaging.image_files import is_picture
from edge.redaction import readable
from training.data.synthetic_defects import Flaw
from training.transforms import View

GOOD = "good"


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture.

    Attributes:
        path: of the file that holds the picture.
        kind: ``good``, or the name of the defect.
        mask: file with the defect's area; None if there is none.
        name: of the picture within its set; empty where the file's own name tells it from others.
        group: pictures of one group lie on one side of every split: parts of one item, frames of
            one film. Empty where each picture is its own.
        index: of the picture in a file that holds many.
        mask_index: of the mask in a file that holds many.
        flaw: synthetic defect that is pasted into the picture when it is read.
        view: random transforms that the picture is learned through; never set outside the fit.
    """

    path: Path
    kind: str
    mask: Path | None = None
    name: str = ""
    group: str = ""
    index: int | None = None
    mask_index: int | None = None
    flaw: Flaw | None = None
    view: View | None = None

    @property
    def is_defective(self) -> bool:
        return self.kind != GOOD

    @property
    def is_synthetic(self) -> bool:
        return self.flaw is not None

    @property
    def label(self) -> str:
        """What tables and messages call the picture."""
        number = "" if self.index is None else f"#{self.index}"
        synthetic = f"~{self.flaw.kind}-{self.flaw.seed}" if self.flaw else ""
        return f"{readable(str(self.path))}{number}{synthetic}"

    @property
    def identity(self) -> str:
        """Kind and name, whatever folder the set lies in."""
        return f"{self.kind}/{self.name or self.path.name}"


@dataclass(frozen=True, slots=True)
class Splits:
    """Pictures by purpose; no picture is in two of them.

    Attributes:
        name: of the data set, for the manifest.
        fit: good pictures the model learns from.
        validation: pictures that thresholds and normalization rest on.
        test: pictures that figures are quoted from.
    """

    name: str
    fit: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]


class DataSet(Protocol):
    """A data set on disk, read by a thin adapter.

    Attributes:
        name: for the manifest.
        stray_masks: masks whose picture is missing.
        held_out_share: of the pictures to fit on that is kept for validation where the set brings
            no good validation pictures of its own.
        places: folders that hold the set and nothing else.
        other_files: what was read there beside pictures and their masks.
    """

    @property
    def name(self) -> str: ...
    @property
    def stray_masks(self) -> Sequence[Path]: ...
    @property
    def held_out_share(self) -> float: ...
    @property
    def places(self) -> Sequence[Path]: ...
    @property
    def other_files(self) -> Sequence[Path]: ...

    def split(self, seed: int) -> Splits:
        """Return the published splits, or splits drawn by the seed.

        Its validation may hold defective pictures only, or nothing.
        """

    def new_pictures(self) -> tuple[Sample, ...]:
        """Return all but published test pictures: what another model may be calibrated on."""


def pictures_in(folder: Path) -> list[Path]:
    """Return the picture files directly in a folder, sorted by name; none if it does not exist."""
    return [path for path in _entries(folder) if path.is_file() and is_picture(path)]


def pictures_below(folder: Path) -> list[Path]:
    """Return the picture files of a folder and its sub-folders, sorted by path.

    Hidden folders are not entered, and a folder that links lead to twice only once.
    """
    found = [path for inner in folders_below(folder) for path in pictures_in(inner)]
    return sorted(found)


def folders_below(folder: Path) -> list[Path]:
    """Return a folder and all in it, each once; hidden ones only where they are asked for."""
    found: dict[tuple[int, int], Path] = {}
    waiting = [folder] if folder.is_dir() else []
    linked: list[Path] = []  # after all others: a folder keeps its own name
    while waiting or linked:
        inner = waiting.pop() if waiting else linked.pop()
        state = inner.stat()
        if found.setdefault((state.st_dev, state.st_ino), inner) is inner:
            for entry in subfolders(inner):
                (linked if entry.is_symlink() else waiting).append(entry)
    return sorted(found.values())


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones."""
    return [path for path in _entries(folder) if path.is_dir() and not path.name.startswith(".")]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
