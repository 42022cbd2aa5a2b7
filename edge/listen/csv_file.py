"""edge-listen's CSV file: rows behind rows, of which a database beside it counts the bytes."""

import csv
import io
import os
import re
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from edge.atomic_files import open_regular, sync_folder
from edge.csv_table import write_rows
from edge.errors import OutputNotWritable
from edge.listen.columns import HEADER, KEY_COLUMNS

_LINE_END = b"\r\n"
# Of what was counted so much is compared: a program that saves the table anew moves or changes it.
_END_BYTES = 4096
_STATION = re.compile(r"[a-z0-9_-]{1,32}(?:/[a-z0-9_-]{1,32}){3}")


class TableChanged(OutputNotWritable):
    """Somebody else wrote the table, or it is of another program; waiting does not help."""


@dataclass(frozen=True, slots=True)
class CsvEnd:
    """Where the rows end that are kept.

    Attributes:
        length: bytes of the file up to there.
        sha256: of the last of them; None where an older version counted.
    """

    length: int
    sha256: str | None


class CsvFile:
    """A table that only grows; its rows count once the end behind them is kept elsewhere."""

    def __init__(self, path: Path, end: CsvEnd | None) -> None:
        """Open the table, or begin it.

        Args:
            path: of the table.
            end: what was kept; None of a table that is to be begun.

        Raises:
            TableChanged: it is not the table that was written, or is none of edge-listen.
            OSError: it cannot be opened, or the disk refuses.
        """
        self._path = path
        if end is None:
            _check_unused(path)
        else:
            _check_there(path, end)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        self._descriptor = os.open(path, flags, 0o666)
        try:
            if end is None:
                self.columns: tuple[str, ...] = HEADER
                self.begun = self._write(_HEADER_LINE, 0)
                with suppress(PermissionError):  # a folder that we may not read
                    sync_folder(path.absolute().parent)
            else:
                self.columns = self._header(end)
                self.cut(end)
                self.begun = end
        except BaseException:
            self.close()
            raise

    def append(self, rows: Iterable[Sequence[Any]], end: CsvEnd) -> CsvEnd:
        """Write rows behind the others, on the disk when this returns; return where they end.

        Args:
            rows: cells by name of ``HEADER``.
            end: of the rows that are kept.

        Raises:
            TableChanged: somebody else wrote the table.
            OSError: the disk refuses.
        """
        self.cut(end)
        places = [HEADER.index(name) for name in self.columns]
        lines = io.StringIO(newline="")
        write_rows(lines, ([row[place] for place in places] for row in rows))
        return self._write(lines.getvalue().encode(), end.length)

    def cut(self, end: CsvEnd) -> None:
        """Remove the rows of a batch that was not finished: they come again.

        Raises:
            TableChanged: what was kept is not as it was, or others wrote behind it.
            OSError: the disk refuses.
        """
        length = os.fstat(self._descriptor).st_size
        if length < end.length:
            raise TableChanged(_shorter(self._path, length, end))
        if end.sha256 is not None and self._end_at(end.length) != end:
            raise TableChanged(
                f"{self._path}: another program has changed it: its last rows are not those that "
                f"edge-listen wrote. {_put_back(self._path)}"
            )
        if length == end.length:
            return
        behind = os.pread(self._descriptor, length - end.length, end.length)
        if not _unfinished(behind, len(self.columns)):
            raise TableChanged(
                f"{self._path}: another program has written behind the rows of edge-listen, from "
                f"byte {end.length} on. Move these lines to another file; a copy of the table is "
                "for notes."
            )
        os.ftruncate(self._descriptor, end.length)

    def close(self) -> None:
        os.close(self._descriptor)

    def _header(self, end: CsvEnd) -> tuple[str, ...]:
        first = os.pread(self._descriptor, min(end.length, 2 * len(_HEADER_LINE)), 0)
        columns = tuple(first.partition(_LINE_END)[0].decode("ascii", "replace").split(","))
        if columns[: len(KEY_COLUMNS)] != KEY_COLUMNS or not set(columns) <= set(HEADER):
            raise TableChanged(
                f"{self._path}: its first line does not name columns of edge-listen. "
                f"{_put_back(self._path)}"
            )
        return columns

    def _write(self, content: bytes, at: int) -> CsvEnd:
        written = 0
        while written < len(content):
            written += os.pwrite(self._descriptor, content[written:], at + written)
        os.fsync(self._descriptor)
        return self._end_at(at + len(content))

    def _end_at(self, length: int) -> CsvEnd:
        begin = max(0, length - _END_BYTES)
        return CsvEnd(length, sha256(os.pread(self._descriptor, length - begin, begin)).hexdigest())


_HEADER_LINE = ",".join(HEADER).encode() + _LINE_END


def _check_unused(path: Path) -> None:
    """Demand that nothing is there but what a process left that was killed while it began."""
    try:
        with open_regular(path) as file:
            found = file.read(len(_HEADER_LINE) + 1)
    except FileNotFoundError:
        return
    if not _HEADER_LINE.startswith(found):
        raise TableChanged(
            f"{path}: it exists already, and was not written by edge-listen, or {path.name}"
            ".state.db beside it is gone. Name another file, or put that back."
        )


def _check_there(path: Path, end: CsvEnd) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise TableChanged(
            f"{path}: it is gone, and {path.name}.state.db beside it knows of its rows. "
            f"{_put_back(path)}"
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise TableChanged(f"{path}: it is no longer a file. {_put_back(path)}")
    if status.st_size < end.length:
        raise TableChanged(_shorter(path, status.st_size, end))


def _shorter(path: Path, length: int, end: CsvEnd) -> str:
    return (
        f"{path}: it is shorter than it was, {length} of {end.length} bytes: another program has "
        f"changed it. {_put_back(path)}"
    )


def _put_back(path: Path) -> str:
    return (
        f"Put the table back, or keep what is there elsewhere, remove {path.name}.state.db as well "
        "and start again: a new table begins."
    )


def _unfinished(behind: bytes, columns: int) -> bool:
    """Tell whether bytes are rows of edge-listen, the last of them cut anywhere."""
    try:
        rows = list(csv.reader(io.StringIO(behind.decode(errors="replace"), newline="")))
    except csv.Error:
        return False
    whole = rows[:-1] if rows else []
    return all(len(row) == columns and _STATION.fullmatch(row[0]) for row in whole) and (
        not rows or _begins_row(rows[-1], columns)
    )


def _begins_row(cells: Sequence[str], columns: int) -> bool:
    """Tell whether a row may be the beginning of one; zeros are of a disk that lost its power."""
    if not cells or not cells[0].strip("\0"):
        return True
    if len(cells) == 1:
        return re.fullmatch(r"[a-z0-9_/-]*", cells[0].rstrip("\0")) is not None
    return len(cells) <= columns and _STATION.fullmatch(cells[0]) is not None
