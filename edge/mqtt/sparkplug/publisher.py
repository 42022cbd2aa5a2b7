"""The thread that makes a station an edge node: its own connection, births, verdicts, deaths.

A connection of its own, because a client has one will: that of the station's other connection is
its state. Data goes out at QoS 0, as the specification demands, so no message is acknowledged by
itself; after each batch the broker is asked for an answer (``Connection.request_answer``), and only
what it had read by then counts as published. The rest is published again, as historical data.
"""

import json
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import edge
from edge.contract.event import Event, Severity
from edge.contract.state import Condition
from edge.errors import ConfigurationError
from edge.journal.entries import JournalError, JournalRow, RecordKind
from edge.mqtt.broker_limits import LearnedLimits
from edge.mqtt.broker_login import BrokerLogin, read_broker_login
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
from edge.mqtt.reconnect import BACK_OFF_S, Backoff, Connector, taken_over
from edge.mqtt.relay_lane import OutboxReader
from edge.mqtt.replay_detector import ReplayDetector
from edge.mqtt.sparkplug.edge_node import (
    NUMBERS,
    EdgeNode,
    Message,
    NodeTopics,
    asks_for_rebirth,
)
from edge.mqtt.sparkplug.memory import Progress, ProgressFile
from edge.mqtt.sparkplug.metrics import NodeCondition
from edge.mqtt.sparkplug.payload import PayloadInvalid, decode, payload_class
from edge.mqtt.sparkplug.primary_host import PrimaryHost
from edge.settings.credentials import SPARKPLUG_PASSWORD_KEY
from edge.settings.mqtt import MqttSettings
from edge.settings.sparkplug import SparkplugSettings
from edge.wording import counted

log = logging.getLogger(__name__)

# Verdicts that may be on their way without an answer of the broker.
WINDOW = 64
# A broker that lives and answers nothing for so long has forgotten: a new connection helps.
ANSWER_LIMIT_NS = 30_000_000_000
LOOK_INTERVAL_NS = 1_000_000_000
# Asked for more often, the births come once in so long.
REBIRTH_INTERVAL_NS = 1_000_000_000
STOPPED_LIMIT_S = 2.0
# Reasons of the station for which its device is dead.
CAMERA_AWAY = frozenset({"camera_lost", "camera_failed"})


class Phase(StrEnum):
    """How far an edge node has come."""

    CONNECTING = "connecting"
    AWAY = "away"
    HOST_OFFLINE = "host_offline"
    BORN = "born"


@dataclass(frozen=True, slots=True, kw_only=True)
class SparkplugStatus:
    """What people see of the edge node.

    Attributes:
        node: GROUP/NODE/DEVICE.
        births: NBIRTHs of this run.
        published, historical: verdicts of this run, and how many of them were not current.
        waiting: verdicts on record that the broker is not known to have read.
        missing: verdicts that left the journal before they could be published.
        too_large: that the broker's limit kept from being published.
    """

    node: str
    phase: Phase = Phase.CONNECTING
    births: int = 0
    published: int = 0
    historical: int = 0
    waiting: int = 0
    missing: int = 0
    too_large: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """An answer that the broker owes, and up to which verdict it then has read."""

    mid: int
    seq: int
    at_ns: int


