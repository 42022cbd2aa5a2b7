"""A folder into which another system writes pictures, as a camera."""

import logging
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge.cameras.arrivals import Arrivals, Stamp
from edge.cameras.camera import CameraReport
from edge.errors import (
    CameraError,
    CameraLost,
    CameraNotOpened,
    CameraUriInvalid,
    PictureUnreadable,
)
from edge.frame import Frame, FrameStatus, Pixels
from edge.pictures import is_picture, may_be_filled_yet, read_picture

log = logging.getLogger(__name__)

SCHEME = "watch://"
# Two looks that find the same: nobody writes any more, or the writer stalls.
REST_S = 0.1
# A picture that cannot be read gets this long to become whole; then it is told as INCOMPLETE.
PATIENCE_S = 5.0
LOOK_PERIOD_S = 0.05
# A look at a large folder takes its time; the station has other work.
LARGEST_SHARE = 0.1
MOST_PICTURES = 100_000
MOST_FILE_SYSTEMS = 4


class FolderMemory:
    """What is known of a folder for as long as the station runs, however often it vanishes.

    Attributes:
        number: of the last picture that was told.
    """

    def __init__(self) -> None:
        self.number = 0
        self._arrivals: dict[int, Arrivals] = {}

    def arrivals(self, device: int) -> Arrivals:
        """Return which pictures of a file system were told; of a new one, none is to be told.

        While a network folder is not mounted an empty one stands in its place, and when it comes
        back, what it holds is not new.
        """
        known = self._arrivals.pop(device, None)
        if known is None:
            known = Arrivals(round(REST_S * 1e9), round(PATIENCE_S * 1e9))
        if len(self._arrivals) >= MOST_FILE_SYSTEMS:
            del self._arrivals[next(iter(self._arrivals))]
        self._arrivals[device] = known
        return known


class WatchedFolder:
    """Gives every picture once, in the order in which they were finished.

    Pictures that are there at the start are not given: they are of parts that have passed. A
    picture is given when it did not change for a moment and can be read whole: copied in slowly or
    renamed in makes no difference. One that is never whole is an INCOMPLETE frame.
    """

    simulated = False
    can_wait = True

    def __init__(
        self,
        uri: str,
        memory: FolderMemory,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Look at the folder for the first time.

        Args:
            uri: ``watch://FOLDER``.
            memory: of the times that it was opened before.
            clock_ns: monotonic.
            wait: between two looks.

        Raises:
            CameraUriInvalid: something else than a folder.
            CameraNotOpened: it is not there, or may not be read.
        """
        self.identity = uri
        self._folder = watched_path(uri)
        self._memory = memory
        self._clock_ns = clock_ns
        self._wait = wait
        self._due: deque[str] = deque()
        self._next_look_ns = clock_ns()
        try:
            self._device = self._mounted()
            self._arrivals = memory.arrivals(self._device)
            self._look()
        except CameraLost as error:
            raise CameraNotOpened(str(error)) from None

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next picture; one that never becomes whole is an INCOMPLETE frame."""
        until_ns = self._clock_ns() + round(timeout_s * 1e9)
        while True:
            while self._due:
                frame = self._read(self._due.popleft())
                if frame is not None:
                    return frame
            now_ns = self._clock_ns()
            if now_ns >= self._next_look_ns:
                self._look()
                continue
            if now_ns >= until_ns:
                return None
            self._wait((min(until_ns, self._next_look_ns) - now_ns) / 1e9)

    def check(self) -> None:
        if not self._folder.is_dir():
            raise self._lost("is gone")

    def trigger(self) -> None:
        raise CameraError(f"{self.identity}: a folder takes no trigger. Use mode: free_run.")

    def report(self) -> CameraReport:
        return CameraReport(model="watched folder")

    def close(self) -> None:
        self._due.clear()

    def _look(self) -> None:
        began_ns = self._clock_ns()
        files = self._files()
        if self._mounted() != self._device:
            raise self._lost("is another one since something was mounted or unmounted there")
        self._due.extend(self._arrivals.listed(files, began_ns))
        now_ns = self._clock_ns()
        pause_ns = max(round(LOOK_PERIOD_S * 1e9), round((now_ns - began_ns) / LARGEST_SHARE))
        self._next_look_ns = now_ns + pause_ns

    def _mounted(self) -> int:
        """Return the file system that the folder is on."""
        with self._told_if_gone():
            return self._folder.stat().st_dev

    def _files(self) -> dict[str, Stamp]:
        found: dict[str, Stamp] = {}
        with self._told_if_gone(), os.scandir(self._folder) as entries:
            for entry in entries:
                if not is_picture(Path(entry.name)):
                    continue
                stamp = _stamp(entry)
                if stamp is not None:
                    found[entry.name] = stamp
                if len(found) > MOST_PICTURES:
                    raise self._lost(f"holds more than {MOST_PICTURES} pictures")
        return found

    @contextmanager
    def _told_if_gone(self) -> Iterator[None]:
        try:
            yield
        except NotADirectoryError:
            raise CameraUriInvalid(
                f"{self.identity}: is not a folder. Name the folder that is to be watched."
            ) from None
        except FileNotFoundError:
            raise self._lost("is gone") from None
        except OSError as error:
            raise self._lost(f"cannot be read ({error.strerror})") from None

    def _read(self, name: str) -> Frame | None:
        path = self._folder / name
        arrivals = self._arrivals
        pixels: Pixels = np.empty((0, 0), np.uint8)
        status, detail = FrameStatus.COMPLETE, ""
        try:
            pixels = read_picture(path)
        except PictureUnreadable as error:
            if not path.exists():
                log.warning("%s: was removed before it could be read", path)
            if not arrivals.not_whole(name, self._clock_ns()):
                return None
            status, detail = FrameStatus.INCOMPLETE, str(error)
        else:
            if may_be_filled_yet(path):
                # Waited for like one that cannot be read, then taken as it is.
                if not arrivals.not_whole(name, self._clock_ns()):
                    return None
            elif not arrivals.whole(name, _stamp(path)):
                return None  # written again while it was read
        self._memory.number += 1
        return Frame(
            pixels=pixels,
            number=self._memory.number,
            captured_ns=self._clock_ns(),
            captured_utc_ns=time.time_ns(),
            status=status,
            source=path.absolute().as_uri(),
            detail=detail,
        )

    def _lost(self, what: str) -> CameraLost:
        return CameraLost(
            f"{self.identity}: the folder {what}. Bring it back, or clear it out; it is tried "
            "again by itself."
        )


def watched_path(uri: str) -> Path:
    """Return the folder of ``watch://FOLDER``; what follows the scheme is taken as it is written.

    Raises:
        CameraUriInvalid: no folder is named.
    """
    name = uri[len(SCHEME) :]
    if not name:
        raise CameraUriInvalid(f"{uri}: names no folder. Write watch:///FOLDER.")
    return Path(name)


def _stamp(file: "Path | os.DirEntry[str]") -> Stamp | None:
    """Return what changes when the file is written; None of one that has gone or is none."""
    try:
        state = file.stat()
    except OSError:
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    return Stamp(state.st_mtime_ns, state.st_size, state.st_ino)
