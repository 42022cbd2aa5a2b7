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
from enum import StrEnum
from typing import Any, cast

import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.mqtt.broker_limits import BrokerLimits, LearnedLimits, announced_limits
from edge.mqtt.broker_reason_codes import (
    UNSUPPORTED_VERSION,
    WILDCARDS_NOT_SUPPORTED,
    Packet,
    describe_code,
    tls_alert_in,
    tls_alert_meaning,
    tls_meaning,
)

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 10
CONNACK_LIMIT_S = 10.0
# Commands are far smaller; what is larger the broker keeps to itself, so it costs no memory here.
MAX_INCOMING_BYTES = 65_536
# Packets that are read in one turn, should so many have come.
MAX_PACKETS_A_TURN = 64
# Of what was sent last and is not known to have arrived, so much is remembered.
MAX_UNANSWERED = 256
# A broker that hangs up so often when it is asked for an echo is not asked any more.
MAX_ECHO_HANG_UPS = 2
# User properties in which a sender of commands may say who it is.
SENDER_PROPERTIES = ("user", "client")
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
# Bytes that are no MQTT: paho lets its parser's errors through.
NOT_MQTT = (MQTTException, ValueError, IndexError, KeyError, struct.error)


class ConnectionRefused(Exception):
    """This attempt to connect failed; the text names cause and next step.

    Attributes:
        code: of the CONNACK, in the numbers of MQTT 5; None without one.
        unanswered: connected, but no CONNACK came; old brokers hang up on versions they do not
            know without a word.
        unreachable: not even a CONNECT was sent.
    """

    def __init__(
        self,
        message: str,
        code: int | None = None,
        *,
        unanswered: bool = False,
        unreachable: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.unanswered = unanswered
        self.unreachable = unreachable

    @property
    def version_refused(self) -> bool:
        return self.code == UNSUPPORTED_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where to connect and as whom; the representation shows no password."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: Callable[[], str | None] = lambda: None
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says on ``topic`` when a connection ends without a word."""

    topic: str
    payload: str | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriptions:
    """What to listen to.

    Attributes:
        named: the same as ``patterns`` without one, for brokers that take none.
        loss: what does not work where the broker refuses them, for people.
        echo: where this client receives its own messages, with MQTT 3.1.1: it refuses no message
            that it does not pass on.
        as_published: what is published as retained from now on is marked as such, too, and not only
            what the broker had in store. MQTT 3.1.1 has no word for it.
    """

    patterns: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    echo: str | None = None
    as_published: bool = True
    loss: str = (
        "the broker does not allow this station to subscribe to its own trigger, ack "
        "and cmd topics; commands will not arrive"
    )


class Echo(StrEnum):
    """Whether this client hears what it says itself on ``Subscriptions.echo``."""

    NOT_NEEDED = "MQTT 5 reports refused messages"
    ASKED = "the broker has not answered yet"
    GRANTED = "the broker allows this client to subscribe"
    REFUSED = "the broker does not allow this client to subscribe"


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A packet that was sent, with no sign yet that the broker took it."""

    mid: int
    topic: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message from the broker as it came, nothing believed yet.

    Attributes:
        retained: the broker had it in store; it may be of any age.
        expiry_s: seconds it has left to live; None without end, and with MQTT 3.1.1.
        response_topic, correlation: where and with what the sender wants its answer.
        sender: as it names itself, unverified.
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
        reason: why the broker ended it, where it gave one.
        acks: message id and reason code of each PUBACK, for the owner to take.
        answers: ids of ``request_answer`` that the broker answered, for the owner to take.
        incoming: what arrived, for the owner to take.
        echo: whether, and ``echoes``: what of its own this client hears.
        limits: what the broker announced that it takes.
        subscribed: the broker's answer to the subscriptions; None before it.
        careful: one message at a time, to find the one that ends the connection.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        version: MQTTProtocolVersion,
        will: Will | None,
        wake_up: WakeUp,
        stopping: Callable[[], bool],
        subscriptions: Subscriptions = Subscriptions(),
        learned: LearnedLimits | None = None,
        careful: bool = False,
    ) -> None:
        """Connect, wait for the CONNACK and subscribe; a refused one is not a connection.

        Args:
            will: None for a connection whose end is nobody's business.
            learned: of earlier connections to this broker; what this one teaches is added.

        Raises:
            ConnectionRefused: not reachable, no answer, or refused.
        """
        self.closed = False
        self.reason: ReasonCode | None = None
        self.acks: deque[tuple[int, ReasonCode | None]] = deque()
        self.answers: deque[int] = deque()
        self.incoming: deque[Incoming] = deque()
        self.echo = Echo.NOT_NEEDED
        self.echoes: deque[bytes] = deque()
        self.limits = BrokerLimits()
        self.subscribed: Sequence[ReasonCode] | None = None
        self.careful = careful
        self._learned = LearnedLimits() if learned is None else learned
        self._in_flight: set[int] = set()
        self._unanswered: deque[Unanswered] = deque(maxlen=MAX_UNANSWERED)
        self._connack: ReasonCode | None = None
        self._protocol_broken = False
        self._tls_alert = ""
        self._subscriptions = subscriptions
        self._echo_mid: int | None = None
        self._requested: set[int] = set()
        self._is_5 = version is MQTTProtocolVersion.MQTTv5
        self._by_schema: dict[str, tuple[Properties, int]] = {}
        self._wake_up = wake_up
        self._client = self._new_client(broker, version)
        if will is not None:
            self._client.will_set(
                will.topic, will.payload, self._learned.will_qos, self._learned.will_retain
            )
        address = f"{broker.host}:{broker.port}"
        try:
            self._client.connect(
                broker.host, broker.port, KEEP_ALIVE_S, properties=self._connect_properties()
            )
        except ssl.SSLError as error:
            raise ConnectionRefused(
                f"TLS with the broker at {address} failed, {tls_meaning(error)}", unreachable=True
            ) from error
        except (OSError, ValueError) as error:
            raise ConnectionRefused(
                f"the broker at {address} cannot be reached ({_cause(error)}). "
                "Check that it runs, its address and the firewall.",
                unreachable=True,
            ) from error
        self._wait_for_connack(address, stopping)
        self._client.on_log = None
        self._subscribe()
        self._request_echo()

    @property
    def version(self) -> str:
        return "5" if self._is_5 else "3.1.1"

    @property
    def room(self) -> int:
        """Messages at QoS 1 that the broker takes before it acknowledges one."""
        max_count = 1 if self.careful else self.limits.receive_maximum
        return max_count - len(self._in_flight)

    @property
    def accepts_qos_1(self) -> bool:
        return self.limits.maximum_qos > 0

    @property
    def sole_unanswered(self) -> Unanswered | None:
        """The one packet of which it is not known that the broker took it; None of many."""
        return self._unanswered[0] if len(self._unanswered) == 1 else None

    def owes(self, mid: int) -> bool:
        """Tell whether the broker has not acknowledged this message yet."""
        return mid in self._in_flight

    def publish(
        self,
        topic: str,
        content: bytes,
        schema: str | None,
        qos: int = 1,
        *,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> int:
        """Send a message and return its id, which ``acks`` will name when QoS is 1.

        A broker that takes no QoS 1, or keeps nothing, gets it without.

        Args:
            schema: of JSON; None for content that is none, which goes without properties.
        """
        size = self.packet_bytes(topic, content, schema, correlation)
        qos = min(qos, self.limits.maximum_qos)
        retain = retain and self.limits.retain_available
        properties = None
        if self._is_5 and schema is not None:
            properties = (
                self._of_schema(schema)[0]
                if correlation is None
                else _properties(schema, correlation)
            )
        mid = self._client.publish(topic, content, qos, retain, properties).mid
        if qos:
            self._in_flight.add(mid)
        self._unanswered.append(Unanswered(mid, topic, size))
        return mid

    def request_answer(self) -> int:
        """Ask the broker for an answer that comes once it has read all that was sent before.

        It is how a message at QoS 0 is known to have arrived: a subscription that is there
        already, once more (MQTT 5, 3.8.4: the server MUST answer with a SUBACK).

        Returns:
            The id, which ``answers`` will name.
        """
        mid = self._listen_to(self._subscriptions.named[:1])
        assert mid is not None
        self._requested.add(mid)
        return mid

    def excess_bytes(
        self, topic: str, content: bytes, schema: str | None, correlation: bytes | None = None
    ) -> int:
        """Return by how much the packet of ``publish`` is larger than the broker takes, or 0."""
        known = (self.limits.max_packet_bytes, self._learned.max_bytes.get(topic))
        largest = min((limit for limit in known if limit is not None), default=None)
        if largest is None:
            return 0
        return max(self.packet_bytes(topic, content, schema, correlation) - largest, 0)

    def packet_bytes(
        self, topic: str, content: bytes, schema: str | None, correlation: bytes | None = None
    ) -> int:
        """Return how large the packet of ``publish`` at QoS 1 is."""
        remaining = 2 + len(topic.encode()) + 2 + len(content)
        if self._is_5 and schema is None:
            remaining += 1
        elif self._is_5 and schema is not None:
            remaining += self._of_schema(schema)[1]
            remaining += 0 if correlation is None else 3 + len(correlation)
        return 1 + sum(remaining >= limit for limit in (0, 128, 16_384, 2_097_152)) + remaining

    def turn(self, timeout_s: float) -> None:
        """Wait for the network or a wake-up, and let paho handle what came."""
        connection = cast(Any, self._client.socket())
        if connection is None:
            self.closed = True
            return
        pending = _decrypted(connection)
        # Once a second at least: paho watches its keep-alive in loop_misc.
        limit_s = 0.0 if pending else min(max(timeout_s, 0.0), 1.0)
        try:
            ready = self._poll(connection.fileno(), limit_s)
        except (OSError, ValueError):  # the socket was closed under us
            self.closed = True
            return
        try:
            if pending or ready & _READABLE:
                self._read(connection)
            if self._client.want_write():
                self._client.loop_write()
            self._client.loop_misc()
        except NOT_MQTT as error:
            log.debug("the broker sent data that is not MQTT: %r", error)
            self.hang_up()

    def disconnect(self, *, publishing_will: bool = False) -> None:
        """End in order: the broker forgets the will.

        Args:
            publishing_will: with MQTT 5 it publishes it all the same; 3.1.1 cannot ask for that.
        """
        reason = None
        if publishing_will and self._is_5:
            reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
        self._client.disconnect(reason)
        self._client.loop_write()
        self.hang_up()

    def hang_up(self) -> None:
        """End without a word: the broker publishes the will."""
        self.closed = True
        connection = cast(Any, self._client.socket())
        if connection is not None:
            connection.close()

    def _read(self, connection: Any) -> None:
        """Let paho read what has come; it takes one packet at a time."""
        more = select.poll()
        more.register(connection.fileno(), select.POLLIN)
        for _ in range(MAX_PACKETS_A_TURN):
            self._client.loop_read()
            if self.closed or self._client.socket() is not connection:
                return
            if not (_decrypted(connection) or more.poll(0)):
                return

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
        client.on_connect = lambda _c, _u, _f, reason, properties: self._on_connack(
            reason, properties
        )
        client.on_disconnect = lambda _c, _u, flags, reason, _p: self._on_end(
            reason, flags.is_disconnect_packet_from_server
        )
        client.on_publish = lambda _c, _u, mid, reason, _p: self._on_ack(mid, reason)
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._on_suback(reasons, mid)
        client.on_log = lambda _c, _u, _level, text: self._on_log(text)
        client.on_message = lambda _c, _u, message: self._on_message(message)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password())
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        return client

    def _connect_properties(self) -> Properties | None:
        if not self._is_5:
            return None
        properties = Properties(PacketTypes.CONNECT)
        properties.MaximumPacketSize = MAX_INCOMING_BYTES
        return properties

    def _wait_for_connack(self, address: str, stopping: Callable[[], bool]) -> None:
        deadline = time.monotonic() + CONNACK_LIMIT_S
        while self._connack is None and not self.closed:
            if stopping() or time.monotonic() >= deadline:
                break
            self.turn(deadline - time.monotonic())
        if self._connack is None:
            self.hang_up()
            raise self._unanswered_connect(address)
        if self._connack.is_failure:
            self.hang_up()
            raise ConnectionRefused(
                f"the broker at {address} refuses this station. "
                f"{describe_code(self._connack, Packet.CONNACK)}",
                self._connack.value,
            )

    def _unanswered_connect(self, address: str) -> ConnectionRefused:
        if self._tls_alert:
            meaning = tls_alert_meaning(self._tls_alert)
            return ConnectionRefused(f"TLS with the broker at {address} failed, {meaning}")
        if self._protocol_broken and not self._is_5:  # paho keeps return code 1 to itself
            return ConnectionRefused(
                f"the broker at {address} refuses this station. "
                f"{describe_code(UNSUPPORTED_VERSION, Packet.CONNACK)}",
                UNSUPPORTED_VERSION,
            )
        return ConnectionRefused(
            f"the broker at {address} did not answer the CONNECT. Check that it is an MQTT "
            "broker, whether mqtt:// or mqtts:// is right, and that it trusts "
            "mqtt.certificate_file where it asks for one.",
            unanswered=True,
        )

    def _subscribe(self) -> None:
        known = self.limits.wildcards_available and self._learned.wildcards_available
        topics = self._subscriptions.patterns if known else self._subscriptions.named
        if topics:
            self._listen_to(topics)

    def listen_to(self, pattern: str) -> None:
        """Subscribe to more; ``subscribed`` is the broker's answer to this."""
        self.subscribed = None
        self._listen_to([pattern])

    def _listen_to(self, topics: Sequence[str]) -> int | None:
        qos = min(1, self.limits.maximum_qos)
        if not self._is_5:
            return self._client.subscribe([(topic, qos) for topic in topics])[1]
        # Else a retained trigger that is published now looks like any other one.
        as_published = self._subscriptions.as_published
        options = SubscribeOptions(qos=qos, retainAsPublished=as_published)
        return self._client.subscribe([(topic, options) for topic in topics])[1]

    def _request_echo(self) -> None:
        if self._is_5 or self._subscriptions.echo is None:
            return
        self.echo = Echo.REFUSED
        if self._learned.echo_hang_ups < MAX_ECHO_HANG_UPS:
            self.echo = Echo.ASKED
            self._echo_mid = self._client.subscribe(self._subscriptions.echo, 1)[1]

    def _on_suback(self, reasons: Sequence[ReasonCode], mid: int | None = None) -> None:
        if self._echo_mid is not None and mid == self._echo_mid:
            self.echo = Echo.REFUSED if reasons[0].is_failure else Echo.GRANTED
            return
        if mid in self._requested:
            self._requested.remove(mid)
            self.answers.append(mid)
            return
        refused = [reason for reason in reasons if reason.is_failure]
        self.subscribed = reasons
        known = self._learned.wildcards_available
        if known and any(reason.value == WILDCARDS_NOT_SUPPORTED for reason in refused):
            self._learned.wildcards_available = False
            self._subscribe()
        elif refused:
            why = describe_code(refused[0], Packet.SUBACK)
            log.warning("%s. %s", self._subscriptions.loss, why)

    def _on_log(self, text: str) -> None:
        self._tls_alert = self._tls_alert or tls_alert_in(text)

    def _of_schema(self, schema: str) -> tuple[Properties, int]:
        if schema not in self._by_schema:
            properties = _properties(schema)
            self._by_schema[schema] = (properties, len(properties.pack()))
        return self._by_schema[schema]

    def _on_connack(self, reason: ReasonCode, properties: Properties | None) -> None:
        self._connack = reason
        self.limits = announced_limits(properties if self._is_5 else None)

    def _on_end(self, reason: ReasonCode, by_broker: bool) -> None:
        if self.closed:  # paho calls again for the socket after a DISCONNECT
            return
        self.closed = True
        if self.echo is Echo.ASKED:
            self._learned.echo_hang_ups += 1
        if not by_broker:
            self._protocol_broken = reason.getName() == "Protocol error"
            return
        self.reason = reason
        if reason.value == WILDCARDS_NOT_SUPPORTED:
            self._learned.wildcards_available = False

    def _on_ack(self, mid: int, reason: ReasonCode | None) -> None:
        if mid not in self._in_flight:  # paho calls for QoS 0 too
            return
        self._in_flight.remove(mid)
        self.acks.append((mid, reason))
        # A broker reads in order: what was sent before this one has arrived, too.
        while any(one.mid == mid for one in self._unanswered):
            self._unanswered.popleft()

    def _on_message(self, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # no topic of ours
            return
        if topic == self._subscriptions.echo:
            self.echoes.append(bytes(message.payload))
            return
        properties = message.properties
        self.incoming.append(
            Incoming(
                topic=topic,
                payload=bytes(message.payload),
                retained=bool(message.retain),
                expiry_s=getattr(properties, "MessageExpiryInterval", None),
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
                sender=_sender(getattr(properties, "UserProperty", ())),
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


def _decrypted(connection: object) -> bool:
    """Tell whether TLS has read more than was asked for; the socket does not show it."""
    return isinstance(connection, ssl.SSLSocket) and connection.pending() > 0


def _send_at_once(opened: object) -> None:
    """Switch Nagle's algorithm off: it would hold verdicts back for a round trip."""
    with suppress(OSError):
        cast(Any, opened).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, socket.gaierror):
        return f"the name is not known: {error.strerror}"
    return getattr(error, "strerror", None) or str(error)
