"""The relay: journal rows to the broker in order, with a bounded window; duplicates, never loss.

Driven by the thread of the connection. What the broker has not acknowledged is sent again from
the table at the next connection; there is no other memory of it. Verdicts and events have a lane
each, so that one kind that the broker refuses does not hold up the other.
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from paho.mqtt.reasoncodes import ReasonCode

from edge.contract import verdict as verdicts
from edge.contract.commands import CommandAnswer, Resend, Status
from edge.contract.event import Event, Severity
from edge.contract.topics import StationTopic
from edge.journal.entries import JournalRow, RecordKind, for_sending
from edge.mqtt.broker_reason_codes import (
    NO_MATCHING_SUBSCRIBERS,
    PACKET_TOO_LARGE,
    Packet,
    describe_code,
)
from edge.mqtt.connection import Connection, Echo
from edge.mqtt.relay_lane import MAY_CONCERN_THE_ROW, ROWS_PER_READ, Lane, OutboxReader
from edge.mqtt.replay_detector import ReplayDetector
from edge.mqtt.resending import Resending
from edge.wording import counted

log = logging.getLogger(__name__)

# Unacknowledged rows at a time; the usual limit of brokers.
WINDOW = 20
# Of these, so many may be resends: they neither starve new rows nor are starved by a backlog.
RESEND_SHARE = 5
MAX_RESENDS = 8
# A resend that is cut off more often is given up; its sender may ask again.
MAX_INTERRUPTIONS = 5
# A broker that lives and does not acknowledge for so long has forgotten: a new connection helps.
ACK_LIMIT_NS = 30_000_000_000
# With MQTT 3.1.1: a verdict that the broker took comes back within so long, or is not proven.
ECHO_LIMIT_NS = 10_000_000_000
# A broker that does not answer a subscription for so long will not.
SUBSCRIBE_LIMIT_NS = 10_000_000_000
# So many of those that are not proven are kept, to be sent again once a proof comes.
MAX_UNPROVEN = 1000
# While the journal's disk stands still, so many rows are sent and no more.
MAX_UNMARKED = 1000
REFUSED_PAUSE_NS = (1_000_000_000, 60_000_000_000)


class Marks(Protocol):
    """Where the relay tells what became of rows; never waits for the disk.

    False is: too many wait to be noted, none of these was taken, try again.
    """

    def acknowledge(self, positions: Iterable[int]) -> bool:
        """The broker has these rows."""

    def mark_dead_letter(self, position: int, reason: str) -> bool:
        """The broker will never take this row."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A row on its way; a witness shows whether the broker takes others than the refused one."""

    row: JournalRow
    resending: Resending | None
    sent_ns: int
    is_comparison: bool = False

    def awaits_echo(self, seq: int) -> bool:
        """Tell whether it is the verdict of this number, sent in its turn."""
        in_turn = self.resending is None and not self.is_comparison
        return in_turn and self.row.kind is RecordKind.VERDICT and self.row.seq == seq


