"""How people call the folders of a data set, and when two names are the same."""

import unicodedata
from pathlib import Path

from edge.redaction import readable

GOOD_NAMES = frozenset({"good", "ok", "normal", "양품", "정상"})
DEFECTIVE_NAMES = frozenset(
    {
        *("defect", "defects", "defective", "bad", "ng", "nok", "ko", "not_good", "not good"),
        *("anomaly", "anomalies", "anomalous", "abnormal", "faulty", "불량", "결함"),
    }
)
MASK_NAMES = frozenset({"mask", "masks", "ground_truth", "groundtruth"})


def written(name: str) -> str:
    """Return a name as it is compared and written everywhere.

    Composed, for macOS decomposes é into two characters and 각 into three; and with backslashes for
    the bytes of a name that is no UTF-8, as archives of older systems bring.
    """
    return unicodedata.normalize("NFC", readable(name))


def is_called(name: str, names: frozenset[str]) -> bool:
    """Tell whether a folder has one of the names, in any case."""
    return written(name).casefold() in names


def folder_called(root: Path, name: str) -> Path:
    """Return the folder of that name, or one that differs from it in upper and lower case alone."""
    exact = root / name
    if exact.is_dir() or not root.is_dir():
        return exact
    alike = [
        entry
        for entry in sorted(root.iterdir())
        if written(entry.name).casefold() == written(name).casefold() and entry.is_dir()
    ]
    return alike[0] if alike else exact


def existing(path: Path) -> Path:
    """Return a path of a table as the disk writes it, composed or decomposed."""
    if path.exists() or path == path.parent:
        return path
    folder = existing(path.parent)
    if not folder.is_dir():
        return path
    name = written(path.name)
    return next((e for e in sorted(folder.iterdir()) if written(e.name) == name), path)
