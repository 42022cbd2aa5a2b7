"""One MQTT connection, driven by one thread through paho's external-loop interface.

No paho callback runs in another thread, so no lock is ever held around paho.
"""

import os
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

KEEP_ALIVE_S = 10
CONNACK_LIMIT_S = 10.0


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


class Connection:
    """An accepted connection.

    Attributes:
        closed: it has ended, from whichever side.
        reason: why the broker ended it, where it said so.
        acks: message id and reason code of each PUBACK, for the owner to take.
    """

    def __init__(
        self,
        broker: Broker,
        version: MQTTProtocolVersion,
        will_topic: str,
        will: str,
        wake_up: WakeUp,
        stopping: Callable[[], bool],
    ) -> None:
        """Connect and wait for the CONNACK; a refused one is not a connection.

        Raises:
            ConnectionRefused: not reachable, no answer, or refused.
        """
        self.closed = False
        self.reason: ReasonCode | None = None
        self.acks: deque[tuple[int, ReasonCode | None]] = deque()
        self._connack: ReasonCode | None = None
        self._version = version
        self._wake_up = wake_up
        self._client = self._new_client(broker, version)
        self._client.will_set(will_topic, will, qos=1, retain=True)
        address = f"{broker.host}:{broker.port}"
        try:
            self._client.connect(broker.host, broker.port, KEEP_ALIVE_S)
        except ssl.SSLError as error:
            raise ConnectionRefused(
                f"TLS with the broker at {address} failed ({error.reason or error}). "
                "Check mqtt.ca_file and the name in the broker's certificate."
            ) from error
        except (OSError, ValueError) as error:
            raise ConnectionRefused(
                f"the broker at {address} cannot be reached ({_cause(error)}). "
                "Check that it runs, its address and the firewall."
            ) from error
        self._wait_for_connack(address, stopping)

    def publish(self, topic: str, content: str, schema: str, retain: bool = False) -> int:
        """Send a message at QoS 1 and return its id, which ``acks`` will name."""
        properties = None
        if self._version is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ContentType = "application/json"
            properties.UserProperty = ("schema", schema)
        return self._client.publish(topic, content, 1, retain, properties).mid

    def turn(self, timeout_s: float) -> None:
        """Wait for the network or a wake-up, and let paho handle what came."""
        connection = cast(Any, self._client.socket())
        if connection is None:
            self.closed = True
            return
        writers = [connection] if self._client.want_write() else []
        pending = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        # Once a second at least: paho watches its keep-alive in loop_misc.
        limit_s = 0.0 if pending else min(max(timeout_s, 0.0), 1.0)
        try:
            readable, writable, _ = select.select(
                [connection, self._wake_up.reader], writers, [], limit_s
            )
        except (OSError, ValueError):  # the socket was closed under us
            self.closed = True
            return
        if self._wake_up.reader in readable:
            self._wake_up.clear()
        if connection in readable or pending:
            self._client.loop_read()
        if connection in writable or self._client.want_write():
            self._client.loop_write()
        self._client.loop_misc()

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

    def _new_client(self, broker: Broker, version: MQTTProtocolVersion) -> paho.Client:
        is_5 = version is MQTTProtocolVersion.MQTTv5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            # Our queue is the session; paho's own resend would mix with it.
            clean_session=None if is_5 else True,
            protocol=version,
            reconnect_on_failure=False,
        )
        client.on_connect = lambda _c, _u, _f, reason, _p: self._note_connack(reason)
        client.on_disconnect = lambda _c, _u, _f, reason, _p: self._note_end(reason)
        client.on_publish = lambda _c, _u, mid, reason, _p: self.acks.append((mid, reason))
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password())
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        return client

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
                "broker, and whether mqtt:// or mqtts:// is right.",
                unanswered=True,
            )
        if self._connack.is_failure:
            self.hang_up()
            raise ConnectionRefused(
                f"the broker at {address} refuses this station ({self._connack}). "
                "Check mqtt.username, mqtt.password_file and the broker's access rules.",
                version_refused=self._connack.getName() == "Unsupported protocol version",
            )

    def _note_connack(self, reason: ReasonCode) -> None:
        self._connack = reason

    def _note_end(self, reason: ReasonCode) -> None:
        if not self.closed:  # paho calls again for the socket after a DISCONNECT
            self.closed = True
            self.reason = reason


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, socket.gaierror):
        return f"the name is not known: {error.strerror}"
    return getattr(error, "strerror", None) or str(error)
