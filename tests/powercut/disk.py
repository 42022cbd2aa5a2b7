"""A disk that keeps what a sync has confirmed, and loses, tears or reorders the rest.

The rules are those that POSIX leaves: after a power cut a file holds what it held at its last
sync, and of each later change anything from nothing to all of it, sector by sector, in any order
between sectors; a name is durable once its folder was synced, later changes of names are kept in
order up to some point. What a file grew by and was not written reads as zeros or as anything.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.powercut.trace import Call

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Change:
    """A write, or with ``content`` None a truncation to ``offset``."""

    offset: int
    content: bytes | None


@dataclass(slots=True)
class File:
    """A file's content in memory and on the disk.

    Attributes:
        cached: as a program sees it.
        durable: as of its last sync.
        pending: changes since then, oldest first.
    """

    cached: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[Change] = field(default_factory=list)

    def change(self, one: Change) -> None:
        apply(self.cached, one)
        self.pending.append(one)

    def sync(self) -> bool:
        """Make it durable; tell whether that changed anything on the disk."""
        changed = bool(self.pending)
        if changed:
            self.durable = bytes(self.cached)
            self.pending.clear()
        return changed


Names = dict[str, File]
Content = dict[str, bytes]


class Disk:
    """Follows a trace.

    Attributes:
        names: the files of the folder, as a program sees them.
        durable_names: as of the folder's last sync.
        pending_names: each state of the names since then.
    """

    def __init__(
        self, root: Path, ignored: tuple[str, ...] = (), content: Mapping[str, bytes] | None = None
    ) -> None:
        """Begin with a folder whose content the disk has.

        Args:
            root: the folder, without folders of its own.
            ignored: names of files that hold nothing beyond a boot.
            content: what lies in it at the beginning, on the disk.
        """
        self._root = str(root.resolve())
        self._ignored = ignored
        self.names: Names = {
            name: File(bytearray(held), held) for name, held in (content or {}).items()
        }
        self.durable_names: Names = self.names
        self.pending_names: list[Names] = []
        self._open: dict[int, File | None] = {}
        self._foreign = File()

    def follow(self, call: Call) -> bool:
        """Apply a call; tell whether a cut after it can leave another disk than before it."""
        match call.what:
            case "S":
                self._open.clear()
            case "O" | "o":
                return self._opened(call)
            case "c":
                self._open.pop(call.descriptor, None)
            case "w" | "t":
                file = self._open.get(call.descriptor)
                if file is None or file is self._foreign:
                    return False
                file.change(Change(call.offset, call.content if call.what == "w" else None))
                return True
            case "s":
                return self._synced(self._open.get(call.descriptor))
            case "r" | "l" | "u":
                return self._renamed(call)
        return False

    def _opened(self, call: Call) -> bool:
        name = self._name(call.content)
        if name == "":
            self._open[call.descriptor] = None  # the folder itself
            return False
        if name in self._ignored:
            self._open[call.descriptor] = self._foreign
            return False
        made = name not in self.names
        if made:
            self._set_names({**self.names, name: File()})
        self._open[call.descriptor] = file = self.names[name]
        if call.offset and file.cached:
            file.change(Change(0, None))
            return True
        return made

    def _synced(self, file: File | None) -> bool:
        if file is not None:
            return file.sync()
        changed = bool(self.pending_names)
        self.durable_names = self.names
        self.pending_names = []
        return changed

    def _renamed(self, call: Call) -> bool:
        name, names = self._name(call.content), dict(self.names)
        if name in self._ignored:
            return False
        file = names[name] if call.what == "l" else names.pop(name)
        if call.second:
            names[self._name(call.second)] = file
        self._set_names(names)
        return True

    def _set_names(self, names: Names) -> None:
        self.names = names
        self.pending_names.append(names)

    def _name(self, path: bytes) -> str:
        name = path.decode().removeprefix(self._root).removeprefix("/")
        assert "/" not in name, f"{name}: folders are not followed"
        return name

    def confirmed(self) -> Content:
        """The disk when nothing got through that was not confirmed."""
        return {name: file.durable for name, file in self.durable_names.items()}

    def all_kept(self) -> Content:
        """The disk when everything got through in time, as after the end of the process."""
        return {name: bytes(file.cached) for name, file in self.names.items()}

    def torn(self, chance: random.Random) -> Content:
        """The disk when all got through but the end of the newest write."""
        found = {}
        for name, file in self.names.items():
            if file.pending and (written := file.pending[-1].content) is not None:
                kept = SECTOR * chance.randrange(1 + (len(written) - 1) // SECTOR)
                content = bytearray(file.durable)
                for one in file.pending[:-1]:
                    apply(content, one)
                apply(content, Change(file.pending[-1].offset, written[:kept]))
                found[name] = bytes(content)
            else:
                found[name] = bytes(file.cached)
        return found

    def reordered(self, chance: random.Random) -> Content:
        """The disk when of what was not confirmed any sectors got through, and some names."""
        names = chance.choice([self.durable_names, *self.pending_names])
        share = chance.choice((0.1, 0.5, 0.9))
        found = {}
        for name, file in names.items():
            content = bytearray(file.durable)
            for one in file.pending:
                _apply_partly(content, one, share, chance)
            found[name] = bytes(content)
        return found


def apply(content: bytearray, one: Change) -> None:
    """Change a file's content; a gap becomes zeros."""
    if one.content is None:
        del content[one.offset :]
        content.extend(bytes(one.offset - len(content)))
        return
    content.extend(bytes(max(0, one.offset - len(content))))
    content[one.offset : one.offset + len(one.content)] = one.content


def _apply_partly(content: bytearray, one: Change, share: float, chance: random.Random) -> None:
    """Let each sector of a change through with a chance of ``share``."""
    if one.content is None:
        if chance.random() < share:
            apply(content, one)
        return
    grown = one.offset + len(one.content) - len(content)
    if grown > 0 and chance.random() < 0.5:  # its length came, with what had been there before
        content.extend(bytes(grown) if chance.random() < 0.5 else chance.randbytes(grown))
    begin, end = one.offset, one.offset + len(one.content)
    for sector in range(begin - begin % SECTOR, end, SECTOR):
        if chance.random() < share:
            first, last = max(begin, sector), min(end, sector + SECTOR)
            if first > len(content):
                content.extend(bytes(first - len(content)))
            content[first:last] = one.content[first - begin : last - begin]
