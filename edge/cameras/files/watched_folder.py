"""A folder into which another system writes images, as a camera."""

import logging
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from edge.cameras.files.arrivals import Arrivals, Stamp
from edge.cameras.files.existing_images import ExistingImages, Inventory
from edge.cameras.files.folder_notifications import FolderNotifications
from edge.cameras.files.not_inspected import NotInspected
from edge.cameras.interface import CameraReport
from edge.errors import (
    CameraError,
    CameraLost,
    CameraNotOpened,
    CameraUriInvalid,
    ImageUnreadable,
)
from edge.imaging.frame import Frame, FrameStatus, Pixels
from edge.imaging.image_files import SUFFIXES, may_be_filled_yet, read_image
from edge.imaging.image_header import MAX_PIXELS
from edge.journal.judged_images import JudgedImages

log = logging.getLogger(__name__)

SCHEME = "watch://"
# Two looks that find the same: nobody writes any more, or the writer stalls.
REST_S = 0.1
# An image that cannot be read gets this long to become whole; then it is told as INCOMPLETE.
PATIENCE_S = 5.0
LOOK_PERIOD_S = 0.1
# A look at the names of a large folder takes its time; the station has other work.
MAX_SHARE = 0.1
# After the folder has changed, its time may not show the next change: it is counted in seconds.
COARSE_S = 3.0
# Every stamp is looked at this rarely: it finds what neither kernel nor folder tell, a file that is
# written again in place by another PC.
FULL_PERIOD_S = 1.0
FULL_PERIOD_PER_FILE_S = 2e-3
FILES_AT_ONCE = 2000
# Whoever writes unseen by the kernel, from another PC, may do so again.
DISTRUST_S = 600.0
MAX_IMAGES = 200_000
MAX_FILE_SYSTEMS = 4
# Records of earlier runs that are looked at before the camera's thread does something else.
RECORDS_AT_ONCE = 2000


@dataclass(slots=True)
class _Known:
    """What is known of a folder on one file system.

    Attributes:
        arrivals: which of its files were told.
        existing: those that were there at first, until it is known which of them were judged.
    """

    arrivals: Arrivals
    existing: ExistingImages | None = None


class FolderMemory:
    """What is known of a folder for as long as the station runs, however often it vanishes.

    Attributes:
        number: of the last image that was told.
        busy: what was found is being read; that may take longer than a folder may be silent.
        inspect_existing: images that nobody has judged are inspected though they were there before.
        judged: what is recorded of earlier runs; None where nothing is.
        on_inventory: called once for each file system that is seen there, from the camera's thread.
        not_inspected: counts what is there beside the images that are given.
    """

    def __init__(
        self,
        *,
        inspect_existing: bool = False,
        judged: JudgedImages | None = None,
        on_inventory: Callable[[Inventory], None] | None = None,
        not_inspected: NotInspected | None = None,
    ) -> None:
        self.number = 0
        self.busy = False
        self.inspect_existing = inspect_existing
        self.judged = judged
        self.on_inventory = on_inventory
        self.not_inspected = not_inspected or NotInspected("watched folder")
        self._known: dict[int, _Known] = {}

    def is_busy(self) -> bool:
        """Return ``busy``, to whoever watches the time."""
        return self.busy

    def known(self, device: int) -> _Known | None:
        """Return what is known of a file system; None of a new one.

        While a network folder is not mounted an empty one stands in its place.
        """
        known = self._known.pop(device, None)
        if known is not None:
            self._known[device] = known
        return known

    def first_seen(self, device: int, files: dict[str, Stamp]) -> _Known:
        """Take the first listing on a file system."""
        known = _Known(Arrivals(round(REST_S * 1e9), round(PATIENCE_S * 1e9)))
        known.arrivals.start(files)
        if files:
            known.existing = ExistingImages(files, self.judged)
        if len(self._known) >= MAX_FILE_SYSTEMS:
            del self._known[next(iter(self._known))]
        self._known[device] = known
        return known


