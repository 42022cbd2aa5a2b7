"""Files that are there whole or not at all, and files that are files: no link, FIFO or device.

Who writes a file has its temporary one, locked, until that has its name; another process that
writes the same file at that moment waits. So the files of each of them stay together, and the last
one's remain. Another user's is waited for as long as a lock shows it, and not for ever. Where none
does, as on a file system without locks, who came first is refused, and never gives its file's name
to what the other has only begun.
"""

import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path

from edge.errors import OutputNotWritable
from edge.system.file_access import is_folder

# A process that lays a file where another one has just removed it can be met, but not for ever.
_ATTEMPTS = 100
# So long another user may write a file that we are to write; between two looks at it.
_OTHERS_WAIT_S, _PAUSE_S = 10.0, 0.01
# Of a name that its temporary file has, too.
_MAX_KEPT_BYTES = 100


class NoFileReplaced(OutputNotWritable):
    """A device, FIFO or socket has the name of a file that is to be written; root could take it."""


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


def read_regular(path: Path) -> bytes:
    """Return what a regular file holds; whatever could block or never end is refused.

    Raises:
        OSError: it cannot be read, or is a folder, FIFO, socket or device.
    """
    with open_regular(path) as file:
        return file.read()


def check_writable(path: Path) -> None:
    """Find out before long work whether a file can be written in the end.

    Raises:
        OutputNotWritable: its folder is missing or refuses files, or the path is a folder itself.
        NoFileReplaced: a device, FIFO or socket is there.
        LinkRefused: a link lies on the way where others may lay one.
    """
    if is_folder(path):
        raise OutputNotWritable(f"{path}: is a folder. Name a file.")
    _refuse_others(path)
    try:
        with _held(partial_path(path), wait=False):
            return
    except BlockingIOError:
        return  # another process writes it at this moment: the folder takes files
    except OSError as error:
        raise not_writable(path, error) from error


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
        NoFileReplaced: a device, FIFO or socket is there.
    """
    _refuse_others(path)
    temporary = partial_path(path)
    try:
        with _held(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            _demand_own(temporary, file)
            temporary.replace(path)
        _sync_names(path.parent)
    except OSError as error:
        raise not_writable(path, error) from error


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
        NoFileReplaced: a device, FIFO or socket is in the place of one.
    """
    for path, _ in files:
        _refuse_others(path)
    contents = dict(files)
    try:
        with ExitStack() as held:
            written = {}
            # In one order, so that no two processes wait for each other.
            for path in sorted(contents):
                file = held.enter_context(_held(partial_path(path)))
                written[path] = file
                file.write(contents[path])
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            for path, file in written.items():
                _demand_own(partial_path(path), file)
            for path in contents:
                partial_path(path).replace(path)
        if durable:
            for folder in {path.parent for path in contents}:
                _sync_names(folder)
    except OSError as error:
        raise not_writable(files[0][0], error) from error


def partial_path(path: Path) -> Path:
    """Return where a file is written before it gets its name.

    That of a long name is called by its hash: it must not be longer than a file system allows.
    """
    name, content = path.name, os.fsencode(path.name)
    if len(content) > _MAX_KEPT_BYTES:
        name = hashlib.sha256(content).hexdigest()[:32]
    return path.with_name(f".{name}.partial")


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


def _refuse_others(path: Path) -> None:
    """Demand that a file, or nothing, is where one is to be written, and no link of others."""
    refuse_foreign_links(path)
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # not there yet, or closed: writing says so
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder is not replaced anyway
        raise NoFileReplaced(f"{path}: is a device, FIFO or socket. Name a file.")


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


@contextmanager
def _held(path: Path, mode: int = 0o666, *, wait: bool = True) -> Iterator[BufferedWriter]:
    """Create a temporary file that is nobody else's until the end of the block.

    What has not got another name by then is removed, also when interrupted.

    Args:
        wait: for a process that has it; what such a one left that was killed is removed.

    Raises:
        BlockingIOError: another one has it, and it is not waited for.
        OSError: it cannot be created, or what lies there does not go.
    """
    with os.fdopen(_create_held(path, mode, wait), "wb") as file:
        try:
            yield file
        finally:
            if _leads_to(path, file.fileno()):
                _discard(path)


def _create_held(path: Path, mode: int, wait: bool) -> int:
    for _ in range(_ATTEMPTS):
        _remove_abandoned(path, wait)
        try:
            descriptor = _open_new(path, mode)
        except FileExistsError:
            continue  # of a process that came first
        try:
            _lock(descriptor, wait=True)
        except BaseException:
            os.close(descriptor)
            raise
        if _leads_to(path, descriptor):
            return descriptor
        os.close(descriptor)  # another one took it for abandoned before it was locked
    raise BlockingIOError(errno.EAGAIN, "Too many processes write it at this moment", str(path))


def _remove_abandoned(path: Path, wait: bool) -> None:
    """Remove what lies at the place of a temporary file, unless somebody writes there.

    Raises:
        BlockingIOError: somebody does, and is not waited for any longer.
    """
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(there.st_mode):
        own = there.st_uid == os.geteuid()
        with suppress(FileNotFoundError, PermissionError):
            # NFS locks what is open for writing; another user's file may be open to readers alone.
            access = os.O_WRONLY if own else os.O_RDONLY
            flags = access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(path, flags)
            try:
                if own:
                    _lock(descriptor, wait)
                else:
                    _lock_in_time(descriptor, _OTHERS_WAIT_S if wait else 0.0)
                if _leads_to(path, descriptor):
                    path.unlink()
                return
            finally:
                os.close(descriptor)
    path.unlink(missing_ok=True)


def _lock_in_time(descriptor: int, limit_s: float) -> None:
    """Lock a file of another user, who could hold it for ever.

    Raises:
        BlockingIOError: it is held longer.
    """
    end_s = time.monotonic() + limit_s
    while True:
        try:
            _lock(descriptor, wait=False)
        except BlockingIOError as error:
            if time.monotonic() >= end_s:
                cause = "Another user writes it at this moment"
                raise BlockingIOError(errno.EAGAIN, cause) from error
            time.sleep(_PAUSE_S)
        else:
            return


def _lock(descriptor: int, wait: bool) -> None:
    """Lock a file; a file system without locks goes without.

    Raises:
        BlockingIOError: another process has it, and it is not waited for.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        # The last: NFS, of a file that is open for reading.
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
            raise


def _demand_own(path: Path, file: BufferedWriter) -> None:
    """Demand that a temporary file is still the one that is written.

    Raises:
        OSError: another process removed it, and may have begun one of its own there.
    """
    if not _leads_to(path, file.fileno()):
        raise OSError(errno.EBUSY, "Another process writes it at this moment", str(path))


def _leads_to(path: Path, descriptor: int) -> bool:
    """Tell whether a path leads to an open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _create(path: Path, mode: int = 0o666) -> int:
    """Open a file that was not there; of an earlier, interrupted writing it is removed."""
    path.unlink(missing_ok=True)
    return _open_new(path, mode)


def _open_new(path: Path, mode: int) -> int:
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
