"""A journal whose writer runs, and entries for it."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.journal.database import Synchronous
from edge.journal.entries import Entry, JournalRow, RecordKind
from edge.journal.open import open_journal
from edge.journal.query import Query, query
from edge.journal.writer import JournalWriter
from edge.station.threads import Failures, Worker

PATIENCE_S = 60.0
FILLING = "x" * 1200  # makes a payload as long as a verdict's


def verdict(n: int, result: str = "OK", part_id: str | None = None) -> Entry:
    """A verdict-sized record that carries ``n``."""
    content = {"schema": "verdict/1", "n": n, "result": result, "part_id": part_id}
    return Entry(RecordKind.VERDICT, {**content, "filling": FILLING}, result, part_id)


def event(n: int) -> Entry:
    return Entry(RecordKind.EVENT, {"schema": "event/1", "kind": "test", "n": n})


class RunningWriter:
    """A writer in its worker thread, as in the station."""

    def __init__(
        self, folder: Path, synchronous: Synchronous = Synchronous.FULL, **options: Any
    ) -> None:
        self.journal = open_journal(folder, synchronous, check_limit_s=PATIENCE_S)
        self.path = self.journal.path
        self.failures = Failures()
        self.writer = JournalWriter(journal=self.journal, **options)
        self._worker = Worker("journal", self.writer.run, self.failures)
        self._worker.start()

    def write(self, *entries: Entry) -> None:
        """Submit and wait until all are durable."""
        for entry in entries:
            self.writer.submit(entry)
        self.flush()

    def flush(self) -> None:
        assert self.writer.flush(PATIENCE_S)

    def end(self) -> None:
        self.writer.close()
        assert self._worker.join(PATIENCE_S)


@contextmanager
def running_writer(
    folder: Path, synchronous: Synchronous = Synchronous.FULL, **options: Any
) -> Iterator[RunningWriter]:
    """Run a writer; at the end it must not have failed."""
    running = RunningWriter(folder, synchronous, **options)
    try:
        yield running
    finally:
        running.end()
    running.failures.raise_first()


def rows(path: Path, wanted: Query = Query()) -> list[JournalRow]:
    return list(query(path, wanted))


def numbers(path: Path, kind: RecordKind = RecordKind.VERDICT) -> list[int]:
    return [row.seq for row in query(path, Query(kind=kind))]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another thread or process brings about."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"did not come: {what}"
        threading.Event().wait(0.005)


def remove_folder(folder: Path) -> None:
    """Remove a folder at one moment: who writes there meanwhile finds it whole or gone."""
    gone = folder.with_name(f".{folder.name}.gone")
    folder.rename(gone)
    shutil.rmtree(gone)
