"""What a data set is here: lists of picture files, each good or defective."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge.pictures import is_picture
from training.errors import DataError

GOOD = "good"


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture file.

    Attributes:
        path: of the picture.
        kind: ``good``, or the name of the defect.
        mask: picture of the defect's area; None if there is none.
    """

    path: Path
    kind: str
    mask: Path | None = None

    @property
    def is_defective(self) -> bool:
        return self.kind != GOOD


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


def pictures_in(folder: Path) -> list[Path]:
    """Return the picture files directly in a folder, sorted by name; none if it does not exist."""
    return [path for path in _entries(folder) if path.is_file() and is_picture(path)]


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones."""
    return [path for path in _entries(folder) if path.is_dir() and not path.name.startswith(".")]


def split_off(
    samples: Iterable[Sample], share: float, seed: int, purpose: str
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split samples in two by a hash of kind and file name.

    Each picture draws its own lot, so it stays on its side when others are added, when the folder
    moves and whatever the order. Only where all lots fall on one side, one picture must cross.

    Args:
        share: of the pictures that is split off, on average.
        purpose: of what is split off; another purpose draws other lots.

    Returns:
        The rest and the share; each has a picture if there are two.
    """
    lots = {sample: _lot(sample, seed, purpose) for sample in samples}
    off = {sample for sample, lot in lots.items() if lot < share}
    if len(lots) >= 2 and not off:
        off = {min(lots, key=lots.__getitem__)}
    if len(lots) >= 2 and len(off) == len(lots):
        off.remove(max(lots, key=lots.__getitem__))
    return _by_path(set(lots) - off), _by_path(off)


def fingerprint(samples: Iterable[Sample]) -> str:
    """Return a SHA-256 over kind, name and content of the pictures, whatever their order."""
    lines = sorted(
        f"{sample.kind}/{sample.path.name} {_content_hash(sample.path)}" for sample in samples
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _content_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _lot(sample: Sample, seed: int, purpose: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the arguments."""
    text = f"{seed} {purpose} {sample.kind}/{sample.path.name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def _by_path(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: sample.path))
