"""The MQTT publisher: one thread, one connection after another, everything a station publishes."""

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from paho.mqtt.reasoncodes import ReasonCode

from edge.contract.announcements import HandshakeMessage, Meta, Metrics, TriggerPhase
from edge.contract.commands import CommandAnswer, ControlMessage, Resend
from edge.contract.delivery import Delivery, Intervals
from edge.contract.event import Event, Severity
from edge.contract.state import Condition, State, StationReport
from edge.journal.entries import JournalError
from edge.mqtt.announcer import PACKET_LIMIT, Announcer, LinkStatus
from edge.mqtt.broker_login import read_broker_login
from edge.mqtt.broker_reason_codes import (
    PACKET_TOO_LARGE,
    QOS_NOT_SUPPORTED,
    RETAIN_NOT_SUPPORTED,
    Packet,
    describe_code,
    find_meaning,
)
from edge.mqtt.command_gate import AcceptedCommand, CommandGate, RefusedCommand
from edge.mqtt.command_queue import CommandQueue
from edge.mqtt.connection import Broker, Connection, Echo, Incoming, Unanswered, WakeUp
from edge.mqtt.reconnect import (
    BACK_OFF_S,
    MAX_SHORT_CONNECTIONS,
    STABLE_S,
    Backoff,
    Connector,
    station_subscriptions,
    station_will,
    taken_over,
)
from edge.mqtt.relay import REFUSED_PAUSE_NS, Marks, Relay
from edge.mqtt.relay_lane import OutboxReader
from edge.settings.mqtt import MqttSettings

log = logging.getLogger(__name__)

STOPPED_LIMIT_S = 2.0
TAKEN_OVER_SHOWN_S = 600.0
# Should a wake-up be missed, the journal is looked at so often all the same.
LOOK_INTERVAL_S = 1.0
# Between a reload with other credentials and the new connection; the answer goes out first.
RENEWAL_DELAY_S = 0.5


