"""A second place that knows how far the journal has come.

SQLite takes a damaged or missing log for one that ended early: rows that were committed, and
perhaps sent, vanish without an error, and their numbers would be given a second time. The witness
is overwritten after each commit, without waiting for the disk: it outlives the process, and after
power loss it is at worst older than the journal.

It also says when it was written. The system notes by itself when a file was changed, and no program
that copies one can set that: a witness that was changed long after it was written was put back.
"""

import os
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.journal.ledger import JournalTotals

FILE_NAME = "journal.witness"
_LENGTH = 128
# After power loss the time of a change may be younger than the content, by what the system keeps
# in memory before it writes.
PUT_BACK_AFTER_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class HighWaterRecord:
    """What the journal of this UUID had come to.

    Attributes:
        put_back: the file was copied here after it was written.
    """

    journal: str
    position: int
    verdict_seq: int
    event_seq: int
    put_back: bool = False


class HighWaterMark:
    """The writer's side."""

    def __init__(self, folder: Path, journal: str, utc_s: Callable[[], float] = time.time) -> None:
        """Open the file, or make it.

        Args:
            utc_s: the clock by which the file system notes changes.
        """
        self._journal = journal
        self._utc_s = utc_s
        self._descriptor = os.open(
            folder / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640
        )

    def record(self, totals: JournalTotals) -> None:
        """Note what is committed. It replaces bytes in place and so needs no room on the disk."""
        numbers = f"{totals.position} {totals.verdict_seq} {totals.event_seq} {int(self._utc_s())}"
        text = f"{self._journal} {numbers}"
        line = f"{text} {zlib.crc32(text.encode())}".ljust(_LENGTH - 1) + "\n"
        with suppress(OSError):  # one that fell behind says less, never anything wrong
            os.pwrite(self._descriptor, line.encode(), 0)

    def make_durable(self) -> None:
        """Wait for the disk; once is enough, so that there is a witness after power loss too."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def high_water_mark_exists(folder: Path) -> bool:
    """Tell whether there is one, whatever it says."""
    return (folder / FILE_NAME).exists()


def read_high_water_mark(folder: Path) -> HighWaterRecord | None:
    """Return what was noted last; None when nothing was, or when it cannot be trusted."""
    path = folder / FILE_NAME
    try:
        words = path.read_text(errors="replace").split()
        changed_s = path.stat().st_ctime
    except OSError:
        return None
    # Without the time: of a version that did not note it.
    if len(words) not in (5, 6) or str(zlib.crc32(" ".join(words[:-1]).encode())) != words[-1]:
        return None
    journal, *numbers = words[:-1]
    position, verdict_seq, event_seq, *written_s = map(int, numbers)
    put_back = bool(written_s) and changed_s - written_s[0] > PUT_BACK_AFTER_S
    return HighWaterRecord(
        journal=journal,
        position=position,
        verdict_seq=verdict_seq,
        event_seq=event_seq,
        put_back=put_back,
    )
