"""Which files of a folder have arrived: pure, listings, notifications and time passed in."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from edge.cameras.files.replay import natural_key


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is written.

    Attributes:
        modified_ns: of the file system's clock; compared, and put in order, never subtracted.
        size_bytes: 0 while the writer has only created it.
        inode: another one when a new file was renamed to an old name.
    """

    modified_ns: int
    size_bytes: int
    inode: int


@dataclass(slots=True, kw_only=True)
class _Resting:
    """A file that is waited for.

    Attributes:
        order: files are told by it; given when the file was closed, renamed in, or found.
        announced: the kernel told of it, or it was to be expected that nobody does.
    """

    stamp: Stamp
    since_ns: int
    order: int
    announced: bool
    tried: bool = False


class Arrivals:
    """Tells each file once, when nobody writes it any more.

    A file that is written again, under the same name, has arrived again. What is known of a file
    is forgotten when it is removed, so the memory is no larger than the folder.
    """

    def __init__(self, rest_ns: int, patience_ns: int) -> None:
        """Set the limits.

        Args:
            rest_ns: a file that did not change for so long is tried.
            patience_ns: one that cannot be read is waited for so long, then told as it is.
        """
        self._rest_ns = rest_ns
        self._patience_ns = patience_ns
        self._known: dict[str, Stamp] = {}
        self._resting: dict[str, _Resting] = {}
        self._last_order = 0

    def __len__(self) -> int:
        """Return how many files something is known of."""
        return len(self._known.keys() | self._resting.keys())

    def __contains__(self, name: object) -> bool:
        """Tell whether something is known of a file."""
        return name in self._known or name in self._resting

    def start(self, files: Mapping[str, Stamp]) -> None:
        """Take the first listing: what was there before anybody watched is not told."""
        self._known = dict(files)

    def offer(self, names: Iterable[str], now_ns: int) -> None:
        """Tell files of the first listing after all, unless they have changed or gone since."""
        there = {name: self._known.pop(name) for name in names if name in self._known}
        self._add(there, now_ns, announced=True)

    def listed(self, files: Mapping[str, Stamp], now_ns: int, announced: bool = False) -> None:
        """Take a listing, or a part of one; what is not in it is not forgotten.

        Args:
            files: that were found together.
            now_ns: monotonic.
            announced: nobody was to tell of what is new among them.
        """
        new: dict[str, Stamp] = {}
        again: dict[str, Stamp] = {}
        for name, stamp in files.items():
            resting = self._resting.get(name)
            if stamp == self._known.get(name):
                self._resting.pop(name, None)
            elif resting is None or resting.stamp != stamp:
                (again if name in self else new)[name] = stamp
        self._add(again, now_ns, announced=True)
        self._add(new, now_ns, announced)

    def missing(self, names: Collection[str]) -> list[str]:
        """Return of which files something is known that are not in a listing."""
        return [
            name for memory in (self._known, self._resting) for name in memory if name not in names
        ]

    def changed(
        self, name: str, stamp: Stamp | None, now_ns: int, finished: bool | None = None
    ) -> None:
        """Take a look at one file.

        Args:
            name: of the file.
            stamp: None of one that has gone.
            now_ns: monotonic.
            finished: the kernel told of it: True that it was closed after writing, or renamed in;
                None where nobody told.
        """
        resting = self._resting.get(name)
        if stamp is None or stamp == self._known.get(name):
            self._resting.pop(name, None)
            if stamp is None:
                self._known.pop(name, None)
            return
        if resting is None or resting.stamp != stamp:
            announced = finished is not None or (resting is not None and resting.announced)
            self._add({name: stamp}, now_ns, announced)
        elif finished is not None:
            resting.announced = True
            if finished:
                resting.order = self._next_order()

    def due(self, now_ns: int) -> list[str]:
        """Return the names to try, in the order in which the files were finished."""
        due = [name for name in self._resting if self.is_due(name, now_ns)]
        return sorted(due, key=lambda name: self._resting[name].order)

    def is_due(self, name: str, now_ns: int) -> bool:
        """Tell whether a file is to be tried now."""
        resting = self._resting.get(name)
        if resting is None:
            return False
        return now_ns - resting.since_ns >= self._limit_ns(resting)

    def next_due_ns(self) -> int | None:
        """Return when the next file is due; None when none is waited for."""
        due = (one.since_ns + self._limit_ns(one) for one in self._resting.values())
        return min(due, default=None)

    def unsettled(self, now_ns: int) -> list[str]:
        """Return the names that may still be written, to be looked at again."""
        return [name for name in self._resting if not self.is_due(name, now_ns)]

    def announced(self, name: str) -> bool:
        """Tell whether the kernel told of a file that is waited for."""
        return self._resting[name].announced

    def whole(self, name: str, stamp: Stamp | None) -> bool:
        """Note that a file was read; it is not told again until it is written again.

        Args:
            name: as told.
            stamp: after the file was read; False when it changed meanwhile, and it is not taken.
        """
        if stamp != self._resting[name].stamp:
            return False
        self._known[name] = self._resting.pop(name).stamp
        return True

    def not_whole(self, name: str, now_ns: int) -> bool:
        """Note that a file could not be read; tell whether nothing more is to be hoped for."""
        resting = self._resting[name]
        resting.tried = True
        if now_ns - resting.since_ns < self._patience_ns:
            return False
        return self.whole(name, resting.stamp)

    def stamp(self, name: str) -> Stamp:
        """Return the stamp of a file that is waited for."""
        return self._resting[name].stamp

    def _add(self, files: Mapping[str, Stamp], now_ns: int, announced: bool) -> None:
        """Wait for files that were found at once: by their time, then as people count."""
        ordered = sorted(files, key=lambda name: (files[name].modified_ns, natural_key(name), name))
        for name in ordered:
            order = self._next_order()
            self._resting[name] = _Resting(
                stamp=files[name], since_ns=now_ns, order=order, announced=announced
            )

    def _next_order(self) -> int:
        self._last_order += 1
        return self._last_order

    def _limit_ns(self, resting: _Resting) -> int:
        return self._patience_ns if resting.tried else self._rest_ns
