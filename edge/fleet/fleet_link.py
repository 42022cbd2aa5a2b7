"""The command's connection to the broker: what is retained there, and who leads."""

import math
import random
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
from edge.mqtt.broker_reason_codes import Packet, describe_code
from edge.mqtt.connection import (
    Broker,
    Connection,
    ConnectionRefused,
    Incoming,
    Subscriptions,
    WakeUp,
    Will,
)
from edge.mqtt.reconnect import Backoff, Connector, taken_over
from edge.settings.mqtt import MqttSettings

# What is retained has come when nothing of it came for so long; stations go on publishing.
QUIET_S = 0.5
# Before the next kind is asked for.
KIND_QUIET_S = 0.05
READ_LIMIT_S = 20.0
# Two commands with one account end each other's connection: one shall be done in between.
BACK_OFF_S = (2.0, 20.0)
FLUSH_LIMIT_S = 10.0
SUBSCRIBE_LIMIT_S = 10.0
MAY_NOT_READ = "the broker does not allow this account to read the stations' topics"
KINDS = ("state", "meta", "fleet/report", "fleet/desired", "metrics")


@dataclass(slots=True, kw_only=True)
class Retained:
    """What the broker has; bytes by topic of a station, and what is understood of the roll-out.

    Attributes:
        since_s: since when stations are listened to; monotonic, as all times here.
        heard_s: when a station last said something, by name.
    """

    since_s: float
    stations: dict[str, dict[str, bytes]] = field(default_factory=dict)
    reports: dict[str, FleetReport] = field(default_factory=dict)
    desired: dict[str, Desired] = field(default_factory=dict)
    rollout: Rollout | None = None
    owner: Owner | None = None
    heard_s: dict[str, float] = field(default_factory=dict)

    def silent_s(self, station: str, now_s: float) -> float:
        """Return for how long a station has said nothing, as far as this connection knows."""
        return now_s - self.heard_s.get(station, self.since_s)


