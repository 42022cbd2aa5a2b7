"""A broker in memory, and the station's connection to it, message by message."""

import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge.mqtt.broker_limits import BrokerLimits, LearnedLimits
from edge.mqtt.connection import Connection, ConnectionRefused, Echo, Incoming, Unanswered
from tests.simulation.scheduler import MILLISECOND, SECOND, Scheduler, Signal, nanoseconds

TAKEN = ReasonCode(PacketTypes.PUBACK, "Success")
REFUSED = ReasonCode(PacketTypes.PUBACK, "Quota exceeded")
# paho gives a connection up when a ping has no answer within the keep-alive time.
SILENCE_LIMIT_NS = 20 * SECOND
# The broker, when it has heard nothing for one and a half times the keep-alive time.
BROKER_LIMIT_NS = 15 * SECOND
CONNECT_LIMIT_NS = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Published:
    """A message as it reached the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    connection: int


class SimulatedBroker:
    """Takes messages in order, acknowledges, keeps what is retained, publishes wills.

    Attributes:
        mode: ``up``, ``away``, ``half_open``, ``refusing``, ``forgetful`` or ``slow``.
        on_message: whoever listens to all of it.
    """

    def __init__(self, scheduler: Scheduler, seed: str) -> None:
        self.scheduler = scheduler
        self.chance = random.Random(seed)
        self.mode = "up"
        self.connection: SimulatedConnection | None = None
        self.connections = 0
        self.retained: dict[str, bytes] = {}
        self.on_message: Callable[[Published], None] = lambda _: None
        self.on_refused: Callable[[Published], None] = lambda _: None
        self.on_connected: Callable[[int], None] = lambda _: None

    def set_mode(self, mode: str) -> None:
        before, self.mode = self.mode, mode
        # A machine that is back after it went without a word knows no connection of before.
        if self.connection is not None and (mode == "away" or before == "half_open"):
            self.drop(self.connection)

    def latency_ns(self) -> int:
        return int((0.3 + 2.0 * self.chance.random()) * MILLISECOND)

    def drop(self, connection: "SimulatedConnection") -> None:
        """End a connection from here; what has not arrived never does."""
        if connection is self.connection:
            self.connection = None
            self._publish_will(connection)
        connection.end()

    def accept(self, connection: "SimulatedConnection") -> None:
        if self.connection is not None:  # taken over by the new one
            self.drop(self.connection)
        self.connection = connection
        self.connections += 1
        connection.number = self.connections
        self.on_connected(connection.number)

    def left(self, connection: "SimulatedConnection", in_order: bool) -> None:
        """Note that the station ended the connection."""
        if connection is not self.connection:
            return
        delay_ns = BROKER_LIMIT_NS if self.mode == "half_open" else self.latency_ns()

        def notice() -> None:
            if connection is self.connection:
                self.connection = None
                if not in_order:
                    self._publish_will(connection)

        self.scheduler.after(delay_ns, notice)

    def arrived(self, connection: "SimulatedConnection", mid: int, message: Published) -> None:
        if connection is not self.connection or self.mode in ("away", "half_open"):
            return
        refused = self.mode == "refusing" and message.topic.endswith(("/verdict", "/event"))
        if refused and self.chance.random() < 0.9:
            self.on_refused(message)
            reason = REFUSED
        else:
            if message.retain:
                self.retained[message.topic] = message.payload
            self.on_message(message)
            reason = TAKEN
        if message.qos == 0 or self.mode == "forgetful":
            return
        delay_ns = self.latency_ns()
        if self.mode == "slow":
            delay_ns += int(self.chance.random() * 3 * SECOND)
        self.scheduler.after(delay_ns, lambda: connection.answered(mid, reason))

    def send(self, incoming: Incoming) -> bool:
        """Pass a message on to the station; False where it is not connected."""
        connection = self.connection
        if connection is None or connection.closed or self.mode in ("away", "half_open"):
            return False
        self.scheduler.after(self.latency_ns(), lambda: connection.receive(incoming))
        return True

    def _publish_will(self, connection: "SimulatedConnection") -> None:
        will = connection.will
        if will is not None and self.mode != "away":
            payload = will.payload if isinstance(will.payload, bytes) else will.payload.encode()
            self.retained[will.topic] = payload
            self.on_message(Published(will.topic, payload, 1, True, 0))


class SimulatedWakeUp:
    """Ends a connection's wait from another thread."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.came = False
        self.signal = Signal(scheduler)

    def wake(self) -> None:
        self.came = True
        self.signal.notify_all()

    def clear(self) -> None:
        self.came = False

    def wait(self, timeout_s: float) -> None:
        if not self.came:
            self.signal.wait(nanoseconds(timeout_s))
        self.clear()


