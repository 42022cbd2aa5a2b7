"""Files that are there whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path

from edge.errors import OutputNotWritable


def write_whole(path: Path, content: bytes) -> None:
    """Write one file by temporary file, fsync and rename.

    Raises:
        OutputNotWritable: folder or disk refused it; an older file of that name is untouched.
    """
    write_all([(path, content)])


def write_all(files: Sequence[tuple[Path, bytes]]) -> None:
    """Write files that belong together: all to temporary files first, then renamed in order.

    Raises:
        OutputNotWritable: folder or disk refused one; older files of these names are untouched.
    """
    partial = [(path.with_name(f".{path.name}.partial"), path) for path, _ in files]
    try:
        for (temporary, _), (_, content) in zip(partial, files, strict=True):
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in partial:
            temporary.replace(path)
    except OSError as error:
        for temporary, _ in partial:
            _discard(temporary)
        raise OutputNotWritable(
            f"{files[0][0]}: cannot be written ({error.strerror}). "
            "Check the folder, free space and permissions."
        ) from error


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder is not there, or not ours: nothing was written either
