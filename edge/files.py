"""Files that are there whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path

from edge.access import is_folder
from edge.errors import OutputNotWritable


def check_writable(path: Path) -> None:
    """Find out before long work whether a file can be written in the end.

    Raises:
        OutputNotWritable: its folder is missing or refuses files, or the path is a folder itself.
    """
    if is_folder(path):
        raise OutputNotWritable(f"{path}: is a folder. Name a file.")
    probe = _partial(path)
    try:
        probe.touch()
    except OSError as error:
        raise _not_writable(path, error) from error
    finally:
        _discard(probe)


def write_whole(path: Path, content: bytes) -> None:
    """Write one file by temporary file, fsync and rename.

    Raises:
        OutputNotWritable: folder or disk refused it; an older file of that name is untouched.
    """
    write_all([(path, content)])


def write_all(files: Sequence[tuple[Path, bytes]], durable: bool = True) -> None:
    """Write files that belong together: all to temporary files first, then renamed in order.

    Args:
        files: paths and contents.
        durable: they survive a power cut from here on; without, the disk takes its time.

    Raises:
        OutputNotWritable: folder or disk refused one; older files of these names are untouched.
    """
    partial = [(_partial(path), path) for path, _ in files]
    try:
        for (temporary, _), (_, content) in zip(partial, files, strict=True):
            with temporary.open("wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
        for temporary, path in partial:
            temporary.replace(path)
    except OSError as error:
        raise _not_writable(files[0][0], error) from error
    finally:  # also when interrupted: nothing half-written stays behind
        for temporary, _ in partial:
            _discard(temporary)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _not_writable(path: Path, error: OSError) -> OutputNotWritable:
    return OutputNotWritable(
        f"{path}: cannot be written ({error.strerror}). "
        "Check the folder, free space and permissions."
    )


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder is not there, or not ours: nothing was written either
