"""A second place that knows how far the journal has come.

SQLite takes a damaged or missing log for one that ended early: rows that were committed, and
perhaps sent, vanish without an error, and their numbers would be given a second time. The witness
is overwritten after each commit, without waiting for the disk: it outlives the process, and after
power loss it is at worst older than the journal.

It also says when it was written. The system notes by itself when a file was changed, and no program
that copies one can set that: a witness that was changed long after it was written was put back.
After power loss the noted time may be younger than the content, as the system brings the two to the
disk on their own. So bytes are replaced in place in a file of the last minutes only; an older one,
as at each start, is replaced as a whole.
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
_PARTIAL_NAME = f".{FILE_NAME}.partial"
_LENGTH = 128
PUT_BACK_AFTER_S = 600
# Well before a power loss could make one look as if it had been put back.
_REPLACED_AFTER_S = PUT_BACK_AFTER_S // 2


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
        self._made_s: int | None = None
        # Of the folder, wherever somebody moves it.
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._descriptor = self._opened(FILE_NAME)
        except BaseException:
            os.close(self._folder)
            raise

    def _opened(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(name, flags, 0o640, dir_fd=self._folder)

    def record(self, totals: JournalTotals) -> None:
        """Note what is committed, in place, or in a new file where there is room for one."""
        utc_s = int(self._utc_s())
        numbers = f"{totals.position} {totals.verdict_seq} {totals.event_seq} {utc_s}"
        text = f"{self._journal} {numbers}"
        line = f"{text} {zlib.crc32(text.encode())}".ljust(_LENGTH - 1) + "\n"
        with suppress(OSError):  # one that fell behind says less, never anything wrong
            if self._made_s is not None and abs(utc_s - self._made_s) <= _REPLACED_AFTER_S:
                os.pwrite(self._descriptor, line.encode(), 0)
                return
            self._made_s = utc_s
            try:
                self._replace(line)
            except OSError:
                os.pwrite(self._descriptor, line.encode(), 0)  # needs no room
                os.fsync(self._descriptor)

    def _replace(self, line: str) -> None:
        """Lay a new file in place of the old one, its content on the disk before its name."""
        with suppress(FileNotFoundError):
            os.unlink(_PARTIAL_NAME, dir_fd=self._folder)
        descriptor = self._opened(_PARTIAL_NAME)
        try:
            os.pwrite(descriptor, line.encode(), 0)
            os.fsync(descriptor)
            os.rename(_PARTIAL_NAME, FILE_NAME, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor = descriptor

    def close(self) -> None:
        os.close(self._descriptor)
        os.close(self._folder)


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
