"""The one writer of CSV: what a spreadsheet would compute is shown as it is."""

import csv
from collections.abc import Iterable
from typing import Any, TextIO

# Part ids, users and file names come from others. The wide forms count in Japanese and Chinese.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def write_rows(file: TextIO, rows: Iterable[Iterable[Any]], line_end: str = "\r\n") -> None:
    """Write lines; a text that begins like a formula stands behind an apostrophe.

    Args:
        file: opened with ``newline=""``.
        rows: cells of any kind; a negative number has to be one, not its text.
        line_end: ``\\r\\n`` as RFC 4180 wants it, or what the table has had so far.
    """
    csv.writer(file, lineterminator=line_end).writerows(
        [_shown(cell) for cell in row] for row in rows
    )


def _shown(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(_FORMULA):
        return f"'{cell}"
    return cell