class MqttPublisher:
    """Relays the journal to the broker, publishes state, meta and metrics, receives commands.

    One thread, the one in ``run``, owns the connection. Every connection is a new client with a
    session and a will of its own; what the broker has not acknowledged is sent again from the
    journal, in order. No method makes its caller wait.
    """

    def __init__(
        self,
        *,
        settings: MqttSettings,
        state: State,
        meta: Meta,
        outbox: OutboxReader,
        marks: Marks,
        control: CommandQueue,
        on_event: Callable[[Event], None],
        on_desired: Callable[[bytes], None] | None = None,
        report: Callable[[], StationReport] = StationReport,
        metrics: Callable[[], Metrics] = Metrics,
        intervals: Intervals = Intervals(),
        back_off_s: tuple[float, float] = BACK_OFF_S,
        refused_pause_ns: tuple[int, int] = REFUSED_PAUSE_NS,
        beat: Callable[[], None] = lambda: None,
        jitter: Callable[[], float] = random.random,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            outbox: of this publisher alone; the thread of ``run`` reads it.
            marks: the journal's writer.
            control: where triggers, acks and commands go; resends are served here.
            on_desired: takes what the station is to have in force, unchecked, and returns at once;
                None for a station that takes no releases.
            on_event: records an event; is called in the thread of ``run`` and returns at once.
            report, metrics: what the station measures; are called in the thread of ``run``.
            beat: the thread of ``run`` is alive; connecting may hold it for half a minute.

        Raises:
            ConfigurationInvalid: the password file or the certificates cannot be used.
            JournalError: the outbox cannot be read.
        """
        self._settings = settings
        self._topic = settings.topic
        self._files_sha256 = read_broker_login(settings).sha256
        self._renewal_due_s = math.inf  # when to connect anew, with other credentials
        self._control = control
        self._on_event = on_event
        self._on_desired = on_desired
        self._on_trigger_refused: Callable[[int], None] = _nobody_asks
        self._on_gap: Callable[[], None] = _nobody_waits
        self._gap_limit_s = math.inf
        self._backoff = Backoff(back_off_s, jitter)
        self._beat = beat
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._announcer = Announcer(
            topic=self._topic,
            state=state,
            meta=meta,
            report=report,
            metrics=metrics,
            intervals=intervals,
            clock_ns=clock_ns,
            utc_ns=utc_ns,
        )
        self._stopping = threading.Event()
        self._stop_reasons: tuple[str, ...] = ()
        self._wake_up = WakeUp()
        # The lock guards what threads share; it is never held around paho.
        self._changed = threading.Condition()
        self._rows_came = True
        self._delivery = Delivery(
            connected=False,
            complete=False,
            verdicts_complete=False,
            events_refused=False,
            acknowledged=0,
            dead_letters=0,
            nobody_listens=False,
            refusing=False,
        )
        # From here on the network thread alone:
        self._gate = CommandGate(self._topic, settings.commands_per_minute)
        self._connector = Connector(
            broker=self._broker,
            will=partial(station_will, self._topic),
            subscriptions=station_subscriptions(self._topic, fleet=on_desired is not None),
            url=settings.url,
            wake_up=self._wake_up,
            stopping=self._stopping.is_set,
        )
        self._relay = Relay(
            outbox=outbox,
            marks=marks,
            topic=self._topic,
            on_event=on_event,
            on_answer=self.answer,
            refused_pause_ns=refused_pause_ns,
        )
        self._relay.observe(clock_ns())  # what comes from now on is fresh at first
        self._taken_over_s = float("-inf")
        self._suspects: deque[Unanswered] = deque(maxlen=MAX_SHORT_CONNECTIONS)
        self._lacks: tuple[str, ...] = ()
        self._look_due_s = 0.0

    def wake(self) -> None:
        """Note that there are new rows in the journal."""
        with self._changed:
            self._rows_came = True
        self._wake_up.wake()

    def set_state(self, condition: Condition, *reasons: str) -> None:
        """Publish a state as soon as there is a connection, and again after every reconnect."""
        self._announcer.become(condition, reasons)
        self._wake_up.wake()

    def on_health(self, reasons: tuple[str, ...]) -> None:
        """Publish what is wrong with the station that inspects; nothing is ``online``."""
        self.set_state(Condition.DEGRADED if reasons else Condition.ONLINE, *reasons)

    def on_trigger_refused(self, call: Callable[[int], None]) -> None:
        """Call this, which must not wait, with the time of each trigger that is not taken."""
        self._on_trigger_refused = call

    def on_gap(self, call: Callable[[], None], limit_s: float) -> None:
        """Call this, which must not wait, before the first message behind a gap is carried out.

        Gaps are: no connection; a broker that has not subscribed the station yet, which may take
        its time; and a thread that had other things to do for ``limit_s``, while messages may
        have lain there.
        """
        self._on_gap, self._gap_limit_s = call, limit_s

    def state_changed(self) -> None:
        """Publish the state again: what is reported with it has changed."""
        self._announcer.state_changed()
        self._wake_up.wake()

    def set_meta(self, meta: Meta) -> None:
        """Publish what the station is, when that has changed."""
        self._announcer.set_meta(meta)
        self._wake_up.wake()

    def set_fleet_report(self, report: Mapping[str, Any]) -> None:
        """Publish what is in force here and how far a release is, now and at each connection."""
        self._announcer.set_fleet_report(report)
        self._wake_up.wake()

    def handshake(self, handshake: HandshakeMessage) -> None:
        """Publish what became of a trigger; without a connection it is dropped and counted.

        So it is with answers to triggers that are refused or repeated, beyond their rate.
        """
        if self._announcer.handshake(handshake):
            self._wake_up.wake()

    def answer(self, answer: CommandAnswer) -> None:
        """Answer a command, where its sender wants the answer."""
        self._announcer.answer(answer)
        self._wake_up.wake()

    def outdated(self) -> bool:
        """Return whether the files of password and certificates differ from those in use.

        Raises:
            ConfigurationInvalid: one of them cannot be used.
        """
        return read_broker_login(self._settings).sha256 != self._files_sha256

    def renew(self) -> None:
        """Connect anew in a moment: first whoever asked for it gets an answer."""
        self._renewal_due_s = time.monotonic() + RENEWAL_DELAY_S
        self._wake_up.wake()

    def delivery(self) -> Delivery:
        """Return where the records are now."""
        with self._changed:
            if self._rows_came:
                return replace(self._delivery, complete=False, verdicts_complete=False)
            return self._delivery

    def wait_until_delivered(
        self, timeout_s: float, given_up: Callable[[], bool] = lambda: False
    ) -> Delivery:
        """Block until all is settled, the time is over, or ``given_up``."""
        deadline = time.monotonic() + timeout_s
        while (
            not (now := self.delivery()).settled and time.monotonic() < deadline and not given_up()
        ):
            with self._changed:
                self._changed.wait(0.1)
        return now

    def stop(self, *reasons: str) -> None:
        """Ask ``run`` to publish ``stopped``, disconnect and return."""
        self._stop_reasons = reasons
        self._stopping.set()
        self._wake_up.wake()

    def run(self) -> None:
        """Connect, serve, reconnect until ``stop``; the body of the network thread."""
        while not self._stopping.is_set():
            self._beat()
            self._renewal_due_s = math.inf
            connection = self._connector.connect()
            if connection is not None:
                began_s = time.monotonic()
                try:
                    self._serve(connection)
                finally:
                    connection.hang_up()
                    lasted_s = time.monotonic() - began_s
                    unstable = self._backoff.ended(lasted_s, taken_over(connection))
                    self._after(connection)
                if unstable:
                    self._report_short_connections(connection.reason)
            if not self._renewing():
                self._rest(self._backoff.delay_s())

    def _broker(self) -> Broker:
        login = read_broker_login(self._settings)
        self._files_sha256 = login.sha256
        return Broker(
            host=self._settings.host,
            port=self._settings.port,
            client_id=self._topic.client_id,
            username=self._settings.username,
            password=lambda: login.password,
            tls=login.tls,
        )

    def _renewing(self) -> bool:
        return time.monotonic() >= self._renewal_due_s

    def _rest(self, delay_s: float) -> None:
        """Wait before the next attempt, and watch how old the rows become."""
        until = time.monotonic() + delay_s
        while not self._stopping.is_set() and (left_s := until - time.monotonic()) > 0:
            if self._renewing():
                return
            self._beat()
            self._observe()
            self._stopping.wait(min(left_s, LOOK_INTERVAL_S))

    def _observe(self) -> None:
        try:
            self._relay.observe(self._clock_ns())
        except JournalError as error:
            self._connector.complain(f"{error} Verdicts wait; reading again.")

    def _serve(self, connection: Connection) -> None:
        """Use a connection until it ends or ``stop``."""
        self._on_gap()
        self._relay.begin(self._connector.session)
        self._announcer.begin(self._connector.session)
        self._look_due_s = 0.0
        self._report_missing_features(connection)
        began_s = listened_s = time.monotonic()
        subscribed = connection.subscribed
        while not connection.closed and not self._stopping.is_set():
            self._beat()
            self._announcer.announce(connection, self._link_status())
            self._relay_rows(connection)
            self._update_delivery(connection)
            silent = time.monotonic() - listened_s >= self._gap_limit_s
            connection.turn(self._wait_s(connection))
            listened_s = time.monotonic()
            if silent or connection.subscribed is not subscribed:
                subscribed = connection.subscribed
                self._on_gap()
            self._process_received(connection)
            if self._relay.idle and time.monotonic() - began_s > STABLE_S:
                connection.careful = self._connector.careful = False
            if self._relay.forgotten(self._clock_ns()):
                self._connector.complain("the broker does not acknowledge messages; reconnecting")
                connection.hang_up()
                return
            if self._renewing():
                # Not in order: without the will "online" would stand for ever, should the broker
                # not take the new ones.
                log.info("reconnecting with the current password and certificates")
                connection.hang_up()
                return
        if connection.closed:
            self._learn_from_end(connection)
        if self._stopping.is_set():
            self._publish_stopped(connection)

    def _report_missing_features(self, connection: Connection) -> None:
        """Report what this broker lacks of what the contract needs."""
        learned, limits = self._connector.learned, connection.limits
        self._lacks = ()
        if connection.echo is not Echo.NOT_NEEDED:
            self._connector.log_once(
                "MQTT 3.1.1 cannot refuse a message. A verdict counts as delivered when it "
                "comes back on the station's own topic."
            )
        if not connection.accepts_qos_1:
            self._lacks += ("broker_without_qos_1",)
            self._connector.log_once(
                f"{find_meaning(QOS_NOT_SUPPORTED, Packet.CONNACK)} Verdicts wait in the "
                "journal: without acknowledgements, delivery cannot be confirmed."
            )
        if not (limits.retain_available and learned.will_retain):
            self._lacks += ("broker_without_retain",)
            self._connector.log_once(
                f"{find_meaning(RETAIN_NOT_SUPPORTED, Packet.CONNACK)} State and meta are "
                "published anyway; programs that connect later do not get them."
            )

    def _learn_from_end(self, connection: Connection) -> None:
        """Find the message that makes the broker end connections; never blame another for it."""
        code = None if connection.reason is None else connection.reason.value
        too_large = code == PACKET_TOO_LARGE
        again_and_again = code is None and self._backoff.short + 1 >= MAX_SHORT_CONNECTIONS
        if not (too_large or again_and_again):
            return
        suspect = connection.sole_unanswered
        if suspect is None:
            self._connector.careful = True
            return
        self._suspects.append(suspect)
        cause = "The connection ends whenever it is sent."
        if too_large:
            cause = describe_code(PACKET_TOO_LARGE, Packet.DISCONNECT)
        if self._relay.ended_by(suspect.mid, cause, self._clock_ns()):
            return
        same = [(one.topic, one.size) for one in self._suspects]
        if too_large or same.count(same[-1]) == MAX_SHORT_CONNECTIONS:
            self._connector.careful = True
            # A good deal smaller: it is not always of the same size.
            self._connector.learned.max_bytes[suspect.topic] = suspect.size * 3 // 4
            log.warning(
                "the broker ends the connection over %s of %d bytes: it is published shorter from "
                "now on, or left out. %s",
                *(suspect.topic, suspect.size, cause),
            )

    def _after(self, connection: Connection) -> None:
        self._relay.mark()
        self._announcer.end()
        self._update_delivery(connection)
        if taken_over(connection):
            self._taken_over_s = time.monotonic()
            text = (
                f"Another client connected as {self._topic.client_id}: two stations have the same "
                "name. Change mqtt.station of one of them."
            )
            log.error("%s", text)
            self._on_event(Event("session_taken_over", Severity.ALARM, text))
        elif not (self._stopping.is_set() or self._renewing()):
            why = (
                describe_code(connection.reason, Packet.DISCONNECT)
                if connection.reason
                else "no answer"
            )
            log.warning("the connection to the broker is lost (%s); verdicts wait", why)

    def _report_short_connections(self, reason: ReasonCode | None) -> None:
        known = (
            "If another station has the same mqtt.station, change one of them; else see the "
            "broker's log."
        )
        if reason is not None:
            known = describe_code(reason, Packet.DISCONNECT)
        text = (
            f"The broker accepted {self._topic.client_id} and ended the connection at once, "
            f"{MAX_SHORT_CONNECTIONS} times in a row. {known}"
        )
        log.warning("%s", text)
        self._on_event(Event("connection_unstable", Severity.WARNING, text))

    def _relay_rows(self, connection: Connection) -> None:
        now_s = time.monotonic()
        with self._changed:
            came, self._rows_came = self._rows_came, False
            if came:
                self._delivery = replace(self._delivery, complete=False, verdicts_complete=False)
        if came or now_s >= self._look_due_s:
            self._look_due_s = now_s + LOOK_INTERVAL_S
            self._relay.look_again()
            self._observe()
        try:
            self._relay.fill(connection, self._clock_ns())
        except JournalError as error:
            self._connector.complain(f"{error} Verdicts wait; reading again.")
            self._relay.pause(self._clock_ns())

    def _process_received(self, connection: Connection) -> None:
        """Process what the broker sent."""
        now_ns = self._clock_ns()
        while connection.acks:
            self._relay.settle(*connection.acks.popleft(), now_ns)
        while connection.echoes:
            self._relay.on_echo(connection.echoes.popleft())
        self._relay.mark()
        while connection.incoming:
            self._receive(connection.incoming.popleft(), now_ns)

    def _receive(self, incoming: Incoming, now_ns: int) -> None:
        if incoming.retained and not incoming.payload:
            return  # somebody removes a retained message, which the broker passes on
        if self._on_desired is not None and incoming.topic == self._topic.fleet_desired:
            self._on_desired(incoming.payload)
            return
        judged = self._gate.examine(incoming, now_ns)
        if isinstance(judged, AcceptedCommand) and not self._carry_out(judged.message):
            judged = self._gate.refuse(judged.message, now_ns)
        if isinstance(judged, RefusedCommand):
            if incoming.topic == self._topic.trigger:
                self._on_trigger_refused(now_ns)
            if judged.answer is not None:
                self.answer(judged.answer)
            if judged.trigger_id is not None:
                self.handshake(
                    HandshakeMessage(
                        phase=TriggerPhase.REJECTED,
                        trigger_id=judged.trigger_id,
                        part_id=judged.part_id,
                        utc_ns=self._utc_ns(),
                        reason=judged.reason,
                    )
                )
        if judged.audit is not None:
            self._on_event(judged.audit)

    def _carry_out(self, message: ControlMessage) -> bool:
        if isinstance(message, Resend):
            return self._relay.ask(message)
        return self._control.put(message)

    def _wait_s(self, connection: Connection) -> float:
        renewal_s = max(self._renewal_due_s - time.monotonic(), 0.0)
        relay_s = self._relay.wait_limit_s(self._clock_ns())
        return min(relay_s, self._announcer.wait_s(connection), renewal_s)

    def _publish_stopped(self, connection: Connection) -> None:
        # Not in ``stop``: the state could be said before the goodbye, and then once more.
        self._announcer.become(Condition.STOPPED, self._stop_reasons)
        deadline = time.monotonic() + STOPPED_LIMIT_S
        self._turn_while(connection, lambda: connection.room <= 0, deadline)
        last = self._announcer.publish_stopped(connection)
        if last is not None:
            self._turn_while(connection, lambda: connection.owes(last), deadline)
        if not connection.closed:
            connection.disconnect()

    def _turn_while(
        self, connection: Connection, waiting: Callable[[], bool], deadline: float
    ) -> None:
        while waiting() and not connection.closed and time.monotonic() < deadline:
            connection.turn(deadline - time.monotonic())
            self._process_received(connection)

    def _link_status(self) -> LinkStatus:
        """Return the status of connection and relay."""
        relay = self._relay
        return LinkStatus(
            self._hints(),
            relay.newest_verdict,
            {
                "mqtt_acknowledged": relay.acknowledged,
                "mqtt_dead_letters": relay.dead_letters,
                "mqtt_unproven": relay.unproven_given_up,
            },
            {
                "mqtt_in_flight": float(relay.in_flight),
                "mqtt_nobody_listens": float(relay.nobody_listens),
            },
        )

    def _hints(self) -> tuple[str, ...]:
        relay = self._relay
        replaced = time.monotonic() - self._taken_over_s < TAKEN_OVER_SHOWN_S
        hints = {
            "refused_by_broker": relay.refusing,
            PACKET_LIMIT: relay.limited,
            "delivery_unproven": relay.unproven,
            "nobody_listens": relay.nobody_listens,
            "session_taken_over": replaced,
        }
        return (*(hint for hint, holds in hints.items() if holds), *self._lacks)

    def _update_delivery(self, connection: Connection) -> None:
        relay = self._relay
        now = Delivery(
            connected=not connection.closed,
            complete=relay.idle,
            verdicts_complete=relay.verdicts_idle,
            events_refused=relay.refuses_events,
            acknowledged=relay.acknowledged,
            dead_letters=relay.dead_letters,
            nobody_listens=relay.nobody_listens,
            refusing=relay.refusing,
            hints=self._hints(),
        )
        with self._changed:
            if now != self._delivery:
                self._delivery = now
                self._changed.notify_all()


def _nobody_asks(_received_ns: int) -> None:
    """A refused trigger is an event, and no line switches for it."""


def _nobody_waits() -> None:
    """Nothing depends on what was sent while nobody listened."""
