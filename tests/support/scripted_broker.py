"""A server that speaks MQTT 5 and 3.1.1 byte by byte and answers as a test tells it to."""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Self

from tests.support.broker import GENEROUS_S

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 12, 14


@dataclass(frozen=True)
class Connect:
    """A CONNECT as it came; ``will_qos`` and ``will_retain`` None without a will."""

    level: int
    client_id: str
    clean: bool
    keep_alive_s: int
    will_topic: str | None
    will_qos: int | None
    will_retain: bool | None
    username: str | None
    size: int


@dataclass(frozen=True)
class Published:
    """A PUBLISH as it came; ``size`` is that of the whole packet."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    size: int

    @property
    def kind(self) -> str:
        return self.topic.rpartition("/")[2]

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.payload)
        return content


def properties(**values: int) -> bytes:
    """Encode properties of a CONNACK."""
    ids = {
        "receive_maximum": (33, "!H"),
        "maximum_qos": (36, "!B"),
        "retain_available": (37, "!B"),
        "maximum_packet_size": (39, "!I"),
        "wildcards_available": (40, "!B"),
    }
    encoded = b"".join(
        bytes([ids[name][0]]) + struct.pack(ids[name][1], value) for name, value in values.items()
    )
    return bytes([len(encoded)]) + encoded


@dataclass
class ScriptedBroker:
    """Accepts one connection after another on 127.0.0.1, in a thread.

    What a script returns is sent: a reason code in the packet that belongs there, bytes as they
    are (a whole packet, after which the connection ends), None nothing at all.

    Attributes:
        on_connect: gives the code of the CONNACK, in the numbers of the client's version.
        on_publish: gives the code of the PUBACK; of a message at QoS 0 it only looks.
        on_subscribe: gives the code for a pattern.
        announced: properties of the CONNACK.
        echo: sends what was accepted back to who subscribed to its topic.
    """

    on_connect: Callable[[Connect], int | bytes | None] = lambda _: 0
    on_publish: Callable[[Published], int | bytes | None] = lambda _: 0
    on_subscribe: Callable[[str], int | bytes | None] = lambda _: 1
    announced: bytes = b"\0"
    echo: bool = False
    tls: ssl.SSLContext | None = None
    connects: list[Connect] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    accepted: list[Published] = field(default_factory=list)
    subscribed: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.url = f"mqtt{'s' if self.tls else ''}://127.0.0.1:{self.port}"
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._server.close()
        assert not self.failures, self.failures

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until what was received satisfies the condition."""
        with self._changed:
            assert self._changed.wait_for(condition, GENEROUS_S), self.kinds()

    def kinds(self) -> list[str]:
        return [message.kind for message in self.published]

    def seqs(self, kind: str = "verdict") -> list[int]:
        """Return the numbers of the accepted records of a kind, at their first acceptance."""
        found = [one.content["seq"] for one in self.accepted if one.kind == kind]
        return list(dict.fromkeys(found))

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(client,), daemon=True).start()

    def _attend(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            opened = self.tls.wrap_socket(client, server_side=True) if self.tls else client
            with opened, opened.makefile("rb") as stream:
                try:
                    _Talk(self, opened, stream).go_on()
                except (AssertionError, LookupError, ValueError, struct.error) as error:
                    self.failures.append(error)
                # Closing with something unread would take back what was sent.
                opened.shutdown(socket.SHUT_WR)
                while stream.read(4096):
                    pass

    def record(self, into: list[Any], what: Any) -> None:
        with self._changed:
            into.append(what)
            self._changed.notify_all()


class _Talk:
    """One connection."""

    def __init__(self, broker: ScriptedBroker, client: socket.socket, stream: BinaryIO) -> None:
        self._broker = broker
        self._client = client
        self._stream = stream
        self._is_5 = True
        self._subscribed: set[str] = set()
        self._ended = False

    def go_on(self) -> None:
        while not self._ended and (header := self._stream.read(1)):
            length, digits = self._remaining()
            body = self._stream.read(length)
            if len(body) < length:
                return
            size = 1 + digits + length
            kind = header[0] >> 4
            if kind == CONNECT and body[2:6] != b"MQTT":
                return
            if kind == CONNECT:
                self._connect(body, size)
            elif kind == PUBLISH:
                self._publish(header[0], body, size)
            elif kind == SUBSCRIBE:
                self._subscribe(body)
            elif kind == PINGREQ:
                self._client.sendall(b"\xd0\x00")
            elif kind == DISCONNECT:
                return

    def _connect(self, body: bytes, size: int) -> None:
        one = read_connect(body, size)
        self._is_5 = one.level == 5
        self._broker.record(self._broker.connects, one)
        code = self._broker.on_connect(one)
        if isinstance(code, int):
            announced = self._broker.announced if self._is_5 and not code else b"\0" * self._is_5
            self._send(0x20, b"\0" + bytes([code]) + announced)
            self._ended = code != 0
        else:
            self._answer_raw(code)

    def _publish(self, flags: int, body: bytes, size: int) -> None:
        topic, at = _text(body, 0)
        qos = flags >> 1 & 3
        mid = body[at : at + 2] if qos else b""
        at += len(mid)
        if self._is_5:
            at = _after_properties(body, at)
        one = Published(topic, body[at:], qos, bool(flags & 1), size)
        code = self._broker.on_publish(one)
        if code == 0:
            self._broker.record(self._broker.accepted, one)
        self._broker.record(self._broker.published, one)
        if not isinstance(code, int):
            self._answer_raw(code)
            return
        if qos:
            self._send(0x40, mid + (bytes([code, 0]) if code and self._is_5 else b""))
        if code == 0 and self._broker.echo and topic in self._subscribed:
            name = topic.encode()
            self._send(0x30, struct.pack("!H", len(name)) + name + b"\0" * self._is_5 + one.payload)

    def _subscribe(self, body: bytes) -> None:
        mid, at = body[:2], 2
        if self._is_5:
            at = _after_properties(body, at)
        codes = b""
        while at < len(body):
            topic, at = _text(body, at)
            at += 1
            code = self._broker.on_subscribe(topic)
            self._broker.record(self._broker.subscribed, topic)
            if not isinstance(code, int):
                self._answer_raw(code)
                return
            if code < 0x80:
                self._subscribed.add(topic)
            codes += bytes([code])
        self._send(0x90, mid + b"\0" * self._is_5 + codes)

    def _answer_raw(self, packet: bytes | None) -> None:
        if packet is not None:
            self._client.sendall(packet)
            self._ended = True

    def _send(self, header: int, body: bytes) -> None:
        digits, left = b"", len(body)
        while True:
            digits += bytes([left % 128 | (0x80 if left >= 128 else 0)])
            left //= 128
            if not left:
                break
        self._client.sendall(bytes([header]) + digits + body)

    def _remaining(self) -> tuple[int, int]:
        total, digits = 0, 0
        while True:
            (byte,) = self._stream.read(1)
            total |= (byte & 127) << 7 * digits
            digits += 1
            if byte < 128:
                return total, digits


def read_connect(body: bytes, size: int) -> Connect:
    _, at = _text(body, 0)
    level, flags = body[at], body[at + 1]
    (keep_alive_s,) = struct.unpack_from("!H", body, at + 2)
    at += 4
    if level == 5:
        at = _after_properties(body, at)
    client_id, at = _text(body, at)
    will_topic = username = None
    if flags & 0x04:
        if level == 5:
            at = _after_properties(body, at)
        will_topic, at = _text(body, at)
        (length,) = struct.unpack_from("!H", body, at)
        at += 2 + length
    if flags & 0x80:
        username, at = _text(body, at)
    return Connect(
        level,
        client_id,
        bool(flags & 0x02),
        keep_alive_s,
        will_topic,
        flags >> 3 & 3 if will_topic else None,
        bool(flags & 0x20) if will_topic else None,
        username,
        size,
    )


def _text(body: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("!H", body, at)
    end = at + 2 + length
    return body[at + 2 : end].decode(), end


def _after_properties(body: bytes, at: int) -> int:
    length, shift = 0, 0
    while True:
        byte = body[at]
        at += 1
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return at + length


def disconnect(code: int) -> bytes:
    """Return the DISCONNECT of MQTT 5 with this code."""
    return bytes([0xE0, 1, code])


def soon(condition: Callable[[], bool]) -> None:
    """Poll what has no way to tell."""
    deadline = time.monotonic() + GENEROUS_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
