"""A verdict port that drops one JSON file per verdict into a folder, for whoever fetches them."""

import os
from pathlib import Path

from pydantic import Field

from edge.atomic_files import check_writable, write_all
from edge.contract.encoding import to_json
from edge.contract.verdict import Verdict, payload
from edge.errors import OutputNotWritable
from edge.ports.port import PortSettings

SUFFIX = ".json"


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
        description="While this many files wait, further verdicts are left out and counted.",
    )

    def open_port(self) -> "FileDrop":
        return FileDrop(Path(self.folder), self.max_files)


class FileDrop:
    """Writes ``ID.json`` with the verdict/1 payload; a file has its name only when it is whole.

    Ids ascend with time. ``seq`` and ``journal`` are null: the file does not wait for the journal.
    What is in the folder survives the end of the process, not a power cut; the journal does.
    """

    def __init__(self, folder: Path, max_files: int) -> None:
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
        self._waiting = self._count()

    def write(self, verdict: Verdict) -> None:
        """Write one verdict.

        Raises:
            OutputNotWritable: the disk refuses it, or nobody fetches what is there.
        """
        # Counting costs with every file; only what was fetched since makes it wrong.
        if self._waiting >= self._max_files:
            self._waiting = self._count()
        if self._waiting >= self._max_files:
            raise OutputNotWritable(
                f"{self._folder}: {self._waiting} verdicts wait there, file_drop.max_files. "
                "Fetch and delete them."
            )
        assert verdict.identity is not None
        content = to_json(payload(verdict, verdict.identity, None)).encode() + b"\n"
        write_all([(self._folder / f"{verdict.id}{SUFFIX}", content)], durable=False)
        self._waiting += 1

    def _count(self) -> int:
        try:
            with os.scandir(self._folder) as found:
                return sum(one.name.endswith(SUFFIX) for one in found)
        except OSError:  # it has gone; the writing says so
            return 0
