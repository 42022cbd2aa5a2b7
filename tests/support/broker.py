"""A real mosquitto, and a subscriber that outlives its restarts."""

import json
import random
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.payloads import check_payload

GENEROUS_S = 60.0
# Below those that the kernel gives to connections: none of them takes a port before its server.
PORTS = range(10_000, 32_000)

# Comes back to the subscriber behind whatever the broker had for it before.
FENCE = "test/fence"

Messages = list[dict[str, Any]]


class Broker:
    """One mosquitto on a free port of 127.0.0.1 with its files in ``folder``.

    What its subscriber sees is checked against the published schemas, when the broker is closed at
    the latest.
    """

    def __init__(
        self, folder: Path, access: str = "allow_anonymous true", tls: ssl.SSLContext | None = None
    ) -> None:
        """Prepare a broker; ``start`` runs it.

        Args:
            access: lines of the configuration, of the listener or general.
            tls: of the subscriber, where ``access`` asks for TLS.
        """
        self.port = free_port()
        self.url = f"{'mqtts' if tls else 'mqtt'}://127.0.0.1:{self.port}"
        self._tls = tls
        self._checked = 0
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._subscriber: paho.Client | None = None
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self._arrived = threading.Condition()
        self._subscribed = threading.Event()
        self._fenced = threading.Event()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n"
            f"{access}\n"
            "persistence true\n"
            # Not 0: mosquitto 2.0 then ends connections of which it denies a message.
            "max_queued_messages 200000\n"
            f"persistence_location {folder}/\n"
            "user root\n"
        )

    def start(self) -> None:
        path = self._folder / "mosquitto.log"
        with path.open("ab") as log:
            before = log.tell()
            self._process = subprocess.Popen(
                ["mosquitto", "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + GENEROUS_S
        # It listens before it catches signals, and would die of one of ours.
        while b" running\n" not in path.read_bytes()[before:]:
            assert self._process.poll() is None, path.read_text()
            assert time.monotonic() < deadline, "mosquitto did not start"
            time.sleep(0.02)

    def subscribe(self, username: str | None = None, password: str | None = None) -> None:
        """Record everything below ``vi/``, through restarts of the broker too; once a broker."""
        assert self._subscriber is None, "two of one name would take each other's messages"
        self._subscriber = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="test-subscriber", clean_session=False
        )
        self._subscriber.username_pw_set(username, password)
        if self._tls is not None:
            self._subscriber.tls_set_context(self._tls)
        self._subscriber.reconnect_delay_set(1, 1)
        self._subscriber.on_connect = lambda client, *_: client.subscribe([("vi/#", 1), (FENCE, 1)])
        self._subscriber.on_subscribe = lambda *_: self._subscribed.set()
        self._subscriber.on_message = self._record
        self._subscriber.connect("127.0.0.1", self.port)
        self._subscriber.loop_start()
        assert self._subscribed.wait(GENEROUS_S)

    def save(self) -> None:
        """Write sessions and subscriptions to disk, as a production broker does by itself."""
        assert self._process is not None
        database = self._folder / "mosquitto.db"
        database.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + GENEROUS_S
        while not database.exists():
            assert time.monotonic() < deadline, "mosquitto did not save"
            time.sleep(0.02)

    def reconfigure(self, line: str) -> None:
        """Change the line of the configuration that begins so, and start anew."""
        self.save()
        self.stop()
        key = line.split()[0]
        old = self._config.read_text().splitlines()
        kept = [line if one.split()[:1] == [key] else one for one in old]
        self._config.write_text("\n".join(kept) + "\n")
        self.start()

    def reload(self) -> None:
        """Let it read passwords and access rules again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def collect(self, suffix: str, until: Callable[[Messages], bool]) -> Messages:
        """Return the messages on topics that end so, once they satisfy ``until``.

        Many messages are looked at together: a look at each would cost its square.
        """
        deadline, known = time.monotonic() + GENEROUS_S, -1
        received: Messages = []
        while True:
            with self._arrived:
                while len(self._messages) == known and time.monotonic() < deadline:
                    self._arrived.wait(deadline - time.monotonic())
                received += self._received(suffix, known)
                known = len(self._messages)
            began_s = time.monotonic()
            if until(received):
                return received
            looked_s = time.monotonic()
            assert looked_s < deadline, f"only {len(received)} on {suffix}: {received[-3:]}"
            time.sleep(min(0.25, 3 * (looked_s - began_s)))

    def close(self) -> None:
        if self._subscriber is not None:
            self._subscriber.disconnect()
            self._subscriber.loop_stop()
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.check_payloads()

    def check_payloads(self) -> None:
        """Check what was received since the last time against the published schemas."""
        with self._arrived:
            new, self._checked = self._messages[self._checked :], len(self._messages)
        for topic, content in new:
            check_payload(topic, content)

    def forget(self) -> None:
        """Leave what was received so far unchecked: the test sent it, not a station."""
        with self._arrived:
            self._checked = len(self._messages)

    def catch_up(self) -> None:
        """Wait until the subscriber has what the broker has accepted so far from anybody."""
        assert self._subscriber is not None
        self._fenced.clear()
        self._subscriber.publish(FENCE, qos=1)
        assert self._fenced.wait(GENEROUS_S)

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """Return topic and content of everything received so far, in order."""
        with self._arrived:
            return list(self._messages)

    def _received(self, suffix: str, known: int) -> Messages:
        new = self._messages[max(0, known) :]
        return [content for topic, content in new if topic.endswith(suffix)]

    def _record(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if message.topic == FENCE:
            self._fenced.set()
            return
        try:
            content = json.loads(message.payload)
        except (ValueError, RecursionError):  # sent by a test on purpose
            return
        if not isinstance(content, dict):
            return
        of_test = {"_retained": message.retain, "_arrived_s": time.monotonic()}
        with self._arrived:
            self._messages.append((message.topic, {**content, **of_test}))
            self._arrived.notify_all()

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(GENEROUS_S)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody has, nor gets by chance."""
    chance = random.SystemRandom()  # the other one is seeded alike in every process of pytest
    while True:
        port = chance.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
