"""The thread that serves the registers, and what the hand-shake learns of the master."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge.contract.commands import ControlMessage
from edge.contract.event import Event, Severity
from edge.plc.modbus_server import ModbusServer, bound_socket, modbus_library
from edge.plc.registers import Order
from edge.settings.modbus import ModbusSettings
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.modbus_port import ModbusPort
from edge.station.handshake.part import Input, nanoseconds
from edge.station.monitoring.health import Health
from edge.token_bucket import TokenBucket

log = logging.getLogger(__name__)

MASTER_AWAY = "modbus_master_away"
HEARTBEAT_S = 0.5
# How late the loss of the master is noticed, beside its own limit.
TICK_S = 0.02
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


def modbus_order(settings: ModbusSettings) -> Order:
    """Return how values lie in registers."""
    return Order(settings.word_order == "little", settings.byte_order == "little")


def bind_modbus(settings: ModbusSettings) -> socket.socket:
    """Reserve the address before anything slow.

    Raises:
        ConfigurationError: pymodbus is missing, or nothing can listen there.
    """
    modbus_library()
    return bound_socket(settings.host, settings.port)


def modbus_port(settings: ModbusSettings, takes_triggers: bool, max_results: int) -> ModbusPort:
    """Return the port that the settings ask for."""
    return ModbusPort(
        leads=settings.leads,
        takes_triggers=takes_triggers,
        max_results=max_results,
        order=modbus_order(settings),
        master_timeout_ns=nanoseconds(settings.master_timeout_ms),
    )


class ModbusThread:
    """Serves the registers of a port; the one thread in which masters are answered."""

    def __init__(
        self,
        *,
        settings: ModbusSettings,
        bound: socket.socket,
        port: ModbusPort,
        takes_triggers: bool,
        handshake: HandshakeCoordinator,
        put: Callable[[ControlMessage], bool],
        health: Health,
        record_event: Callable[[Event], None],
    ) -> None:
        """Args:
        bound: of ``bind_modbus``; closed at the end.
        takes_triggers: without a master that is there, the station is not ready.
        put: queues a message for the station; False where there is no room.
        """
        self._settings = settings
        self._port = port
        self._takes_triggers = takes_triggers
        self._handshake = handshake
        self._put = put
        self._health = health
        self._record_event = record_event
        self._master = False
        self._reports = TokenBucket(REPORTS_PER_MINUTE)
        self._server = ModbusServer(
            registers=self,
            unit=settings.unit,
            max_connections=settings.connections,
            requests_per_s=settings.requests_per_s,
        )
        self._bound = bound
        host, number = bound.getsockname()[:2]
        self.address = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
        log.info("Modbus at %s, unit %d", self.address, settings.unit)

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        return self._port.read(function, address, count)

    def write(self, function: int, address: int, values: list[int]) -> bool:
        written = self._port.write(function, address, values)
        self._watch_master()  # before its trigger, which may come in the same write
        for message in self._port.take_messages():
            if not self._put(message):
                self._port.not_taken(message)
        return written

    def run(self, ending: Callable[[], bool]) -> None:
        """Serve until the station ends; the body of the thread."""
        asyncio.run(self._serve(ending))

    def status(self) -> ModbusStatus:
        """Return what people see of the port."""
        counts = self._server.counts
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

    async def _serve(self, ending: Callable[[], bool]) -> None:
        ended = asyncio.Event()
        server = asyncio.create_task(self._server.serve(self._bound, ended))
        loop = asyncio.get_running_loop()
        beat_s = loop.time()
        if self._takes_triggers:
            detail = (
                "no Modbus master has shown a heartbeat yet. Start the PLC, or check its cable."
            )
            self._health.set(MASTER_AWAY, True, detail)
        try:
            while not ending() and not server.done():
                self._watch_master()
                self._port.set_missing(self._handshake.missing)
                if loop.time() >= beat_s:
                    self._port.beat()
                    beat_s += HEARTBEAT_S
                await asyncio.sleep(TICK_S)
        finally:
            ended.set()
            await server

    def _watch_master(self) -> None:
        there = self._port.master_is_there()
        if there == self._master:
            return
        self._master = there
        if not self._takes_triggers:
            return
        self._handshake.set_ready(Input.MASTER, there)
        limit = f"{self._settings.master_timeout_ms:g} ms"
        detail = f"the Modbus master's heartbeat has not changed for {limit}. Check PLC and cable."
        self._health.set(MASTER_AWAY, not there, detail)
        if not self._reports.take(time.monotonic_ns()):
            return  # one that comes and goes would fill log and journal
        if there:
            log.info("the Modbus master is there")
            self._record_event(Event("modbus_master_back", Severity.INFO, "the master is there"))
        else:
            log.warning("%s", detail)
            self._record_event(Event(MASTER_AWAY, Severity.WARNING, detail))
