"""The command's connection to the broker: what is retained there, and who leads."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from pydantic import ValidationError

from edge.contract.encoding import to_json
from edge.contract.fleet import (
    FLEET_ROOT,
    OWNER_TOPIC,
    ROLLOUT_TOPIC,
    Desired,
    FleetMessage,
    FleetReport,
    Owner,
    payload,
)
from edge.contract.topics import ROOT, StationNameInvalid, StationTopic
from edge.errors import ConfigurationError
from edge.fleet.errors import BrokerAway, LeadLost
from edge.fleet.rollout import Rollout
from edge.mqtt.broker_login import read_broker_login
from edge.mqtt.broker_options import PASSWORD_OPTION
from edge.mqtt.connection import (
    Broker,
    Connection,
    ConnectionRefused,
    Subscriptions,
    WakeUp,
    Will,
)
from edge.mqtt.reconnect import Connector, taken_over
from edge.settings.mqtt import MqttSettings

# What is retained has come when nothing of it came for so long; stations go on publishing.
QUIET_S = 0.5
READ_LIMIT_S = 20.0
RECONNECT_S = 1.0
FLUSH_LIMIT_S = 10.0
SUBSCRIBE_LIMIT_S = 10.0
KINDS = ("state", "meta", "metrics", "last", "fleet/desired", "fleet/report")


@dataclass(slots=True, kw_only=True)
class Retained:
    """What the broker has; bytes by topic of a station, and what is understood of the roll-out."""

    stations: dict[str, dict[str, bytes]] = field(default_factory=dict)
    reports: dict[str, FleetReport] = field(default_factory=dict)
    desired: dict[str, Desired] = field(default_factory=dict)
    rollout: Rollout | None = None
    owner: Owner | None = None


class FleetLink:
    """One connection after another; one thread uses it.

    Attributes:
        retained: what the broker has, as far as it came.
        session: of this run of the command.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        stopping: Callable[[], bool],
        will: Owner | None = None,
        kinds: tuple[str, ...] = KINDS,
    ) -> None:
        """Prepare connections; ``connect`` makes the first.

        Args:
            will: published when this command ends without a word; None for one that only looks.
            kinds: of stations' topics that are read.
        """
        self.retained = Retained()
        self.session = will.session if will is not None else str(uuid4())
        self.owners: list[Owner] = []
        self._settings = settings
        self._stopping = stopping
        self._connection: Connection | None = None
        self._stored = 0
        patterns = tuple(f"{ROOT}/+/+/+/+/{kind}" for kind in kinds)
        self._connector = Connector(
            broker=self._broker,
            will=lambda _: Will(OWNER_TOPIC, to_json(payload(will))) if will is not None else None,
            subscriptions=Subscriptions(
                patterns=(*patterns, f"{FLEET_ROOT}/+"),
                named=(ROLLOUT_TOPIC, OWNER_TOPIC),
                as_published=False,
                loss="the broker does not allow this account to read the stations' topics",
            ),
            url=settings.url,
            wake_up=WakeUp(),
            stopping=stopping,
        )

    def connect(self) -> None:
        """Connect and read what is retained.

        Raises:
            BrokerAway: it cannot be reached, refuses, or does not let this account read.
            ConfigurationError: password or certificates cannot be read.
        """
        try:
            self._connection = self._connector.reach()
        except ConnectionRefused as error:
            raise BrokerAway(str(error)) from error
        began_s = time.monotonic()
        while not self._connection.closed and self._connection.subscribed is None:
            if time.monotonic() - began_s > SUBSCRIBE_LIMIT_S or self._stopping():
                break
            self.turn(0.1)
        answers = self._connection.subscribed or ()
        if not answers or any(one.is_failure for one in answers):
            raise BrokerAway(
                f"{self._settings.url}: the broker does not allow this account to read the "
                "stations' topics. Use an account whose access rules allow it "
                "(docs/security.md)."
            )
        self._read_retained()

    def turn(self, timeout_s: float) -> None:
        """Take what comes. Connects anew when that is needed.

        Raises:
            LeadLost: another command has this one's account, and took its connection.
        """
        connection = self._connection
        if connection is None or connection.closed:
            self._reconnect(timeout_s)
            return
        connection.turn(timeout_s)
        while connection.incoming:
            one = connection.incoming.popleft()
            self._stored += one.retained
            self._on_retained(one.topic, one.payload)
        connection.acks.clear()

    def wait(self, timeout_s: float) -> None:
        """Wait for the network without taking what came: another thread may read meanwhile."""
        if self._connection is not None and not self._connection.closed:
            self._connection.turn(timeout_s)

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    def publish(self, topic: str, message: FleetMessage) -> None:
        """Publish a retained message, when the broker has room for it."""
        content = to_json(payload(message)).encode()
        schema = str(payload(message)["schema"])
        while self.connected and self._connection is not None and self._connection.room <= 0:
            self.turn(0.1)
        if self._connection is not None and self.connected:
            self._connection.publish(topic, content, schema, 1, retain=True)

    def flush(self) -> None:
        """Wait until the broker has what was published."""
        until_s = time.monotonic() + FLUSH_LIMIT_S
        connection = self._connection
        if connection is None or connection.closed:
            return
        mark = connection.request_answer()
        while mark not in connection.answers and time.monotonic() < until_s:
            if connection.closed:
                return
            self.turn(0.1)

    def close(self) -> None:
        if self._connection is not None and not self._connection.closed:
            self._connection.disconnect()

    def _reconnect(self, timeout_s: float) -> None:
        if self._connection is not None and taken_over(self._connection):
            raise LeadLost(
                "another edge-fleet has connected with this account. Give each command its "
                "own account, and use a read-only account for status and overview."
            )
        try:
            self._connection = self._connector.reach()
        except (ConnectionRefused, ConfigurationError) as error:
            self._connector.complain(f"{error} Trying again; stations keep what they have.")
            time.sleep(min(max(timeout_s, 0.05), RECONNECT_S))

    def _read_retained(self) -> None:
        now_s = time.monotonic()
        quiet_s, until_s = now_s + QUIET_S, now_s + READ_LIMIT_S
        while now_s < until_s and not self._stopping():
            before = self._stored
            self.turn(0.1)
            if self._stored > before:
                quiet_s = time.monotonic() + QUIET_S
            elif now_s >= quiet_s:  # of before this turn: who stood still has looked once more
                return
            now_s = time.monotonic()

    def _on_retained(self, topic: str, content: bytes) -> None:
        retained = self.retained
        try:
            if topic == OWNER_TOPIC:
                retained.owner = Owner.model_validate_json(content) if content else None
                if retained.owner is not None:
                    self.owners.append(retained.owner)
            elif topic == ROLLOUT_TOPIC:
                retained.rollout = Rollout.model_validate_json(content) if content else None
            else:
                self._on_station_message(topic, content)
        except (ValidationError, StationNameInvalid) as error:
            self._connector.log_once(f"{topic}: not a valid message ({type(error).__name__})")

    def _on_station_message(self, topic: str, content: bytes) -> None:
        station = StationTopic.of_topic(topic)
        kind = topic.removeprefix(f"{station.root}/")
        known = self.retained.stations.setdefault(station.name, {})
        known[kind] = content
        if kind == "fleet/report":
            self.retained.reports.pop(station.name, None)
            if content:
                self.retained.reports[station.name] = FleetReport.model_validate_json(content)
        elif kind == "fleet/desired":
            self.retained.desired.pop(station.name, None)
            if content:
                self.retained.desired[station.name] = Desired.model_validate_json(content)
        if not any(known.values()):
            del self.retained.stations[station.name]

    def _broker(self) -> Broker:
        login = read_broker_login(self._settings, PASSWORD_OPTION)
        return Broker(
            host=self._settings.host,
            port=self._settings.port,
            client_id=f"edge-fleet-{self.session[:13]}",
            username=self._settings.username,
            password=lambda: login.password,
            tls=login.tls,
        )
