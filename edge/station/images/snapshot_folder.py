"""The folder of snapshots: bounded, careful about what it deletes, and the first to give way.

What is deleted, oldest first:

- images that are not pinned, when they are older than ``max_age_days``, or when a new one would
  exceed ``max_count`` or ``max_bytes``;
- pinned ones (NOK), when they are ``PINNED_AGES`` times as old, or when another pinned one comes
  and nothing else is left to delete. An image that is not pinned never takes a pinned one's place:
  it is not written.

Nothing else is touched: no file of another name, and nothing at all as long as the folder cannot be
listed. Ages do not follow the wall clock: within a run they are monotonic, and what an earlier run
left is as old as the gaps between the images, none of which counts as more than a day.
"""

import errno
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.atomic_files import check_writable, write_all
from edge.contract.verdict import ImageAddresses, Verdict, payload
from edge.errors import OutputNotWritable
from edge.imaging.frame import pixel_format
from edge.inspection.decision import Result
from edge.settings.snapshots import SnapshotSettings
from edge.station.images.snapshot_policy import (
    SnapshotName,
    SnapshotReason,
    rendered,
    snapshot_reason,
)

PINNED_AGES = 4
# Snapshots that are listed; a folder with more was not made by these bounds, and is left alone.
MIN_LISTED = 100_000
# After a failure the folder is tried again so often.
RETRY_NS = 5_000_000_000
# Space that has to be there beyond the floor before writing goes on, as a share of the floor.
RESUME_SHARE = 0.05

_DAY_NS = 86_400_000_000_000
_DAY = re.compile(r"\d{4}-\d\d-\d\d|undated")


@dataclass(frozen=True, slots=True)
class _Kept:
    name: SnapshotName
    size_bytes: int
    born_ns: int  # monotonic; of an earlier run an estimate, and then below the start of this one


@dataclass(slots=True)
class _Index:
    """What the folder holds, oldest first, as far as it is ours."""

    loose: deque[_Kept] = field(default_factory=deque)
    pinned: deque[_Kept] = field(default_factory=deque)
    loose_bytes: int = 0
    pinned_bytes: int = 0

    @property
    def count(self) -> int:
        return len(self.loose) + len(self.pinned)

    @property
    def size_bytes(self) -> int:
        return self.loose_bytes + self.pinned_bytes

    def add(self, kept: _Kept) -> None:
        if kept.name.why.pinned:
            self.pinned.append(kept)
            self.pinned_bytes += kept.size_bytes
        else:
            self.loose.append(kept)
            self.loose_bytes += kept.size_bytes

    def drop_oldest(self, pinned: bool) -> None:
        if pinned:
            self.pinned_bytes -= self.pinned.popleft().size_bytes
        else:
            self.loose_bytes -= self.loose.popleft().size_bytes


