"""The journal's one writer: a commit for many, then they are told."""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge.contract.encoding import bounded
from edge.errors import StationError
from edge.journal import entries as records
from edge.journal.bounds import (
    Bounds,
    Fill,
    dropped_event,
    level,
    make_room,
    pages_to_give_back,
    remove_expired,
    usage,
)
from edge.journal.entries import Committed, Entry, JournalDamaged, JournalUnavailable, Refusal
from edge.journal.ledger import Ledger
from edge.journal.open import Journal, mark_damaged, write_anew
from edge.journal.open_files import Displaced
from edge.journal.sqlite_errors import is_damage, is_transient
from edge.journal.write_queue import Group, Queued, WriteQueue
from edge.wording import counted

log = logging.getLogger(__name__)

HOUSEKEEPING_INTERVAL_NS = 60_000_000_000
BACK_OFF_S = (0.05, 0.5)
MAX_REASON_LENGTH = 300
# A disk that refuses when the station stops gets so long to change its mind.
CLOSING_LIMIT_NS = 5_000_000_000


@dataclass(frozen=True, slots=True)
class GroupCommit:
    """A commit is due when nothing more is queued, at so many rows, or after so much time."""

    interval_ms: float = 20.0
    rows: int = 64


class JournalWriter:
    """Records entries in order, commits many at once, then tells who submitted them.

    ``run`` is the body of the one thread that writes; everything else may be called by any thread
    and never waits for the disk. What was accepted is never given up while the process lives: a
    full or failing disk makes it wait, and so does a folder that was removed, renamed or covered
    by a mount; ``on_trouble`` says so. Nobody is told of a commit while the files that have it are
    not at their place.

    Attributes:
        displaced: the journal's files are not at their place.
        fill: how full the journal is.
        dropped: OK verdicts that this run deleted unsent.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        bounds: Bounds = Bounds(),
        commit: GroupCommit = GroupCommit(),
        queue_bound: int = 1024,
        relayed: bool = True,
        on_commit: Callable[[], None] = lambda: None,
        on_trouble: Callable[[str | None], None] = lambda _: None,
        on_fill: Callable[[Fill], None] = lambda _: None,
        beat: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare; nothing is written before ``run``. The callbacks are called in its thread.

        Args:
            journal: open; ``run`` closes it at its end.
            queue_bound: entries that may wait for their commit; more are refused.
            relayed: False where nobody sends: rows are settled at once and only kept.
            on_commit: there are new rows; wakes whoever reads them.
            on_trouble: cause and next step when nothing can be written; None when it can again.
            on_fill: the level changed; the level at the start is ``fill``.
            beat: the thread is alive; at least every 0.5 s unless the disk holds a call.
            clock_ns: monotonic.
            utc_ns: wall clock; only written down.
        """
        self._journal = journal
        self._bounds = bounds
        self._interval_ns = int(commit.interval_ms * 1e6)
        self._rows = min(commit.rows, bounds.rows_at_once)
        self._relayed = relayed
        self._on_commit = on_commit
        self._on_trouble = on_trouble
        self._on_fill = on_fill
        self._beat = beat
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._ledger = Ledger(journal.connection, journal.journal)
        self._began_ns = clock_ns() - self._ledger.totals.station_ns
        self._housekeeping_due_ns = clock_ns()
        self._trouble: str | None = None
        self._dropping = 0
        self._left: list[Queued] = []
        self._last_seq = self._ledger.totals.verdict_seq
        self.displaced = False
        self.dropped = 0
        self._used = usage(self._ledger.totals, self._ledger.used_bytes(), bounds)
        self.fill = level(self._used, Fill.ROOM, bounds)
        self._write_queue = WriteQueue(bounds, queue_bound, self._used, self.fill)

    @property
    def refusal(self) -> Refusal | None:
        """Why an entry would be refused now; None when it would be accepted."""
        return self._write_queue.refusal

    @property
    def waiting(self) -> int:
        """Entries that were accepted and are not committed yet."""
        return self._write_queue.waiting

    @property
    def last_seq(self) -> int:
        """Number of the newest verdict that is committed."""
        return self._last_seq

    def submit(self, entry: Entry, on_committed: Callable[[Committed], None] | None = None) -> None:
        """Accept an entry; ``on_committed`` is called in the writer's thread once it is durable.

        Raises:
            JournalRefuses: not accepted; the queue or the journal is full, or it is closed.
            ValueError: the content is no JSON, or too large.
        """
        self._write_queue.put(Queued(entry, records.body(entry), on_committed))

    def acknowledge(self, positions: Iterable[int]) -> bool:
        """Note that the broker has these rows, with one of the next commits.

        Returns:
            False when too many wait to be noted; none of these was taken, try again.
        """
        return self._write_queue.acknowledge(positions)

    def mark_dead_letter(self, position: int, reason: str) -> bool:
        """Make a row a dead letter, with one of the next commits; False as of ``acknowledge``."""
        return self._write_queue.mark_dead_letter(position, bounded(reason, MAX_REASON_LENGTH))

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything accepted is durable and told; tell whether that came."""
        return self._write_queue.flush(timeout_s)

    def unrecorded(self) -> list[Entry]:
        """Return what was accepted and is not on the disk; after ``run`` has ended."""
        return [queued.entry for queued in (*self._left, *self._write_queue.left())]

    def close(self) -> None:
        """Accept nothing more and ask ``run`` to end once all is written; does not wait."""
        self._write_queue.close()

    def run(self) -> None:
        """Write until ``close``; the body of the writer's thread.

        Raises:
            JournalDamaged: the file is no longer sound; the next start sets it aside.
            JournalUnavailable: closed, and the disk did not take what was accepted.
        """
        try:
            while not self._write_queue.finished():
                self._beat()
                group = self._write_queue.next_group(self._rows)
                due = self._clock_ns() >= self._housekeeping_due_ns
                if group or due or self._journal.files.displaced():
                    self._make_durable(group)
                    if not group.entries:
                        self._shorten()
            if self._journal.files.displaced():  # what it holds may not be at the broker yet
                self._at_place(may_make_folder=True)
        finally:
            self._write_queue.end()
            self._journal.close()

    def _make_durable(self, group: Group) -> None:
        """Commit a group, trying until the disk takes it, and tell."""
        delay_s, max_delay_s = BACK_OFF_S
        closing_until_ns: int | None = None
        committed: list[Committed] | None = None
        self._left = group.entries
        while True:
            closing = self._write_queue.closed
            try:
                if self._at_place(may_make_folder=closing):
                    if committed is not None:
                        break
                    committed = self._write(group)
                    continue  # nobody is told before it is known that the file is there
            except sqlite3.DatabaseError as error:
                self._judge(error)
            if closing:
                closing_until_ns = closing_until_ns or self._clock_ns() + CLOSING_LIMIT_NS
                if self._clock_ns() >= closing_until_ns:
                    raise JournalUnavailable(
                        f"{self._trouble} The station is stopping and "
                        f"{counted(self._write_queue.waiting, 'entry was', 'entries were')} not "
                        "recorded."
                    )
            self._write_queue.pause(delay_s)
            delay_s = min(delay_s * 2, max_delay_s)
            self._beat()
        self._left = []
        self._announce(group, committed)

    def _at_place(self, may_make_folder: bool) -> bool:
        """Tell whether what is committed will be found; else say what is wrong.

        Args:
            may_make_folder: a removed folder is made again, which else is left to people.
        """
        displaced = self._journal.files.displaced()
        self.displaced = displaced is not None
        if displaced is not None and displaced.removed:
            displaced = self._written_anew(displaced.what, may_make_folder)
            self.displaced = displaced is not None
        if displaced is None:
            return True
        if displaced.beside_only:
            self._report(f"{displaced.what}. Start the station again; nothing is lost.")
            return True
        self._report(
            f"{displaced.what}. Parts wait in memory while there is room. Put the folder back, or "
            "stop the station: it names what it could not record."
        )
        return False

    def _written_anew(self, what: str, may_make_folder: bool) -> Displaced | None:
        """Write a removed journal to its place again, once there is a folder for it."""
        path = self._journal.path
        if not may_make_folder and not path.parent.is_dir():
            return Displaced(f"{what}; it will be written again when that folder is back")
        if path.exists():
            return Displaced(f"{what}, and a different journal is there now")
        if self._trouble is None:
            self._report(f"{what}. It is written anew.")
        try:
            if self._journal.connection.in_transaction:
                self._journal.connection.execute("ROLLBACK")
            self._journal = write_anew(self._journal, self._beat)
        except (StationError, sqlite3.Error, OSError) as error:
            return Displaced(f"{what}, and it cannot be written anew ({error})")
        self._ledger = Ledger(self._journal.connection, self._journal.journal)
        log.warning("%s: the journal was written again; nothing is lost", path)
        return None

    def _write(self, group: Group) -> list[Committed]:
        """Write a group, and what joins it meanwhile, in one transaction."""
        ledger = self._ledger
        began_ns = self._clock_ns()
        ledger.begin(began_ns - self._began_ns)
        ledger.acknowledge(group.acknowledged)
        for position, reason in group.dead_letters.items():
            ledger.mark_dead_letter(position, reason)
        committed: list[Committed] = []
        self._dropping = 0
        while True:
            fresh = group.entries[len(committed) :]
            committed += self._append(fresh)
            late = self._clock_ns() - began_ns >= self._interval_ns
            if late or not self._write_queue.more(group, self._rows):
                break
        self._remove_expired()
        self._used = usage(ledger.totals, ledger.used_bytes(), self._bounds)
        ledger.commit()
        self._last_seq = ledger.totals.verdict_seq
        self._journal.witness.record(ledger.totals)
        if self.displaced:  # its log is no longer beside it
            self._journal.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return committed

    def _append(self, fresh: list[Queued]) -> list[Committed]:
        size = sum(len(queued.body) for queued in fresh)
        utc_ns = self._utc_ns()
        settled = not self._relayed
        for dropped in make_room(self._ledger, len(fresh), size, self._bounds):
            event = dropped_event(dropped, utc_ns)
            self._ledger.append(event, records.body(event), utc_ns, settled)
            self._dropping += dropped.count
        return [self._ledger.append(queued.entry, queued.body, utc_ns, settled) for queued in fresh]

    def _remove_expired(self) -> None:
        """Remove what is old, a little at a time."""
        now_ns = self._clock_ns()
        more = remove_expired(self._ledger, now_ns - self._began_ns, self._bounds)
        self._housekeeping_due_ns = now_ns if more else now_ns + HOUSEKEEPING_INTERVAL_NS

    def _shorten(self) -> None:
        """Give free pages back to the disk, a little at a time."""
        pages = pages_to_give_back(self._ledger)
        if pages:
            self._ledger.shorten(pages)
            self._housekeeping_due_ns = self._clock_ns()

    def _announce(self, group: Group, committed: list[Committed]) -> None:
        """Let everybody know of a commit, in this order: state, submitters, readers."""
        if self._trouble is not None and not self.displaced:
            self._trouble = None
            log.info("the journal can be written again")
            self._on_trouble(None)
        fill = level(self._used, self.fill, self._bounds)
        self._write_queue.done(group, self._used, fill)
        if self._dropping and not self.dropped:  # once; the events in the journal name them all
            log.error("the journal is full; OK verdicts are deleted unsent, oldest first")
        self.dropped += self._dropping
        if fill is not self.fill:
            self.fill = fill
            self._on_fill(fill)
        for queued, one in zip(group.entries, committed, strict=True):
            if queued.on_committed is not None:
                queued.on_committed(one)
        if committed or self._dropping:
            self._on_commit()
        self._write_queue.mark_announced()

    def _judge(self, error: sqlite3.DatabaseError) -> None:
        """Say what is wrong and let it be tried again, or end."""
        path = self._journal.path
        if is_damage(error):
            mark_damaged(path, str(error))
            raise JournalDamaged(
                f"{path}: the journal is damaged ({error}). Restart the station: it sets the file "
                "aside and begins a new journal."
            ) from error
        if not is_transient(error):
            raise error
        self._report(
            f"{path}: the journal cannot be written ({error}). Accepted entries wait. Check the "
            "disk and its free space."
        )

    def _report(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            log.error("%s", trouble)
            self._on_trouble(trouble)
