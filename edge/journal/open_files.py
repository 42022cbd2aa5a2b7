"""Whether the files that a database has open are still those at its place.

What is written into a file that was removed, renamed or covered by a mount succeeds, and nobody
will find it there.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.journal.database import database_files

_OPEN_FILES = Path("/proc/self/fd")


@dataclass(frozen=True, slots=True)
class Displaced:
    """The files at the place are no longer those that are open.

    Attributes:
        what: happened, for people; names no file that is not there.
        removed: the database has no name any more; only this process still reaches it.
        beside_only: the database is at its place, and what SQLite keeps beside it is not.
    """

    what: str
    removed: bool = False
    beside_only: bool = False


class OpenFiles:
    """The files of an open database, by device and inode."""

    def __init__(self, path: Path) -> None:
        """Remember which files are open.

        Args:
            path: of the database, which is open already.
        """
        self._paths = database_files(path)
        self._known = [file_identity(file) for file in self._paths]

    def displaced(self) -> Displaced | None:
        """Tell what became of them; None while they are at their place."""
        now = [file_identity(file) for file in self._paths]
        # What lies beside the database comes with the first statement.
        self._known = [old or new for old, new in zip(self._known, now, strict=True)]
        if now == self._known:
            return None
        folder = self._paths[0].parent
        if now[0] == self._known[0]:
            missing = [
                file.name
                for file, old, new in zip(self._paths, self._known, now, strict=True)
                if old != new
            ]
            what = f"{' and '.join(missing)} of the journal in {folder} was removed or replaced"
            return Displaced(what, beside_only=True)
        place, removed = self._found()
        if removed:
            return Displaced(f"the journal's files were removed from {folder}", removed=True)
        if place is not None and place != self._paths[0].absolute():
            return Displaced(f"the journal's folder {folder} was renamed to {place.parent}")
        return Displaced(f"the journal's folder {folder} is covered by a mount, or cannot be read")

    def _found(self) -> tuple[Path | None, bool]:
        """Return the present name of the open database, and whether it has none any more."""
        # Not by a descriptor of our own: closing one would end SQLite's locks on the file.
        for descriptor in _OPEN_FILES.iterdir():
            with suppress(OSError):  # one that was closed meanwhile
                status = descriptor.stat()
                if (status.st_dev, status.st_ino) == self._known[0]:
                    return descriptor.readlink(), status.st_nlink == 0
        return None, False


def file_identity(file: Path) -> tuple[int, int] | None:
    """Return device and inode of what lies at a place now; None where nothing can be seen."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
