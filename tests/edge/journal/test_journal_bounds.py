"""The journal stays within its bounds, and nothing gives way that must not."""

import json
import random
import sqlite3
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.journal import bounds as limits
from edge.journal.bounds import Bounds, Fill, Overflow
from edge.journal.database import Synchronous
from edge.journal.entries import JournalRefuses, RecordKind, Refusal, body
from edge.journal.ledger import Ledger, read_totals
from edge.journal.open import Journal, open_journal
from edge.journal.outbox import Outbox
from edge.journal.query import Query
from edge.journal.verification import verify_chain
from edge.journal.writer import JournalWriter
from tests.soak import times
from tests.support.journaling import (
    RunningWriter,
    event,
    numbers,
    rows,
    running_writer,
    verdict,
    wait_until,
)

DAY_NS = 86_400_000_000_000
RESULTS = ["OK", "OK", "OK", "NOK", "ERROR", "NOT_DECIDABLE"]


@dataclass
class Clocks:
    """A monotonic clock and a wall clock that only move when told."""

    monotonic: int = 5 * DAY_NS
    wall: int = 20_000 * DAY_NS

    def monotonic_ns(self) -> int:
        return self.monotonic

    def wall_ns(self) -> int:
        return self.wall


def retaining(folder: Path, clocks: Clocks) -> AbstractContextManager[RunningWriter]:
    bounds = Bounds(retention_days=7.0)
    return running_writer(
        folder,
        bounds=bounds,
        relayed=False,
        clock_ns=clocks.monotonic_ns,
        utc_ns=clocks.wall_ns,
    )


def test_settled_rows_go_when_their_time_is_over(tmp_path: Path) -> None:
    clocks = Clocks()
    with retaining(tmp_path, clocks) as running:
        running.write(verdict(1))
        clocks.monotonic += 6 * DAY_NS
        running.write(verdict(2))
        assert numbers(running.path) == [1, 2]
        clocks.monotonic += 2 * DAY_NS
        running.write(verdict(3))

        assert numbers(running.path) == [2, 3]
        report = verify_chain(running.path)
        assert (report.rows, report.removed, report.fault) == (2, 1, None)


