"""What the adapters of data sets share: looking for files, and saying which one is missing."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from training.data.samples import pictures_in, subfolders
from training.errors import DataError

# Share of the good pictures kept out of the fit where a set brings no validation pictures.
VALIDATION_SHARE = 0.15

_MOST_NAMED = 20


def demanded(folder: Path, what: str) -> list[Path]:
    """Return the pictures of a folder that must have some.

    Raises:
        DataError: names the folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {what} belong there. Check --data.")
    pictures = pictures_in(folder)
    if not pictures:
        raise DataError(
            f"{folder}: no pictures; {what} belong there. Unpack the data set again, or check "
            "--data."
        )
    return pictures


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
    if category is not None and root.name == category and matches(root):
        return root
    known = [folder.name for folder in subfolders(root) if matches(folder)]
    if category is None or category not in known:
        raise DataError(unknown_category(root, category, known))
    return root / category


def unknown_category(root: Path, category: str | None, known: Iterable[str]) -> str:
    """Return the sentence that lists the categories."""
    names = sorted(known)
    there = ", ".join(names[:_MOST_NAMED]) or "none"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    what = "holds several categories" if category is None else f"has no category {category!r}"
    return f"{root}: {what}. There are: {there}{more}. Choose one with --category."


def masks_of(
    pictures: Iterable[Path], masks: Mapping[str, Path]
) -> tuple[dict[Path, Path], list[Path]]:
    """Pair masks with pictures by the pictures' stem; the masks left over are the second part."""
    found = {path: masks[path.stem] for path in pictures if path.stem in masks}
    used = set(found.values())
    return found, sorted(mask for mask in masks.values() if mask not in used)
