"""What the doctor says of the edge node: whether its account may connect, and who hears it."""

import time
from collections.abc import Callable

from edge.doctor.finding import Finding, advice, fault, good, not_seen
from edge.errors import StationError
from edge.mqtt.broker_login import read_broker_login
from edge.mqtt.broker_reason_codes import Packet, describe_code
from edge.mqtt.connection import Broker, Connection, ConnectionRefused, WakeUp
from edge.mqtt.reconnect import Connector
from edge.mqtt.sparkplug.edge_node import NodeTopics
from edge.mqtt.sparkplug.payload import payload_class
from edge.mqtt.sparkplug.primary_host import PrimaryHost
from edge.mqtt.sparkplug.publisher import node_client_id, node_subscriptions
from edge.settings.credentials import SPARKPLUG_PASSWORD_KEY, waits_for_credentials
from edge.settings.mqtt import MqttSettings
from edge.settings.sparkplug import SparkplugSettings

SUBSCRIBED_LIMIT_S = 5.0
# A retained state comes right behind the answer to the subscription.
STATE_LIMIT_S = 1.0


def sparkplug_finding(mqtt: MqttSettings, sparkplug: SparkplugSettings) -> Finding:
    """Connect as the edge node does, without its will, and publish nothing.

    Under a name of the doctor's own: the node's would end the node's connection.
    """
    subject, settings = "sparkplug", mqtt.of_sparkplug
    topics = NodeTopics.of(sparkplug, mqtt.topic.camera)
    if waits_for_credentials(settings.password_file, settings.key_file):
        found = f"{mqtt.url}: systemd gives its password or key to the service alone"
        return not_seen(subject, found, "systemctl status edge-run@NAME")
    try:
        payload_class()
        login = read_broker_login(settings, SPARKPLUG_PASSWORD_KEY)
        broker = Broker(
            host=settings.host,
            port=settings.port,
            client_id=f"{node_client_id(settings)}.doctor",
            username=settings.username,
            password=lambda: login.password,
            tls=login.tls,
        )
        connection = Connector(
            broker=lambda: broker,
            will=lambda _session: None,
            subscriptions=node_subscriptions(topics),
            url=mqtt.url,
            wake_up=WakeUp(),
            stopping=lambda: False,
        ).reach()
        host = _host_seen(connection, topics)
        if not connection.closed:
            connection.disconnect()
    except (ConnectionRefused, StationError) as error:
        return fault(subject, str(error), "")
    return _judged(f"{topics.group}/{topics.node}/{topics.device} at {mqtt.url}", connection, host)


def _host_seen(connection: Connection, topics: NodeTopics) -> tuple[str, bool] | None:
    """Return the primary host and whether it is online; None where none is waited for."""
    _turn_until(connection, SUBSCRIBED_LIMIT_S, lambda: connection.subscribed is not None)
    if topics.host is None:
        return None
    state = PrimaryHost()
    _turn_until(connection, STATE_LIMIT_S, lambda: bool(connection.incoming))
    for incoming in connection.incoming:
        if incoming.topic == topics.host_state:
            state.judge(incoming.payload)
    return topics.host, state.online


def _turn_until(connection: Connection, limit_s: float, came: Callable[[], bool]) -> None:
    until_s = time.monotonic() + limit_s
    while not (came() or connection.closed) and (left_s := until_s - time.monotonic()) > 0:
        connection.turn(left_s)


def _judged(where: str, connection: Connection, host: tuple[str, bool] | None) -> Finding:
    subject, found = "sparkplug", f"{where}: accepted with MQTT {connection.version}"
    if connection.reason is not None:
        why = describe_code(connection.reason, Packet.DISCONNECT)
        return fault(subject, f"{found}, then ended: {why}", "")
    refused = [reason for reason in connection.subscribed or () if reason.is_failure]
    if refused:
        why = describe_code(refused[0], Packet.SUBACK)
        todo = "let the account read NCMD of the node, and STATE of the primary host"
        return fault(subject, f"{found}; it may not subscribe: {why}", todo)
    if host is None:
        return good(subject, f"{found}; publishes whether or not a host is connected")
    name, online = host
    if online:
        return good(subject, f"{found}; the primary host {name} is online")
    return advice(
        subject,
        f"{found}; the primary host {name} is not online, so verdicts wait for it",
        "start it, or correct mqtt.sparkplug.primary_host",
    )
