"""A Sparkplug host of another library (pysparkplug), and an edge node in its real threads."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pysparkplug
from paho.mqtt.enums import CallbackAPIVersion
from pysparkplug import _protobuf

from edge.contract.event import Event
from edge.contract.verdict import new_id
from edge.journal.entries import Entry, RecordKind
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.journal.writer import JournalWriter
from edge.mqtt.sparkplug.publisher import SparkplugPublisher
from edge.settings.mqtt import MqttSettings
from edge.settings.sparkplug import SparkplugSettings
from edge.station.threads import Failures, Worker
from tests.support.broker import GENEROUS_S, Broker
from tests.support.relaying import STATION, VERDICT


@dataclass(frozen=True)
class Heard:
    """A message as the host got it.

    Attributes:
        kind: such as ``DDATA``.
        payload: as pysparkplug decodes it, aliases and types resolved by the births.
        raw: the message without that.
    """

    kind: str
    topic: str
    payload: Any
    raw: Any
    qos: int
    retain: bool

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics by name."""
        return {metric.name: metric for metric in self.payload.metrics}

    @property
    def values(self) -> dict[str, Any]:
        return {name: metric.value for name, metric in self.metrics.items()}

    @property
    def bd_seq(self) -> int:
        (found,) = [metric for metric in self.raw.metrics if metric.name == "bdSeq"]
        return found.long_value

    @property
    def seq(self) -> int | None:
        return self.raw.seq if self.raw.HasField("seq") else None

    @property
    def historical(self) -> bool:
        return any(metric.is_historical for metric in self.raw.metrics)


