"""What the kernel tells of a folder (inotify), without a thread of its own."""

import logging
import select
import time
from dataclasses import dataclass, field
from pathlib import Path

from inotify_simple import INotify, flags

log = logging.getLogger(__name__)

# One that is created is told, too: a hard link has no other event.
_FINISHED = flags.CLOSE_WRITE | flags.MOVED_TO
_GONE = flags.DELETE | flags.MOVED_FROM
_FOLDER = flags.DELETE_SELF | flags.MOVE_SELF
_INCOMPLETE = _FOLDER | flags.UNMOUNT | flags.Q_OVERFLOW | flags.IGNORED
_WANTED = _FINISHED | _GONE | _FOLDER | flags.CREATE | flags.ONLYDIR


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened in a folder since it was asked last.

    Attributes:
        names: of files, in the order of the last event of each; True for one that was closed after
            writing, or renamed in.
        incomplete: events were lost, or the folder itself is another one.
    """

    names: dict[str, bool] = field(default_factory=dict)
    incomplete: bool = False


class FolderNotifications:
    """Notifications of one folder; where the kernel gives none, there are no changes.

    A network file system gives those of this PC's own writers only: who listens looks, too.

    Attributes:
        working: the kernel watches the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.working = False
        self._inotify: INotify | None = None
        try:
            self._inotify = INotify()
            self._inotify.add_watch(folder, _WANTED)
            self.working = True
        except OSError as error:
            self.close()
            log.info(
                "%s: the kernel does not watch this folder (%s), so it is polled. To allow "
                "more watches: sysctl fs.inotify.max_user_watches and max_user_instances",
                folder,
                error.strerror,
            )

    def read(self) -> Changes:
        """Return what has happened; waits for nothing."""
        if self._inotify is None:
            return Changes()
        names: dict[str, bool] = {}
        incomplete = False
        for _, mask, _, name in self._inotify.read(timeout=0):
            if mask & _INCOMPLETE:
                incomplete = True
            elif not mask & flags.ISDIR:
                names.pop(name, None)
                names[name] = bool(mask & _FINISHED)
        return Changes(names, incomplete)

    def wait(self, timeout_s: float) -> None:
        """Wait until something happens, at most so long."""
        if self._inotify is None:
            time.sleep(timeout_s)
            return
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        poll.poll(timeout_s * 1e3)

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
        self._inotify, self.working = None, False
