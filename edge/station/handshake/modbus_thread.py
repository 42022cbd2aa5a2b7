"""The thread that serves the registers."""

import asyncio
import socket
from collections.abc import Callable

from edge.plc.modbus_server import ModbusServer, bound_socket, modbus_library
from edge.settings.modbus import ModbusSettings
from edge.station.handshake.modbus_link import LinkServices, ModbusLink

# How late the loss of the master is noticed, beside its own limit.
TICK_S = 0.02


def bind_modbus(settings: ModbusSettings) -> socket.socket | None:
    """Reserve the address before anything slow; None where the PLC is the server.

    Raises:
        ConfigurationError: pymodbus is missing, or nothing can listen there.
    """
    modbus_library()
    if settings.host is None:
        return None
    return bound_socket(settings.host, settings.port)


class ModbusThread(ModbusLink):
    """Serves the registers of a port; the one thread in which masters are answered."""

    def __init__(
        self, settings: ModbusSettings, services: LinkServices, bound: socket.socket
    ) -> None:
        """Prepare a server at an address that is bound.

        Args:
            bound: of ``bind_modbus``; closed at the end.

        Raises:
            ConfigurationError: pymodbus is missing.
        """
        host, number = bound.getsockname()[:2]
        super().__init__(
            settings, services, f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
        )
        self._server = ModbusServer(
            registers=self,
            unit=settings.unit,
            max_connections=settings.connections,
            requests_per_s=settings.requests_per_s,
        )
        self.counts = self._server.counts
        self._bound = bound

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        return self._port.read(function, address, count)

    def run(self, ending: Callable[[], bool]) -> None:
        asyncio.run(self._serve(ending))

    async def _serve(self, ending: Callable[[], bool]) -> None:
        ended = asyncio.Event()
        server = asyncio.create_task(self._server.serve(self._bound, ended))
        self.begin()
        try:
            while not ending() and not server.done():
                self.tick()
                await asyncio.sleep(TICK_S)
        finally:
            ended.set()
            await server
