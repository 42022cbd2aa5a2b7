"""Connecting to the broker again and again: which version, after which pause, told how often."""

import logging
from collections.abc import Callable
from uuid import uuid4

from paho.mqtt.enums import MQTTProtocolVersion

from edge.contract.encoding import to_json
from edge.contract.state import will_payload
from edge.contract.topics import StationTopic
from edge.errors import ConfigurationError
from edge.mqtt.broker_limits import LearnedLimits
from edge.mqtt.broker_reason_codes import (
    QOS_NOT_SUPPORTED,
    RETAIN_NOT_SUPPORTED,
    SESSION_TAKEN_OVER,
)
from edge.mqtt.command_gate import COMMAND_NAMES
from edge.mqtt.connection import Broker, Connection, ConnectionRefused, Subscriptions, WakeUp, Will

log = logging.getLogger(__name__)

# Shortest and longest pause of a station before it tries again.
BACK_OFF_S = (1.0, 60.0)
# A connection that lasted so long starts the back-off over.
STABLE_S = 10.0
# So many shorter ones in a row are told: a fight over the name, with brokers that do not say so.
MAX_SHORT_CONNECTIONS = 3


class Connector:
    """Makes one connection after another; MQTT 5 first, 3.1.1 where it is not spoken.

    Attributes:
        session: of the newest attempt; will and birth of a connection carry it.
        learned: what the broker turned out to take.
        careful: the next connection sends one message at a time.
    """

    def __init__(
        self,
        *,
        broker: Callable[[], Broker],
        will: Callable[[str], Will | None],
        subscriptions: Subscriptions,
        url: str,
        wake_up: WakeUp,
        stopping: Callable[[], bool],
        learned: LearnedLimits | None = None,
    ) -> None:
        """Prepare attempts; ``connect`` makes the first.

        Args:
            broker: reads password and certificates anew; is called for each attempt.
            will: makes the will of an attempt, with its session; None for a connection without.
            url: of the broker, for people.
            wake_up: ends a connection's wait for the network.
            stopping: ends the wait for an answer.
            learned: what the first attempt begins with.
        """
        self.session = ""
        self.learned = LearnedLimits() if learned is None else learned
        self.careful = False
        self._broker = broker
        self._will = will
        self._subscriptions = subscriptions
        self._url = url
        self._wake_up = wake_up
        self._stopping = stopping
        self._version = MQTTProtocolVersion.MQTTv5
        self._complaint = ""
        self._logged: set[str] = set()

    def connect(self) -> Connection | None:
        """Return a connection with a session of its own; None when there is none to be had."""
        try:
            connection = self.reach()
        except (ConnectionRefused, ConfigurationError) as error:
            self.complain(f"{error} Inspection continues, verdicts wait; trying again.")
            return None
        log.info("connected to %s with MQTT %s", self._url, connection.version)
        self._complaint = ""
        return connection

    def reach(self) -> Connection:
        """Connect with as much as the broker takes: version, will, quality of service.

        Raises:
            ConnectionRefused: not reachable, no answer, or refused.
            ConfigurationError: password or certificates cannot be read.
        """
        while True:
            try:
                return self._connect()
            except ConnectionRefused as error:
                if self._stopping() or not self._fall_back(error):
                    raise

    def _connect(self) -> Connection:
        self.session = str(uuid4())
        try:
            return self._attempt(self._version)
        except ConnectionRefused as error:
            # An old broker may hang up without a word, and a new one that is in trouble too.
            if not error.unanswered or self._version is MQTTProtocolVersion.MQTTv311:
                raise
            if self._stopping():
                raise
        self.session = str(uuid4())
        return self._attempt(MQTTProtocolVersion.MQTTv311)

    def _attempt(self, version: MQTTProtocolVersion) -> Connection:
        return Connection(
            broker=self._broker(),
            version=version,
            will=self._will(self.session),
            wake_up=self._wake_up,
            stopping=self._stopping,
            subscriptions=self._subscriptions,
            learned=self.learned,
            careful=self.careful,
        )

    def _fall_back(self, error: ConnectionRefused) -> bool:
        """Give in to what the broker does not take; False where that is nothing of ours."""
        learned = self.learned
        if error.version_refused and self._version is MQTTProtocolVersion.MQTTv5:
            log.info("%s does not speak MQTT 5; using 3.1.1", self._url)
            self._version = MQTTProtocolVersion.MQTTv311
        elif error.code == RETAIN_NOT_SUPPORTED and learned.will_retain:
            learned.will_retain = False
        elif error.code == QOS_NOT_SUPPORTED and learned.will_qos:
            learned.will_qos = 0
        else:
            return False
        return True

    def log_once(self, message: str) -> None:
        """Log what this broker lacks once in the life of the process."""
        if message not in self._logged:
            self._logged.add(message)
            log.warning("%s: %s", self._url, message)

    def complain(self, message: str) -> None:
        """Log a fault once, not at every attempt."""
        if message != self._complaint:
            self._complaint = message
            log.warning("%s", message)


def station_will(topic: StationTopic, session: str) -> Will:
    """Return what the broker publishes when a station's connection ends without a word."""
    return Will(topic.state, to_json(will_payload(session)))


def taken_over(connection: Connection) -> bool:
    """Tell whether a client of the same name ended this connection."""
    return connection.reason is not None and connection.reason.value == SESSION_TAKEN_OVER


def station_subscriptions(topic: StationTopic, *, fleet: bool = False) -> Subscriptions:
    """Return what a station listens to: its own topics alone, and not its own answers.

    With MQTT 3.1.1 also its own verdicts: what comes back was delivered.

    Args:
        fleet: also what it is to have in force; brokers' rules from before it do not let it.
    """
    desired = (topic.fleet_desired,) if fleet else ()
    named = (topic.trigger, topic.ack, *(topic.command(name) for name in COMMAND_NAMES), *desired)
    patterns = (topic.trigger, topic.ack, topic.command("+"), *desired)
    return Subscriptions(patterns=patterns, named=named, echo=topic.verdict)


class Backoff:
    """How long to wait before the next attempt: doubling, ±50 %, back to the start when it holds.

    The spread keeps the stations of a plant from coming back all at once.

    Attributes:
        short: connections in a row that ended soon.
    """

    def __init__(self, back_off_s: tuple[float, float], jitter: Callable[[], float]) -> None:
        """Begin with the shortest delay.

        Args:
            back_off_s: shortest and longest delay.
            jitter: in [0, 1).
        """
        self._min_s, self._max_s = back_off_s
        self._jitter = jitter
        self._delay_s = self._min_s
        self.short = 0

    def delay_s(self) -> float:
        """Return the delay before the next attempt."""
        delay_s = self._delay_s * (0.5 + self._jitter())
        self._delay_s = min(self._delay_s * 2, self._max_s)
        return delay_s

    def ended(self, lasted_s: float, taken_over: bool) -> bool:
        """Note how long a connection lasted; tell, once, that they end too soon.

        Args:
            taken_over: by a client of the same name, with which nobody shall fight.
        """
        if lasted_s > STABLE_S:
            self._delay_s = self._min_s
            self.short = 0
        else:
            self.short += 1
        if taken_over:
            self._delay_s = self._max_s
        return self.short == MAX_SHORT_CONNECTIONS
