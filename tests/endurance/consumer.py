"""A consumer of verdicts that remembers numbers and sums, not messages: it may listen for days."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge.listen.sequence_ranges import SequenceRanges, Stretch

# Filled in at sending.
_OF_CONNECTION = ("session", "replayed")


@dataclass
class Received:
    """What came of one station.

    Attributes:
        contents: checksum of each verdict by journal and number.
        numbers: by journal.
        latencies_ms: time of arrival here, and ``duration_ms.total``.
    """

    contents: dict[tuple[str, int], int] = field(default_factory=dict)
    numbers: dict[str, SequenceRanges] = field(default_factory=dict)
    results: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[tuple[float, float]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    newest_s: float = 0.0
    repeated: int = 0


class Consumer:
    """Subscribes to everything below ``vi/``, through restarts of the broker.

    Attributes:
        violations: promises that were seen broken.
    """

    def __init__(self, port: int) -> None:
        self.stations: dict[str, Received] = {}
        self.violations: list[str] = []
        self.lock = threading.Lock()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="endurance", clean_session=False
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("vi/#", 1)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, topic: str, content: dict[str, Any]) -> None:
        self._client.publish(topic, json.dumps(content), qos=1)

    def of(self, station: str) -> Received:
        with self.lock:
            return self.stations.setdefault(station, Received())

    def missing(self, station: str, journal: str, last: int) -> list[Stretch]:
        """Return the numbers up to ``last`` that did not come."""
        with self.lock:
            numbers = self.stations[station].numbers.get(journal, _none_yet())
            return numbers.gaps(last)

    def all_arrived(self, station: str, journal: str, last: int) -> bool:
        return not self.missing(station, journal, last)

    def wait(self, reached: Callable[[], bool], limit_s: float) -> bool:
        """Wait for something that messages bring; tell whether it came."""
        deadline = time.monotonic() + limit_s
        while not reached():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        station, _, kind = message.topic.removeprefix("vi/v1/").rpartition("/")
        try:
            content = json.loads(message.payload)
        except ValueError:
            return
        with self.lock:
            received = self.stations.setdefault(station, Received())
            if kind == "verdict":
                self._verdict(station, received, content)
            elif kind == "event":
                received.events[content["kind"]] += 1
            elif kind == "state":
                received.state = content

    def _verdict(self, station: str, received: Received, content: dict[str, Any]) -> None:
        key = content["journal"], content["seq"]
        kept = {name: value for name, value in content.items() if name not in _OF_CONNECTION}
        checksum = crc32(json.dumps(kept, sort_keys=True).encode())
        if key in received.contents:
            received.repeated += 1
            if received.contents[key] != checksum:
                self.violations.append(f"{station}: verdict {key} came with two contents")
            return
        received.contents[key] = checksum
        received.numbers.setdefault(key[0], _none_yet()).add(key[1])
        received.results[content["reason"] or content["result"]] += 1
        trigger = content.get("trigger_id")
        if trigger:
            received.parts[trigger] += 1
            if received.parts[trigger] > 1:
                self.violations.append(f"{station}: trigger {trigger} has two verdicts")
        received.newest_s = time.monotonic()
        total_ms = content["duration_ms"]["total"]
        if content["result"] != "ERROR" and total_ms is not None:
            received.latencies_ms.append((received.newest_s, total_ms))


def _none_yet() -> SequenceRanges:
    return SequenceRanges([Stretch(0, 0)])
