"""What the adapters of data sets share: looking for files, and saying which one is missing."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edge.imaging.folder_names import (
    DEFECTIVE_NAMES,
    MASK_NAMES,
    is_called,
    written,
)
from training.data.samples import GOOD, Sample, images_below, images_in, subfolders
from training.errors import DataError

_MAX_NAMED = 20


def set_name(root: Path) -> str:
    """Return the name of a data set in its folder, as it is written everywhere."""
    return written(root.resolve().name)


def demanded(folder: Path, what: str) -> list[Path]:
    """Return the images of a folder that must have some.

    Raises:
        DataError: names the folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {what} belong there. Check --data.")
    images = images_in(folder)
    if not images:
        raise DataError(
            f"{folder}: no images; {what} belong there. Unpack the data set again, or check --data."
        )
    return images


def demanded_file(path: Path, what: str) -> Path:
    """Return a file that must be there.

    Raises:
        DataError: names it.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; it holds {what}. Unpack the data set again.")
    return path


def category_folder(root: Path, category: str | None, matches: Callable[[Path], bool]) -> Path:
    """Return the folder of a category, in the set's folder or given itself.

    Raises:
        DataError: no such category, or none chosen; lists those that exist.
    """
    if category is None and matches(root):
        return root
    if category is not None and written(root.name) == written(category) and matches(root):
        return root
    known = {written(folder.name): folder for folder in subfolders(root) if matches(folder)}
    if category is None or written(category) not in known:
        raise DataError(unknown_category(root, category, known))
    return known[written(category)]


def unknown_category(root: Path, category: str | None, known: Iterable[str]) -> str:
    """Return the sentence that lists the categories."""
    names = sorted(known)
    there = ", ".join(names[:_MAX_NAMED]) or "none"
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    what = "holds several categories" if category is None else f"has no category {category!r}"
    return f"{root}: {what}. There are: {there}{more}. Choose one with --category."


def good_samples(folder: Path) -> list[Sample]:
    """Return the good images of a folder and its sub-folders.

    Raises:
        DataError: a folder in it is called as if it held something else.
    """
    samples = []
    for path in images_below(folder):
        inner = path.relative_to(folder).parts[:-1]
        wrong = [name for name in inner if is_called(name, DEFECTIVE_NAMES | MASK_NAMES)]
        if wrong:
            raise DataError(
                f"{path.parent}: {wrong[0]} among the good images. Move the folder out of "
                f"{folder}, or call it otherwise if what it holds is good."
            )
        samples.append(
            Sample(path=path, kind=GOOD, name="/".join((*inner, path.name)) if inner else "")
        )
    return samples


def find_masks(
    images: Iterable[Path], masks: Sequence[Path]
) -> tuple[dict[Path, Path], list[Path]]:
    """Pair masks with images of the same stem; the masks left over are the second part."""
    by_stem = {written(mask.stem): mask for mask in masks}
    found = {path: by_stem[stem] for path in images if (stem := written(path.stem)) in by_stem}
    used = set(found.values())
    return found, sorted(mask for mask in masks if mask not in used)