class SparkplugHost:
    """Listens to a whole namespace, decodes each message, and may be a primary host."""

    def __init__(
        self,
        broker: Broker,
        host_id: str = "scada",
        *,
        keeps_session: bool = False,
        login: tuple[str, str] | None = None,
    ) -> None:
        """Connect to a broker, and listen.

        Args:
            keeps_session: the broker keeps messages for it while it is away.
            login: user name and password.
        """
        self._messages: list[Heard] = []
        self._faults: list[BaseException] = []
        self._births: dict[tuple[str, str | None], Any] = {}
        self._arrived = threading.Condition()
        self._subscribed = threading.Event()
        self._state = f"spBv1.0/STATE/{host_id}"
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"host-{host_id}",
            clean_session=not keeps_session,
        )
        if login is not None:
            self._client.username_pw_set(*login)
        self._client.on_connect = lambda client, *_: client.subscribe("spBv1.0/#", 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._record
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._subscribed.wait(GENEROUS_S)

    def come_online(self, online: bool = True, at_ms: int | None = None) -> None:
        """Publish the state of a primary host."""
        at_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
        state = pysparkplug.State(timestamp=at_ms, online=online)
        sent = self._client.publish(self._state, state.encode(), qos=1, retain=True)
        sent.wait_for_publish(GENEROUS_S)

    def ask_for_rebirth(self, group: str, node: str) -> None:
        """Send NCMD with ``Node Control/Rebirth``."""
        metric = pysparkplug.Metric(
            timestamp=time.time_ns() // 1_000_000,
            name="Node Control/Rebirth",
            datatype=pysparkplug.DataType.BOOLEAN,
            value=True,
        )
        command = pysparkplug.NCmd(timestamp=time.time_ns() // 1_000_000, metrics=(metric,))
        self.send(f"spBv1.0/{group}/NCMD/{node}", command.encode(include_dtypes=True))

    def send(self, topic: str, content: bytes, retain: bool = False) -> None:
        self._client.publish(topic, content, 1, retain).wait_for_publish(GENEROUS_S)

    def heard(self, kind: str | None = None) -> list[Heard]:
        """Return what came so far, of a kind or of all but what hosts say."""
        with self._arrived:
            assert not self._faults, self._faults
            return [one for one in self._messages if kind in (None, one.kind)]

    def wait_for(self, kind: str, count: int = 1) -> list[Heard]:
        """Return the messages of a kind, once there are so many."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self._of(kind)) >= count, GENEROUS_S)
            assert not self._faults, self._faults
            found = self._of(kind)
            kinds = [one.kind for one in self._messages]
        assert len(found) >= count, kinds[-20:]
        return found

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        assert not self._faults, self._faults

    def _of(self, kind: str) -> list[Heard]:
        return [one for one in self._messages if one.kind == kind]

    def _record(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        try:
            heard = self._decoded(message)
        except BaseException as error:
            heard = None
            error.add_note(f"{message.topic}: {bytes(message.payload)!r}")
            with self._arrived:
                self._faults.append(error)
                self._arrived.notify_all()
        if heard is not None:
            with self._arrived:
                self._messages.append(heard)
                self._arrived.notify_all()

    def _decoded(self, message: paho.MQTTMessage) -> Heard | None:
        topic = pysparkplug.Topic.from_str(message.topic)
        assert isinstance(topic.message_type, pysparkplug.MessageType)
        kind = str(topic.message_type.value)
        if kind in ("STATE", "NCMD", "DCMD"):
            return None
        key = (str(topic.edge_node_id), topic.device_id)
        payload = topic.message_type.payload.decode(  # type: ignore[attr-defined]
            message.payload, birth=self._births.get(key)
        )
        if kind in ("NBIRTH", "DBIRTH"):
            self._births[key] = payload
        raw = _protobuf.Payload.FromString(message.payload)
        return Heard(kind, message.topic, payload, raw, message.qos, bool(message.retain))


class Node:
    """A journal with its writer, and the edge node that publishes it."""

    def __init__(self, folder: Path, url: str, mqtt: dict[str, Any], **sparkplug: Any) -> None:
        self.failures = Failures()
        self.events: list[Event] = []
        folder.mkdir(exist_ok=True)
        journal = open_journal(folder)
        self.writer = JournalWriter(journal=journal, on_commit=lambda: self.node.wake())
        settings = SparkplugSettings(**{"group": "plant1", "node": "washer", **sparkplug})
        self.node = SparkplugPublisher(
            settings=MqttSettings(url=url, station=STATION, sparkplug=settings, **mqtt),
            sparkplug=settings,
            journal=journal.journal,
            folder=folder,
            outbox=Outbox(journal.path),
            on_event=self.events.append,
            back_off_s=(0.05, 0.2),
        )
        self._threads = [
            Worker("journal", self.writer.run, self.failures),
            Worker("sparkplug", self.node.run, self.failures),
        ]
        for thread in self._threads:
            thread.start()

    def decide(self, parts: int, **fields: Any) -> None:
        """Record so many verdicts."""
        for _ in range(parts):
            content = {**VERDICT, "id": new_id(time.time_ns()), **fields}
            self.writer.submit(Entry(RecordKind.VERDICT, content, "OK"))
        assert self.writer.flush(GENEROUS_S)

    def published(self) -> None:
        """Wait until the broker has read every verdict."""
        deadline = time.monotonic() + GENEROUS_S
        while self.node.wait_until_published(1.0, self.failures.any):
            assert time.monotonic() < deadline, self.node.status()

    def close(self) -> None:
        self.node.stop()
        assert self._threads[1].join(GENEROUS_S)
        self.writer.close()
        assert self._threads[0].join(GENEROUS_S)
        self.failures.raise_first()


Nodes = Callable[..., Node]


@contextmanager
def edge_nodes(folder: Path) -> Iterator[Nodes]:
    """Start edge nodes below a folder; end them all, and fail if a thread of one died."""
    started: list[Node] = []

    def begin(url: str, mqtt: dict[str, Any] | None = None, **sparkplug: Any) -> Node:
        node = Node(folder, url, mqtt or {}, **sparkplug)
        started.append(node)
        return node

    yield begin
    for node in started:
        node.close()