class WatchedFolder:
    """Gives every image once, in the order in which they were finished.

    An image is given when it did not change for a moment and can be read whole: copied in slowly
    or renamed in makes no difference. One that is never whole is an INCOMPLETE frame. Images that
    are there at the start are of parts that have passed: ``FolderMemory`` says what is to be done.

    The kernel tells what happens; where it does not, the folder's own time does, and a look at
    every file, rarely, finds the rest.
    """

    simulated = False
    can_wait = True

    def __init__(
        self,
        *,
        uri: str,
        memory: FolderMemory,
        trigger_limit_ms: float | None = None,
        max_pixels: int = MAX_PIXELS,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Look at the folder for the first time.

        Args:
            uri: ``watch://FOLDER``.
            memory: of the times that it was opened before.
            trigger_limit_ms: every image waits for a trigger, and a trigger so long for an
                image; None gives images as they come.
            max_pixels: an image that says it has more is never whole.
            clock_ns: monotonic.
            wait: between two looks; None waits for the kernel's notifications.

        Raises:
            CameraUriInvalid: something else than a folder.
            CameraNotOpened: it is not there, or may not be read.
        """
        self.identity = uri
        self._folder = watched_path(uri)
        self._memory = memory
        self._clock_ns = clock_ns
        self._trigger_limit_ms = trigger_limit_ms
        self._max_pixels = max_pixels
        self._triggers: deque[int] = deque()  # until when each waits for its image
        self._due: deque[str] = deque()
        self._own_wait = wait
        self._explained = True  # what changed since the last look, by notifications
        self._distrusted_until_ns = self._names_until_ns = 0
        self._full_look: Iterator[os.DirEntry[str]] | None = None
        self._full_names: set[str] = set()
        self._next_names_ns = self._next_full_ns = self._next_look_ns = clock_ns()
        self._notifications: FolderNotifications | None = None
        try:
            self._device, self._inode, self._modified_ns = self._state()
            self._notifications = FolderNotifications(self._folder)
            known = memory.known(self._device)
            self._known = known or memory.first_seen(self._device, self._files())
            if known is not None:
                self._look_at_all(expected=True)
            self._schedule_full_look()
        except CameraLost as error:
            self.close()
            raise CameraNotOpened(str(error)) from None
        except CameraUriInvalid:
            self.close()
            raise

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next image; one that never becomes whole is an INCOMPLETE frame."""
        self._memory.busy = False
        until_ns = self._clock_ns() + round(timeout_s * 1e9)
        if self._known.existing is not None:
            self._memory.busy = True
            if not self._sort_existing(self._known.existing):
                return None
            self._memory.busy = False
        while True:
            self._read_changes()
            frame = self._next_image()
            if frame is not None or self._memory.busy:
                return frame
            now_ns = self._clock_ns()
            if now_ns >= self._next_look_ns:
                self._look(now_ns)
                continue
            if now_ns >= until_ns:
                return None
            self._pause(min(until_ns, self._next_look_ns, self._next_due_ns(now_ns)) - now_ns)

    def check(self) -> None:
        if not self._folder.is_dir():
            raise self._lost("is not there")

    def trigger(self) -> None:
        """Give the next image to whoever triggered."""
        if self._trigger_limit_ms is None:
            raise CameraError(
                f"{self.identity}: every image is a part. Set camera.trigger.mode: software."
            )
        now_ns = self._clock_ns()
        self._forget_late_triggers(now_ns)
        self._triggers.append(now_ns + round(self._trigger_limit_ms * 1e6))

    def report(self) -> CameraReport:
        return CameraReport(model="watched folder")

    def close(self) -> None:
        self._due.clear()
        if self._notifications is not None:
            self._notifications.close()

    # What has happened.

    def _pause(self, duration_ns: int) -> None:
        if self._own_wait is not None or self._notifications is None:
            (self._own_wait or time.sleep)(duration_ns / 1e9)
        else:
            self._notifications.wait(duration_ns / 1e9)

    def _next_due_ns(self, now_ns: int) -> int:
        """Return when the next image is to be tried; those that wait for a trigger are not."""
        due_ns = None if self._due else self._known.arrivals.next_due_ns()
        return due_ns if due_ns is not None and due_ns > now_ns else self._next_look_ns

    def _read_changes(self) -> None:
        if self._notifications is None:
            return
        changes = self._notifications.read()
        now_ns = self._clock_ns()
        for name, finished in changes.names.items():
            self._explained = True
            if _is_image(name):
                stamp = _stamp(self._folder / name)
                self._known.arrivals.changed(name, stamp, now_ns, finished)
            elif finished:
                self._memory.not_inspected.add_arrived(name)
        if changes.incomplete:
            self._look_at_all(expected=True)

    @property
    def _trusted(self) -> bool:
        """Whether the kernel tells of every change."""
        notified = self._notifications is not None and self._notifications.working
        return notified and self._clock_ns() >= self._distrusted_until_ns

    def _look(self, now_ns: int) -> None:
        device, inode, modified_ns = self._state()
        if device != self._device:
            raise self._lost("was replaced: something was mounted or unmounted there")
        arrivals = self._known.arrivals
        for name in arrivals.unsettled(now_ns):
            arrivals.changed(name, _stamp(self._folder / name), now_ns)
        if inode != self._inode:
            self._watch_anew()
            self._inode = inode
        if modified_ns != self._modified_ns and not (self._explained and self._trusted):
            self._names_until_ns = now_ns + round(COARSE_S * 1e9)
        if self._next_names_ns <= now_ns < self._names_until_ns:
            self._look_at_names()
        if now_ns >= self._next_full_ns:
            self._go_on_with_full_look()
        self._modified_ns, self._explained = modified_ns, False
        elapsed_ns = self._clock_ns() - now_ns
        pause_ns = max(round(LOOK_PERIOD_S * 1e9), round(elapsed_ns / MAX_SHARE))
        self._next_look_ns = now_ns + elapsed_ns + pause_ns

    def _watch_anew(self) -> None:
        """Follow the name of the folder: the kernel goes on watching the one that had it."""
        if self._notifications is not None:
            self._notifications.close()
        self._notifications = FolderNotifications(self._folder)
        self._look_at_all(expected=True)

    def _look_at_all(self, expected: bool) -> None:
        """Look at the stamps of all files at once.

        Args:
            expected: nobody was to tell of what is new.
        """
        files = self._files()
        self._known.arrivals.listed(files, self._clock_ns(), announced=expected)
        self._look_for(self._known.arrivals.missing(files.keys()))

    def _go_on_with_full_look(self) -> None:
        """Look at the stamps of some files more, so that a new one does not wait for all."""
        if self._full_look is None:
            self._full_look, self._full_names = self._entries(), set()
        found = list(islice(self._full_look, FILES_AT_ONCE))
        files = self._stamps(found)
        self._full_names.update(files)
        self._refuse_too_many(len(self._full_names))
        self._known.arrivals.listed(files, self._clock_ns())
        if len(found) < FILES_AT_ONCE:
            self._look_for(self._known.arrivals.missing(self._full_names))
            self._full_look, self._full_names = None, set()
            self._schedule_full_look()

    def _schedule_full_look(self) -> None:
        pause_s = max(FULL_PERIOD_S, len(self._known.arrivals) * FULL_PERIOD_PER_FILE_S)
        self._next_full_ns = self._clock_ns() + round(pause_s * 1e9)

    def _look_at_names(self) -> None:
        """Look at the names alone, and at the stamps of new ones."""
        began_ns = self._clock_ns()
        arrivals = self._known.arrivals
        names: set[str] = set()
        unknown: list[os.DirEntry[str]] = []
        for entry in self._entries():
            if entry.name in arrivals:
                names.add(entry.name)
            else:
                unknown.append(entry)
        new = self._stamps(unknown)
        self._refuse_too_many(len(names) + len(new))
        arrivals.listed(new, began_ns)
        self._look_for(arrivals.missing(names | new.keys()))
        now_ns = self._clock_ns()
        self._next_names_ns = now_ns + round((now_ns - began_ns) / MAX_SHARE)

    def _look_for(self, names: Sequence[str]) -> None:
        """Look for files that a listing lacks: they were removed, or came while it was made."""
        for name in names:
            self._known.arrivals.changed(name, _stamp(self._folder / name), self._clock_ns())

    def _sort_existing(self, existing: ExistingImages) -> bool:
        """Find out, piece by piece, which images that were there nobody has judged; True: done."""
        inventory = existing.step(RECORDS_AT_ONCE)
        if inventory is None:
            return False
        self._known.existing = None
        if self._memory.inspect_existing:
            self._known.arrivals.offer(inventory.unjudged, self._clock_ns())
        if self._memory.on_inventory is not None:
            self._memory.on_inventory(inventory)
        return True

    def _state(self) -> tuple[int, int, int]:
        """Return file system, identity and time of the folder."""
        with self._lost_if_gone():
            state = self._folder.stat()
        return state.st_dev, state.st_ino, state.st_mtime_ns

    def _files(self) -> dict[str, Stamp]:
        files = self._stamps(self._entries())
        self._refuse_too_many(len(files))
        return files

    def _stamps(self, entries: "Iterable[os.DirEntry[str]]") -> dict[str, Stamp]:
        """Return the images among entries of the folder."""
        found: dict[str, Stamp] = {}
        for entry in entries:
            if _is_image(entry.name):
                stamp = _stamp(entry)
                if stamp is not None:
                    found[entry.name] = stamp
            elif entry.is_file():
                self._memory.not_inspected.add_arrived(entry.name)
        return found

    def _refuse_too_many(self, count: int) -> None:
        if count > MAX_IMAGES:
            raise self._lost(f"holds more than {MAX_IMAGES} images", "Clear it out")

    def _entries(self) -> "Iterator[os.DirEntry[str]]":
        with self._lost_if_gone(), os.scandir(self._folder) as entries:
            yield from entries

    @contextmanager
    def _lost_if_gone(self) -> Iterator[None]:
        try:
            yield
        except NotADirectoryError:
            raise CameraUriInvalid(
                f"{self.identity}: is not a folder. Name the folder that is to be watched."
            ) from None
        except FileNotFoundError:
            raise self._lost("is not there") from None
        except OSError as error:
            raise self._lost(f"cannot be read ({error.strerror})") from None

    # Images.

    def _next_image(self) -> Frame | None:
        """Return the image whose turn it is, if there is one, and if it may be given."""
        arrivals = self._known.arrivals
        if not self._due:
            self._due.extend(arrivals.due(self._clock_ns()))
        while self._due and self._may_give():
            name = self._due.popleft()
            path = self._folder / name
            arrivals.changed(name, _stamp(path), self._clock_ns())
            if name not in arrivals:
                log.warning("%s: was removed before it could be read", path)
            if not arrivals.is_due(name, self._clock_ns()):
                continue  # written again meanwhile
            frame = self._read(name)
            if frame is not None:
                if self._triggers:
                    self._triggers.popleft()
                return frame
            if self._memory.busy:
                return None  # whoever watches how long this takes is to see that it was an image
        return None

    def _may_give(self) -> bool:
        if self._trigger_limit_ms is None:
            return True
        self._forget_late_triggers(self._clock_ns())
        return bool(self._triggers)

    def _forget_late_triggers(self, now_ns: int) -> None:
        """Forget triggers for which no image came in time: their parts have a verdict by now."""
        while self._triggers and now_ns >= self._triggers[0]:
            self._triggers.popleft()

    def _read(self, name: str) -> Frame | None:
        path = self._folder / name
        arrivals = self._known.arrivals
        stamp, announced = arrivals.stamp(name), arrivals.announced(name)
        pixels: Pixels = np.empty((0, 0), np.uint8)
        status, detail = FrameStatus.COMPLETE, ""
        self._memory.busy = True
        try:
            pixels = read_image(path, self._max_pixels)
        except ImageUnreadable as error:
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
        self._memory.not_inspected.add_further(path)
        if self._trusted and not announced:
            log.info(
                "%s: other machines write there without this kernel noticing, so it is polled",
                self.identity,
            )
            self._distrusted_until_ns = self._clock_ns() + round(DISTRUST_S * 1e9)
        self._memory.number += 1
        return Frame(
            pixels=pixels,
            number=self._memory.number,
            captured_ns=self._clock_ns(),
            captured_utc_ns=time.time_ns(),
            status=status,
            source=path.absolute().as_uri(),
            source_modified_utc_ns=stamp.modified_ns,
            detail=detail,
        )

    def _lost(self, what: str, todo: str = "Bring it back, or name another") -> CameraLost:
        return CameraLost(
            f"{self.identity}: the folder {what}. {todo}; the station tries again automatically."
        )


def watched_path(uri: str) -> Path:
    """Return the folder of ``watch://FOLDER``; what follows the scheme is taken as it is written.

    Raises:
        CameraUriInvalid: no folder is named.
    """
    name = uri[len(SCHEME) :]
    if not name:
        raise CameraUriInvalid(f"{uri}: does not name a folder. Write watch:///FOLDER.")
    return Path(name)


def _is_image(name: str) -> bool:
    """Tell as ``edge.imaging.image_files.is_image``, for a hundred thousand names at a time."""
    return not name.startswith(".") and name[name.rfind(".") :].lower() in SUFFIXES


def _stamp(file: "Path | os.DirEntry[str]") -> Stamp | None:
    """Return what changes when the file is written; None of one that has gone or is none."""
    try:
        state = file.stat()
    except OSError:
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    return Stamp(state.st_mtime_ns, state.st_size, state.st_ino)