class SnapshotFolder:
    """Chooses, writes and deletes snapshots; never raises for a disk, and never stops the line.

    Any thread may write; ``addresses`` and ``keep_next`` are called by one at a time.

    Attributes:
        written, refused: snapshots of this run; refused are those no room was left for.
        stopped: nothing is written at present; ``on_change`` said why.
    """

    def __init__(
        self,
        *,
        settings: SnapshotSettings,
        on_change: Callable[[bool, str], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
        free_bytes: Callable[[Path], int] | None = None,
        durable: bool = True,
    ) -> None:
        """Create the folder and try it.

        Args:
            settings: which images, and the bounds.
            on_change: called with True and the cause when writing stops, once, and with False when
                it goes on.
            clock_ns: monotonic.
            free_bytes: of the file system of a folder; None asks it.
            durable: what is written survives a power cut.

        Raises:
            OutputNotWritable: it cannot be created, or nothing can be written there.
        """
        self.root = Path(settings.folder).absolute()
        self.written = 0
        self.refused = 0
        self.stopped = False
        self._settings = settings
        self._on_change = on_change
        self._clock_ns = clock_ns
        self._free_bytes = free_bytes or _free_bytes
        self._durable = durable
        self._writing = threading.Lock()
        self._index: _Index | None = None
        self._retry_ns = 0
        self._ok_count = 0
        self._keep_next = False
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputNotWritable(
                f"{self.root}: the folder for snapshots cannot be made ({error.strerror}). "
                "Choose another snapshots.folder, or change its permissions."
            ) from error
        check_writable(self.root / "trial")

    def keep_next(self) -> None:
        """Keep the next part that has an image, whatever becomes of it."""
        self._keep_next = True

    def addresses(self, verdict: Verdict) -> ImageAddresses | None:
        """Decide whether a part is kept; return where its images will lie, if room is left."""
        inspection = verdict.inspection
        self._ok_count += inspection.decision.result is Result.OK
        pixels = verdict.frame.pixels
        if pixels.size == 0 or pixel_format(pixels) is None or self.pausing:
            return None
        why = snapshot_reason(inspection, self._ok_count, self._settings)
        if self._keep_next:
            self._keep_next = False
            why = why or SnapshotReason.ASKED
        return None if why is None else self.make_addresses(SnapshotName(verdict.id, why))

    def make_addresses(self, name: SnapshotName) -> ImageAddresses:
        """Return where the images of a snapshot lie."""
        return ImageAddresses(
            image=name.path(self.root, name.IMAGE).as_uri(),
            heat_map=name.path(self.root, name.OVERLAY).as_uri(),
        )

    def write(self, verdict: Verdict, record: Mapping[str, Any]) -> bool:
        """Write the snapshot of a verdict that ``addresses`` chose; tell whether it was written.

        Args:
            verdict: others are passed over.
            record: the verdict as it is published.
        """
        address = verdict.images.image if verdict.images else None
        file_name = address.rpartition("/")[2] if address else ""
        name = SnapshotName.parse(Path(address or "").parent.name, file_name)
        if name is None:
            return False
        if self.pausing:
            self.refused += 1
            return False
        pixels, inspection = verdict.frame.pixels, verdict.inspection
        quality = self._settings.jpeg_quality
        return self.keep(name, rendered(pixels, inspection, record, quality))

    def write_chosen(self, verdict: Verdict) -> None:
        """Write the snapshot of a verdict that ``addresses`` chose, with its record."""
        if verdict.images is not None and verdict.identity is not None:
            self.write(verdict, payload(verdict, verdict.identity, None))

    def keep(self, name: SnapshotName, files: Mapping[str, bytes]) -> bool:
        """Make room and write the files of a snapshot, by suffix; tell whether it was written."""
        with self._writing:
            return self._keep(name, files)

    @property
    def pausing(self) -> bool:
        """Nothing is written now; it is tried again some seconds after what went wrong."""
        return self.stopped and self._clock_ns() < self._retry_ns

    def _keep(self, name: SnapshotName, files: Mapping[str, bytes]) -> bool:
        size_bytes = sum(map(len, files.values()))
        kept = _Kept(name, size_bytes, self._clock_ns())
        try:
            if self._index is None:
                self._index = self._listed()
            self._check_space(size_bytes)
            if not self._make_room(self._index, kept):
                self.refused += 1
                return False
            (self.root / name.day).mkdir(exist_ok=True)
            paths = [(name.path(self.root, suffix), files[suffix]) for suffix in files]
            write_all(paths, self._durable)
        except (OSError, OutputNotWritable, _Stop) as error:
            self.refused += 1
            self._stop(error)
            return False
        self._index.add(kept)
        self.written += 1
        if self.stopped:
            self.stopped = False
            self._on_change(False, "")
        return True

    def _stop(self, error: Exception) -> None:
        self._retry_ns = self._clock_ns() + RETRY_NS
        if not _is_lack_of_space(error):  # perhaps another disk, or none: what is there is unknown
            self._index = None
        if not self.stopped:
            self.stopped = True
            self._on_change(True, f"no snapshots are written: {error}")

    def _check_space(self, size_bytes: int) -> None:
        floor = self._settings.free_space_floor_bytes
        free = self._free_bytes(self.root)
        needed = size_bytes + floor + (int(floor * RESUME_SHARE) if self.stopped else 0)
        if free < needed:
            raise _NoSpace(
                f"{self.root}: {free} bytes are free, {needed} are required "
                "(snapshots.free_space_floor_bytes). Make room on this disk"
            )

    def _make_room(self, index: _Index, new: _Kept) -> bool:
        """Delete what has to go for a new snapshot; False, and nothing, if that were not enough."""
        settings = self._settings
        self._delete_old(index, new.born_ns)
        if new.size_bytes > settings.max_bytes:
            return False
        fixed, fixed_bytes = (0, 0)
        if not new.name.why.pinned:
            fixed, fixed_bytes = len(index.pinned), index.pinned_bytes
        if fixed + 1 > settings.max_count or fixed_bytes + new.size_bytes > settings.max_bytes:
            return False
        while (
            index.count + 1 > settings.max_count
            or index.size_bytes + new.size_bytes > settings.max_bytes
        ):
            self._delete_oldest(index, pinned=not index.loose)
        return True

    def _delete_old(self, index: _Index, now_ns: int) -> None:
        max_age_ns = int(self._settings.max_age_days * _DAY_NS)
        while index.loose and now_ns - index.loose[0].born_ns > max_age_ns:
            self._delete_oldest(index, pinned=False)
        while index.pinned and now_ns - index.pinned[0].born_ns > PINNED_AGES * max_age_ns:
            self._delete_oldest(index, pinned=True)

    def _delete_oldest(self, index: _Index, pinned: bool) -> None:
        name = (index.pinned if pinned else index.loose)[0].name
        for path in name.paths(self.root):
            path.unlink(missing_ok=True)
        index.drop_oldest(pinned)
        with suppress(OSError):  # not empty: other snapshots, or what others put there
            (self.root / name.day).rmdir()

    def _listed(self) -> _Index:
        """Return what earlier runs left; half-written files of ours are removed.

        Raises:
            OSError: the folder, or one in it, cannot be read.
            _Stop: there is more than these bounds can have made.
        """
        bound = max(MIN_LISTED, 2 * self._settings.max_count)
        sizes: dict[SnapshotName, int] = {}
        partial: list[Path] = []
        with os.scandir(self.root) as entries:
            days = [e.name for e in entries if _is_day(e)]
        for day in days:
            with os.scandir(self.root / day) as files:
                for file in files:
                    name = SnapshotName.parse(day, file.name)
                    if name is None or not file.is_file(follow_symlinks=False):
                        continue
                    if file.name.startswith("."):
                        partial.append(Path(file.path))
                        continue
                    size = file.stat(follow_symlinks=False).st_size
                    sizes[name] = sizes.get(name, 0) + size
                    if len(sizes) > bound:
                        raise _Stop(
                            f"{self.root} holds more than {bound} snapshots. "
                            "Move the old ones away, or raise snapshots.max_count"
                        )
        for path in partial:
            path.unlink(missing_ok=True)
        return _dated(sizes, self._clock_ns())


class _Stop(Exception):
    """Writing has to pause; the message names cause and next step."""


class _NoSpace(_Stop):
    """The disk is as full as it may be."""


def _is_lack_of_space(error: Exception) -> bool:
    cause = error.__cause__ or error
    return isinstance(error, _NoSpace) or (
        isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    )


def _dated(sizes: Mapping[SnapshotName, int], now_ns: int) -> _Index:
    """Return the index of listed snapshots; their ages are the gaps between them, each bounded."""
    index = _Index()
    newest_first = sorted(sizes, key=lambda name: name.verdict_id, reverse=True)
    born_ns, later_ms = now_ns, None
    kept: list[_Kept] = []
    for name in newest_first:
        if later_ms is not None:
            born_ns -= min((later_ms - name.utc_ms) * 1_000_000, _DAY_NS)
        later_ms = name.utc_ms
        kept.append(_Kept(name, sizes[name], born_ns))
    for one in reversed(kept):
        index.add(one)
    return index


def _is_day(entry: os.DirEntry[str]) -> bool:
    return _DAY.fullmatch(entry.name) is not None and entry.is_dir(follow_symlinks=False)


def _free_bytes(folder: Path) -> int:
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize
