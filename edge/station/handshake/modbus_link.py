"""What the hand-shake learns of the master of its registers, whichever side connects."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from edge.contract.commands import ControlMessage
from edge.contract.event import Event, Severity
from edge.plc.modbus_server import ServerCounts
from edge.plc.registers import Order
from edge.settings.modbus import ModbusSettings
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.modbus_port import ModbusPort
from edge.station.handshake.part import Input, nanoseconds
from edge.station.monitoring.health import Health
from edge.token_bucket import TokenBucket

log = logging.getLogger(__name__)

MASTER_AWAY = "modbus_master_away"
SECOND_MASTER = "modbus_second_master"
# A second master counts as gone after so long without a write that was refused.
SECOND_GONE_NS = 10_000_000_000
HEARTBEAT_NS = 500_000_000
# Of a master that comes and goes; the reason of the station is right all the same.
REPORTS_PER_MINUTE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusStatus:
    """What people see of the port.

    Attributes:
        master: its heartbeat changes.
        connections, refused: now, and those that found no place.
        requests, exceptions: answered, and how many of them with an exception.
        triggers, last_trigger: how many, and the id of the newest; None before the first.
        results_missed: that left unacknowledged.
    """

    leads: bool
    address: str
    master: bool
    connections: int
    refused: int
    requests: int
    exceptions: int
    triggers: int
    last_trigger: int | None
    results_missed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkServices:
    """What a link has of its station.

    Attributes:
        accepts_triggers: without a master that is there, the station is not ready.
        put: queues a message for the station; False where there is no room.
    """

    port: ModbusPort
    accepts_triggers: bool
    handshake: HandshakeCoordinator
    put: Callable[[ControlMessage], bool]
    health: Health
    record_event: Callable[[Event], None]


def modbus_port(settings: ModbusSettings, accepts_triggers: bool, max_results: int) -> ModbusPort:
    """Return the port that the settings ask for."""
    return ModbusPort(
        leads=settings.leads,
        accepts_triggers=accepts_triggers,
        max_results=max_results,
        order=Order(settings.word_order == "little", settings.byte_order == "little"),
        master_timeout_ns=nanoseconds(settings.master_timeout_ms),
    )


class ModbusLink(ABC):
    """The registers of a port in one thread: the only one in which the master is heard.

    Attributes:
        address: of the registers.
        counts: of connections and requests.
    """

    counts: ServerCounts

    def __init__(self, settings: ModbusSettings, services: LinkServices, address: str) -> None:
        self.address = address
        self._settings = settings
        self._port = services.port
        self._services = services
        self._master = False
        self._beat_ns = time.monotonic_ns()
        self._reports = TokenBucket(REPORTS_PER_MINUTE)
        self._refusals = TokenBucket(REPORTS_PER_MINUTE)
        self._refused: tuple[str, str] | None = None  # who was, and who is the master
        self._refused_ns = 0
        log.info("Modbus at %s, unit %d", address, settings.unit)

    @abstractmethod
    def run(self, ending: Callable[[], bool]) -> None:
        """Serve or visit the master until the station ends; the body of the thread."""

    def may_write(self, master: str) -> bool:
        """Tell whether a master may write: none, while the heartbeat of another one changes."""
        leading = self._port.master
        if leading is None or leading == master:
            return True
        self._refused_ns = time.monotonic_ns()
        if self._refused != (master, leading):
            self._refused = (master, leading)
            self._report_second_master(master, leading)
        return False

    def write(self, function: int, address: int, values: list[int], master: str) -> bool:
        """Take what the master has written; False outside of the table."""
        written = self._port.write(function, address, values, master)
        # Before its trigger, which may come in the same write.
        if self._services.accepts_triggers:
            self._doubt_announcements()
        self._watch_master()
        for message in self._port.read_messages():
            if not self._services.put(message):
                self._port.on_overload(message)
        return written

    def status(self) -> ModbusStatus:
        """Return what people see of the port."""
        counts = self.counts
        return ModbusStatus(
            leads=self._settings.leads,
            address=self.address,
            master=self._master,
            connections=counts.connected,
            refused=counts.refused,
            requests=counts.requests,
            exceptions=counts.exceptions,
            triggers=self._port.triggers,
            last_trigger=self._port.last_trigger,
            results_missed=self._port.missed,
        )

    def begin(self) -> None:
        """Note that no master was heard yet."""
        if self._services.accepts_triggers:
            detail = "no Modbus master has sent a heartbeat yet. Start the PLC, or check its cable."
            self._services.health.set(MASTER_AWAY, True, detail)

    def tick(self) -> None:
        """Do what is due by time."""
        self._watch_master()
        self._port.set_missing(self._services.handshake.missing)
        now_ns = time.monotonic_ns()
        if self._refused is not None and now_ns - self._refused_ns > SECOND_GONE_NS:
            self._refused = None
            self._services.health.set(SECOND_MASTER, False)
        if now_ns >= self._beat_ns:
            self._port.beat()
            self._beat_ns = max(self._beat_ns + HEARTBEAT_NS, now_ns)

    def _watch_master(self) -> None:
        there = self._port.master_is_there()
        if there == self._master:
            return
        self._master = there
        services = self._services
        if not services.accepts_triggers:
            return
        if there:
            services.handshake.announcement_lost()
        services.handshake.set_ready(Input.MASTER, there)
        detail = self._away_detail()
        services.health.set(MASTER_AWAY, not there, detail)
        if not self._reports.try_consume(time.monotonic_ns()):
            return  # one that comes and goes would fill log and journal
        if there:
            text = f"the Modbus master at {self._port.master} is connected"
            log.info("%s", text)
            event = Event("modbus_master_back", Severity.INFO, text)
        else:
            log.warning("%s", detail)
            event = Event(MASTER_AWAY, Severity.WARNING, detail)
        services.record_event(event)

    def _doubt_announcements(self) -> None:
        """Let no image meet a part that the master has forgotten, or was refused."""
        if self._port.has_begun_anew():
            self._services.handshake.announcements_forgotten()
        if self._port.has_announced_again():
            self._services.handshake.announcement_lost()

    def _away_detail(self) -> str:
        limit = f"{self._settings.master_timeout_ms:g} ms"
        return f"the Modbus master's heartbeat has not changed for {limit}. Check PLC and cable."

    def _report_second_master(self, master: str, leading: str) -> None:
        detail = (
            f"{master} writes commands while {leading} is the master, and is refused. Only one PLC "
            "may command this station: find out who it is, and stop it."
        )
        self._services.health.set(SECOND_MASTER, True, detail)
        if not self._refusals.try_consume(time.monotonic_ns()):
            return
        log.warning("Modbus: %s", detail)
        data = {"refused": master, "master": leading}
        self._services.record_event(Event(SECOND_MASTER, Severity.WARNING, detail, data))
