"""A verdict port that drops one JSON file per verdict into a folder, for whoever fetches them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from edge.atomic_files import check_writable, write_all
from edge.contract.encoding import to_json
from edge.contract.verdict import Verdict, payload
from edge.errors import OutputNotWritable
from edge.ports.port import PortSettings
from edge.wording import counted

SUFFIX = ".json"
# A full folder takes files again once a tenth is fetched: who fetches one by one would make of each
# verdict a fault that comes and goes.
RESUME_AT = 0.9
# Counting a large folder costs the line; one that has not changed is counted more rarely still.
COUNT_PAUSE_S, UNCHANGED_COUNT_PAUSE_S = 5.0, 60.0


class FileDropSettings(PortSettings):
    """One JSON file per verdict in a folder."""

    folder: str = Field(
        min_length=1,
        description="Created if it does not exist; the program that fetches a file deletes it.",
        examples=["/var/lib/edge/cam1/verdicts"],
    )
    max_files: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="From this many files on, further verdicts are left out and counted, until a "
        "tenth is fetched.",
    )

    def open_port(self) -> "FileDrop":
        return FileDrop(Path(self.folder), self.max_files)


class FileDrop:
    """Writes ``ID.json`` with the verdict/1 payload; a file has its name only when it is whole.

    Ids ascend with time. ``seq`` and ``journal`` are null: the file does not wait for the journal.
    What is in the folder survives the end of the process, not a power cut; the journal does.
    """

    def __init__(
        self, folder: Path, max_files: int, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Make the folder and try it.

        Raises:
            OutputNotWritable: it cannot be made, or takes no files.
        """
        self._folder = folder
        self._max_files = max_files
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputNotWritable(
                f"file_drop.folder: {folder} cannot be made ({error.strerror}). Name another "
                "folder, or change its permissions."
            ) from error
        check_writable(folder / f"trial{SUFFIX}")
        self._clock_s = clock_s
        self._counted_s = clock_s()
        self._changed_ns = self._last_change_ns()
        self._waiting = self._count()
        self._full = False

    def write(self, verdict: Verdict) -> None:
        """Write one verdict.

        Raises:
            OutputNotWritable: the disk refuses it, or nobody fetches what is there.
        """
        if self._full or self._waiting >= self._max_files:
            self._count_again()
        if self._full:
            raise OutputNotWritable(
                f"{self._folder}: {counted(self._waiting, 'verdict waits', 'verdicts wait')} "
                "there, file_drop.max_files. "
                "Fetch and delete them."
            )
        assert verdict.identity is not None
        content = to_json(payload(verdict, verdict.identity, None)).encode() + b"\n"
        write_all([(self._folder / f"{verdict.id}{SUFFIX}", content)], durable=False)
        self._waiting += 1

    def _count_again(self) -> None:
        """Look whether files were fetched, no more often than it may cost."""
        now_s, changed_ns = self._clock_s(), self._last_change_ns()
        changed = changed_ns != self._changed_ns
        pause_s = COUNT_PAUSE_S if changed else UNCHANGED_COUNT_PAUSE_S
        if self._full and now_s - self._counted_s < pause_s:
            return
        self._counted_s, self._changed_ns = now_s, changed_ns
        self._waiting = self._count()
        limit = RESUME_AT * self._max_files if self._full else self._max_files - 1
        self._full = self._waiting > limit

    def _last_change_ns(self) -> int:
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return 0

    def _count(self) -> int:
        try:
            with os.scandir(self._folder) as found:
                return sum(one.name.endswith(SUFFIX) for one in found)
        except OSError:  # it has gone; the writing says so
            return 0