@pytest.mark.parametrize("days", [-1, 1, 30])
def test_a_step_of_the_wall_clock_removes_nothing_and_changes_no_order(
    days: int, tmp_path: Path
) -> None:
    clocks = Clocks()
    with retaining(tmp_path, clocks) as running:
        running.write(verdict(1))
        clocks.wall += days * DAY_NS
        running.write(verdict(2))
    clocks.wall += days * DAY_NS
    with retaining(tmp_path, clocks) as running:
        running.write(verdict(3))
        recorded = rows(running.path)

    assert [row.seq for row in recorded] == [1, 2, 3]
    assert [row.created_utc_ns // DAY_NS - 20_000 for row in recorded] == [0, days, 2 * days]
    assert verify_chain(running.path).fault is None


def test_the_clock_of_retention_goes_on_over_restarts(tmp_path: Path) -> None:
    clocks = Clocks()
    with retaining(tmp_path, clocks) as running:
        running.write(verdict(1))
        clocks.monotonic += 4 * DAY_NS
        running.write(verdict(2))
    clocks.monotonic = 0  # the machine was started again
    with retaining(tmp_path, clocks) as running:
        clocks.monotonic += 4 * DAY_NS
        running.write(verdict(3))

        assert numbers(running.path) == [2, 3]


def test_what_the_broker_does_not_have_outlives_retention(tmp_path: Path) -> None:
    clocks = Clocks()
    with running_writer(tmp_path, clock_ns=clocks.monotonic_ns) as running:
        running.write(verdict(1), verdict(2))
        running.writer.acknowledge([2])
        clocks.monotonic += 100 * DAY_NS
        running.write(verdict(3))

        assert numbers(running.path) == [1, 3]  # the second has arrived, and its time is over
        assert verify_chain(running.path).fault is None


def test_a_full_journal_stops_says_so_and_goes_on_when_the_broker_is_back(tmp_path: Path) -> None:
    levels: list[Fill] = []
    bounds = Bounds(max_rows=100)
    with running_writer(tmp_path, bounds=bounds, on_fill=levels.append) as running:
        for n in range(100):
            running.write(verdict(n))
        assert levels == [Fill.NEARLY_FULL, Fill.FULL]
        with pytest.raises(JournalRefuses, match="Restore the broker") as refused:
            running.writer.submit(verdict(100))
        assert refused.value.refusal is Refusal.JOURNAL_FULL
        assert numbers(running.path) == list(range(1, 101))

        running.writer.acknowledge(range(1, 51))
        running.flush()
        running.write(verdict(101))

        assert levels == [Fill.NEARLY_FULL, Fill.FULL, Fill.ROOM]
        assert numbers(running.path)[-1] == 101
        assert len(numbers(running.path)) <= 100


def test_a_full_journal_is_full_after_a_restart_too(tmp_path: Path) -> None:
    bounds = Bounds(max_rows=100)
    with running_writer(tmp_path, bounds=bounds) as running:
        for n in range(100):
            running.write(verdict(n))
    with running_writer(tmp_path, bounds=bounds) as running:
        assert running.writer.fill is Fill.FULL
        assert running.writer.refusal is Refusal.JOURNAL_FULL


def test_the_queue_counts_toward_the_bound(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    writer = JournalWriter(journal=journal, bounds=Bounds(max_rows=100))  # nobody writes
    for n in range(100):
        writer.submit(verdict(n))

    assert writer.refusal is Refusal.JOURNAL_FULL
    journal.close()


def test_bytes_are_bounded_and_pages_used_again(tmp_path: Path) -> None:
    bounds = Bounds(max_bytes=2**20)
    with running_writer(tmp_path, bounds=bounds, relayed=False) as running:
        for n in range(0, 4000, 50):
            running.write(*(verdict(m) for m in range(n, n + 50)))
        assert running.path.stat().st_size < 1.25 * bounds.max_bytes
        recorded = numbers(running.path)

        assert recorded == list(range(recorded[0], 4001))
        assert len(recorded) > 300
        assert verify_chain(running.path).fault is None


def test_a_journal_full_of_unsent_bytes_stops(tmp_path: Path) -> None:
    bounds = Bounds(max_bytes=2**20)
    accepted = 0
    with running_writer(tmp_path, bounds=bounds) as running:
        with pytest.raises(JournalRefuses):
            while True:
                running.writer.submit(verdict(accepted))
                accepted += 1
                if accepted % 50 == 0:
                    running.flush()
        running.flush()

        assert numbers(running.path) == list(range(1, accepted + 1))
        assert running.path.stat().st_size < 1.25 * bounds.max_bytes


def test_free_pages_go_back_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREE_PAGES", 16)
    clocks = Clocks()
    with retaining(tmp_path, clocks) as running:
        for n in range(0, 1000, 50):
            running.write(*(verdict(m) for m in range(n, n + 50)))
    large = running.path.stat().st_size
    with retaining(tmp_path, clocks) as running:
        clocks.monotonic += 8 * DAY_NS
        running.write(verdict(1000))
        wait_until(lambda: running.path.stat().st_size < large / 3, "a shorter file")

        assert numbers(running.path)[-1] == 1001


@dataclass
class Model:
    """What the journal should hold."""

    accepted: dict[int, str] = field(default_factory=dict)  # seq → result
    acknowledged: set[int] = field(default_factory=set)
    tombstones: dict[int, dict[str, Any]] = field(default_factory=dict)

    def record_tombstones(self, path: Path) -> None:
        for row in rows(path, Query(kind=RecordKind.EVENT)):
            event = json.loads(row.payload)
            assert event["kind"] == "verdicts_dropped"
            self.tombstones[row.seq] = event["data"]


@settings(max_examples=times(15, 200))
@given(
    seed=st.integers(0, 2**32),
    overflow=st.sampled_from(Overflow),
    ok_share=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    steps=st.integers(10, 40),
)
def test_every_accepted_verdict_is_recorded_or_named_by_a_tombstone(
    seed: int, overflow: Overflow, ok_share: float, steps: int
) -> None:
    chance = random.Random(seed)
    bounds = Bounds(max_rows=100, overflow=overflow, retention_days=1000)
    model = Model()
    normal = Synchronous.NORMAL  # thousands of commits, and no power loss here
    with (
        TemporaryDirectory() as folder,
        running_writer(Path(folder), normal, bounds=bounds) as running,
    ):
        with closing(Outbox(running.path)) as outbox:
            for _ in range(steps):
                for _ in range(chance.randrange(30)):
                    ok = chance.random() < ok_share
                    result = "OK" if ok else chance.choice(RESULTS[3:])
                    try:
                        running.writer.submit(verdict(len(model.accepted), result))
                    except JournalRefuses as refused:
                        assert refused.refusal is Refusal.JOURNAL_FULL
                    else:
                        model.accepted[len(model.accepted) + 1] = result
                running.flush()
                model.record_tombstones(running.path)
                if chance.random() < 0.2:
                    max_count = chance.randrange(30)
                    sent = [
                        row for kind in RecordKind for row in outbox.pending(kind, 0, max_count)
                    ]
                    running.writer.acknowledge([row.position for row in sent])
                    model.acknowledged |= {
                        row.seq for row in sent if row.kind is RecordKind.VERDICT
                    }
                    running.flush()
                check_books(running.path, bounds)
        check_against(model, running.path, overflow)


def check_books(path: Path, bounds: Bounds) -> None:
    """The journal's own counts are what is there."""
    recorded = rows(path)
    waiting = [row for row in recorded if not row.acknowledged and row.dead is None]
    with closing(sqlite3.connect(path)) as connection:
        totals = read_totals(connection)
    assert len(recorded) <= bounds.max_rows
    assert totals.rows == len(recorded)
    assert totals.bytes == sum(len(row.payload) for row in recorded)
    assert totals.waiting_rows == len(waiting)
    assert totals.waiting_bytes == sum(len(row.payload) for row in waiting)
    ok = [row for row in waiting if row.result == "OK"]
    assert totals.waiting_ok_rows == len(ok)
    assert totals.waiting_ok_bytes == sum(len(row.payload) for row in ok)


def check_against(model: Model, path: Path, overflow: Overflow) -> None:
    assert verify_chain(path).fault is None
    dropped: list[int] = []
    for data in model.tombstones.values():
        named: list[int] = []
        for words in data["ranges"].split():
            first, last = map(int, words.split("-"))
            named += range(first, last + 1)
        assert len(named) == data["count"]
        dropped += named
    assert len(set(dropped)) == len(dropped)
    assert all(model.accepted[seq] == "OK" for seq in dropped)
    assert not dropped or overflow is Overflow.DROP_OLDEST_OK
    there = set(numbers(path))
    assert not there & set(dropped)
    # The broker had what else is gone.
    assert set(model.accepted) - there - set(dropped) <= model.acknowledged


def test_a_row_that_waits_for_long_does_not_keep_the_settled_ones_behind_it(
    tmp_path: Path,
) -> None:
    bounds = Bounds(max_rows=100)
    with running_writer(tmp_path, bounds=bounds) as running:
        running.write(event(0))  # which the broker refuses
        with closing(Outbox(running.path)) as outbox:
            for _ in range(30):
                running.write(*(verdict(n) for n in range(10)))
                sent = outbox.pending(RecordKind.VERDICT, 0, 1000)
                assert running.writer.acknowledge([row.position for row in sent])
                running.flush()

        assert running.writer.refusal is None
        assert len(rows(running.path)) <= bounds.max_rows
        assert numbers(running.path)[-1] == 300
        assert numbers(running.path, RecordKind.EVENT) == [1]
        check_books(running.path, bounds)
    assert verify_chain(tmp_path / "journal.db").fault is None


def open_ledger(folder: Path) -> tuple[Journal, Ledger]:
    journal = open_journal(folder)
    return journal, Ledger(journal.connection, journal.journal)


def test_only_ok_verdicts_are_dropped_oldest_first_with_their_exact_numbers(
    tmp_path: Path,
) -> None:
    journal, ledger = open_ledger(tmp_path)
    results = ["OK", "OK", "NOK", "OK", "ERROR", "OK", "OK"]
    ledger.begin(0)
    for n, result in enumerate(results):
        entry = verdict(n, result)
        ledger.append(entry, body(entry), 0, False)
    ledger.commit()

    ledger.begin(0)
    dropped = ledger.drop_oldest_ok(max_count=4, max_ranges=8)
    ledger.commit()
    ledger.begin(0)
    rest = ledger.drop_oldest_ok(max_count=4, max_ranges=8)
    ledger.commit()
    journal.close()

    assert (dropped.ranges, dropped.count) == (((1, 2), (4, 4), (6, 6)), 4)
    assert (rest.ranges, rest.count) == (((7, 7),), 1)
    assert numbers(journal.path) == [3, 5]
    report = verify_chain(journal.path)
    assert (report.rows, report.removed, report.fault) == (2, 5, None)


def test_what_a_failed_transaction_did_does_not_count(tmp_path: Path) -> None:
    journal, ledger = open_ledger(tmp_path)
    entry = verdict(0)
    ledger.begin(0)
    ledger.append(entry, body(entry), 0, False)
    ledger.commit()

    ledger.begin(0)
    ledger.append(entry, body(entry), 0, False)
    ledger.drop_oldest_ok(max_count=1, max_ranges=1)
    ledger.begin(0)
    assert ledger.drop_oldest_ok(max_count=1, max_ranges=1).ranges == ((1, 1),)
    committed = ledger.append(entry, body(entry), 0, False)
    ledger.commit()
    journal.close()

    assert committed.seq == 2
    assert numbers(journal.path) == [2]
    assert verify_chain(journal.path).fault is None
