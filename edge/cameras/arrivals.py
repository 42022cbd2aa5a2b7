"""Which files of a folder have arrived: pure, listings and time passed in."""

from collections.abc import Mapping
from dataclasses import dataclass


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


@dataclass(slots=True)
class _Resting:
    stamp: Stamp
    since_ns: int
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
        self._first = True

    def listed(self, files: Mapping[str, Stamp], now_ns: int) -> list[str]:
        """Take a listing; return the names to try, in the order in which they were written.

        What the very first listing holds is known: it was there before anybody watched.
        """
        if self._first:
            self._first = False
            self._known = dict(files)
            return []
        self._forget_all_but(files)
        for name, stamp in files.items():
            resting = self._resting.get(name)
            if stamp == self._known.get(name):
                self._resting.pop(name, None)
            elif resting is None or resting.stamp != stamp:
                self._resting[name] = _Resting(stamp, now_ns)
        due = [name for name, resting in self._resting.items() if self._is_due(resting, now_ns)]
        return sorted(due, key=lambda name: (self._resting[name].stamp.modified_ns, name))

    def __len__(self) -> int:
        """Return how many files something is known of."""
        return len(self._known.keys() | self._resting.keys())

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

    def _is_due(self, resting: _Resting, now_ns: int) -> bool:
        rested_ns = now_ns - resting.since_ns
        return rested_ns >= (self._patience_ns if resting.tried else self._rest_ns)

    def _forget_all_but(self, files: Mapping[str, Stamp]) -> None:
        for memory in (self._known, self._resting):
            for name in memory.keys() - files.keys():
                del memory[name]
