"""What is wrong with the files of edge-listen: what passes, and what waiting does not help."""

import errno
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from edge.errors import OutputNotWritable
from edge.journal.open_files import file_identity
from edge.journal.sqlite_errors import is_damage, is_transient
from edge.listen.records import NotStoredNow

# The network waits as long for somebody else's lock, and goes on before the next attempt.
BUSY_LIMIT_S = 2.0
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def not_stored(path: Path, what: str, error: OSError | sqlite3.Error) -> OutputNotWritable:
    """Return the error of a file that did not take something: its cause and what to do.

    Args:
        path: of the file.
        what: "verdicts", or what else it did not take.
        error: of the disk or of SQLite.
    """
    kind: type[OutputNotWritable] = NotStoredNow
    step = "Check the disk, the folder and its owner."
    if isinstance(error, OSError):
        full = error.errno in _FULL
    else:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        full = code == sqlite3.SQLITE_FULL
        if code in _LOCKED:
            step = f"Another program has locked it; fuser -v {path} names it."
        elif is_damage(error):
            kind, step = OutputNotWritable, "It is damaged, or no database. Name another file."
        elif not is_transient(error):
            kind, step = OutputNotWritable, "Check that it is a file of edge-listen."
    if full:
        step = "The disk is full: make room."
    return kind(f"{path}: {what} cannot be stored ({error}). {step}")


class FilesInPlace:
    """Whether the files that a listener has open are still those of their names.

    What is written into a file that was removed or replaced succeeds, and nobody finds it there.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Remember which files are open; they are already, or come with the first statement."""
        self._paths = paths
        self._known = [file_identity(file) for file in self._paths]

    def check(self) -> None:
        """Demand that each file is at its place.

        Raises:
            OutputNotWritable: one is not; what was written since is to be had again.
        """
        now = [file_identity(file) for file in self._paths]
        self._known = [old or new for old, new in zip(self._known, now, strict=True)]
        for path, old, new in zip(self._paths, self._known, now, strict=True):
            if old != new:
                raise OutputNotWritable(
                    f"{path}: was removed, renamed or replaced while edge-listen wrote it. "
                    "Verdicts that it did not hold by then stay at the broker. Put the file back, "
                    "or name another one, and start edge-listen again."
                )