class SparkplugPublisher:
    """Publishes a station as an edge node of Sparkplug B, beside its own topics.

    One thread, the one in ``run``, owns the connection. No method makes its caller wait, but
    ``wait_until_published``.
    """

    def __init__(
        self,
        *,
        settings: MqttSettings,
        sparkplug: SparkplugSettings,
        journal: str,
        folder: Path,
        outbox: OutboxReader,
        on_event: Callable[[Event], None],
        back_off_s: tuple[float, float] = BACK_OFF_S,
        beat: Callable[[], None] = lambda: None,
        jitter: Callable[[], float] = random.random,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            journal: UUID of the journal.
            folder: of the journal; beside it stands how far the verdicts were published.
            outbox: of this publisher alone; the thread of ``run`` reads it.
            on_event: records an event; is called in the thread of ``run`` and returns at once.
            beat: the thread of ``run`` is alive; connecting may hold it for half a minute.

        Raises:
            SparkplugNotInstalled: protobuf is missing.
            ConfigurationInvalid: the password file or the certificates cannot be used.
            JournalError: the outbox cannot be read.
        """
        payload_class()
        self._settings = settings = settings.of_sparkplug
        self._topics = topics = NodeTopics.of(sparkplug, settings.topic.camera)
        self._outbox = outbox
        self._on_event = on_event
        self._beat = beat
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._backoff = Backoff(back_off_s, jitter)
        self._files_sha256 = self._login().sha256
        self._renewal = threading.Event()
        self._stopping = threading.Event()
        self._wake_up = WakeUp()
        # The lock guards what threads share; it is never held around paho.
        self._changed = threading.Condition()
        self._condition = NodeCondition()
        self._rows_came = True
        self._status = SparkplugStatus(node=f"{topics.group}/{topics.node}/{topics.device}")
        # From here on the thread of ``run`` alone:
        self._file = ProgressFile(folder)
        backlog = outbox.backlog()
        self._progress = self._file.read(journal, backlog)
        self._newest = max(backlog.last_seq[RecordKind.VERDICT], self._progress.seq)
        self._node = EdgeNode(
            topics,
            station=settings.station,
            software=f"edge {edge.__version__}",
            aliases=sparkplug.aliases,
        )
        self._connector = Connector(
            broker=self._broker,
            will=self._make_will,
            subscriptions=node_subscriptions(topics),
            url=settings.url,
            wake_up=self._wake_up,
            stopping=self._stopping.is_set,
            learned=LearnedLimits(will_retain=False),
        )
        self._ages = ReplayDetector()
        self._ages.record(backlog.last_seq, clock_ns())  # what comes from now on is fresh at first
        self._bd_seq = self._progress.bd_seq
        self._host = PrimaryHost()
        self._shown = NodeCondition()  # as it was published last
        self._born_ns: int | None = None  # None while not born
        self._rebirth_asked = False
        self._born_at_seq = 0
        self._sent_seq = self._progress.seq
        self._asked: deque[_Asked] = deque()
        self._rows: deque[JournalRow] = deque()
        self._look_due_ns = 0
        self._saved: Progress | None = None

    def wake(self) -> None:
        """Note that there are new rows in the journal."""
        with self._changed:
            self._rows_came = True
        self._wake_up.wake()

    def on_health(self, reasons: tuple[str, ...]) -> None:
        """Publish what is wrong with the station that inspects; nothing is ``online``."""
        condition = NodeCondition(
            Condition.DEGRADED if reasons else Condition.ONLINE,
            reasons,
            CAMERA_AWAY.isdisjoint(reasons),
        )
        with self._changed:
            self._condition = condition
        self._wake_up.wake()

    def outdated(self) -> bool:
        """Return whether the files of password and certificates differ from those in use.

        Raises:
            ConfigurationInvalid: one of them cannot be used.
        """
        return self._login().sha256 != self._files_sha256

    def renew(self) -> None:
        """Connect anew."""
        self._renewal.set()
        self._wake_up.wake()

    def status(self) -> SparkplugStatus:
        """Return what people see of the edge node."""
        with self._changed:
            return self._status

    def wait_until_published(self, timeout_s: float, given_up: Callable[[], bool]) -> int:
        """Block until the broker has read every verdict; not for one that is away.

        Returns:
            How many verdicts wait for the next start.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while (
                (self._rows_came or self._status.waiting)
                and self._status.phase in (Phase.CONNECTING, Phase.BORN)
                and time.monotonic() < deadline
                and not given_up()
            ):
                self._changed.wait(0.1)
            return self._status.waiting

    def stop(self) -> None:
        """Ask ``run`` to publish the death, disconnect and return."""
        self._stopping.set()
        self._wake_up.wake()

    def run(self) -> None:
        """Connect, be born, publish, reconnect until ``stop``; the body of the thread."""
        # Before any broker was reached: the next process must not take what waits for the past.
        self._save()
        while not self._stopping.is_set():
            self._beat()
            self._renewal.clear()
            connection = self._connect()
            if connection is not None:
                began_s = time.monotonic()
                try:
                    self._serve(connection)
                finally:
                    connection.hang_up()
                    self._born_ns = None
                    lasted_s = time.monotonic() - began_s
                    self._backoff.ended(lasted_s, taken_over(connection))
                    self._save()
                self._after(connection)
            self._show(Phase.AWAY)
            self._rest(self._backoff.delay_s())

    def _connect(self) -> Connection | None:
        try:
            connection = self._connector.reach()
        except ConnectionRefused as error:
            if error.unreachable:  # no CONNECT was sent, and numbers count those
                self._bd_seq = (self._bd_seq - 1) % NUMBERS
            self._connector.complain(f"Sparkplug: {error} Verdicts wait; trying again.")
            return None
        except ConfigurationError as error:
            self._connector.complain(f"Sparkplug: {error} Verdicts wait; trying again.")
            return None
        log.info("Sparkplug node %s connected with MQTT %s", self._status.node, connection.version)
        self._connector.complain("")
        return connection

    def _login(self) -> BrokerLogin:
        return read_broker_login(self._settings, SPARKPLUG_PASSWORD_KEY)

    def _broker(self) -> Broker:
        login = self._login()
        self._files_sha256 = login.sha256
        return Broker(
            host=self._settings.host,
            port=self._settings.port,
            client_id=node_client_id(self._settings),
            username=self._settings.username,
            password=lambda: login.password,
            tls=login.tls,
        )

    def _make_will(self, _session: str) -> Will:
        """Make the will of the next CONNECT; each has the number behind that of the one before.

        Source: tck-id-topics-nbirth-bdseq-increment.
        """
        message = self._node.death(self._bd_seq, self._now_ms())
        self._bd_seq = (self._bd_seq + 1) % NUMBERS
        return Will(message.topic, message.content)

    @property
    def _bd_seq_in_use(self) -> int:
        return (self._bd_seq - 1) % NUMBERS

    def _rest(self, delay_s: float) -> None:
        """Wait before the next attempt, and watch how many verdicts wait, and how old they get."""
        until = time.monotonic() + delay_s
        while (left_s := until - time.monotonic()) > 0:
            if self._stopping.is_set() or self._renewal.is_set():
                return
            self._beat()
            self._look(self._clock_ns())
            self._stopping.wait(min(left_s, LOOK_INTERVAL_NS / 1e9))

    def _serve(self, connection: Connection) -> None:
        """Use a connection until it ends or ``stop``."""
        self._progress = replace(self._progress, bd_seq=self._bd_seq)
        self._save()
        self._host = PrimaryHost()
        self._asked.clear()
        self._rebirth_asked = False
        self._go_back()
        while not connection.closed and not (self._stopping.is_set() or self._renewal.is_set()):
            self._beat()
            now_ns = self._clock_ns()
            self._look(now_ns)
            if self._may_be_born(connection, now_ns):
                self._give_birth(connection, now_ns)
            if self._born_ns is not None and not self._rebirth_asked:
                self._publish_changes(connection)
                self._publish_verdicts(connection, now_ns)
            self._show(Phase.HOST_OFFLINE if self._born_ns is None else Phase.BORN)
            connection.turn(self._wait_s(now_ns))
            self._receive(connection)
            if self._host_left() or self._forgotten():
                break
        if not connection.closed:
            self._die(connection)

    def _look(self, now_ns: int) -> None:
        """Read how far the journal has come, when it has, and once a second."""
        with self._changed:
            came = self._rows_came
        if not came and now_ns < self._look_due_ns:
            return
        self._look_due_ns = now_ns + LOOK_INTERVAL_NS
        try:
            newest = self._outbox.backlog().last_seq
        except JournalError as error:
            self._connector.complain(f"Sparkplug: {error} Verdicts wait; reading again.")
            return
        if self._ages.due(now_ns):
            self._ages.record(newest, now_ns)
        self._newest = max(newest[RecordKind.VERDICT], self._progress.seq)
        with self._changed:
            self._rows_came = False
            waiting = self._newest - self._progress.seq
            self._status = replace(self._status, waiting=waiting)

    def _may_be_born(self, connection: Connection, now_ns: int) -> bool:
        """Tell whether the births are due: for the first time, or asked for again."""
        if connection.subscribed is None:
            return False  # a host may ask for births as soon as it sees the first
        if self._topics.host is not None and not self._host.online:
            return False
        if self._born_ns is None:
            return True
        return self._rebirth_asked and now_ns - self._born_ns >= REBIRTH_INTERVAL_NS

    def _give_birth(self, connection: Connection, now_ns: int) -> None:
        """Publish NBIRTH and DBIRTH with the values as they are now.

        What is on record by then is no current value any more when it follows.
        """
        condition = self._condition
        try:
            rows = self._outbox.rows(RecordKind.VERDICT, self._newest, self._newest, 1)
        except JournalError as error:
            self._connector.complain(f"Sparkplug: {error} Births wait; reading again.")
            self._rebirth_asked = True
            return
        self._born_at_seq = self._newest
        self._rebirth_asked = False
        self._born_ns = now_ns
        now_ms = self._now_ms()
        self._publish(connection, self._node.birth(self._bd_seq_in_use, condition, now_ms))
        if condition.camera_there:
            self._give_device_birth(connection, rows, now_ms)
        self._shown = condition
        with self._changed:
            self._status = replace(self._status, births=self._status.births + 1)
        log.info("Sparkplug node %s is born, bdSeq %d", self._status.node, self._bd_seq_in_use)

    def _publish_changes(self, connection: Connection) -> None:
        condition = self._condition
        if condition == self._shown:
            return
        now_ms = self._now_ms()
        if condition.values() != self._shown.values():
            self._publish(connection, self._node.node_data(condition, now_ms))
        if self._node.device_born and not condition.camera_there:
            self._publish(connection, self._node.device_death(now_ms))
        if not self._node.device_born and condition.camera_there:
            try:
                rows = self._outbox.rows(RecordKind.VERDICT, self._newest, self._newest, 1)
            except JournalError as error:
                self._connector.complain(f"Sparkplug: {error} Births wait; reading again.")
                self._shown = replace(condition, camera_there=False)
                return
            self._born_at_seq = self._newest
            self._give_device_birth(connection, rows, now_ms)
        self._shown = condition

    def _give_device_birth(
        self, connection: Connection, rows: Sequence[JournalRow], now_ms: int
    ) -> None:
        newest = json.loads(rows[0].payload) if rows else None
        self._node.device_born = self._publish(connection, self._node.device_birth(newest, now_ms))

    def _publish_verdicts(self, connection: Connection, now_ns: int) -> None:
        """Publish what is on record, oldest first, as far as the window goes."""
        if not self._node.device_born:
            return
        while not connection.closed and self._sent_seq - self._progress.seq < WINDOW:
            row = self._next_row()
            if row is None:
                break
            historical = row.seq <= self._born_at_seq or self._ages.is_old(row, now_ns)
            record = json.loads(row.payload)
            message = self._node.device_data(record, self._now_ms(), historical=historical)
            sent = self._publish(connection, message)
            self._sent_seq = row.seq
            with self._changed:
                self._status = replace(
                    self._status,
                    published=self._status.published + sent,
                    historical=self._status.historical + (sent and historical),
                )
        newest_asked = self._asked[-1].seq if self._asked else self._progress.seq
        if self._sent_seq > newest_asked and not connection.closed:
            self._asked.append(_Asked(connection.request_answer(), self._sent_seq, now_ns))

    def _next_row(self) -> JournalRow | None:
        """Return the next verdict; None without one. Those that are gone are counted."""
        if not self._rows:
            if self._sent_seq >= self._newest:
                return None
            try:
                found = self._outbox.rows(
                    RecordKind.VERDICT, self._sent_seq + 1, self._newest, WINDOW
                )
            except JournalError as error:
                self._connector.complain(f"Sparkplug: {error} Verdicts wait; reading again.")
                return None
            self._rows.extend(found)
            last = self._newest if not found else found[0].seq - 1
            self._count_missing(last - self._sent_seq)
            if not found:
                self._sent_seq = self._newest
                return None
        return self._rows.popleft()

    def _count_missing(self, count: int) -> None:
        if count <= 0:
            return
        with self._changed:
            self._status = replace(self._status, missing=self._status.missing + count)
        text = (
            f"{counted(count, 'verdict')} left the journal before the Sparkplug node could publish "
            "them. Raise journal.retention_days or journal.max_rows, or find out why it "
            "waits."
        )
        log.warning("%s", text)
        self._on_event(Event("sparkplug_gap", Severity.WARNING, text, {"count": count}))

    def _publish(self, connection: Connection, message: Message) -> bool:
        """Publish a message; False where it is larger than the broker takes, and has no number."""
        if connection.excess_bytes(message.topic, message.content, None):
            with self._changed:
                self._status = replace(self._status, too_large=self._status.too_large + 1)
            self._connector.log_once(
                "Sparkplug messages are larger than the "
                f"{connection.limits.max_packet_bytes} bytes that the broker accepts, and "
                "are left out. Raise its max_packet_size, or set mqtt.sparkplug.aliases."
            )
            self._node.withdraw()
            return False
        connection.publish(message.topic, message.content, None, qos=0)
        return True

    def _receive(self, connection: Connection) -> None:
        while connection.answers:
            mid = connection.answers.popleft()
            while self._asked and any(one.mid == mid for one in self._asked):
                self._progress = replace(self._progress, seq=self._asked.popleft().seq)
                self._wake_waiting()
        while connection.incoming:
            self._on_incoming(connection.incoming.popleft())
        if self._progress != self._saved and not self._asked:
            self._save()

    def _wake_waiting(self) -> None:
        with self._changed:
            waiting = self._newest - self._progress.seq
            self._status = replace(self._status, waiting=waiting)
            self._changed.notify_all()

    def _on_incoming(self, incoming: Incoming) -> None:
        if incoming.topic == self._topics.host_state:
            self._host.judge(incoming.payload)
        if incoming.topic != self._topics.command or incoming.retained:
            return
        try:
            asked = asks_for_rebirth(decode(incoming.payload))
        except PayloadInvalid as error:
            self._connector.log_once(f"a Sparkplug command has no valid payload ({error})")
            return
        if asked:
            log.info("a host asks the Sparkplug node for its births")
            self._rebirth_asked = True

    def _host_left(self) -> bool:
        left = self._topics.host is not None and self._born_ns is not None and not self._host.online
        if left:
            log.warning(
                "the primary host %s is offline; verdicts wait for it, reconnecting",
                self._topics.host,
            )
        return left

    def _forgotten(self) -> bool:
        if not self._asked or self._clock_ns() - self._asked[0].at_ns < ANSWER_LIMIT_NS:
            return False
        self._connector.complain("Sparkplug: the broker does not answer; reconnecting")
        return True

    def _die(self, connection: Connection) -> None:
        """Publish the NDEATH and disconnect.

        With MQTT 5 the broker is to publish the will as well; both have one bdSeq, and hosts
        ignore the second (Sparkplug 3.0, 5.3.2; tck-id-payloads-ndeath-will-message-publisher-
        disconnect-mqtt50).
        """
        deadline = time.monotonic() + STOPPED_LIMIT_S
        self._publish(connection, self._node.death(self._bd_seq_in_use, self._now_ms()))
        if not connection.closed:
            connection.request_answer()
        expected = len(self._asked) + 1
        answered = 0
        while answered < expected and not connection.closed and time.monotonic() < deadline:
            connection.turn(deadline - time.monotonic())
            answered += len(connection.answers)
            self._receive(connection)
        if not connection.closed:
            connection.disconnect(publishing_will=True)

    def _after(self, connection: Connection) -> None:
        if taken_over(connection):
            text = (
                "Another client took over the connection of "
                f"{node_client_id(self._settings)}: two stations have the same name, or the "
                "broker uses the account as client id. Change mqtt.station of one of them, "
                "or give mqtt.sparkplug a username of its own."
            )
            log.error("%s", text)
            self._on_event(Event("sparkplug_taken_over", Severity.ALARM, text))
        elif connection.reason is not None:
            why = describe_code(connection.reason, Packet.DISCONNECT)
            log.warning("the broker ended the Sparkplug node's connection (%s)", why)

    def _go_back(self) -> None:
        """Begin again behind what the broker is known to have read."""
        self._rows.clear()
        self._sent_seq = self._progress.seq

    def _save(self) -> None:
        if self._progress == self._saved:
            return
        wrong = self._file.write(self._progress)
        if wrong is None:
            self._saved = self._progress
        else:
            self._connector.complain(f"Sparkplug: {wrong}")

    def _show(self, phase: Phase) -> None:
        with self._changed:
            if phase is not self._status.phase:
                self._status = replace(self._status, phase=phase)
                self._changed.notify_all()

    def _wait_s(self, now_ns: int) -> float:
        due_ns = self._look_due_ns
        if self._rebirth_asked and self._born_ns is not None:
            due_ns = min(due_ns, self._born_ns + REBIRTH_INTERVAL_NS)
        return max(due_ns - now_ns, 0) / 1e9

    def _now_ms(self) -> int:
        return self._utc_ns() // 1_000_000


def node_client_id(settings: MqttSettings) -> str:
    """Return the client id of the edge node, which is not that of the station."""
    return f"{settings.topic.client_id}.sparkplug"


def node_subscriptions(topics: NodeTopics) -> Subscriptions:
    """Return what an edge node listens to: commands to it, and the state of its host."""
    named = (topics.command, *([topics.host_state] if topics.host_state else []))
    return Subscriptions(
        patterns=named,
        named=named,
        loss=(
            "the broker does not allow the Sparkplug node to subscribe to "
            f"{' and '.join(named)}; rebirth requests and the primary host's state are "
            "not received"
        ),
    )
