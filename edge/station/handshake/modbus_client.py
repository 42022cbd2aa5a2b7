"""The thread that visits a PLC which is the server: the same registers, read and written there."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from edge.plc import registers as table
from edge.plc.modbus_server import ServerCounts
from edge.plc.remote_io import modbus_client
from edge.settings.modbus import ModbusSettings, PlcSettings
from edge.station.handshake.modbus_link import LinkServices, ModbusLink

log = logging.getLogger(__name__)

# Between two attempts to reach a PLC that does not answer.
RETRY_S = 0.5
_WRITE_REGISTERS, _READ_STATUS = 16, 4
_HEARTBEAT = table.named(table.COMMAND, "master_heartbeat").address


class PlcRefuses(Exception):
    """The PLC answered with an exception: it has no such registers."""


class ModbusClientThread(ModbusLink):
    """Reads the command block of a PLC and writes the status block into it.

    The status is written whole, in one request, as soon as it has changed, at least with each beat
    of the station's heart. What stands in the command block when the PLC is reached is no command
    until its heartbeat has changed.
    """

    def __init__(self, settings: ModbusSettings, services: LinkServices, plc: PlcSettings) -> None:
        """Nothing is connected yet.

        Raises:
            ModbusClientMissing: pymodbus is missing.
        """
        super().__init__(settings, services, f"{plc.host}:{plc.port}")
        self.counts = ServerCounts()
        self._plc = plc
        self._client: Any = modbus_client(plc.host, plc.port, plc.timeout_ms / 1e3)
        self._changed = threading.Event()
        self._stale_heartbeat: int | None = None  # as it stood when the PLC was reached
        self._written: list[int] | None = None
        self._trouble = ""
        services.port.on_change(self._changed.set)

    def run(self, ending: Callable[[], bool]) -> None:
        self.begin()
        poll_s = self._plc.poll_ms / 1e3
        try:
            while not ending():
                self.tick()
                reached = self._visit()
                if reached:
                    self._changed.wait(poll_s)
                else:
                    time.sleep(RETRY_S)
        finally:
            self._client.close()

    def _visit(self) -> bool:
        """Exchange both blocks; False where the PLC does not do its part."""
        try:
            if not self.counts.connected:
                self._connect()
            self._write_status()
            self._on_command(self._read_command())
            self._write_status()
        except Exception as error:  # whatever the socket gives, and exceptions of pymodbus' own
            self._client.close()
            self.counts.connected = 0
            self._port.on_master_lost()  # what it announces meanwhile nobody reads
            self._watch_master()
            trouble = f"{type(error).__name__}: {error}".replace("\n", " ")
            if trouble != self._trouble:
                log.warning("Modbus at %s: %s. It is tried again.", self.address, trouble)
            self._trouble = trouble
            return False
        self._trouble = ""
        return True

    def _connect(self) -> None:
        if not self._client.connect():
            raise ConnectionError("the PLC cannot be reached")
        self._written = None
        self._stale_heartbeat = self._read_command()[_HEARTBEAT]
        self.counts.connected = 1

    def _read_command(self) -> list[int]:
        answer = self._client.read_holding_registers(
            self._plc.command_address, count=table.COMMAND_WORDS, device_id=self._settings.unit
        )
        self._check(answer, "read", self._plc.command_address)
        return list(answer.registers)

    def _on_command(self, words: list[int]) -> None:
        if words[_HEARTBEAT] == self._stale_heartbeat:
            return
        self._stale_heartbeat = None
        self.write(_WRITE_REGISTERS, 0, words, self._plc.host)

    def _write_status(self) -> None:
        self._changed.clear()  # before it is read: what changes now is written next time
        words = self._port.read(_READ_STATUS, 0, table.STATUS_WORDS)
        if words is None or words == self._written:
            return
        answer = self._client.write_registers(
            self._plc.status_address, words, device_id=self._settings.unit
        )
        self._check(answer, "written", self._plc.status_address)
        self._written = words

    def _away_detail(self) -> str:
        if self.counts.connected:
            return super()._away_detail()
        return f"the registers of the PLC at {self.address} cannot be reached. Check PLC and cable."

    def _check(self, answer: Any, what: str, address: int) -> None:
        self.counts.requests += 1
        if answer.isError():
            self.counts.exceptions += 1
            code = getattr(answer, "exception_code", "?")
            raise PlcRefuses(
                f"its holding registers from {address} on cannot be {what} (exception {code})"
            )
