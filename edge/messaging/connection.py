"""One MQTT connection, driven by one thread through paho's external-loop interface.

No paho callback runs in another thread, so no lock is ever held around paho.
"""

import logging
import os
import select
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import MQTTException, Properties
from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 10
CONNACK_LIMIT_S = 10.0
# Commands are far smaller; what is larger the broker keeps to itself, so it costs no memory here.
LARGEST_INCOMING_BYTES = 65_536
MOST_IN_FLIGHT = 65_535  # MQTT's own limit, where the broker names none
# User properties in which a sender of commands may say who it is.
SENDER_PROPERTIES = ("user", "client")


class ConnectionRefused(Exception):
    """This attempt to connect failed; the text names cause and next step.

    Attributes:
        version_refused: the broker said that it does not speak this version.
        unanswered: connected, but no CONNACK came; old brokers hang up on versions they do not
            know without a word.
    """

    def __init__(
        self, message: str, version_refused: bool = False, unanswered: bool = False
    ) -> None:
        super().__init__(message)
        self.version_refused = version_refused
        self.unanswered = unanswered


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to connect and as whom; the representation shows no password."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: Callable[[], str | None] = lambda: None
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the broker as it came, nothing believed yet.

    Attributes:
        retained: the broker had it in store; it may be of any age.
        expiry_s: seconds it has left to live; None without end, and with MQTT 3.1.1.
        response_topic, correlation: where and with what the sender wants its answer.
        sender: who the sender says it is, unverified.
    """

    topic: str
    payload: bytes
    retained: bool = False
    expiry_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    sender: str | None = None


class WakeUp:
    """Ends a connection's wait for the network from another thread."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)

    def wake(self) -> None:
        with suppress(BlockingIOError):  # full of wake-ups already
            os.write(self._writer, b"\0")

    def clear(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.reader, 65536)

    def wait(self, timeout_s: float) -> None:
        """Wait for a wake-up while there is no connection."""
        poll = select.poll()
        poll.register(self.reader, select.POLLIN)
        poll.poll(max(timeout_s, 0.0) * 1e3)
        self.clear()


