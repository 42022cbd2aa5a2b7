"""A journal with its writer and the publisher that relays it, each in its real thread."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from edge.contract.announcements import Meta
from edge.contract.delivery import Intervals
from edge.contract.event import Event, event_payload
from edge.contract.state import Condition, State
from edge.contract.verdict import new_id, payload
from edge.journal.entries import Backlog, Entry, JournalRow, RecordKind
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.journal.writer import JournalWriter
from edge.mqtt.command_queue import CommandQueue
from edge.mqtt.publisher import MqttPublisher
from edge.settings.mqtt import MqttSettings
from edge.station.threads import Failures, Worker
from tests.support.broker import GENEROUS_S, Messages
from tests.support.sample_verdict import IDENTITY, sample_verdict

STATION = "site/line/cell/top"


class LogCollector(logging.Handler):
    """What the runtime logged, for tests that wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[str] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self._messages.append(record.getMessage())
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        with self._changed:
            reported = self._changed.wait_for(
                lambda: any(text in message for message in self._messages), GENEROUS_S
            )
        assert reported, self._messages


def numbers(messages: Messages) -> list[int]:
    """Return sequence numbers in the order of their first arrival."""
    return list(dict.fromkeys(message["seq"] for message in messages))


def has_all(count: int) -> Callable[[Messages], bool]:
    return lambda messages: len(numbers(messages)) == count


class WatchedOutbox(Outbox):
    """An outbox of which a test knows what was read.

    Attributes:
        seen: what the newest look at the backlog gave.
        handed_out: rows of the backlog that were read.
        after_pending, before_rows: called in the reader's thread, when the backlog has been read
            and before rows are read again.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.seen: Backlog | None = None
        self.handed_out = 0
        self.after_pending: Callable[[], None] = lambda: None
        self.before_rows: Callable[[], None] = lambda: None

    def backlog(self) -> Backlog:
        self.seen = super().backlog()
        return self.seen

    def pending(self, kind: RecordKind, after_position: int, max_count: int) -> list[JournalRow]:
        rows = super().pending(kind, after_position, max_count)
        self.handed_out += len(rows)
        self.after_pending()
        return rows

    def rows(
        self, kind: RecordKind, from_seq: int, to_seq: int, max_count: int
    ) -> list[JournalRow]:
        self.before_rows()
        return super().rows(kind, from_seq, to_seq, max_count)


def write_secret(path: Path, text: str) -> None:
    """Write a file as passwords are kept; one that is there is replaced at once."""
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.rename(path)


class RelayedJournal:
    """What records and publishes; ``record`` stands for the inspection."""

    def __init__(
        self,
        folder: Path,
        url: str,
        password: str | None = None,
        intervals: Intervals = Intervals(),
        publisher: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.failures = Failures()
        folder.mkdir(parents=True, exist_ok=True)
        self.journal = open_journal(folder)
        self.outbox = WatchedOutbox(self.journal.path)
        self.writer = JournalWriter(journal=self.journal, on_commit=lambda: self.publisher.wake())
        self.control = CommandQueue()
        self.events: list[Event] = []
        self._closed = False
        if password is not None:
            settings["password_file"] = str(folder / "password")
            write_secret(folder / "password", password)
        self.publisher = MqttPublisher(
            settings=MqttSettings(url=url, **{"station": STATION, **settings}),
            state=State(
                condition=Condition.STARTING, since_utc="2026-01-01T00:00:00.000000Z", model="part"
            ),
            meta=Meta(model_name="part", journal=self.journal.journal),
            outbox=self.outbox,
            marks=self.writer,
            control=self.control,
            on_event=self.record_event,
            intervals=intervals,
            **{"back_off_s": (0.05, 0.2), **(publisher or {})},
        )
        self._writing = Worker("journal", self.writer.run, self.failures)
        self._publishing = Worker("mqtt", self.publisher.run, self.failures)
        self._writing.start()

    def start(self) -> "RelayedJournal":
        """Begin to publish."""
        self._publishing.start()
        return self

    def record(self, parts: int, on_committed: Callable[[int], None] = lambda _: None) -> None:
        """Decide so many parts, and wait until their verdicts are on the disk."""
        for _ in range(parts):
            self.submit(on_committed)
        assert self.writer.flush(GENEROUS_S)

    def submit(self, on_committed: Callable[[int], None] = lambda _: None, **fields: Any) -> None:
        content = {**VERDICT, "id": new_id(time.time_ns()), **fields}
        entry = Entry(RecordKind.VERDICT, content, "OK")
        self.writer.submit(entry, lambda committed: on_committed(committed.seq))

    def record_event(self, event: Event) -> None:
        self.events.append(event)
        content = event_payload(event, time.time_ns())
        self.writer.submit(Entry(RecordKind.EVENT, content))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GENEROUS_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)  # polls what has no way to tell

    def reopened_backlog(self) -> int:
        """Return how many rows the next process would find unacknowledged; after ``close``."""
        with closing(Outbox(self.journal.path)) as outbox:
            return outbox.backlog().count

    @property
    def rows_in_memory(self) -> int:
        """Rows that were read and are not acknowledged, at most."""
        return self.outbox.handed_out - self.publisher.delivery().acknowledged

    def delivered(self) -> bool:
        """Wait until the broker has everything."""
        return self.publisher.wait_until_delivered(GENEROUS_S).settled

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.publisher.stop()
        ended = self._publishing.join(GENEROUS_S)
        self.writer.close()
        assert self._writing.join(GENEROUS_S)
        assert ended
        self.outbox.close()
        self.failures.raise_first()


VERDICT = payload(sample_verdict(), IDENTITY, session=None)


Relaying = Callable[..., RelayedJournal]


@contextmanager
def relayed_journals(folder: Path) -> Iterator[Relaying]:
    """Start stations below ``folder``; end them all, and fail if a thread of one died."""
    started: list[RelayedJournal] = []

    def begin(url: str, name: str = "journal", start: bool = True, **how: Any) -> RelayedJournal:
        station = RelayedJournal(folder / name, url, **how)
        started.append(station)
        return station.start() if start else station

    yield begin
    for station in started:
        station.close()


@contextmanager
def listening_to_logs() -> Iterator[LogCollector]:
    handler = LogCollector()
    logging.getLogger("edge").addHandler(handler)
    yield handler
    logging.getLogger("edge").removeHandler(handler)


def main(folder: str, url: str, parts: str, per_second: str) -> None:
    """Record and publish like a station, until killed; say each committed number."""
    station = RelayedJournal(Path(folder), url).start()
    interval_s = 1.0 / float(per_second)
    due_s = time.monotonic()
    for _ in range(int(parts)):
        # A disk that stands still makes the line wait, as it does in a station.
        station.wait_until(lambda: station.writer.refusal is None)
        station.submit(lambda seq: print(seq, flush=True))
        due_s += interval_s
        time.sleep(max(due_s - time.monotonic(), 0.0))  # the pace of a line
    assert station.delivered()
    station.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
