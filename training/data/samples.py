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
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and is_picture(path))


def subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def split_off(
    samples: Iterable[Sample], share: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split samples in two by a hash of their names, at least one in each where there are two.

    By name, so that a picture stays on its side when others are added or the order changes.

    Returns:
        The larger rest and the share that was split off.
    """
    ordered = sorted(samples, key=lambda sample: _rank(sample.path, seed))
    if len(ordered) < 2:
        return tuple(ordered), ()
    count = min(max(round(len(ordered) * share), 1), len(ordered) - 1)
    off = set(ordered[:count])
    rest = [sample for sample in ordered if sample not in off]
    return _by_path(rest), _by_path(off)


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


def _rank(path: Path, seed: int) -> str:
    return hashlib.sha256(f"{seed} {path.parent.name}/{path.name}".encode()).hexdigest()


def _by_path(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: sample.path))