class Connection:
    """An accepted connection.

    Attributes:
        closed: it has ended, from whichever side.
        reason: why the broker ended it, where it said so.
        acks: message id and reason code of each PUBACK, for the owner to take.
        incoming: what arrived, for the owner to take.
        largest_bytes: the largest packet the broker takes; None where it does not say.
    """

    def __init__(
        self,
        broker: Broker,
        version: MQTTProtocolVersion,
        will_topic: str | None,
        will: str,
        wake_up: WakeUp,
        stopping: Callable[[], bool],
        subscriptions: Sequence[str] = (),
    ) -> None:
        """Connect, wait for the CONNACK and subscribe; a refused one is not a connection.

        Args:
            will_topic: where the broker says ``will`` when this ends without a word; None for a
                connection whose end is nobody's business.

        Raises:
            ConnectionRefused: not reachable, no answer, or refused.
        """
        self.closed = False
        self.reason: ReasonCode | None = None
        self.acks: deque[tuple[int, ReasonCode | None]] = deque()
        self.incoming: deque[Incoming] = deque()
        self.largest_bytes: int | None = None
        self._most_in_flight = MOST_IN_FLIGHT
        self._in_flight: set[int] = set()
        self._connack: ReasonCode | None = None
        self._is_5 = version is MQTTProtocolVersion.MQTTv5
        self._by_schema: dict[str, tuple[Properties, int]] = {}
        self._wake_up = wake_up
        self._client = self._new_client(broker, version)
        if will_topic is not None:
            self._client.will_set(will_topic, will, qos=1, retain=True)
        address = f"{broker.host}:{broker.port}"
        try:
            self._client.connect(
                broker.host, broker.port, KEEP_ALIVE_S, properties=self._connect_properties()
            )
        except ssl.SSLError as error:
            raise ConnectionRefused(
                f"TLS with the broker at {address} failed ({error.reason or error}). "
                "Check mqtt.ca_file, the name in the broker's certificate, and "
                "mqtt.certificate_file where the broker asks for one."
            ) from error
        except (OSError, ValueError) as error:
            raise ConnectionRefused(
                f"the broker at {address} cannot be reached ({_cause(error)}). "
                "Check that it runs, its address and the firewall."
            ) from error
        self._wait_for_connack(address, stopping)
        if subscriptions:
            self._client.subscribe([(topic, 1) for topic in subscriptions])

    @property
    def room(self) -> int:
        """Messages at QoS 1 that the broker takes before it acknowledges one."""
        return self._most_in_flight - len(self._in_flight)

    def publish(
        self,
        topic: str,
        content: bytes | str,
        schema: str,
        qos: int = 1,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> int:
        """Send a message and return its id, which ``acks`` will name when QoS is 1."""
        properties = None
        if self._is_5:
            properties = (
                self._of_schema(schema)[0]
                if correlation is None
                else _properties(schema, correlation)
            )
        mid = self._client.publish(topic, content, qos, retain, properties).mid
        if qos:
            self._in_flight.add(mid)
        return mid

    def packet_bytes(self, topic: str, content: bytes, schema: str) -> int:
        """Return how large the packet of ``publish`` at QoS 1 is."""
        remaining = 2 + len(topic.encode()) + 2 + len(content)
        if self._is_5:
            remaining += self._of_schema(schema)[1]
        return 1 + sum(remaining >= limit for limit in (0, 128, 16_384, 2_097_152)) + remaining

    def turn(self, timeout_s: float) -> None:
        """Wait for the network or a wake-up, and let paho handle what came."""
        connection = cast(Any, self._client.socket())
        if connection is None:
            self.closed = True
            return
        pending = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        # Once a second at least: paho watches its keep-alive in loop_misc.
        limit_s = 0.0 if pending else min(max(timeout_s, 0.0), 1.0)
        try:
            ready = self._poll(connection.fileno(), limit_s)
        except (OSError, ValueError):  # the socket was closed under us
            self.closed = True
            return
        try:
            if pending or ready & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._client.loop_read()
            if self._client.want_write():
                self._client.loop_write()
            self._client.loop_misc()
        except (MQTTException, ValueError, IndexError, KeyError, struct.error) as error:
            # Bytes that are no MQTT: paho lets its parser's errors through.
            log.debug("the broker sent what is not MQTT: %r", error)
            self.hang_up()

    def disconnect(self) -> None:
        """End in order: the broker forgets the will."""
        self._client.disconnect()
        self._client.loop_write()
        self.hang_up()

    def hang_up(self) -> None:
        """End without a word: the broker publishes the will."""
        self.closed = True
        connection = cast(Any, self._client.socket())
        if connection is not None:
            connection.close()

    def _poll(self, connection: int, limit_s: float) -> int:
        poll = select.poll()
        wanted = select.POLLIN | (select.POLLOUT if self._client.want_write() else 0)
        poll.register(connection, wanted)
        poll.register(self._wake_up.reader, select.POLLIN)
        ready = dict(poll.poll(limit_s * 1e3))
        if self._wake_up.reader in ready:
            self._wake_up.clear()
        return ready.get(connection, 0)

    def _new_client(self, broker: Broker, version: MQTTProtocolVersion) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            # The outbox is the session; paho's own resend would mix with it.
            clean_session=None if self._is_5 else True,
            protocol=version,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(0)  # ``room`` counts what the broker takes
        client.on_socket_open = lambda _c, _u, opened: _send_at_once(opened)
        client.on_connect = lambda _c, _u, _f, reason, properties: self._note_connack(
            reason, properties
        )
        client.on_disconnect = lambda _c, _u, _f, reason, _p: self._note_end(reason)
        client.on_publish = lambda _c, _u, mid, reason, _p: self._note_ack(mid, reason)
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: _check_subscriptions(reasons)
        client.on_message = lambda _c, _u, message: self._note_message(message)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password())
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        return client

    def _connect_properties(self) -> Properties | None:
        if not self._is_5:
            return None
        properties = Properties(PacketTypes.CONNECT)
        properties.MaximumPacketSize = LARGEST_INCOMING_BYTES
        return properties

    def _wait_for_connack(self, address: str, stopping: Callable[[], bool]) -> None:
        deadline = time.monotonic() + CONNACK_LIMIT_S
        while self._connack is None and not self.closed:
            if stopping() or time.monotonic() >= deadline:
                break
            self.turn(deadline - time.monotonic())
        if self._connack is None:
            self.hang_up()
            raise ConnectionRefused(
                f"the broker at {address} did not answer the CONNECT. Check that it is an MQTT "
                "broker, whether mqtt:// or mqtts:// is right, and that it trusts "
                "mqtt.certificate_file where it asks for one.",
                unanswered=True,
            )
        if self._connack.is_failure:
            self.hang_up()
            raise ConnectionRefused(
                f"the broker at {address} refuses this station ({self._connack}). "
                "Check mqtt.username, mqtt.password_file and the broker's access rules.",
                version_refused=self._connack.getName() == "Unsupported protocol version",
            )

    def _of_schema(self, schema: str) -> tuple[Properties, int]:
        if schema not in self._by_schema:
            properties = _properties(schema)
            self._by_schema[schema] = (properties, len(properties.pack()))
        return self._by_schema[schema]

    def _note_connack(self, reason: ReasonCode, properties: Properties | None) -> None:
        self._connack = reason
        self.largest_bytes = getattr(properties, "MaximumPacketSize", None)
        self._most_in_flight = getattr(properties, "ReceiveMaximum", MOST_IN_FLIGHT)

    def _note_end(self, reason: ReasonCode) -> None:
        if not self.closed:  # paho calls again for the socket after a DISCONNECT
            self.closed = True
            self.reason = reason

    def _note_ack(self, mid: int, reason: ReasonCode | None) -> None:
        if mid in self._in_flight:  # paho calls for QoS 0 too
            self._in_flight.remove(mid)
            self.acks.append((mid, reason))

    def _note_message(self, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # no topic of ours
            return
        properties = message.properties
        self.incoming.append(
            Incoming(
                topic,
                bytes(message.payload),
                bool(message.retain),
                getattr(properties, "MessageExpiryInterval", None),
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
                _sender(getattr(properties, "UserProperty", ())),
            )
        )


def _properties(schema: str, correlation: bytes | None = None) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/json"
    properties.UserProperty = ("schema", schema)
    if correlation is not None:
        properties.CorrelationData = correlation
    return properties


def _sender(pairs: Sequence[tuple[str, str]]) -> str | None:
    given = dict(pairs)
    return next((given[name] for name in SENDER_PROPERTIES if name in given), None)


def _send_at_once(opened: object) -> None:
    """Switch Nagle's algorithm off: it would hold verdicts back for a round trip."""
    with suppress(OSError):
        cast(Any, opened).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _check_subscriptions(reasons: Sequence[ReasonCode]) -> None:
    if any(reason.is_failure for reason in reasons):
        log.warning(
            "the broker does not let this station listen to its own trigger, ack and cmd topics; "
            "commands will not arrive. Check the broker's access rules."
        )


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, socket.gaierror):
        return f"the name is not known: {error.strerror}"
    return getattr(error, "strerror", None) or str(error)
