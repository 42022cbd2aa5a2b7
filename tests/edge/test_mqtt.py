"""The MQTT publisher against a real mosquitto."""

import logging
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge.config import MqttSettings
from edge.messaging.mqtt import MqttPublisher
from edge.messaging.state import Condition, State
from edge.station.worker import Failures, Worker
from tests.edge.broker import GENEROUS_S, Broker, Messages, free_port

Publishing = Callable[..., MqttPublisher]


@pytest.fixture
def publishing() -> Iterator[Publishing]:
    """Start publishers with short pauses; end them all, and fail if one died."""
    started: list[tuple[MqttPublisher, Worker]] = []
    failures = Failures()

    def start(
        url: str, password: str | None = None, interval_s: float = 30.0, **settings: Any
    ) -> MqttPublisher:
        publisher = MqttPublisher(
            MqttSettings(url=url, station="site/line/cell/top", **settings),
            State(Condition.STARTING, "2026-01-01T00:00:00.000000Z", model="part"),
            password,
            back_off_s=(0.05, 0.2),
            state_interval_s=interval_s,
        )
        worker = Worker("mqtt", publisher.run, failures)
        worker.start()
        started.append((publisher, worker))
        return publisher

    yield start
    for publisher, worker in started:
        publisher.stop()
        assert worker.join(GENEROUS_S)
    failures.raise_first()


class Told(logging.Handler):
    """What the runtime logged, for tests that wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[str] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self._messages.append(record.getMessage())
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        with self._changed:
            told = self._changed.wait_for(
                lambda: any(text in message for message in self._messages), GENEROUS_S
            )
        assert told, self._messages


@pytest.fixture
def told() -> Iterator[Told]:
    handler = Told()
    logging.getLogger("edge").addHandler(handler)
    yield handler
    logging.getLogger("edge").removeHandler(handler)


def publish(publisher: MqttPublisher, first: int, last: int) -> None:
    for number in range(first, last + 1):
        publisher.publish({"schema": "verdict/1", "number": number, "replayed": False})


def numbers(messages: Messages) -> list[int]:
    return list(dict.fromkeys(message["number"] for message in messages))


def has_all(count: int) -> Callable[[Messages], bool]:
    return lambda messages: len(numbers(messages)) == count


def has_state(*wanted: str) -> Callable[[Messages], bool]:
    return lambda messages: [m["state"] for m in messages][-len(wanted) :] == list(wanted)


def test_verdicts_arrive_in_order_and_are_acknowledged(
    running_broker: Broker, publishing: Publishing
) -> None:
    publisher = publishing(running_broker.url)
    publish(publisher, 1, 200)

    received = running_broker.collect("/verdict", has_all(200))

    assert [message["number"] for message in received] == list(range(1, 201))
    assert not any(message["_retained"] or message["replayed"] for message in received)
    delivery = publisher.wait_until_delivered(GENEROUS_S)
    assert (delivery.acknowledged, delivery.missing) == (200, 0)


def test_the_state_comes_before_the_verdicts_and_ends_with_stopped(
    running_broker: Broker, publishing: Publishing
) -> None:
    publisher = publishing(running_broker.url)
    running_broker.collect("/state", has_state("starting"))
    publisher.set_state(Condition.ONLINE)
    publish(publisher, 1, 1)
    (verdict,) = running_broker.collect("/verdict", has_all(1))
    publisher.stop("operator")

    states = running_broker.collect("/state", has_state("starting", "online", "stopped"))

    assert {state["session"] for state in states} == {verdict["session"]}
    assert states[-1]["reasons"] == ["operator"]


def test_the_last_state_is_retained(running_broker: Broker, publishing: Publishing) -> None:
    publishing(running_broker.url).set_state(Condition.ONLINE)
    running_broker.collect("/state", has_state("online"))

    latest = subprocess.run(
        ["mosquitto_sub", "-p", str(running_broker.port), "-t", "vi/#", "-C", "1", "-W", "30"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert '"state":"online"' in latest.stdout


def test_the_state_is_said_again_from_time_to_time(
    running_broker: Broker, publishing: Publishing
) -> None:
    publishing(running_broker.url, interval_s=0.1)

    running_broker.collect("/state", has_state("starting", "starting", "starting"))


def test_the_line_does_not_wait_for_a_broker_that_comes_late(
    broker: Broker, publishing: Publishing
) -> None:
    publisher = publishing(broker.url)
    publish(publisher, 1, 50)
    assert publisher.delivery().waiting == 50

    broker.start()
    broker.subscribe()
    publish(publisher, 51, 60)

    # What was published before the subscriber came is gone for it, but the broker had it.
    assert publisher.wait_until_delivered(GENEROUS_S).acknowledged == 60


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_verdicts_survive_a_broker_restart_in_order(
    running_broker: Broker, publishing: Publishing, how: str
) -> None:
    publisher = publishing(running_broker.url)
    publisher.set_state(Condition.ONLINE)
    publish(publisher, 1, 20)
    running_broker.collect("/verdict", has_all(20))
    assert publisher.wait_until_delivered(GENEROUS_S).missing == 0
    running_broker.save()

    getattr(running_broker, how)()
    publish(publisher, 21, 60)
    running_broker.start()

    received = running_broker.collect("/verdict", has_all(60))
    assert numbers(received) == list(range(1, 61))
    sessions = [m["session"] for m in running_broker.collect("/state", has_state("online"))]
    assert received[-1]["session"] == sessions[-1] != sessions[0]
    assert publisher.wait_until_delivered(GENEROUS_S).missing == 0


def test_a_full_queue_drops_the_newest_counts_and_says_degraded(
    broker: Broker, publishing: Publishing
) -> None:
    publisher = publishing(broker.url, queue_bound=10)
    publish(publisher, 1, 25)
    assert publisher.delivery().dropped == 15

    broker.start()
    broker.subscribe()

    states = broker.collect("/state", has_state("degraded"))
    assert states[-1]["reasons"] == ["verdicts_dropped"]
    assert publisher.wait_until_delivered(GENEROUS_S).acknowledged == 10


@pytest.fixture
def refusing_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that wants the password ``geheim`` and takes no verdicts of ``reader``."""
    folder = tmp_path / "refusing"
    folder.mkdir()
    passwords, access = folder / "passwords", folder / "access"
    passwords.touch(mode=0o600)
    for user in ("edge", "reader", "observer"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "geheim"], check=True)
    access.write_text(
        "user edge\ntopic readwrite vi/#\nuser observer\ntopic read vi/#\n"
        "user reader\ntopic readwrite vi/v1/site/line/cell/top/state\n"
    )
    one = Broker(folder, f"password_file {passwords}\nacl_file {access}\nallow_anonymous false")
    one.start()
    one.subscribe("observer", "geheim")
    yield one
    one.close()


