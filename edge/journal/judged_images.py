"""Which image files the journal has a verdict of."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge.journal import database

ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class JudgedImage:
    """An image of which a verdict is recorded.

    Attributes:
        uri: ``image.source_uri`` of the verdict.
        modified_utc: of the file as it was inspected; None in older records.
    """

    uri: str
    modified_utc: str | None


class JudgedImages:
    """Reads them, also while the station writes."""

    def __init__(self, path: Path) -> None:
        """Prepare to read; the database need not be there.

        Args:
            path: the journal's database.
        """
        self._path = path

    def images(self) -> Iterator[JudgedImage]:
        """Yield the files of verdicts, the newest first, in bounded memory.

        Raises:
            JournalError: it cannot be read.
        """
        statement = (
            "SELECT seq, json_extract(content, '$.image.source_uri'),"
            " json_extract(content, '$.image.source_modified_utc'),"
            " json_extract(content, '$.image.uri') FROM"
            " (SELECT seq, CAST(payload AS TEXT) AS content FROM record INDEXED BY record_by_seq"
            " WHERE kind = 'verdict' AND seq < ? ORDER BY seq DESC LIMIT ?)"
        )
        before = 2**63 - 1
        with closing(database.connect_reading(self._path)) as connection:
            while True:
                try:
                    found = connection.execute(statement, (before, ROWS_AT_ONCE)).fetchall()
                except sqlite3.Error as error:
                    raise database.unreadable(self._path, error) from error
                for _, source, modified, uri in found:
                    if source or uri:
                        yield JudgedImage(source or uri, modified)
                if len(found) < ROWS_AT_ONCE:
                    return
                before = found[-1][0]

    def oldest_utc_ns(self) -> int | None:
        """Return when the oldest verdict was written, if earlier ones were removed; else None.

        Raises:
            JournalError: it cannot be read.
        """
        with closing(database.connect_reading(self._path)) as connection:
            try:
                found = connection.execute(
                    "SELECT seq, created_utc_ns FROM record INDEXED BY record_by_seq"
                    " WHERE kind = 'verdict' ORDER BY seq LIMIT 1"
                ).fetchone()
            except sqlite3.Error as error:
                raise database.unreadable(self._path, error) from error
        return None if found is None or found[0] == 1 else int(found[1])
