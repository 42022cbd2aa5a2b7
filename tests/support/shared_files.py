"""Files that tests of several workers begin with, made once for all of them."""

import fcntl
from collections.abc import Callable
from pathlib import Path


def done_once(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return a file or folder in one that all workers share; whoever asks first makes it."""
    path = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            part = folder / f"part-{name}"
            make(part)
            part.replace(path)
    return path
