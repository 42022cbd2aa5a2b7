"""What a station says beside its records: meta, state, metrics, newest verdict, answers."""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge.contract import announcements, fleet
from edge.contract import state as states
from edge.contract.announcements import HandshakeMessage, Meta, Metrics, TriggerPhase
from edge.contract.commands import RESPONSE_SCHEMA, CommandAnswer, answer_payloads
from edge.contract.delivery import Intervals
from edge.contract.encoding import to_json, utc_text
from edge.contract.state import Condition, State, StationReport, state_payloads
from edge.contract.topics import StationTopic
from edge.journal.entries import JournalError
from edge.mqtt.connection import Connection
from edge.token_bucket import TokenBucket

log = logging.getLogger(__name__)

# Hand-shakes and answers that may wait for the broker to take them.
MAX_WAITING = 256
# Answers to triggers that are refused, and as many to those that were sent before: more than any
# line sends, and so few that a flood of triggers does not make the station publish without end.
ANSWERS_PER_MINUTE = 6000
# Both together leave room for the answers to accepted ones.
ANSWERS_AT_ONCE = 100
# The state's reason where something is published shortened, or left out, for its size.
PACKET_LIMIT = "broker_packet_limit"


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A message that waits for the connection; its forms, longest first, need the session."""

    topic: str
    schema: str
    forms: Callable[[str], Sequence[dict[str, Any]]]
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """What only the connection and the relay know, and the station says all the same.

    Attributes:
        hints: reasons for which nothing is ``online``.
        newest_verdict: payload of the verdict sent last; None before the first.
        counters, gauges: beside the station's own.
    """

    hints: tuple[str, ...] = ()
    newest_verdict: bytes | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, float | None] = field(default_factory=dict)


class Announcer:
    """Keeps what is to be announced, and publishes it when there is a connection.

    Any thread brings news; ``begin``, ``announce``, ``publish_stopped`` and ``end`` are called by
    the thread of the connection alone. The lock is never held around paho.
    """

    def __init__(
        self,
        *,
        topic: StationTopic,
        state: State,
        meta: Meta,
        report: Callable[[], StationReport],
        metrics: Callable[[], Metrics],
        intervals: Intervals = Intervals(),
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Begin with nothing to announce.

        Args:
            report, metrics: what the station measures; are called in the thread of the connection.
        """
        self._topic = topic
        self._report = report
        self._metrics = metrics
        self._intervals = intervals
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._refusals = TokenBucket(ANSWERS_PER_MINUTE, ANSWERS_AT_ONCE)
        self._repetitions = TokenBucket(ANSWERS_PER_MINUTE, ANSWERS_AT_ONCE)
        self._changing = threading.Lock()
        self._state = state
        self._meta = meta
        self._meta_due = True
        self._fleet_report: Mapping[str, Any] | None = None
        self._fleet_due = False
        self._report_changed = False
        self._waiting: deque[_Outgoing] = deque()
        self._connected = False
        self._unpublished = 0
        # From here on the thread of the connection alone:
        self._session = ""
        self._published_state: tuple[Condition, tuple[str, ...], str] | None = None
        self._published_last: bytes | None = None
        self._report_missing = False
        self._limited: set[str] = set()
        self._reported_limits: set[tuple[str, str]] = set()
        self._due_s = {"state": 0.0, "metrics": 0.0, "last": 0.0}

    def become(self, condition: Condition, reasons: tuple[str, ...]) -> None:
        """Take a state, from now on."""
        since = utc_text(self._utc_ns())
        with self._changing:
            self._state = replace(
                self._state, condition=condition, reasons=reasons, since_utc=since
            )

    def state_changed(self) -> None:
        """Note that what is reported with the state has changed."""
        with self._changing:
            self._report_changed = True

    def set_meta(self, meta: Meta) -> None:
        """Take what the station is."""
        with self._changing:
            self._meta_due = self._meta_due or meta != self._meta
            self._meta = meta

    def set_fleet_report(self, report: Mapping[str, Any]) -> None:
        """Take what is in force here, and how far a release is."""
        with self._changing:
            self._fleet_report, self._fleet_due = report, True

    def handshake(self, handshake: HandshakeMessage) -> bool:
        """Take a phase of a trigger; False where it is counted, and nobody is told.

        So it is without a connection, and with answers to triggers that are refused or repeated
        beyond their rate.
        """
        rejected = handshake.phase is TriggerPhase.REJECTED
        if rejected or handshake.repeated:
            rate = self._refusals if rejected else self._repetitions
            with self._changing:
                if not rate.try_consume(self._clock_ns()):
                    self._unpublished += 1
                    return False
        return self._put(
            _Outgoing(
                self._topic.handshake,
                announcements.HANDSHAKE_SCHEMA,
                lambda session: (announcements.handshake_payload(handshake, session),),
            )
        )

    def answer(self, answer: CommandAnswer) -> None:
        """Take an answer to a command; as a hand-shake, it is not kept for later."""
        request = answer.request
        topic = request.response_topic or self._topic.response(request.name)
        self._put(
            _Outgoing(
                topic, RESPONSE_SCHEMA, lambda _: answer_payloads(answer), request.correlation
            )
        )

    def begin(self, session: str) -> None:
        """Say everything anew: there is a connection."""
        self._session = session
        self._due_s = dict.fromkeys(self._due_s, 0.0)
        self._published_state = None
        self._limited.clear()
        with self._changing:
            self._meta_due = self._connected = True
            self._fleet_due = self._fleet_report is not None

    def end(self) -> None:
        """Note that the connection is over."""
        with self._changing:
            self._connected = False
            self._unpublished += len(self._waiting)
            self._waiting.clear()  # a hand-shake that comes later than its part misleads

    def announce(self, connection: Connection, seen: LinkStatus) -> None:
        """Say what is due and the broker has room for: meta, state, what waits, the rest."""
        now_s = time.monotonic()
        room = connection.room > 0
        with self._changing:
            meta, meta_due = self._meta, self._meta_due and room
            self._meta_due = self._meta_due and not meta_due
        if meta_due:
            forms = announcements.meta_payloads(meta, self._topic, self._session)
            self._publish(
                connection, self._topic.meta, forms, announcements.META_SCHEMA, retain=True
            )
        if connection.room > 0:
            self._publish_state_if_due(connection, seen.hints, now_s)
        self._publish_waiting(connection)
        self._publish_fleet_report(connection)
        if now_s >= self._due_s["metrics"] and connection.room > 0:
            self._due_s["metrics"] = now_s + self._intervals.metrics_s
            self._publish_metrics(connection, seen)
        newest = seen.newest_verdict
        due = newest is not self._published_last and now_s >= self._due_s["last"]
        if newest is not None and due and connection.room > 0:
            self._due_s["last"] = now_s + self._intervals.last_s
            self._published_last = newest
            last = (announcements.last_payload(json.loads(newest)),)
            self._publish(
                connection, self._topic.last, last, announcements.LAST_SCHEMA, qos=0, retain=True
            )

    def publish_stopped(self, connection: Connection) -> int | None:
        """Say the last state, without hints; return the message's id, None if it is too large."""
        with self._changing:
            state = self._state
        return self._publish_state(connection, state)

    def wait_s(self, connection: Connection) -> float:
        """Return how long nothing is due by time."""
        if connection.room <= 0:  # an acknowledgement ends the wait
            return self._intervals.state_s
        due_s = min(self._due_s["state"], self._due_s["metrics"])
        return max(due_s - time.monotonic(), 0.0)

    def _publish_state_if_due(
        self, connection: Connection, hints: tuple[str, ...], now_s: float
    ) -> None:
        if self._limited:
            hints = tuple(dict.fromkeys((*hints, PACKET_LIMIT)))
        with self._changing:
            report_changed, self._report_changed = self._report_changed, False
            state = _with_hints(self._state, hints)
        key = (state.condition, state.reasons, state.since_utc)
        if key != self._published_state or report_changed or now_s >= self._due_s["state"]:
            self._publish_state(connection, state)
            self._published_state = key
            self._due_s["state"] = now_s + self._intervals.state_s

    def _publish_fleet_report(self, connection: Connection) -> None:
        if connection.room <= 0:
            return
        with self._changing:
            report, due = self._fleet_report, self._fleet_due
            self._fleet_due = False
        if report is not None and due:
            forms = (dict(report), {**report, "detail": ""})
            self._publish(
                connection, self._topic.fleet_report, forms, fleet.REPORT_SCHEMA, retain=True
            )

    def _put(self, message: _Outgoing) -> bool:
        with self._changing:
            if not self._connected or len(self._waiting) >= MAX_WAITING:
                self._unpublished += 1
                return False
            self._waiting.append(message)
            return True

    def _publish_waiting(self, connection: Connection) -> None:
        while connection.room > 0 and not connection.closed:
            with self._changing:
                if not self._waiting:
                    return
                message = self._waiting.popleft()
            self._publish(
                connection,
                message.topic,
                message.forms(self._session),
                message.schema,
                correlation=message.correlation,
            )

    def _publish_state(self, connection: Connection, state: State) -> int | None:
        forms = state_payloads(state, self._session, self._reported())
        return self._publish(connection, self._topic.state, forms, states.SCHEMA, retain=True)

    def _reported(self) -> StationReport:
        """Return what the station measures; nothing while its disk does not let it look."""
        try:
            report = self._report()
        except (JournalError, OSError) as error:
            if not self._report_missing:
                log.warning("the state is published without its numbers: %s", error)
            self._report_missing = True
            return StationReport()
        self._report_missing = False
        return report

    def _publish_metrics(self, connection: Connection, seen: LinkStatus) -> None:
        metrics = self._metrics()
        whole = replace(
            metrics,
            counters={**metrics.counters, **seen.counters, "mqtt_not_said": self._unpublished},
            gauges={**metrics.gauges, **seen.gauges},
        )
        forms = announcements.metrics_payloads(whole, self._session, self._utc_ns())
        self._publish(connection, self._topic.metrics, forms, announcements.METRICS_SCHEMA, qos=0)

    def _publish(
        self,
        connection: Connection,
        topic: str,
        forms: Sequence[dict[str, Any]],
        schema: str,
        *,
        qos: int = 1,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> int | None:
        """Say the longest form that the broker takes and return its id; None where it takes none.

        Over a careful connection all is acknowledged: what ends it must be found.
        """
        for number, form in enumerate(forms):
            content = to_json(form).encode()
            if not connection.excess_bytes(topic, content, schema, correlation):
                if number:
                    self._set_limited(topic, "published shortened")
                qos = 1 if connection.careful else qos
                return connection.publish(
                    topic, content, schema, qos, retain=retain, correlation=correlation
                )
        self._set_limited(topic, "left out")
        with self._changing:
            self._unpublished += 1
        return None

    def _set_limited(self, topic: str, how: str) -> None:
        self._limited.add(topic)
        if (topic, how) not in self._reported_limits:
            self._reported_limits.add((topic, how))
            log.warning(
                "messages on %s are larger than the broker takes and are %s. Raise the broker's "
                "limit on the size of packets (mosquitto: max_packet_size).",
                *(topic, how),
            )


def _with_hints(state: State, hints: tuple[str, ...]) -> State:
    """Return the station's state with what only the connection knows."""
    if not hints:
        return state
    online = state.condition is Condition.ONLINE
    return replace(
        state,
        condition=Condition.DEGRADED if online else state.condition,
        reasons=(*state.reasons, *hints),
    )
