"""The relay: journal rows to the broker in order, with a bounded window; duplicates, never loss.

Driven by the thread of the connection. What the broker has not acknowledged is sent again from
the table at the next connection; there is no other memory of it.
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from paho.mqtt.reasoncodes import ReasonCode

from edge.contract import event as events
from edge.contract import verdict as verdicts
from edge.contract.commands import CommandAnswer, Resend, Status
from edge.contract.event import Datum, Event, Severity
from edge.contract.topics import StationTopic
from edge.journal.entries import Backlog, JournalRow, RecordKind, for_sending
from edge.mqtt.ages import ReplayDetector
from edge.mqtt.connection import Connection, Echo
from edge.mqtt.reason_codes import (
    IMPLEMENTATION_SPECIFIC,
    NO_MATCHING_SUBSCRIBERS,
    PACKET_TOO_LARGE,
    PAYLOAD_FORMAT_INVALID,
    UNSPECIFIED,
    Packet,
    meaning_of,
    told,
)
from edge.mqtt.resending import Resending

log = logging.getLogger(__name__)

# Unacknowledged rows at a time; the usual limit of brokers.
WINDOW = 20
# Of these, so many may be resends: they neither starve new rows nor are starved by a backlog.
RESEND_SHARE = 5
ROWS_PER_READ = 256
MOST_RESENDS = 8
# A resend that is cut off more often is given up; its sender may ask again.
MOST_INTERRUPTIONS = 5
# A broker that lives and does not acknowledge for so long has forgotten: a new connection helps.
ACK_LIMIT_NS = 30_000_000_000
# With MQTT 3.1.1: a verdict that the broker took comes back within so long, or is not proven.
ECHO_LIMIT_NS = 10_000_000_000
# A broker that does not answer a subscription for so long will not.
SUBSCRIBE_LIMIT_NS = 10_000_000_000
# So many of those that are not proven are kept, to be sent again once a proof comes.
MOST_UNPROVEN = 1000
# While the journal's disk stands still, so many rows are sent and no more.
MOST_UNMARKED = 1000
REFUSED_PAUSE_NS = (1_000_000_000, 60_000_000_000)
# A row is at fault that was refused so often, while between two refusals so many others were taken.
MOST_REFUSALS = 5
WITNESSES = 3
# How far around a refused row one is looked for that the broker may take.
WITNESSES_READ = 256

# Refusals that may be about this one row. Missing rights and quotas pass; a row given up for them
# would be lost for nothing. These too may be the broker's fault: see ``Relay._note_refusal``.
MAY_CONCERN_THE_ROW = frozenset(
    {UNSPECIFIED, IMPLEMENTATION_SPECIFIC, PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID}
)

SCHEMAS = {RecordKind.VERDICT: verdicts.SCHEMA, RecordKind.EVENT: events.SCHEMA}


class OutboxReader(Protocol):
    """The journal as the relay reads it; each method raises JournalError when it cannot."""

    def pending(self, after_position: int, most: int) -> Sequence[JournalRow]:
        """Return rows that are neither acknowledged nor dead, by position."""

    def rows(self, kind: RecordKind, from_seq: int, to_seq: int, most: int) -> Sequence[JournalRow]:
        """Return rows of one kind by ``seq``, both ends included, whatever became of them."""

    def backlog(self) -> Backlog:
        """Return how much waits, and the newest ``seq`` of each kind."""


class Marks(Protocol):
    """Where the relay tells what became of rows; never waits for the disk.

    False is: too many wait to be noted, none of these was taken, try again.
    """

    def acknowledge(self, positions: Iterable[int]) -> bool:
        """The broker has these rows."""

    def bury(self, position: int, reason: str) -> bool:
        """The broker will never take this row."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A row on its way; a witness shows whether the broker takes others than the refused one."""

    row: JournalRow
    resending: Resending | None
    sent_ns: int
    is_witness: bool = False

    def awaits_echo(self, seq: int) -> bool:
        """Tell whether it is the verdict of this number, sent in its turn."""
        in_turn = self.resending is None and not self.is_witness
        return in_turn and self.row.kind is RecordKind.VERDICT and self.row.seq == seq