class SimulatedConnection(Connection):
    """The product's connection, with the broker of the simulation in place of a socket."""

    broker: SimulatedBroker  # of the station that runs; set by the simulation

    def __init__(
        self,
        *,
        broker: Any,
        version: Any,
        will: Any,
        wake_up: Any,
        stopping: Callable[[], bool],
        subscriptions: Any = None,
        learned: LearnedLimits | None = None,
        careful: bool = False,
    ) -> None:
        self.closed = False
        self.reason = None
        self.acks = deque()
        self.answers = deque()
        self.incoming = deque()
        self.echo = Echo.NOT_NEEDED
        self.echoes = deque()
        self.limits = BrokerLimits()
        self.subscribed = None
        self.careful = careful
        self.will = will
        self.number = 0
        self._learned = LearnedLimits() if learned is None else learned
        self._in_flight = set()
        self._unanswered = deque(maxlen=256)
        self._is_5 = True
        self._by_schema = {}
        self._waking: SimulatedWakeUp = wake_up
        self._mid = 0
        self._heard_ns = self._sent_ns = 0
        self._arrives_ns = 0
        self._at = SimulatedConnection.broker
        self._scheduler = scheduler = self._at.scheduler
        if self._at.mode == "away":
            scheduler.sleep_ns(self._at.latency_ns())
            raise ConnectionRefused("the broker cannot be reached", unreachable=True)
        if self._at.mode == "half_open":
            scheduler.sleep_ns(CONNECT_LIMIT_NS)
            raise ConnectionRefused("the broker did not answer", unanswered=True)
        scheduler.sleep_ns(2 * self._at.latency_ns())
        if self._at.mode in ("away", "half_open"):
            raise ConnectionRefused("the broker cannot be reached", unreachable=True)
        self._heard_ns = self._sent_ns = scheduler.now_ns
        self._at.accept(self)

    def publish(
        self,
        topic: str,
        content: bytes,
        schema: str | None,
        qos: int = 1,
        *,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> int:
        scheduler = self._scheduler
        scheduler.current()
        self._mid += 1
        mid = self._mid
        if qos:
            self._in_flight.add(mid)
        self._unanswered.append(Unanswered(mid, topic, len(content)))
        self._sent_ns = scheduler.now_ns
        message = Published(topic, content, qos, retain, self.number)
        # In order, as over TCP.
        self._arrives_ns = max(self._arrives_ns + 1, scheduler.now_ns + self._at.latency_ns())
        scheduler.at(self._arrives_ns, lambda: self._at.arrived(self, mid, message))
        return mid

    def request_answer(self) -> int:
        raise AssertionError("only Sparkplug asks")

    def turn(self, timeout_s: float) -> None:
        scheduler = self._scheduler
        if not (self.closed or self.acks or self.incoming or self._waking.came):
            self._waking.signal.wait(nanoseconds(min(max(timeout_s, 0.0), 1.0)))
        self._waking.clear()
        now_ns = scheduler.now_ns
        if self._at.mode in ("up", "slow", "refusing", "forgetful"):
            # Pings are answered; a broker that heard none for too long has hung up.
            if now_ns - self._heard_ns > BROKER_LIMIT_NS and not self.closed:
                self._at.drop(self)
            self._heard_ns = now_ns
        elif now_ns - self._heard_ns > SILENCE_LIMIT_NS:
            self.hang_up()

    def disconnect(self, *, publishing_will: bool = False) -> None:
        self._at.left(self, in_order=True)
        self.closed = True

    def hang_up(self) -> None:
        if not self.closed:
            self._at.left(self, in_order=False)
        self.closed = True

    # What the broker calls.

    def end(self) -> None:
        self.closed = True
        self._waking.signal.notify_all()

    def answered(self, mid: int, reason: ReasonCode) -> None:
        if not self.closed and self._at.mode not in ("away", "half_open"):
            self._on_ack(mid, reason)
            self._waking.signal.notify_all()

    def receive(self, incoming: Incoming) -> None:
        if not self.closed:
            self.incoming.append(incoming)
            self._waking.signal.notify_all()


def read_content(message: Published) -> dict[str, Any]:
    return json.loads(message.payload)
