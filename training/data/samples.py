"""What a data set is here: lists of images, each good or defective."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge.imaging.image_files import is_image
from edge.redaction import one_line
from training.data.synthetic_defects import Flaw
from training.transforms import RandomView

GOOD = "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image.

    Attributes:
        path: of the file that holds the image.
        kind: ``good``, or the name of the defect.
        mask: file with the defect's area; None if there is none.
        name: of the image within its set; empty where the file's own name tells it from others.
        group: images of one group lie on one side of every split: parts of one item, frames of
            one film. Empty where each image is its own.
        index: of the image in a file that holds many.
        mask_index: of the mask in a file that holds many.
        flaw: synthetic defect that is pasted into the image when it is read.
        view: random transforms that the image is learned through; never set outside the fit.
    """

    path: Path
    kind: str
    mask: Path | None = None
    name: str = ""
    group: str = ""
    index: int | None = None
    mask_index: int | None = None
    flaw: Flaw | None = None
    view: RandomView | None = None

    @property
    def is_defective(self) -> bool:
        return self.kind != GOOD

    @property
    def is_synthetic(self) -> bool:
        return self.flaw is not None

    @property
    def label(self) -> str:
        """What tables and messages call the image."""
        number = "" if self.index is None else f"#{self.index}"
        synthetic = f"~{self.flaw.kind}-{self.flaw.seed}" if self.flaw else ""
        return f"{one_line(str(self.path))}{number}{synthetic}"

    @property
    def identity(self) -> str:
        """Kind and name, whatever folder the set lies in."""
        return f"{self.kind}/{self.name or self.path.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Images by purpose; no image is in two of them.

    Attributes:
        name: of the data set, for the manifest.
        fit: good images the model learns from.
        validation: images that thresholds and normalization rest on.
        test: images that figures are quoted from.
        learned: defective images that the model learns beside the good ones.
    """

    name: str
    fit: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
    learned: tuple[Sample, ...] = ()


class DataSet(Protocol):
    """A data set on disk, read by a thin adapter.

    Attributes:
        name: for the manifest.
        stray_masks: masks whose image is missing.
        held_out_share: of the images to fit on that is kept for validation where the set brings
            no good validation images of its own.
        places: folders that hold the set and nothing else.
        other_files: what was read there beside images and their masks.
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

        Its validation may hold defective images only, or nothing.
        """

    def new_images(self) -> tuple[Sample, ...]:
        """Return all but published test images: what another model may be calibrated on."""


def images_in(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted by name; none if it does not exist."""
    return [path for path in _entries(folder) if path.is_file() and is_image(path)]


def images_below(folder: Path) -> list[Path]:
    """Return the image files of a folder and its sub-folders, sorted by path.

    Hidden folders are not entered, and a folder that links lead to twice only once.
    """
    found = [path for inner in folders_below(folder) for path in images_in(inner)]
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