class Relay:
    """Rows of the outbox on their way to the broker.

    Attributes:
        acknowledged: rows the broker took in this run.
        buried: rows given up as dead letters in this run.
        newest_verdict: payload of the verdict sent last, for the dashboards' short form.
        nobody_listens: the broker took the newest verdict and had nobody to give it to.
        refusing: the broker refused rows of late.
        unproven: with MQTT 3.1.1, nothing shows that the broker passes verdicts on.
        unproven_given_up: verdicts that count as delivered all the same, being too many.
        limited: it takes packets only that are smaller than some rows.
    """

    def __init__(
        self,
        *,
        outbox: OutboxReader,
        marks: Marks,
        topic: StationTopic,
        on_event: Callable[[Event], None],
        on_answer: Callable[[CommandAnswer], None],
        refused_pause_ns: tuple[int, int] = REFUSED_PAUSE_NS,
    ) -> None:
        """Prepare; what is in the outbox now may have been sent by the process before.

        Args:
            on_event, on_answer: are told dead letters, and how resends ended.
            refused_pause_ns: shortest and longest pause after a refused row; the trouble is over
                when none was refused for as long as the longest.

        Raises:
            JournalError: the outbox cannot be read.
        """
        self.acknowledged = self.buried = 0
        self.newest_verdict: bytes | None = None
        self.unproven = False
        self.unproven_given_up = 0
        self.nobody_listens = self.refusing = self.limited = False
        self._outbox = outbox
        self._marks = marks
        self._topics = {RecordKind.VERDICT: topic.verdict, RecordKind.EVENT: topic.event}
        self._on_event = on_event
        self._on_answer = on_answer
        self._session = ""
        self._ages = ReplayDetector()
        self._may_have_been_sent = dict(outbox.backlog().last_seq)
        # Up to ``_done_through`` all is settled; above it what ``_done`` holds.
        self._done_through = 0
        self._done: set[int] = set()
        self._open: deque[int] = deque()
        self._read_through = self._sent_through = 0
        self._ahead: deque[JournalRow] = deque()
        self._all_read = False
        self._in_flight: dict[int, _Sent] = {}
        self._resends: deque[Resending] = deque()
        self._to_mark: list[int] = []
        self._to_bury: dict[int, str] = {}
        # Verdicts by number: acknowledged and not come back yet, come back and not acknowledged.
        self._echo = Echo.NOT_NEEDED
        self._awaited: dict[int, tuple[JournalRow, int]] = {}
        self._echoed: set[int] = set()
        self._asked_ns: int | None = None
        self._probe_due_ns = 0
        self._go_back = False
        self._refused_pause_ns = refused_pause_ns
        self._pause_ns = refused_pause_ns[0]
        self._paused_until_ns = 0
        # Of a trouble with refusals: when it was last seen, and whether rows passed since.
        self._refused_at_ns = 0
        self._taken_since = False
        # The row that may be at fault, and how often in turn it was refused and another taken.
        self._suspect: JournalRow | None = None
        self._others_taken = 0
        self._witness_due = False

    @property
    def idle(self) -> bool:
        """Whether every row that was there at the last look is settled."""
        return self._all_read and not self._ahead and not self._open

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def begin(self, session: str) -> None:
        """Start over from the table, for a new connection."""
        self._session = session
        self._asked_ns = None
        self.limited = False
        self._in_flight.clear()
        for resending in list(self._resends):
            resending.start_over()
            if resending.interrupted > MOST_INTERRUPTIONS:  # perhaps by what it sends
                self._resends.remove(resending)
                self._answer(resending, Status.FAILED, "connection_lost")
        self._go_back_to_oldest()

    def ended_by(self, mid: int, cause: str, now_ns: int) -> bool:
        """Take it that this message, and no other, ended the connection; False if it is no row."""
        sent = self._in_flight.pop(mid, None)
        if sent is None:
            return False
        if sent.is_witness:
            self._note_witness(False, now_ns)
        elif sent.resending is None:
            self._go_back = False  # it was alone
            self._note_refusal(sent.row, PACKET_TOO_LARGE, cause, now_ns, alone=True)
        return True

    def forgotten(self, now_ns: int) -> bool:
        """Tell whether the broker owes an acknowledgement for longer than it should."""
        oldest = next(iter(self._in_flight.values()), None)
        return oldest is not None and now_ns - oldest.sent_ns > ACK_LIMIT_NS

    def look_again(self) -> None:
        """Read the table again: there may be new rows."""
        self._all_read = False

    def observe(self, now_ns: int) -> None:
        """Note how far the journal has come; call it about once a second, connected or not."""
        if self._ages.due(now_ns):
            self._ages.note(self._outbox.backlog().last_seq, now_ns)

    def pause(self, now_ns: int) -> None:
        """Rest for a moment: the table cannot be read."""
        self._paused_until_ns = now_ns + self._refused_pause_ns[0]

    def ask(self, order: Resend) -> bool:
        """Take the order for a resend; False when too many are waiting."""
        if len(self._resends) >= MOST_RESENDS:
            return False
        self._resends.append(Resending(order=order, next_seq=order.from_seq))
        return True

    def fill(self, connection: Connection, now_ns: int) -> None:
        """Send until the window is full or nothing is left."""
        self._echo = self._answered(connection.echo, now_ns)
        self._watch_echoes(now_ns)
        if (
            now_ns < self._paused_until_ns
            or self._echo is Echo.ASKED
            or not connection.takes_qos_1  # nothing would be acknowledged
            or len(self._to_mark) + len(self._to_bury) > MOST_UNMARKED
        ):
            return
        if self._go_back:
            if self._in_flight:
                return
            self._go_back_to_oldest()
        self._send_witness(connection, now_ns)
        self._send_probe(connection, now_ns)
        self._end_refusal(now_ns)
        window = 1 if self.refusing else WINDOW
        awaited = 0 if self.unproven else len(self._awaited)
        window = max(window - awaited, 0)
        while len(self._in_flight) < window and connection.room > 0 and not connection.closed:
            resent = len(self._resends[0].in_flight) if self._resends else 0
            share = min(RESEND_SHARE, window - 1) if self._resends else 0
            if len(self._in_flight) - resent < window - share and (row := self._next_row()):
                self._send_new(row, connection, now_ns)
            elif self._resends and resent < max(share, 1) and (again := self._next_resent()):
                content, _ = self._content(again, True, connection)
                if content is not None:
                    self._resends[0].in_flight.add(again.seq)
                    self._send(again, content, self._resends[0], connection, now_ns)
            else:
                return

    def settle(self, mid: int, reason: ReasonCode | None, now_ns: int) -> None:
        """Take an acknowledgement into the books."""
        sent = self._in_flight.pop(mid, None)
        if sent is None:
            return
        refused = reason if reason is not None and reason.is_failure else None
        if sent.is_witness:
            self._note_witness(refused is None, now_ns)
        elif sent.resending is not None:
            sent.resending.in_flight.discard(sent.row.seq)
            if refused is None:
                sent.resending.delivered += 1
                self._note_taken()
            elif refused.value not in MAY_CONCERN_THE_ROW:
                sent.resending.rows.appendleft(sent.row)
                self._note_refusal(
                    sent.row, refused.value, told(refused, Packet.PUBACK), now_ns, alone=False
                )
            self._answer_ended()
        elif refused is not None:
            alone = self.refusing and not self._go_back
            self._note_refusal(sent.row, refused.value, told(refused, Packet.PUBACK), now_ns, alone)
        else:
            if self._awaits_echo(sent.row, now_ns):
                return
            if sent.row.kind is RecordKind.VERDICT:
                self.nobody_listens = reason is not None and reason.value == NO_MATCHING_SUBSCRIBERS
            if not self._go_back:  # an older row is refused; this one says nothing of it
                self._note_taken()
            self._deliver(sent.row)

    def note_echo(self, message: bytes) -> None:
        """Take a verdict that came back: with MQTT 3.1.1 the proof that the broker passes it on."""
        try:
            content = json.loads(message)
            seq, session = content["seq"], content["session"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return  # somebody else's
        if session != self._session or not isinstance(seq, int):
            return
        awaited = self._awaited.pop(seq, None)
        if self.unproven:
            self._note_proof()
        if awaited is not None:
            self._deliver(awaited[0])
        elif any(sent.awaits_echo(seq) for sent in self._in_flight.values()):
            self._echoed.add(seq)

    def mark(self) -> None:
        """Pass on what became of rows; the journal marks many with one commit."""
        if self._to_mark and self._marks.acknowledge(self._to_mark):
            self._to_mark = []
        for position, reason in list(self._to_bury.items()):
            if self._marks.bury(position, reason):
                del self._to_bury[position]

    def wait_limit_s(self, now_ns: int) -> float:
        """Return how long the relay has nothing to do unless something comes."""
        if now_ns < self._paused_until_ns:
            return (self._paused_until_ns - now_ns) / 1e9
        return 1.0

    def _next_row(self) -> JournalRow | None:
        while True:
            if not self._ahead:
                if self._all_read:
                    return None
                rows = self._outbox.pending(self._read_through, ROWS_PER_READ)
                self._all_read = len(rows) < ROWS_PER_READ
                self._ahead.extend(rows)
                if not rows:
                    return None
                self._read_through = rows[-1].position
            row = self._ahead.popleft()
            self._open.append(row.position)
            if row.position not in self._done:
                return row
            self._advance()  # acknowledged, and not marked yet when it was read

    def _send_new(self, row: JournalRow, connection: Connection, now_ns: int) -> None:
        replayed = row.seq <= self._may_have_been_sent[row.kind] or self._ages.is_old(row, now_ns)
        content, fault = self._content(row, replayed, connection)
        if content is None:
            self._bury(row, fault)
            return
        self._sent_through = row.position
        self._may_have_been_sent[row.kind] = max(self._may_have_been_sent[row.kind], row.seq)
        self._send(row, content, None, connection, now_ns)
        if row.kind is RecordKind.VERDICT:
            self.newest_verdict = content

    def _content(
        self, row: JournalRow, replayed: bool, connection: Connection
    ) -> tuple[bytes, str] | tuple[None, str]:
        """Return the row's message, with fewer regions where the broker takes no more.

        None, and why, where it is too large all the same.
        """
        content = for_sending(row.payload, self._session, replayed)
        topic, schema = self._topics[row.kind], SCHEMAS[row.kind]
        excess = connection.excess_bytes(topic, content, schema)
        if not excess:
            return content, ""
        if not self.limited:
            self.limited = True
            log.warning(
                "the broker takes packets of %s bytes; verdicts are sent with fewer regions, what "
                "is larger all the same is not sent. The journal has them whole.",
                connection.limits.largest_packet_bytes,
            )
        if row.kind is RecordKind.VERDICT:
            shorter = verdicts.with_fewer_regions(content, len(content) - excess)
            if shorter is not None:
                return shorter, ""
        size = connection.packet_bytes(topic, content, schema)
        return None, f"{size} bytes; the broker takes packets of {size - excess}"

    def _send(
        self,
        row: JournalRow,
        content: bytes,
        resending: Resending | None,
        connection: Connection,
        now_ns: int,
        is_witness: bool = False,
    ) -> None:
        mid = connection.publish(self._topics[row.kind], content, SCHEMAS[row.kind])
        self._in_flight[mid] = _Sent(row, resending, now_ns, is_witness)

    def _next_resent(self) -> JournalRow | None:
        resending = self._resends[0]
        order = resending.order
        while not resending.rows and resending.next_seq <= order.to_seq:
            rows = self._outbox.rows(
                RecordKind(order.kind), resending.next_seq, order.to_seq, ROWS_PER_READ
            )
            resending.next_seq = rows[-1].seq + 1 if rows else order.to_seq + 1
            # What was never sent comes by itself, in its turn.
            sent_through = max(self._done_through, self._sent_through)
            resending.rows.extend(
                row
                for row in rows
                if row.acknowledged or row.dead is not None or row.position <= sent_through
            )
        if resending.rows:
            return resending.rows.popleft()
        self._answer_ended()
        return None

    def _answer_ended(self) -> None:
        while self._resends and self._resends[0].ended:
            self._answer(self._resends.popleft(), Status.DONE, None)

    def _answer(self, resending: Resending, status: Status, reason: str | None) -> None:
        order = resending.order
        wanted = order.to_seq - order.from_seq + 1
        self._on_answer(
            CommandAnswer(
                request=order.request,
                status=status,
                detail=f"{resending.delivered} of {wanted} records sent again. The journal keeps "
                "records for journal.retention_days.",
                reason=reason,
                data={"kind": order.kind, "sent": resending.delivered, "wanted": wanted},
            )
        )

    def _answered(self, echo: Echo, now_ns: int) -> Echo:
        """Take a broker that does not answer the subscription for one that refuses it."""
        if echo is not Echo.ASKED:
            return echo
        if self._asked_ns is None:
            self._asked_ns = now_ns
        return Echo.REFUSED if now_ns - self._asked_ns > SUBSCRIBE_LIMIT_NS else echo

    def _awaits_echo(self, row: JournalRow, now_ns: int) -> bool:
        """Tell whether an acknowledged row is only delivered when it comes back."""
        if row.kind is not RecordKind.VERDICT or self._echo is not Echo.GRANTED:
            return False
        if row.seq in self._echoed:
            self._echoed.remove(row.seq)
            return False
        self._awaited[row.seq] = (row, now_ns)
        if len(self._awaited) > MOST_UNPROVEN:
            oldest = next(iter(self._awaited))
            self._deliver(self._awaited.pop(oldest)[0])
            self.unproven_given_up += 1
        return True

    def _watch_echoes(self, now_ns: int) -> None:
        if self._echo is Echo.NOT_NEEDED and self.unproven:
            self._note_proof()  # MQTT 5 by now
        if self.unproven:
            return
        oldest = next(iter(self._awaited.values()), None)
        late = oldest is not None and now_ns - oldest[1] > ECHO_LIMIT_NS
        if late or self._echo is Echo.REFUSED:
            self.unproven = True
            text = (
                "The broker speaks MQTT 3.1.1, which cannot refuse a message, and none came back "
                f"on {self._topics[RecordKind.VERDICT]}: whether verdicts arrive is not known. Let "
                "this station write and read that topic, or use MQTT 5."
            )
            log.error("%s", text)
            self._on_event(Event("delivery_unproven", Severity.ALARM, text))

    def _send_probe(self, connection: Connection, now_ns: int) -> None:
        """Send the oldest verdict that is not proven again from time to time: it may pass now."""
        if not self.unproven or not self._awaited or now_ns < self._probe_due_ns:
            return
        if connection.room <= 0:
            return
        self._probe_due_ns = now_ns + self._refused_pause_ns[1]
        row, _ = next(iter(self._awaited.values()))
        content, _ = self._content(row, True, connection)
        if content is not None:
            self._send(row, content, None, connection, now_ns, is_witness=True)

    def _note_proof(self) -> None:
        """The broker passes verdicts on again: send anew what was not seen to arrive."""
        self.unproven = False
        self._go_back = True
        self._awaited.clear()
        text = "Verdicts are seen to arrive; those that were not are sent again."
        log.info("%s", text)
        self._on_event(Event("delivery_proven", Severity.INFO, text))

    def _deliver(self, row: JournalRow) -> None:
        self.acknowledged += 1
        self._settled(row.position)
        self._to_mark.append(row.position)

    def _note_refusal(
        self, row: JournalRow, code: int, cause: str, now_ns: int, alone: bool
    ) -> None:
        """Keep the row, pause, and send it alone; give it up if it is the row's own fault.

        It is only where the broker, between its refusals of this row, took another of its kind
        every time: a broker that refuses them all is at fault itself, and passes.
        """
        if not self.refusing:
            self.refusing = True
            self._pause_ns = self._refused_pause_ns[0]
            text = (
                f"The broker does not take a {row.kind} on {self._topics[row.kind]}: "
                f"{cause} It is kept and tried again."
            )
            log.warning("%s", text)
            data: dict[str, Datum] = {"reason": meaning_of(code, Packet.PUBACK).name, "code": code}
            self._on_event(Event("refused_by_broker", Severity.ALARM, text, data))
        if not self._go_back:  # the first of those that were in flight together
            self._back_off(now_ns)
        self._refused_at_ns = now_ns
        self._taken_since = False
        self._go_back = True
        if not alone or code not in MAY_CONCERN_THE_ROW:
            self._suspect = None
            return
        if self._suspect is None or self._suspect.position != row.position:
            self._suspect, self._others_taken = row, 0
        if self._others_taken >= (MOST_REFUSALS - 1) * WITNESSES:
            self._suspect = None
            self._paused_until_ns = 0  # the others are taken
            self._pause_ns = self._refused_pause_ns[0]
            self._taken_since = True
            name = meaning_of(code, Packet.PUBACK).name
            self._bury(row, f"refused {MOST_REFUSALS} times ({name}), unlike others in between")
        else:
            self._witness_due = True

    def _back_off(self, now_ns: int) -> None:
        self._paused_until_ns = now_ns + self._pause_ns
        self._pause_ns = min(self._pause_ns * 2, self._refused_pause_ns[1])

    def _note_taken(self) -> None:
        if self.refusing and not self._taken_since:
            self._taken_since = True
            self._pause_ns = max(self._pause_ns // 4, self._refused_pause_ns[0])

    def _end_refusal(self, now_ns: int) -> None:
        """Say that the trouble is over, once nothing was refused for a while."""
        quiet_ns = now_ns - self._refused_at_ns
        if not self.refusing or not self._taken_since or quiet_ns < self._refused_pause_ns[1]:
            return
        self.refusing = False
        text = "The broker takes verdicts and events again."
        log.info("%s", text)
        self._on_event(Event("accepted_by_broker", Severity.INFO, text))

    def _send_witness(self, connection: Connection, now_ns: int) -> None:
        """Send another row of the suspect's kind, where one is due and there is one."""
        if not self._witness_due or self._suspect is None or self._in_flight:
            return
        self._witness_due = False
        witness = self._witness_for(self._suspect)
        content = None if witness is None else self._content(witness, True, connection)[0]
        if witness is not None and content is not None:
            self._send(witness, content, None, connection, now_ns, is_witness=True)

    def _witness_for(self, row: JournalRow) -> JournalRow | None:
        """Return a delivered row of this kind, which harms nobody; else the one behind it."""
        first = max(row.seq - WITNESSES_READ, 1)
        before = self._outbox.rows(row.kind, first, row.seq - 1, WITNESSES_READ)
        delivered = [
            one
            for one in before
            if one.dead is None
            and one.position not in self._to_bury
            and (one.acknowledged or one.position <= self._done_through)
        ]
        if delivered:
            return delivered[-1]
        last = row.seq + WITNESSES_READ
        behind = self._outbox.rows(row.kind, row.seq + 1, last, WITNESSES_READ)
        return next((one for one in behind if one.dead is None), None)

    def _note_witness(self, taken: bool, now_ns: int) -> None:
        if self._suspect is None:
            return
        if taken:
            self._others_taken += 1
            self._witness_due = self._others_taken % WITNESSES != 0
        else:
            self._others_taken = 0
            self._refused_at_ns = now_ns
            self._back_off(now_ns)

    def _bury(self, row: JournalRow, reason: str) -> None:
        log.error("%s %d cannot be delivered: %s", row.kind, row.seq, reason)
        self.buried += 1
        self._to_bury[row.position] = reason
        self._settled(row.position)
        if row.kind is RecordKind.EVENT:
            return  # an event about it might be as undeliverable, without end
        self._on_event(
            Event(
                "dead_letter",
                Severity.ALARM,
                f"Verdict {row.seq} cannot be delivered: {reason}. It stays in the journal; raise "
                "the broker's limit and ask for it with cmd/resend.",
                {"kind": row.kind.value, "seq": row.seq, "reason": reason},
            )
        )

    def _settled(self, position: int) -> None:
        self._done.add(position)
        self._advance()

    def _advance(self) -> None:
        while self._open and self._open[0] in self._done:
            self._done_through = self._open.popleft()
            self._done.remove(self._done_through)

    def _go_back_to_oldest(self) -> None:
        self._go_back = False
        self._awaited.clear()
        self._echoed.clear()
        self._done = {position for position in self._done if position > self._done_through}
        self._open.clear()
        self._ahead.clear()
        self._all_read = False
        self._read_through = self._sent_through = self._done_through
