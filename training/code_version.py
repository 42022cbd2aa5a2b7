"""Which version of this software made a result: its code itself, not only its number."""

import hashlib
import inspect
from functools import cache
from pathlib import Path

import edge
import training


@cache
def code_version(also: type | None = None) -> str:
    """Return the version number and a digest over the code that fits and judges.

    Args:
        also: a class whose module counts, too, such as the model of a plug-in.
    """
    digest = hashlib.sha256()
    for package in (edge, training):
        for folder in package.__path__:
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(f"{path.relative_to(folder)}\n".encode())
                digest.update(path.read_bytes())
    source = None if also is None else inspect.getsourcefile(also)
    if source is not None:
        digest.update(Path(source).read_bytes())
    return f"{edge.__version__} {digest.hexdigest()[:16]}"