class FleetLink:
    """One connection after another; one thread uses it.

    Attributes:
        retained: what the broker has, as far as it came; read anew with each connection.
        session: of this run of the command.
        connections: that there were so far.
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
        self.connections = 0
        self._backoff = Backoff(BACK_OFF_S, random.random)
        self._began_s = self._due_s = -math.inf
        self.retained = Retained(since_s=time.monotonic())
        self.session = will.session if will is not None else str(uuid4())
        self.owners: list[Owner] = []
        self._settings = settings
        self._stopping = stopping
        self._connection: Connection | None = None
        self._stored = 0
        self._patterns = tuple(f"{ROOT}/+/+/+/+/{kind}" for kind in kinds)
        self._connector = Connector(
            broker=self._broker,
            will=lambda _: Will(OWNER_TOPIC, to_json(payload(will))) if will is not None else None,
            subscriptions=Subscriptions(
                patterns=(f"{FLEET_ROOT}/+",),
                named=(ROLLOUT_TOPIC, OWNER_TOPIC),
                as_published=False,
                loss=MAY_NOT_READ,
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
            connection = self._connector.reach()
        except ConnectionRefused as error:
            raise BrokerAway(str(error)) from error
        self._begin(connection)

    def turn(self, timeout_s: float) -> None:
        """Take what comes. Connects anew when that is needed.

        Raises:
            LeadLost: another command has this one's account, and took its connection.
        """
        connection = self._connection
        if connection is None or connection.closed:
            self._reconnect(timeout_s)
        else:
            self._receive(connection, self.retained, timeout_s)

    def wait(self, timeout_s: float) -> None:
        """Wait for the network without taking what came: another thread may read meanwhile."""
        if self._connection is not None and not self._connection.closed:
            self._connection.turn(timeout_s)

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    def publish(self, topic: str, message: FleetMessage) -> None:
        """Publish a retained message, when the broker has room for it; without one it is lost."""
        content = to_json(payload(message)).encode()
        schema = str(payload(message)["schema"])
        connection = self._connection
        if connection is None:
            return
        while not connection.closed and connection.room <= 0:
            self._receive(connection, self.retained, 0.1)
        if not connection.closed:
            connection.publish(topic, content, schema, 1, retain=True)

    def flush(self) -> bool:
        """Wait until the broker has what was published; return whether it has."""
        connection = self._connection
        if connection is None or connection.closed:
            return False
        until_s = time.monotonic() + FLUSH_LIMIT_S
        mark = connection.request_answer()
        while mark not in connection.answers:
            if connection.closed or time.monotonic() > until_s:
                return False
            self._receive(connection, self.retained, 0.1)
        connection.answers.clear()
        return True

    def start_over(self) -> None:
        """Forget that another command took the connection: connect again."""
        self._connection = None

    def close(self) -> None:
        if self._connection is not None and not self._connection.closed:
            self._connection.disconnect()

    def _reconnect(self, timeout_s: float) -> None:
        connection, now_s = self._connection, time.monotonic()
        if connection is not None:
            _demand_ours(connection)
            self._connection = None
            self._backoff.ended(now_s - self._began_s, False)
            self._due_s = now_s + self._backoff.delay_s()
        if now_s < self._due_s:
            time.sleep(min(max(timeout_s, 0.05), self._due_s - now_s))
            return
        try:
            self._begin(self._connector.reach())
        except (ConnectionRefused, BrokerAway, ConfigurationError) as error:
            self._connector.complain(f"{error} Trying again; stations keep what they have.")
            self._due_s = time.monotonic() + self._backoff.delay_s()

    def _begin(self, connection: Connection) -> None:
        """Read what is retained: what an earlier connection had may be lost at the broker.

        One kind after the other: a broker drops what it cannot queue for a client, mosquitto by
        itself more than a thousand messages.

        Raises:
            BrokerAway: it does not let this account read, or ended the connection.
            LeadLost: another command has this account, and took the connection.
        """
        retained = Retained(since_s=time.monotonic())
        until_s = time.monotonic() + READ_LIMIT_S
        self._demand_subscribed(connection, retained)
        for pattern in self._patterns:
            self._read_retained(connection, retained, KIND_QUIET_S, until_s)
            if not connection.closed:
                connection.listen_to(pattern)
                self._demand_subscribed(connection, retained)
        self._read_retained(connection, retained, QUIET_S, until_s)
        if connection.closed:
            raise self._ended(connection)
        self._connection, self.retained = connection, retained
        self.connections += 1
        self._began_s = time.monotonic()

    def _demand_subscribed(self, connection: Connection, retained: Retained) -> None:
        until_s = time.monotonic() + SUBSCRIBE_LIMIT_S
        while not connection.closed and connection.subscribed is None:
            if time.monotonic() > until_s or self._stopping():
                break
            self._receive(connection, retained, 0.1)
        if connection.closed:
            raise self._ended(connection)
        answers = connection.subscribed or ()
        if not answers or any(one.is_failure for one in answers):
            connection.disconnect()
            raise BrokerAway(
                f"{self._settings.url}: {MAY_NOT_READ}. Use an account whose access rules allow it "
                "(docs/security.md)."
            )

    def _ended(self, connection: Connection) -> BrokerAway:
        _demand_ours(connection)
        why = "Another command may have this account: give each its own."
        if connection.reason is not None:
            why = describe_code(connection.reason, Packet.DISCONNECT)
        return BrokerAway(f"{self._settings.url}: the broker ended the connection. {why}")

    def _read_retained(
        self, connection: Connection, retained: Retained, longest_s: float, until_s: float
    ) -> None:
        now_s = time.monotonic()
        quiet_s = now_s + longest_s
        while now_s < until_s and not connection.closed and not self._stopping():
            before = self._stored
            self._receive(connection, retained, min(longest_s, 0.1))
            if self._stored > before:
                quiet_s = time.monotonic() + longest_s
            elif now_s >= quiet_s:  # of before this turn: who stood still has looked once more
                return
            now_s = time.monotonic()

    def _receive(self, connection: Connection, retained: Retained, timeout_s: float) -> None:
        """Wait for the network, and take what came."""
        connection.turn(timeout_s)
        while connection.incoming:
            one = connection.incoming.popleft()
            self._stored += one.retained
            self._on_retained(retained, one, time.monotonic())
        while connection.acks:
            _, reason = connection.acks.popleft()
            if reason is not None and reason.is_failure:
                self._connector.log_once(describe_code(reason, Packet.PUBACK))

    def _on_retained(self, retained: Retained, one: Incoming, now_s: float) -> None:
        topic, content = one.topic, one.payload
        try:
            if topic == OWNER_TOPIC:
                retained.owner = Owner.model_validate_json(content) if content else None
                if retained.owner is not None:
                    self.owners.append(retained.owner)
            elif topic == ROLLOUT_TOPIC:
                retained.rollout = Rollout.model_validate_json(content) if content else None
            else:
                _on_station_message(retained, one, now_s)
        except (ValidationError, StationNameInvalid) as error:
            self._connector.log_once(f"{topic}: not a valid message ({type(error).__name__})")

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


def _demand_ours(connection: Connection) -> None:
    """Demand that no other client took this connection."""
    if taken_over(connection):
        raise LeadLost(
            "another edge-fleet has connected with this account. Give each command its "
            "own account, and use a read-only account for status and overview."
        )


def _on_station_message(retained: Retained, one: Incoming, now_s: float) -> None:
    topic, content = one.topic, one.payload
    station = StationTopic.of_topic(topic)
    kind = topic.removeprefix(f"{station.root}/")
    known = retained.stations.setdefault(station.name, {})
    known[kind] = content
    if not one.retained and kind != "fleet/desired":
        retained.heard_s[station.name] = now_s
    if kind == "fleet/report":
        retained.reports.pop(station.name, None)
        if content:
            retained.reports[station.name] = FleetReport.model_validate_json(content)
    elif kind == "fleet/desired":
        retained.desired.pop(station.name, None)
        if content:
            retained.desired[station.name] = Desired.model_validate_json(content)
    if not any(known.values()):
        del retained.stations[station.name]
        retained.heard_s.pop(station.name, None)