@pytest.mark.parametrize("password", [None, "falsch-falsch"])
def test_a_refused_connection_is_told_once_and_is_no_connection(
    refusing_broker: Broker,
    publishing: Publishing,
    caplog: pytest.LogCaptureFixture,
    password: str | None,
) -> None:
    caplog.set_level(logging.DEBUG)
    publisher = publishing(refusing_broker.url, password, username="edge")
    publish(publisher, 1, 3)
    delivery = publisher.wait_until_delivered(1.0)

    assert (delivery.acknowledged, delivery.waiting) == (0, 3)
    told = [record.getMessage() for record in caplog.records]
    assert sum("refuses this station" in message for message in told) == 1
    assert not any("connected to" in message for message in told)
    assert "falsch-falsch" not in caplog.text


def test_the_right_password_is_accepted(refusing_broker: Broker, publishing: Publishing) -> None:
    publish(publishing(refusing_broker.url, "geheim", username="edge"), 1, 3)

    refusing_broker.collect("/verdict", has_all(3))


def test_a_verdict_that_the_broker_does_not_take_is_counted(
    refusing_broker: Broker, publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = publishing(refusing_broker.url, "geheim", username="reader")
    publish(publisher, 1, 3)

    delivery = publisher.wait_until_delivered(GENEROUS_S)

    assert (delivery.acknowledged, delivery.refused) == (0, 3)
    assert caplog.text.count("does not take verdicts") == 1


def test_a_broker_that_speaks_only_3_1_1_gets_it(
    running_broker: Broker, publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with OldBroker(running_broker.port) as old:
        publisher = publishing(f"mqtt://127.0.0.1:{old.port}")
        publish(publisher, 1, 3)
        running_broker.collect("/verdict", has_all(3))
        assert publisher.wait_until_delivered(GENEROUS_S).missing == 0
        publisher.stop()
        running_broker.collect("/state", has_state("stopped"))

    assert "with MQTT 3.1.1" in caplog.text


def test_a_server_that_never_answers_holds_nobody_up(publishing: Publishing) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publisher = publishing(f"mqtt://127.0.0.1:{silent.getsockname()[1]}")
        publish(publisher, 1, 1000)

        assert publisher.delivery().waiting == 1000
        publisher.stop()  # the fixture asserts that the thread ends


def test_a_closed_port_is_told_with_cause_and_next_step(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = publishing(f"mqtt://127.0.0.1:{free_port()}")
    publish(publisher, 1, 1)
    publisher.wait_until_delivered(0.5)

    assert caplog.text.count("cannot be reached (Connection refused)") == 1


def test_a_second_station_of_the_same_name_is_told(publishing: Publishing, told: Told) -> None:
    with socket.create_server(("127.0.0.1", 0)) as modern:
        publishing(f"mqtt://127.0.0.1:{modern.getsockname()[1]}")
        connection, _ = modern.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK: welcome
            connection.recv(4096)
            connection.sendall(b"\xe0\x01\x8e")  # DISCONNECT: session taken over

            told.wait_for("Two stations have the same name")


class OldBroker:
    """A door to a broker that refuses MQTT 5 as a broker of 2014 does."""

    def __init__(self, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._target = port

    def __enter__(self) -> "OldBroker":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            connect = client.recv(4096)
            level = connect[connect.index(b"MQTT") + 4]
            if level == 5:
                client.sendall(b"\x20\x02\x00\x01")  # CONNACK: unacceptable protocol version
                client.close()
                continue
            broker = socket.create_connection(("127.0.0.1", self._target))
            broker.sendall(connect)
            for source, sink in ((client, broker), (broker, client)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):  # the other side has ended
        while content := source.recv(4096):
            sink.sendall(content)
    sink.close()
