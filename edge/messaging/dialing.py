"""Connecting to the broker again and again: which version, after which pause, told how often."""

import logging
from collections.abc import Callable
from uuid import uuid4

from paho.mqtt.enums import MQTTProtocolVersion

from edge.messaging.connection import Broker, Connection, ConnectionRefused, WakeUp
from edge.messaging.state import will_payload
from edge.messaging.text import to_json
from edge.messaging.topics import StationTopic

log = logging.getLogger(__name__)

# A connection that lasted so long starts the back-off over.
STABLE_S = 10.0
# So many shorter ones in a row are told: a fight over the name, with brokers that do not say so.
MOST_SHORT_CONNECTIONS = 3


class Dialer:
    """Makes one connection after another; MQTT 5 first, 3.1.1 where it is not spoken.

    Attributes:
        session: of the newest attempt; will and birth of a connection carry it.
    """

    def __init__(
        self,
        broker: Broker,
        topic: StationTopic,
        url: str,
        wake_up: WakeUp,
        stopping: Callable[[], bool],
    ) -> None:
        """Args:
        url: of the broker, for people.
        wake_up: ends a connection's wait for the network.
        stopping: ends the wait for an answer.
        """
        self.session = ""
        self._broker = broker
        self._topic = topic
        self._url = url
        self._wake_up = wake_up
        self._stopping = stopping
        self._version = MQTTProtocolVersion.MQTTv5
        self._complaint = ""

    def connect(self) -> Connection | None:
        """Return a connection with a session of its own; None when there is none to be had."""
        for version in dict.fromkeys((self._version, MQTTProtocolVersion.MQTTv311)):
            self.session = str(uuid4())
            try:
                connection = Connection(
                    self._broker,
                    version,
                    self._topic.state,
                    to_json(will_payload(self.session)),
                    self._wake_up,
                    self._stopping,
                    self._topic.subscriptions,
                )
            except ConnectionRefused as error:
                may_fall_back = version is MQTTProtocolVersion.MQTTv5
                if may_fall_back and error.version_refused:
                    log.info("%s does not speak MQTT 5; using 3.1.1", self._url)
                    self._version = MQTTProtocolVersion.MQTTv311
                elif not (may_fall_back and error.unanswered) or self._stopping():
                    self.complain(f"{error} Inspection goes on, verdicts wait; trying again.")
                    return None
            else:
                name = "5" if version is MQTTProtocolVersion.MQTTv5 else "3.1.1"
                log.info("connected to %s with MQTT %s", self._url, name)
                self._complaint = ""
                return connection
        return None

    def complain(self, message: str) -> None:
        """Log a fault once, not at every attempt."""
        if message != self._complaint:
            self._complaint = message
            log.warning("%s", message)


class Patience:
    """How long to wait before the next attempt: doubling, ±50 %, back to the start when it holds.

    The spread keeps the stations of a plant from coming back all at once.
    """

    def __init__(self, back_off_s: tuple[float, float], jitter: Callable[[], float]) -> None:
        """Args:
        back_off_s: shortest and longest delay.
        jitter: in [0, 1).
        """
        self._shortest_s, self._longest_s = back_off_s
        self._jitter = jitter
        self._delay_s = self._shortest_s
        self._short = 0

    def delay_s(self) -> float:
        """Return the delay before the next attempt."""
        delay_s = self._delay_s * (0.5 + self._jitter())
        self._delay_s = min(self._delay_s * 2, self._longest_s)
        return delay_s

    def ended(self, lasted_s: float, taken_over: bool) -> bool:
        """Note how long a connection lasted; tell, once, that they end too soon.

        Args:
            taken_over: by a client of the same name, with which nobody shall fight.
        """
        if lasted_s > STABLE_S:
            self._delay_s = self._shortest_s
            self._short = 0
        else:
            self._short += 1
        if taken_over:
            self._delay_s = self._longest_s
        return self._short == MOST_SHORT_CONNECTIONS
