"""Files that are there whole or not at all."""

import contextlib
import os
from pathlib import Path

from edge.errors import OutputNotWritable


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by temporary file, fsync and rename.

    Raises:
        OutputNotWritable: folder or disk refused it; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputNotWritable(
            f"{path}: cannot be written ({error.strerror}). "
            "Check the folder, free space and permissions."
        ) from error
