"""A lane of the relay: the rows of one kind in order, and what the broker's refusals do to them.

Verdicts and events have a lane each. A broker whose access rules deny one of the topics, or whose
quota is used up by it, holds up that lane alone.
"""

import logging
from collections import deque
from collections.abc import Container, Sequence
from typing import Protocol

from edge.contract import event as events
from edge.contract import verdict as verdicts
from edge.contract.event import Datum, Event, Severity
from edge.journal.entries import Backlog, JournalRow, RecordKind
from edge.mqtt.broker_reason_codes import (
    IMPLEMENTATION_SPECIFIC,
    PACKET_TOO_LARGE,
    PAYLOAD_FORMAT_INVALID,
    UNSPECIFIED,
    Packet,
    find_meaning,
)

log = logging.getLogger(__name__)

ROWS_PER_READ = 256
# A row is at fault that was refused so often, while between two refusals so many others were taken.
MAX_REFUSALS = 5
COMPARISONS = 3
# How far around a refused row one is looked for that the broker may take.
ROWS_COMPARED = 256

# Refusals that may be about this one row. Missing rights and quotas pass; a row given up for them
# would be lost for nothing. These too may be the broker's fault: see ``Lane.on_refused``.
MAY_CONCERN_THE_ROW = frozenset(
    {UNSPECIFIED, IMPLEMENTATION_SPECIFIC, PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID}
)

SCHEMAS = {RecordKind.VERDICT: verdicts.SCHEMA, RecordKind.EVENT: events.SCHEMA}


class OutboxReader(Protocol):
    """The journal as the relay reads it; each method raises JournalError when it cannot."""

    def pending(
        self, kind: RecordKind, after_position: int, max_count: int
    ) -> Sequence[JournalRow]:
        """Return rows of one kind that are neither acknowledged nor dead, by position."""

    def newest_position(self) -> int:
        """Return the position of the newest row; 0 without any."""

    def rows(
        self, kind: RecordKind, from_seq: int, to_seq: int, max_count: int
    ) -> Sequence[JournalRow]:
        """Return rows of one kind by ``seq``, both ends included, whatever became of them."""

    def backlog(self) -> Backlog:
        """Return how much waits, and the newest ``seq`` of each kind."""


