"""The MQTT publisher: verdicts and state to a broker that may come and go."""

import logging
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from paho.mqtt.enums import MQTTProtocolVersion

from edge.config import ConfigurationInvalid, MqttSettings
from edge.errors import StationError
from edge.messaging import state as states
from edge.messaging import verdict as verdicts
from edge.messaging.connection import Broker, Connection, ConnectionRefused, WakeUp
from edge.messaging.state import Condition, State, state_payload, will_payload
from edge.messaging.verdict import to_json, utc_text

log = logging.getLogger(__name__)

STATE_INTERVAL_S = 30.0
STOPPED_LIMIT_S = 2.0
BACK_OFF_S = (1.0, 60.0)
# A connection that lasted so long starts the back-off over.
STABLE_S = 10.0
# Unacknowledged messages at a time; the usual limit of brokers.
WINDOW = 20
# A verdict that is older than this when it is sent is marked as replayed.
FRESH_NS = 10_000_000_000
SESSION_TAKEN_OVER = 0x8E


class VerdictsUndelivered(StationError):
    """The broker did not acknowledge every verdict (EX_TEMPFAIL)."""

    exit_code = 75


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where the verdicts of a run are.

    Attributes:
        acknowledged: the broker has them.
        waiting: still to be sent or acknowledged.
        dropped: refused by the full queue.
        refused: the broker answered that it does not take them.
    """

    acknowledged: int
    waiting: int
    dropped: int
    refused: int

    @property
    def missing(self) -> int:
        return self.waiting + self.dropped + self.refused


@dataclass(slots=True)
class _Message:
    record: dict[str, Any]
    created_ns: int
    sent: bool = False


class MqttPublisher:
    """Publishes verdicts at QoS 1 and the retained state; never makes its caller wait.

    While the broker is away verdicts queue up to ``settings.queue_bound``; then the newest is
    dropped and counted, so that what is kept has no gaps. One thread, the one in ``run``, owns the
    connection. Every connection is a new client: paho's own queue keeps no order across an outage,
    this one does.
    """

    def __init__(
        self,
        settings: MqttSettings,
        state: State,
        password: str | None = None,
        back_off_s: tuple[float, float] = BACK_OFF_S,
        state_interval_s: float = STATE_INTERVAL_S,
        jitter: Callable[[], float] = random.random,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare; nothing is opened yet.

        Raises:
            ConfigurationInvalid: the certificates cannot be loaded.
        """
        self._settings = settings
        self._topic = settings.topic
        self._broker = Broker(
            host=settings.host,
            port=settings.port,
            client_id=self._topic.client_id,
            username=settings.username,
            password=lambda: password,
            tls=_tls_context(settings) if settings.tls else None,
        )
        self._back_off_s = back_off_s
        self._state_interval_s = state_interval_s
        self._jitter = jitter
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._stopping = threading.Event()
        self._wake_up = WakeUp()
        # The lock guards what threads share; it is never held around paho.
        self._changed = threading.Condition()
        self._state = state
        self._state_due = True
        self._queue: deque[_Message] = deque()
        self._in_flight: dict[int, _Message] = {}
        self._acknowledged = self._dropped = self._refused = 0
        # From here on the network thread alone:
        self._version = MQTTProtocolVersion.MQTTv5
        self._session = ""
        self._complaint = ""

    def publish(self, record: dict[str, Any]) -> None:
        """Queue a ``verdict/1`` record; session and replay mark are filled in when it is sent."""
        with self._changed:
            if self._outstanding() < self._settings.queue_bound:
                self._queue.append(_Message(record, self._clock_ns()))
            else:
                self._drop()
        self._wake_up.wake()

    def set_state(self, condition: Condition, *reasons: str) -> None:
        """Publish a state as soon as there is a connection, and again after every reconnect."""
        with self._changed:
            self._become(condition, reasons)
        self._wake_up.wake()

    def delivery(self) -> Delivery:
        """Return where the verdicts are now."""
        with self._changed:
            return Delivery(self._acknowledged, self._outstanding(), self._dropped, self._refused)

    def wait_until_delivered(
        self, timeout_s: float, given_up: Callable[[], bool] = lambda: False
    ) -> Delivery:
        """Wait until nothing is outstanding, the time is over, or ``given_up``."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._outstanding() and time.monotonic() < deadline and not given_up():
                self._changed.wait(0.1)
        return self.delivery()

    def stop(self, *reasons: str) -> None:
        """Ask ``run`` to say ``stopped``, disconnect and return."""
        with self._changed:
            self._become(Condition.STOPPED, reasons)
            self._state_due = False  # said once, as the last message
            self._stopping.set()
        self._wake_up.wake()

    def run(self) -> None:
        """Connect, publish, reconnect until ``stop``; the body of the network thread."""
        delay_s = self._back_off_s[0]
        while not self._stopping.is_set():
            connection = self._connect()
            if connection is not None:
                began_s = time.monotonic()
                try:
                    self._serve(connection)
                finally:
                    connection.hang_up()
                    self._take_back()
                # A connection that ends at once is a fight over the name, or a broker in trouble.
                if time.monotonic() - began_s > STABLE_S:
                    delay_s = self._back_off_s[0]
                if _taken_over(connection):
                    delay_s = self._back_off_s[1]
            # ±50 %, so that the stations of a plant do not all come back at once.
            self._stopping.wait(delay_s * (0.5 + self._jitter()))
            delay_s = min(delay_s * 2, self._back_off_s[1])

    def _connect(self) -> Connection | None:
        for version in dict.fromkeys((self._version, MQTTProtocolVersion.MQTTv311)):
            self._session = str(uuid4())
            try:
                connection = Connection(
                    self._broker,
                    version,
                    self._topic.state,
                    to_json(will_payload(self._session)),
                    self._wake_up,
                    self._stopping.is_set,
                )
            except ConnectionRefused as error:
                may_fall_back = version is MQTTProtocolVersion.MQTTv5
                if may_fall_back and error.version_refused:
                    log.info("%s does not speak MQTT 5; using 3.1.1", self._settings.url)
                    self._version = MQTTProtocolVersion.MQTTv311
                elif not (may_fall_back and error.unanswered) or self._stopping.is_set():
                    self._complain(f"{error} Inspection goes on, verdicts wait; trying again.")
                    return None
            else:
                name = "5" if version is MQTTProtocolVersion.MQTTv5 else "3.1.1"
                log.info("connected to %s with MQTT %s", self._settings.url, name)
                self._complaint = ""
                return connection
        return None

    def _serve(self, connection: Connection) -> None:
        """Use a connection until it ends or ``stop``."""
        published_s = float("-inf")
        while not connection.closed and not self._stopping.is_set():
            now_s = time.monotonic()
            if self._take_state_due() or now_s - published_s >= self._state_interval_s:
                self._publish_state(connection)
                published_s = now_s
            self._send_waiting(connection)
            connection.turn(published_s + self._state_interval_s - now_s)
            self._settle(connection)
        if self._stopping.is_set():
            self._say_goodbye(connection)
        elif _taken_over(connection):
            log.error(
                "another client connected as %s. Two stations have the same name; change "
                "mqtt.station of one of them.",
                self._topic.client_id,
            )
        else:
            log.warning("the broker is gone (%s); verdicts wait", connection.reason or "no answer")

    def _send_waiting(self, connection: Connection) -> None:
        while len(self._in_flight) < WINDOW and not connection.closed:
            with self._changed:
                if not self._queue:
                    return
                message = self._queue[0]
            replayed = message.sent or self._clock_ns() - message.created_ns > FRESH_NS
            record = {**message.record, "session": self._session, "replayed": replayed}
            mid = connection.publish(self._topic.verdict, to_json(record), verdicts.SCHEMA)
            message.sent = True
            with self._changed:
                self._queue.popleft()
                self._in_flight[mid] = message

    def _settle(self, connection: Connection) -> None:
        """Take the broker's acknowledgements into the books."""
        while connection.acks:
            mid, reason = connection.acks.popleft()
            if mid not in self._in_flight:
                continue  # the state's
            refused = reason is not None and reason.is_failure
            with self._changed:
                del self._in_flight[mid]
                if refused:
                    self._refused += 1
                else:
                    self._acknowledged += 1
                self._changed.notify_all()
            if refused:
                self._complain(
                    f"the broker does not take verdicts on {self._topic.verdict} ({reason}). "
                    "Check its access rules and limits."
                )

    def _take_back(self) -> None:
        """Put what the broker has not acknowledged in front of the queue again, in order."""
        with self._changed:
            self._queue.extendleft(reversed(self._in_flight.values()))
            self._in_flight.clear()
            self._state_due = True

    def _take_state_due(self) -> bool:
        with self._changed:
            due, self._state_due = self._state_due, False
        return due

    def _publish_state(self, connection: Connection) -> int:
        content = to_json(state_payload(self._state, self._session))
        return connection.publish(self._topic.state, content, states.SCHEMA, retain=True)

    def _say_goodbye(self, connection: Connection) -> None:
        last = self._publish_state(connection)
        deadline = time.monotonic() + STOPPED_LIMIT_S
        acknowledged = False
        while not acknowledged and not connection.closed and time.monotonic() < deadline:
            connection.turn(deadline - time.monotonic())
            acknowledged = any(mid == last for mid, _ in connection.acks)
            self._settle(connection)
        if not connection.closed:
            connection.disconnect()

    def _drop(self) -> None:
        self._dropped += 1
        if self._dropped > 1:
            return
        log.error(
            "%d verdicts wait for the broker and the queue is full; new ones are dropped. "
            "Bring the broker back, or raise mqtt.queue_bound.",
            self._settings.queue_bound,
        )
        self._become(Condition.DEGRADED, (*self._state.reasons, "verdicts_dropped"))

    def _become(self, condition: Condition, reasons: tuple[str, ...]) -> None:
        since = utc_text(self._utc_ns())
        self._state = replace(self._state, condition=condition, reasons=reasons, since_utc=since)
        self._state_due = True

    def _outstanding(self) -> int:
        return len(self._queue) + len(self._in_flight)

    def _complain(self, message: str) -> None:
        """Log a fault once, not at every attempt."""
        if message != self._complaint:
            self._complaint = message
            log.warning("%s", message)


def _taken_over(connection: Connection) -> bool:
    return connection.reason is not None and connection.reason.value == SESSION_TAKEN_OVER


def _tls_context(settings: MqttSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise ConfigurationInvalid(
            f"{settings.ca_file}: no certificates could be read ({error.strerror or error}). "
            "mqtt.ca_file is a PEM file."
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
