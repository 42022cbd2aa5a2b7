"""The writer and the outbox: in order, committed before told, bounded."""

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from edge.journal.database import Synchronous
from edge.journal.entries import (
    Committed,
    Entry,
    JournalRefuses,
    RecordKind,
    Refusal,
    for_sending,
)
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.journal.writer import JournalWriter
from tests.support.journaling import (
    PATIENCE_S,
    RunningWriter,
    event,
    numbers,
    running_writer,
    verdict,
    wait_until,
)


def test_each_kind_counts_for_itself_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    with running_writer(tmp_path) as running:
        running.write(verdict(1), event(2), verdict(3))
    with running_writer(tmp_path) as running:
        running.write(event(4), verdict(5))

    assert numbers(running.path) == [1, 2, 3]
    assert numbers(running.path, RecordKind.EVENT) == [1, 2]


def test_numbers_are_not_used_again_when_every_row_is_gone(tmp_path: Path) -> None:
    with running_writer(tmp_path, relayed=False) as running:
        running.write(verdict(1), verdict(2))
    with closing(sqlite3.connect(running.path)) as connection, connection:
        connection.execute("DELETE FROM record")

    with running_writer(tmp_path) as running:
        running.write(verdict(3))

    assert numbers(running.path) == [3]


def test_an_entry_is_on_the_disk_before_it_is_announced(tmp_path: Path) -> None:
    with running_writer(tmp_path) as running:
        seen: list[bool] = []

        def look(committed: Committed) -> None:
            with closing(sqlite3.connect(running.path)) as connection:
                found = connection.execute(
                    "SELECT payload FROM record WHERE position = ?", (committed.position,)
                ).fetchone()
            seen.append(found == (committed.payload,))

        for n in range(50):
            running.writer.submit(verdict(n), look)
        running.flush()

        assert seen == [True] * 50


def test_the_payload_has_number_and_journal_and_leaves_the_sending_to_the_relay(
    tmp_path: Path,
) -> None:
    content = {"id": "ä", "seq": None, "journal": None, "session": None, "replayed": False}
    with running_writer(tmp_path) as running:
        running.write(Entry(RecordKind.EVENT, content), Entry(RecordKind.EVENT, {}))
        with closing(Outbox(running.path)) as outbox:
            first, second = outbox.pending(RecordKind.EVENT, 0, 10)
        journal = running.journal.journal

    assert json.loads(first.payload) == {"seq": 1, "journal": journal, "id": "ä"}
    assert json.loads(second.payload) == {"seq": 2, "journal": journal}
    assert json.loads(for_sending(first.payload, "s", True)) == {
        "seq": 1,
        "journal": journal,
        "id": "ä",
        "session": "s",
        "replayed": True,
    }


def test_content_that_is_no_json_is_refused_where_it_is_submitted(tmp_path: Path) -> None:
    with running_writer(tmp_path) as running:
        with pytest.raises(ValueError, match="JSON"):
            running.writer.submit(Entry(RecordKind.VERDICT, {"score": float("nan")}))
        with pytest.raises(ValueError, match="at most 65536"):
            running.writer.submit(Entry(RecordKind.VERDICT, {"detail": "x" * 70_000}))
        running.write(verdict(1))

    assert numbers(running.path) == [1]


def test_many_entries_share_a_commit(tmp_path: Path) -> None:
    commits: list[None] = []
    reported: list[int] = []
    held, go_on = threading.Event(), threading.Event()

    def hold(committed: Committed) -> None:
        held.set()
        assert go_on.wait(PATIENCE_S)

    with running_writer(tmp_path, on_commit=lambda: commits.append(None)) as running:
        running.writer.submit(verdict(0), hold)
        assert held.wait(PATIENCE_S)
        for n in range(1, 129):
            running.writer.submit(verdict(n), lambda committed: reported.append(committed.seq))
        go_on.set()
        running.flush()

        assert reported == list(range(2, 130))
        assert len(commits) == 3  # one, then twice 64