class Lane:
    """The rows of one kind on their way to one topic.

    Attributes:
        kind: of the rows.
        topic: where they are published.
        schema: of their messages.
        refusing: the broker refused one of late; one row is sent at a time.
        must_go_back: the rows are to be sent again from the oldest one, once none is in flight.
        suspect: the row that may itself be what the broker refuses.
    """

    def __init__(
        self,
        kind: RecordKind,
        topic: str,
        outbox: OutboxReader,
        refused_pause_ns: tuple[int, int],
    ) -> None:
        """Begin with no row on its way.

        Args:
            refused_pause_ns: shortest and longest pause after a refused row; the trouble is over
                when none was refused for as long as the longest.
        """
        self.kind = kind
        self.topic = topic
        self.schema = SCHEMAS[kind]
        self.refusing = self.must_go_back = False
        self.suspect: JournalRow | None = None
        self._outbox = outbox
        # Up to ``_done_through`` all is settled; above it what ``_done`` holds.
        self._done_through = 0
        self._done: set[int] = set()
        self._open: deque[int] = deque()
        self._read_through = self._sent_through = 0
        self._ahead: deque[JournalRow] = deque()
        self._all_read = False
        self._min_pause_ns, self._max_pause_ns = refused_pause_ns
        self._pause_ns = self._min_pause_ns
        self._paused_until_ns = 0
        # Of a trouble with refusals: when it was last seen, and whether rows passed since.
        self._refused_at_ns = 0
        self._accepted_since = False
        # How often in turn the suspect was refused and another row taken.
        self._others_accepted = 0
        self._comparison_due = False

    @property
    def idle(self) -> bool:
        """Whether every row that was there at the last look is settled."""
        return self._all_read and not self._ahead and not self._open

    def is_open(self, now_ns: int) -> bool:
        """Tell whether rows may be sent now."""
        return now_ns >= self._paused_until_ns and not self.must_go_back

    def pause_left_s(self, now_ns: int) -> float:
        """Return how long the lane rests after a refusal; 0 for a lane that does not."""
        return max(self._paused_until_ns - now_ns, 0) / 1e9

    def look_again(self) -> None:
        """Read the table again: there may be new rows."""
        self._all_read = False

    def peek(self) -> JournalRow | None:
        """Return the next row to send; None when nothing is left.

        Raises:
            JournalError: the outbox cannot be read.
        """
        while True:
            if not self._ahead and not self._read():
                return None
            row = self._ahead[0]
            if row.position not in self._done:
                return row
            # Acknowledged, and not marked yet when it was read.
            self._ahead.popleft()
            self._open.append(row.position)
            self._advance()

    def pop(self) -> JournalRow:
        """Take the row that ``peek`` returned; it counts as open until it is settled."""
        row = self._ahead.popleft()
        self._open.append(row.position)
        return row

    def mark_sent(self, row: JournalRow) -> None:
        self._sent_through = row.position

    def was_sent(self, row: JournalRow) -> bool:
        """Tell whether a row was sent in its turn, or is settled."""
        sent_through = max(self._done_through, self._sent_through)
        return row.acknowledged or row.dead is not None or row.position <= sent_through

    def settle(self, position: int) -> None:
        """The row needs no more sending."""
        self._done.add(position)
        self._advance()

    def go_back_to_oldest(self) -> None:
        """Begin again with the oldest row that is not settled."""
        self.must_go_back = False
        self._done = {position for position in self._done if position > self._done_through}
        self._open.clear()
        self._ahead.clear()
        self._all_read = False
        self._read_through = self._sent_through = self._done_through

    # What the broker refuses.

    def on_refused(
        self, row: JournalRow, *, code: int, cause: str, now_ns: int, alone: bool
    ) -> tuple[Event | None, str | None]:
        """Keep the row, pause, and send it alone; give it up if it is the row's own fault.

        It is only where the broker, between its refusals of this row, took another of its kind
        every time: a broker that refuses them all is at fault itself, and passes.

        Returns:
            The event of a trouble that begins, and why the row is given up; None where neither.
        """
        began = None if self.refusing else self._begin_refusal(code, cause)
        if not self.must_go_back:  # the first of those that were in flight together
            self._back_off(now_ns)
        self._refused_at_ns = now_ns
        self._accepted_since = False
        self.must_go_back = True
        if not alone or code not in MAY_CONCERN_THE_ROW:
            self.suspect = None
            return began, None
        if self.suspect is None or self.suspect.position != row.position:
            self.suspect, self._others_accepted = row, 0
        if self._others_accepted < (MAX_REFUSALS - 1) * COMPARISONS:
            self._comparison_due = True
            return began, None
        self.suspect = None
        self._paused_until_ns = 0  # the others are taken
        self._pause_ns = self._min_pause_ns
        self._accepted_since = True
        name = find_meaning(code, Packet.PUBACK).name
        return began, f"refused {MAX_REFUSALS} times ({name}), unlike others sent in between"

    def on_accepted(self) -> None:
        """The broker took a row."""
        if self.refusing and not self._accepted_since:
            self._accepted_since = True
            self._pause_ns = max(self._pause_ns // 4, self._min_pause_ns)

    def end_refusal(self, now_ns: int) -> Event | None:
        """Return the event of a trouble that is over: nothing was refused for a while."""
        quiet_ns = now_ns - self._refused_at_ns
        if not self.refusing or not self._accepted_since or quiet_ns < self._max_pause_ns:
            return None
        self.refusing = False
        text = f"The broker accepts every {self.kind} again."
        log.info("%s", text)
        return Event("accepted_by_broker", Severity.INFO, text, {"kind": self.kind.value})

    def next_comparison(self, given_up: Container[int]) -> JournalRow | None:
        """Return, once, a row of the suspect's kind to be sent now; None where none is due.

        A delivered one, which harms nobody; else the one behind the suspect.

        Args:
            given_up: positions of dead letters that are not marked yet.
        """
        if not self._comparison_due or self.suspect is None:
            return None
        self._comparison_due = False
        row = self.suspect
        first = max(row.seq - ROWS_COMPARED, 1)
        before = self._outbox.rows(self.kind, first, row.seq - 1, ROWS_COMPARED)
        delivered = [
            one
            for one in before
            if one.dead is None
            and one.position not in given_up
            and (one.acknowledged or one.position <= self._done_through)
        ]
        if delivered:
            return delivered[-1]
        last = row.seq + ROWS_COMPARED
        behind = self._outbox.rows(self.kind, row.seq + 1, last, ROWS_COMPARED)
        return next((one for one in behind if one.dead is None), None)

    def on_comparison(self, taken: bool, now_ns: int) -> None:
        """The broker took or refused the witness."""
        if self.suspect is None:
            return
        if taken:
            self._others_accepted += 1
            self._comparison_due = self._others_accepted % COMPARISONS != 0
        else:
            self._others_accepted = 0
            self._refused_at_ns = now_ns
            self._back_off(now_ns)

    def _begin_refusal(self, code: int, cause: str) -> Event:
        self.refusing = True
        self._pause_ns = self._min_pause_ns
        article = "an" if self.kind is RecordKind.EVENT else "a"
        text = (
            f"The broker refuses {article} {self.kind} on {self.topic}: {cause} It is "
            "kept and sent again."
        )
        log.warning("%s", text)
        name = find_meaning(code, Packet.PUBACK).name
        data: dict[str, Datum] = {"reason": name, "code": code, "kind": self.kind.value}
        return Event("refused_by_broker", Severity.ALARM, text, data)

    def _back_off(self, now_ns: int) -> None:
        self._paused_until_ns = now_ns + self._pause_ns
        self._pause_ns = min(self._pause_ns * 2, self._max_pause_ns)

    def _read(self) -> bool:
        """Read ahead; False when nothing is left."""
        if self._all_read:
            return False
        newest = self._outbox.newest_position()
        rows = self._outbox.pending(self.kind, self._read_through, ROWS_PER_READ)
        self._all_read = len(rows) < ROWS_PER_READ
        if rows:
            self._read_through = rows[-1].position
        if self._all_read:  # what lies behind is of the other kind, and is not looked at again
            self._read_through = max(self._read_through, newest)
        self._ahead.extend(rows)
        self._advance()
        return bool(rows)

    def _advance(self) -> None:
        while self._open and self._open[0] in self._done:
            self._done_through = self._open.popleft()
            self._done.remove(self._done_through)
        if self.idle:
            self._done_through = max(self._done_through, self._read_through)
