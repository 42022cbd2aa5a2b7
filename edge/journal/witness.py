"""A second place that knows how far the journal has come.

SQLite takes a damaged or missing log for one that ended early: rows that were committed, and
perhaps sent, vanish without an error, and their numbers would be given a second time. The witness
is overwritten after each commit, without waiting for the disk: it outlives the process, and after
power loss it is at worst older than the journal.
"""

import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.journal.ledger import Tally

FILE_NAME = "journal.witness"
_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Testimony:
    """What the journal of this UUID had come to."""

    journal: str
    position: int
    verdict_seq: int
    event_seq: int


class Witness:
    """The writer's side."""

    def __init__(self, folder: Path, journal: str) -> None:
        self._journal = journal
        self._descriptor = os.open(
            folder / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640
        )

    def note(self, tally: Tally) -> None:
        """Note what is committed. It replaces bytes in place and so needs no room on the disk."""
        text = f"{self._journal} {tally.position} {tally.verdict_seq} {tally.event_seq}"
        line = f"{text} {zlib.crc32(text.encode())}".ljust(_LENGTH - 1) + "\n"
        with suppress(OSError):  # one that fell behind says less, never anything wrong
            os.pwrite(self._descriptor, line.encode(), 0)

    def close(self) -> None:
        os.close(self._descriptor)


def read_witness(folder: Path) -> Testimony | None:
    """Return what was noted last; None when nothing was, or when it cannot be trusted."""
    try:
        words = (folder / FILE_NAME).read_text(errors="replace").split()
    except OSError:
        return None
    if len(words) != 5 or str(zlib.crc32(" ".join(words[:4]).encode())) != words[4]:
        return None
    return Testimony(words[0], int(words[1]), int(words[2]), int(words[3]))
