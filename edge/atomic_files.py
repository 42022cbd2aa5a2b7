"""Files that are there whole or not at all, and files that are files: no link, FIFO or device."""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter
from pathlib import Path

from edge.errors import OutputNotWritable
from edge.system.file_access import is_folder


class LinkRefused(OutputNotWritable):
    """The way to a file leads through a link that somebody else may have laid."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; whatever could block or never end is refused.

    Raises:
        OSError: it cannot be opened, or is a folder, FIFO, socket or device.
    """
    # Without O_NONBLOCK a FIFO is waited for until somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_writable(path: Path) -> None:
    """Find out before long work whether a file can be written in the end.

    Raises:
        OutputNotWritable: its folder is missing or refuses files, or the path is a folder itself.
        LinkRefused: a link lies on the way where others may lay one.
    """
    if is_folder(path):
        raise OutputNotWritable(f"{path}: is a folder. Name a file.")
    refuse_foreign_links(path)
    probe = partial_path(path)
    try:
        os.close(_create(probe))
    except FileExistsError:
        return  # another process tries the same at this moment: the folder takes files
    except OSError as error:
        raise not_writable(path, error) from error
    finally:
        _discard(probe)


def write_whole(path: Path, content: bytes) -> None:
    """Write one file by temporary file, fsync and rename.

    Raises:
        OutputNotWritable: folder or disk refused it; an older file of that name is untouched.
    """
    write_all([(path, content)])


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[BufferedWriter]:
    """Write one file of any size: at the end of the block it has its name, and is on the disk.

    A block that ends with an exception leaves nothing. A link at the file's place is replaced, what
    it leads to is not touched.

    Args:
        mode: of a new file, less the umask.

    Raises:
        OutputNotWritable: folder or disk refused it, or the block met an ``OSError`` (so what it
            reads is to be translated there); an older file of that name is untouched.
        LinkRefused: a link lies on the way where others may lay one.
    """
    refuse_foreign_links(path)
    temporary = partial_path(path)
    try:
        with create_new(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_names(path.parent)
    except OSError as error:
        raise not_writable(path, error) from error
    finally:  # also when interrupted: nothing half-written stays behind
        _discard(temporary)


def write_all(files: Sequence[tuple[Path, bytes]], durable: bool = True) -> None:
    """Write files that belong together: all to temporary files first, then renamed in order.

    A link at a file's place is replaced, what it leads to is not touched.

    Args:
        files: paths and contents.
        durable: they survive a power cut from here on; without, the disk takes its time.

    Raises:
        OutputNotWritable: folder or disk refused one; older files of these names are untouched,
            unless the disk failed after the new ones had their names.
        LinkRefused: a link lies on the way where others may lay one.
    """
    for path, _ in files:
        refuse_foreign_links(path)
    partial = [(partial_path(path), path) for path, _ in files]
    try:
        for (temporary, _), (_, content) in zip(partial, files, strict=True):
            with create_new(temporary) as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
        for temporary, path in partial:
            temporary.replace(path)
        if durable:
            for folder in {path.parent for path, _ in files}:
                _sync_names(folder)
    except OSError as error:
        raise not_writable(files[0][0], error) from error
    finally:  # also when interrupted: nothing half-written stays behind
        for temporary, _ in partial:
            _discard(temporary)


def partial_path(path: Path) -> Path:
    """Return where a file is written before it gets its name."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def create_new(path: Path, mode: int = 0o666) -> Iterator[BufferedWriter]:
    """Create a file anew for writing: what lies at its place goes, and no link is followed.

    Raises:
        OSError: what lies there does not go, or somebody lays it anew.
    """
    with os.fdopen(_create(path, mode), "wb") as file:
        yield file


def refuse_foreign_links(path: Path) -> None:
    """Demand that a file to be written is reached without links that others may have laid.

    Raises:
        LinkRefused: names link and folder.
    """
    way = path.absolute()
    for place in (way, *way.parents):
        try:
            if not stat.S_ISLNK(place.lstat().st_mode):
                continue
            folder = place.parent.stat()
        except OSError:
            continue  # not there yet, or closed: writing says so
        # The group that users have to themselves is nobody else's.
        of_group = folder.st_mode & stat.S_IWGRP and folder.st_gid != os.getegid()
        if folder.st_mode & stat.S_IWOTH or of_group:
            raise LinkRefused(
                f"{path}: {place} is a symbolic link in a folder that others may write to, so "
                "anybody may have put it there. Remove the link, or choose a folder of your "
                "own."
            )


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive power loss.

    Raises:
        OSError: it cannot be opened, or the disk refused.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_names(folder: Path) -> None:
    """Sync a folder, unless we may not read it or its file system syncs no folders."""
    try:
        sync_folder(folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.ENOTSUP):
            raise


def _create(path: Path, mode: int = 0o666) -> int:
    """Open a file that was not there; of an earlier, interrupted writing it is removed."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, mode)


def not_writable(path: Path, error: OSError) -> OutputNotWritable:
    """Return the error of a path that cannot be written: its cause and what to check."""
    return OutputNotWritable(
        f"{path}: cannot be written ({error.strerror}). "
        "Check the folder, free space and permissions."
    )


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder is not there, or not ours: nothing was written either
