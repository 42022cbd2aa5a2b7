"""What a data set is here: lists of pictures, each good or defective."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge.pictures import is_picture
from training.data.synthetic_defects import Flaw
from training.errors import DataError
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
        return f"{self.path}{number}{synthetic}"

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
    """

    @property
    def name(self) -> str: ...
    @property
    def stray_masks(self) -> Sequence[Path]: ...
    @property
    def held_out_share(self) -> float: ...

    def split(self, seed: int) -> Splits:
        """Return the published splits, or splits drawn by the seed.

        Its validation may hold defective pictures only, or nothing.
        """

    def new_pictures(self) -> tuple[Sample, ...]:
        """Return all but published test pictures: what another model may be calibrated on."""


def pictures_in(folder: Path) -> list[Path]:
    """Return the picture files directly in a folder, sorted by name; none if it does not exist."""
    return [path for path in _entries(folder) if path.is_file() and is_picture(path)]


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones."""
    return [path for path in _entries(folder) if path.is_dir() and not path.name.startswith(".")]


def split_off(
    samples: Iterable[Sample], share: float, seed: int, purpose: str
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split samples in two by a hash of kind and name.

    Each picture, or group of pictures, draws its own lot, so it stays on its side when others are
    added, when the folder moves and whatever the order. Only where all lots fall on one side, one
    must cross.

    Args:
        share: of the pictures that is split off, on average.
        purpose: of what is split off; another purpose draws other lots.

    Returns:
        The rest and the share; each has a picture if there are two.
    """
    lots = {sample: _lot(sample, seed, purpose) for sample in samples}
    off = {sample for sample, lot in lots.items() if lot < share}
    # Equal lots belong to one group and cross together.
    if len(lots) >= 2 and not off:
        off = {sample for sample, lot in lots.items() if lot == min(lots.values())}
    if len(lots) >= 2 and len(off) == len(lots):
        off = {sample for sample, lot in lots.items() if lot != max(lots.values())}
    return _by_path(set(lots) - off), _by_path(off)


def fingerprint(samples: Iterable[Sample]) -> str:
    """Return a SHA-256 over kind, name and content of the pictures, whatever their order."""
    samples = list(samples)
    hashes = {path: content_hash(path) for path in {sample.path for sample in samples}}
    lines = sorted({f"{s.identity}{_drawn(s)} {hashes[s.path]}" for s in samples})
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def _drawn(sample: Sample) -> str:
    return f" {sample.flaw}" if sample.flaw else ""


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _lot(sample: Sample, seed: int, purpose: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the arguments."""
    text = f"{seed} {purpose} {sample.group or sample.identity}"
    return (
        int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:8]) / 2**64
    )


def _by_path(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: (sample.path, sample.index or 0)))