def test_a_full_queue_refuses_without_waiting(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    writer = JournalWriter(journal=journal, queue_bound=3)  # nobody writes
    for n in range(3):
        writer.submit(verdict(n))

    with pytest.raises(JournalRefuses, match="Check the disk") as refused:
        writer.submit(verdict(3))

    assert refused.value.refusal is writer.refusal is Refusal.QUEUE_FULL
    assert not writer.flush(0.01)
    journal.close()


def test_close_writes_what_was_accepted_and_refuses_the_rest(tmp_path: Path) -> None:
    running = RunningWriter(tmp_path)
    for n in range(300):
        running.writer.submit(verdict(n))

    running.end()

    running.failures.raise_first()
    assert len(numbers(running.path)) == 300
    with pytest.raises(JournalRefuses) as refused:
        running.writer.submit(verdict(300))
    assert refused.value.refusal is Refusal.CLOSED
    assert running.writer.flush(1.0)


def test_an_idle_writer_beats(tmp_path: Path) -> None:
    beats: list[None] = []
    with running_writer(tmp_path, beat=lambda: beats.append(None)):
        wait_until(lambda: len(beats) >= 3, "three beats")


def test_an_error_of_a_listener_ends_the_station_and_not_the_record(tmp_path: Path) -> None:
    def fail(committed: Committed) -> None:
        raise RuntimeError("listener")

    running = RunningWriter(tmp_path)
    running.writer.submit(verdict(1), fail)
    running.writer.flush(PATIENCE_S)
    running.end()

    with pytest.raises(RuntimeError, match="listener"):
        running.failures.raise_first()
    assert numbers(running.path) == [1]
    assert running.writer.refusal is Refusal.CLOSED


def test_a_lock_of_another_program_is_waited_for(tmp_path: Path) -> None:
    troubles: list[str | None] = []
    with running_writer(tmp_path, on_trouble=troubles.append) as running:
        running.write(verdict(1))
        with closing(sqlite3.connect(running.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            running.writer.submit(verdict(2))
            wait_until(lambda: bool(troubles), "trouble")
            other.execute("ROLLBACK")
            running.flush()

    assert troubles[0] is not None
    assert "locked" in troubles[0]
    assert troubles[1:] == [None]
    assert numbers(running.path) == [1, 2]


def test_what_is_acknowledged_or_dead_is_not_pending_and_can_be_read_again(tmp_path: Path) -> None:
    with running_writer(tmp_path) as running:
        running.write(*(verdict(n) for n in range(5)), event(5))
        with closing(Outbox(running.path)) as outbox:
            positions = [row.position for row in outbox.pending(RecordKind.VERDICT, 0, 10)]
            assert running.writer.acknowledge(positions[:2])
            assert running.writer.acknowledge(positions[:1])  # a duplicate, and an unknown one
            assert running.writer.acknowledge([999])
            assert running.writer.mark_dead_letter(positions[2], "too large")
            running.flush()

            assert [row.position for row in outbox.pending(RecordKind.VERDICT, 0, 10)] == positions[
                3:
            ]
            assert [
                row.position for row in outbox.pending(RecordKind.VERDICT, positions[3], 1)
            ] == [positions[4]]
            again = outbox.rows(RecordKind.VERDICT, 2, 3, 10)
            assert [(row.seq, row.acknowledged, row.dead) for row in again] == [
                (2, True, None),
                (3, False, "too large"),
            ]
            backlog = outbox.backlog()

    assert backlog.count == 3
    assert backlog.last_seq == {RecordKind.VERDICT: 5, RecordKind.EVENT: 1}
    assert backlog.oldest_utc_ns is not None


def test_acknowledgements_are_bounded_and_none_is_half_taken(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    writer = JournalWriter(journal=journal)  # nobody writes

    assert writer.acknowledge(range(10_000))
    assert not writer.acknowledge([10_000])
    assert not writer.mark_dead_letter(10_000, "too large")
    journal.close()


def test_without_a_relay_rows_are_settled_at_once(tmp_path: Path) -> None:
    with running_writer(tmp_path, relayed=False) as running:
        running.write(verdict(1))
        with closing(Outbox(running.path)) as outbox:
            assert outbox.backlog().count == 0
            assert outbox.rows(RecordKind.VERDICT, 1, 1, 1)[0].acknowledged


@pytest.mark.parametrize(("asked", "level"), [(Synchronous.FULL, 2), (Synchronous.NORMAL, 1)])
def test_power_loss_is_what_synchronous_full_is_for(
    asked: Synchronous, level: int, tmp_path: Path
) -> None:
    journal = open_journal(tmp_path, asked)

    assert journal.connection.execute("PRAGMA synchronous").fetchone() == (level,)
    assert journal.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    journal.close()


def test_a_backlog_is_read_in_small_steps_through_its_index(tmp_path: Path) -> None:
    with running_writer(tmp_path) as running:
        running.write(*(verdict(n) for n in range(100)))
        with closing(sqlite3.connect(running.path)) as connection:
            plan = connection.execute(
                "EXPLAIN QUERY PLAN SELECT payload FROM record INDEXED BY record_waiting WHERE"
                " acknowledged = 0 AND dead IS NULL AND position > 5 ORDER BY position LIMIT 9"
            ).fetchall()

    assert len(plan) == 1
    assert "record_waiting (position>?)" in plan[0][3]