class Relay:
    """Rows of the outbox on their way to the broker.

    Attributes:
        acknowledged: rows the broker took in this run.
        dead_letters: rows given up in this run.
        newest_verdict: payload of the verdict sent last, for the dashboards' short form.
        nobody_listens: the broker took the newest verdict and had nobody to give it to.
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
            on_event, on_answer: called with dead letters, and with how resends ended.
            refused_pause_ns: shortest and longest pause after a refused row; the trouble is over
                when none was refused for as long as the longest.

        Raises:
            JournalError: the outbox cannot be read.
        """
        self.acknowledged = self.dead_letters = 0
        self.newest_verdict: bytes | None = None
        self.unproven = False
        self.unproven_given_up = 0
        self.nobody_listens = self.limited = False
        self._outbox = outbox
        self._marks = marks
        topics = {RecordKind.VERDICT: topic.verdict, RecordKind.EVENT: topic.event}
        self._lanes = {
            kind: Lane(kind, place, outbox, refused_pause_ns) for kind, place in topics.items()
        }
        self._on_event = on_event
        self._on_answer = on_answer
        self._session = ""
        self._ages = ReplayDetector()
        self._may_have_been_sent = dict(outbox.backlog().last_seq)
        self._in_flight: dict[int, _Sent] = {}
        self._resends: deque[Resending] = deque()
        self._to_mark: list[int] = []
        self._dead: dict[int, str] = {}
        # Verdicts by number: acknowledged and not come back yet, come back and not acknowledged.
        self._echo = Echo.NOT_NEEDED
        self._awaited: dict[int, tuple[JournalRow, int]] = {}
        self._echoed: set[int] = set()
        self._requested_ns: int | None = None
        self._probe_due_ns = 0
        self._refused_pause_ns = refused_pause_ns
        self._paused_until_ns = 0

    @property
    def idle(self) -> bool:
        """Whether every row that was there at the last look is settled."""
        return all(lane.idle for lane in self._lanes.values())

    @property
    def verdicts_idle(self) -> bool:
        """Whether every verdict that was there at the last look is settled."""
        return self._verdicts.idle

    @property
    def refusing(self) -> bool:
        """Whether the broker refused rows of late."""
        return any(lane.refusing for lane in self._lanes.values())

    @property
    def refuses_events(self) -> bool:
        """Whether the broker refused events of late."""
        return self._lanes[RecordKind.EVENT].refusing

    @property
    def _verdicts(self) -> Lane:
        return self._lanes[RecordKind.VERDICT]

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def begin(self, session: str) -> None:
        """Start over from the table, for a new connection."""
        self._session = session
        self._requested_ns = None
        self.limited = False
        self._in_flight.clear()
        for resending in list(self._resends):
            resending.start_over()
            if resending.interrupted > MAX_INTERRUPTIONS:  # perhaps by what it sends
                self._resends.remove(resending)
                self._answer(resending, Status.FAILED, "connection_lost")
        for lane in self._lanes.values():
            self._go_back_to_oldest(lane)

    def ended_by(self, mid: int, cause: str, now_ns: int) -> bool:
        """Take it that this message, and no other, ended the connection; False if it is no row."""
        sent = self._in_flight.pop(mid, None)
        if sent is None:
            return False
        lane = self._lanes[sent.row.kind]
        if sent.is_comparison:
            lane.on_comparison(False, now_ns)
        elif sent.resending is None:
            lane.must_go_back = False  # it was alone
            self._on_refused(lane, sent.row, PACKET_TOO_LARGE, cause, now_ns=now_ns, alone=True)
        return True

    def forgotten(self, now_ns: int) -> bool:
        """Tell whether the broker owes an acknowledgement for longer than it should."""
        oldest = next(iter(self._in_flight.values()), None)
        return oldest is not None and now_ns - oldest.sent_ns > ACK_LIMIT_NS

    def look_again(self) -> None:
        """Read the table again: there may be new rows."""
        for lane in self._lanes.values():
            lane.look_again()

    def observe(self, now_ns: int) -> None:
        """Note how far the journal has come; call it about once a second, connected or not."""
        if self._ages.due(now_ns):
            self._ages.record(self._outbox.backlog().last_seq, now_ns)

    def pause(self, now_ns: int) -> None:
        """Rest for a moment: the table cannot be read."""
        self._paused_until_ns = now_ns + self._refused_pause_ns[0]

    def ask(self, order: Resend) -> bool:
        """Take the order for a resend; False when too many are waiting."""
        if len(self._resends) >= MAX_RESENDS:
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
            or not connection.accepts_qos_1  # nothing would be acknowledged
            or len(self._to_mark) + len(self._dead) > MAX_UNMARKED
        ):
            return
        for lane in self._lanes.values():
            self._renew(lane, connection, now_ns)
        self._send_probe(connection, now_ns)
        while len(self._in_flight) < WINDOW and connection.room > 0 and not connection.closed:
            if not self._send_one(connection, now_ns):
                return

    def _renew(self, lane: Lane, connection: Connection, now_ns: int) -> None:
        """Go on with a lane that met a refusal."""
        if lane.must_go_back and not self._on_their_way(lane):
            self._go_back_to_oldest(lane)
        self._send_comparison(lane, connection, now_ns)
        over = lane.end_refusal(now_ns)
        if over is not None:
            self._on_event(over)

    def _send_one(self, connection: Connection, now_ns: int) -> bool:
        """Send the next new row, or the next one of a resend; False when there is none."""
        ready = [lane for lane in self._lanes.values() if self._has_room(lane, now_ns)]
        resending = next((r for r in self._resends if self._find_lane(r) in ready), None)
        resent = len(resending.in_flight) if resending else 0
        share = RESEND_SHARE if resending else 0
        if len(self._in_flight) - resent < WINDOW - share:
            waiting = [(row.position, lane) for lane in ready if (row := lane.peek())]
            if waiting:
                _, lane = min(waiting, key=lambda one: one[0])
                self._send_new(lane.pop(), connection, now_ns)
                return True
        if resending is None or resent >= RESEND_SHARE:
            return False
        again = self._next_resent(resending)
        if again is None:
            return False
        content, _ = self._content(again, True, connection)
        if content is not None:
            resending.in_flight.add(again.seq)
            self._send(again, content, resending, connection=connection, now_ns=now_ns)
        return True

    def _has_room(self, lane: Lane, now_ns: int) -> bool:
        """Tell whether one more row of a kind may be on its way."""
        if not lane.is_open(now_ns):
            return False
        window = 1 if lane.refusing else WINDOW
        if lane is self._verdicts and not self.unproven:
            window -= len(self._awaited)
        return self._on_their_way(lane) < window

    def _on_their_way(self, lane: Lane) -> int:
        return sum(sent.row.kind is lane.kind for sent in self._in_flight.values())

    def _find_lane(self, resending: Resending) -> Lane:
        return self._lanes[RecordKind(resending.order.kind)]

    def settle(self, mid: int, reason: ReasonCode | None, now_ns: int) -> None:
        """Take the broker's acknowledgement or refusal of a message."""
        sent = self._in_flight.pop(mid, None)
        if sent is None:
            return
        row, lane = sent.row, self._lanes[sent.row.kind]
        refused = reason if reason is not None and reason.is_failure else None
        cause = describe_code(refused, Packet.PUBACK) if refused is not None else ""
        if sent.is_comparison:
            lane.on_comparison(refused is None, now_ns)
        elif sent.resending is not None:
            sent.resending.in_flight.discard(row.seq)
            if refused is None:
                sent.resending.delivered += 1
                lane.on_accepted()
            elif refused.value not in MAY_CONCERN_THE_ROW:
                sent.resending.rows.appendleft(row)
                self._on_refused(lane, row, refused.value, cause, now_ns=now_ns, alone=False)
            self._answer_ended()
        elif refused is not None:
            alone = lane.refusing and not lane.must_go_back
            self._on_refused(lane, row, refused.value, cause, now_ns=now_ns, alone=alone)
        else:
            if self._awaits_echo(row, now_ns):
                return
            if row.kind is RecordKind.VERDICT:
                self.nobody_listens = reason is not None and reason.value == NO_MATCHING_SUBSCRIBERS
            if not lane.must_go_back:  # an older row is refused; this one says nothing of it
                lane.on_accepted()
            self._deliver(row)

    def on_echo(self, message: bytes) -> None:
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
            self._on_proof()
        if awaited is not None:
            self._deliver(awaited[0])
        elif any(sent.awaits_echo(seq) for sent in self._in_flight.values()):
            self._echoed.add(seq)

    def mark(self) -> None:
        """Pass on what became of rows; the journal marks many with one commit."""
        if self._to_mark and self._marks.acknowledge(self._to_mark):
            self._to_mark = []
        for position, reason in list(self._dead.items()):
            if self._marks.mark_dead_letter(position, reason):
                del self._dead[position]

    def wait_limit_s(self, now_ns: int) -> float:
        """Return how long the relay has nothing to do unless something comes."""
        if now_ns < self._paused_until_ns:
            return (self._paused_until_ns - now_ns) / 1e9
        return min(lane.pause_left_s(now_ns) or 1.0 for lane in self._lanes.values())

    def _send_new(self, row: JournalRow, connection: Connection, now_ns: int) -> None:
        replayed = row.seq <= self._may_have_been_sent[row.kind] or self._ages.is_old(row, now_ns)
        content, fault = self._content(row, replayed, connection)
        if content is None:
            self._give_up(row, fault)
            return
        self._lanes[row.kind].mark_sent(row)
        self._may_have_been_sent[row.kind] = max(self._may_have_been_sent[row.kind], row.seq)
        self._send(row, content, None, connection, now_ns=now_ns)
        if row.kind is RecordKind.VERDICT:
            self.newest_verdict = content

    def _content(
        self, row: JournalRow, replayed: bool, connection: Connection
    ) -> tuple[bytes, str] | tuple[None, str]:
        """Return the row's message, a verdict shortened where the broker takes no more.

        None, and why, where it is too large all the same.
        """
        content = for_sending(row.payload, self._session, replayed)
        lane = self._lanes[row.kind]
        topic, schema = lane.topic, lane.schema
        excess = connection.excess_bytes(topic, content, schema)
        if not excess:
            return content, ""
        if not self.limited:
            self.limited = True
            log.warning(
                "the broker accepts packets of at most %s bytes; larger verdicts are sent "
                "shortened, and those still too large are not sent. The journal has them in full.",
                connection.limits.max_packet_bytes,
            )
        if row.kind is RecordKind.VERDICT:
            shorter = verdicts.shortened(content, len(content) - excess)
            if shorter is not None:
                return shorter, ""
        size = connection.packet_bytes(topic, content, schema)
        return None, f"{size} bytes; the broker accepts at most {size - excess}"

    def _send(
        self,
        row: JournalRow,
        content: bytes,
        resending: Resending | None,
        connection: Connection,
        *,
        now_ns: int,
        is_comparison: bool = False,
    ) -> None:
        lane = self._lanes[row.kind]
        mid = connection.publish(lane.topic, content, lane.schema)
        self._in_flight[mid] = _Sent(row, resending, now_ns, is_comparison)

    def _next_resent(self, resending: Resending) -> JournalRow | None:
        order, lane = resending.order, self._find_lane(resending)
        while not resending.rows and resending.next_seq <= order.to_seq:
            rows = self._outbox.rows(
                RecordKind(order.kind), resending.next_seq, order.to_seq, ROWS_PER_READ
            )
            resending.next_seq = rows[-1].seq + 1 if rows else order.to_seq + 1
            # What was never sent comes by itself, in its turn.
            resending.rows.extend(row for row in rows if lane.was_sent(row))
        if resending.rows:
            return resending.rows.popleft()
        self._answer_ended()
        return None

    def _answer_ended(self) -> None:
        for resending in [one for one in self._resends if one.ended]:
            self._resends.remove(resending)
            self._answer(resending, Status.DONE, None)

    def _answer(self, resending: Resending, status: Status, reason: str | None) -> None:
        order = resending.order
        wanted = order.to_seq - order.from_seq + 1
        self._on_answer(
            CommandAnswer(
                request=order.request,
                status=status,
                detail=f"{resending.delivered} of {counted(wanted, 'record')} sent again. "
                "The journal keeps records for journal.retention_days.",
                reason=reason,
                data={"kind": order.kind, "sent": resending.delivered, "wanted": wanted},
            )
        )

    def _answered(self, echo: Echo, now_ns: int) -> Echo:
        """Take a broker that does not answer the subscription for one that refuses it."""
        if echo is not Echo.ASKED:
            return echo
        if self._requested_ns is None:
            self._requested_ns = now_ns
        return Echo.REFUSED if now_ns - self._requested_ns > SUBSCRIBE_LIMIT_NS else echo

    def _awaits_echo(self, row: JournalRow, now_ns: int) -> bool:
        """Tell whether an acknowledged row is only delivered when it comes back."""
        if row.kind is not RecordKind.VERDICT or self._echo is not Echo.GRANTED:
            return False
        if row.seq in self._echoed:
            self._echoed.remove(row.seq)
            return False
        self._awaited[row.seq] = (row, now_ns)
        if len(self._awaited) > MAX_UNPROVEN:
            oldest = next(iter(self._awaited))
            self._deliver(self._awaited.pop(oldest)[0])
            self.unproven_given_up += 1
        return True

    def _watch_echoes(self, now_ns: int) -> None:
        if self._echo is Echo.NOT_NEEDED and self.unproven:
            self._on_proof()  # MQTT 5 by now
        if self.unproven:
            return
        oldest = next(iter(self._awaited.values()), None)
        late = oldest is not None and now_ns - oldest[1] > ECHO_LIMIT_NS
        if late or self._echo is Echo.REFUSED:
            self.unproven = True
            text = (
                "The broker speaks MQTT 3.1.1, which cannot refuse a message, and none came "
                f"back on {self._verdicts.topic}, so it is not known whether verdicts arrive. "
                "Let this station write and read that topic, or use MQTT 5."
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
            self._send(row, content, None, connection, now_ns=now_ns, is_comparison=True)

    def _on_proof(self) -> None:
        """The broker passes verdicts on again: send anew what was not seen to arrive."""
        self.unproven = False
        self._verdicts.must_go_back = True
        self._awaited.clear()
        text = "Delivery of verdicts is confirmed again; unconfirmed ones are sent again."
        log.info("%s", text)
        self._on_event(Event("delivery_proven", Severity.INFO, text))

    def _deliver(self, row: JournalRow) -> None:
        self.acknowledged += 1
        self._lanes[row.kind].settle(row.position)
        self._to_mark.append(row.position)

    def _on_refused(
        self, lane: Lane, row: JournalRow, code: int, cause: str, *, now_ns: int, alone: bool
    ) -> None:
        began, given_up = lane.on_refused(row, code=code, cause=cause, now_ns=now_ns, alone=alone)
        if began is not None:
            self._on_event(began)
        if given_up is not None:
            self._give_up(row, given_up)

    def _send_comparison(self, lane: Lane, connection: Connection, now_ns: int) -> None:
        """Send another row of the suspect's kind, where one is due and there is one."""
        if not lane.is_open(now_ns) or self._on_their_way(lane) or connection.room <= 0:
            return
        comparison = lane.next_comparison(self._dead)
        content = None if comparison is None else self._content(comparison, True, connection)[0]
        if comparison is not None and content is not None:
            self._send(
                comparison, content, None, connection=connection, now_ns=now_ns, is_comparison=True
            )

    def _give_up(self, row: JournalRow, reason: str) -> None:
        log.error("%s %d cannot be delivered: %s", row.kind, row.seq, reason)
        self.dead_letters += 1
        self._dead[row.position] = reason
        self._lanes[row.kind].settle(row.position)
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

    def _go_back_to_oldest(self, lane: Lane) -> None:
        lane.go_back_to_oldest()
        if lane is self._verdicts:
            self._awaited.clear()
            self._echoed.clear()
