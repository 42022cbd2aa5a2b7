"""Coils of a remote I/O module, which is a Modbus TCP server; pymodbus' client writes them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edge.errors import ConfigurationError, StationError
from edge.plc.output_device import Levels, OutputDeviceAway, OutputRefused
from edge.settings.outputs import RemoteIoSettings

# Answers that no other moment will change: unknown function, address, value.
_LASTING = {1: "writes no coils", 2: "has no such coil", 3: "does not take it"}


class ModbusClientMissing(ConfigurationError):
    """The library of the Modbus client is not installed."""


def modbus_client(host: str, port: int, timeout_s: float) -> Any:
    """Return a client that is not connected yet, and repeats nothing by itself.

    Raises:
        ModbusClientMissing: names what to install.
    """
    try:
        # pymodbus is an extra of its own.
        from pymodbus.client import ModbusTcpClient
    except ImportError as error:
        raise ModbusClientMissing(
            f"nothing can be written over Modbus: {error}. Install the extra: "
            "pip install 'inspection-station[modbus]'."
        ) from error
    # Whoever calls logs once that it is away; the library would log each attempt.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    return ModbusTcpClient(host, port=port, timeout=timeout_s, retries=0)


class RemoteIo:
    """The coils of one module."""

    def __init__(self, settings: RemoteIoSettings) -> None:
        """Nothing is connected yet.

        Raises:
            ModbusClientMissing: the extra is not installed.
        """
        self.refresh_s: float | None = settings.refresh_ms / 1e3
        self._settings = settings
        self._where = f"{settings.host}:{settings.port}"
        self._client = modbus_client(settings.host, settings.port, settings.timeout_ms / 1e3)

    def open(self, levels: Levels) -> None:
        self._client.close()
        self.write(levels)

    def write(self, levels: Levels) -> None:
        def write_all() -> None:
            for first, values in _runs(levels):
                unit = self._settings.unit
                if len(values) == 1:
                    answer = self._client.write_coil(first, values[0], device_id=unit)
                else:
                    answer = self._client.write_coils(first, values, device_id=unit)
                self._raise_if_refused(answer, first, len(values))

        self._ask(write_all)

    def read(self, coils: Sequence[int]) -> None:
        """Read coils, for whoever wants to know whether they are there; writes nothing.

        Raises:
            OutputDeviceAway: the module does not answer now.
            OutputRefused: it does not have one of them.
        """

        def read_all() -> None:
            for coil in coils:
                answer = self._client.read_coils(coil, count=1, device_id=self._settings.unit)
                self._raise_if_refused(answer, coil, 1)

        self._ask(read_all)

    def close(self) -> None:
        self._client.close()

    def _ask(self, requests: Callable[[], None]) -> None:
        try:
            if not self._client.connect():
                raise OutputDeviceAway(self._away("cannot be reached"), asked=False)
            requests()
        except StationError:
            raise
        except Exception as error:  # whatever the socket gives, and exceptions of pymodbus' own
            connected = self._client.connected
            self._client.close()
            silent = f"did not answer within {self._settings.timeout_ms:g} ms"
            cause = silent if connected else "closed the connection"
            raise OutputDeviceAway(self._away(cause)) from error

    def _raise_if_refused(self, answer: Any, first: int, count: int) -> None:
        if not answer.isError():
            return
        code = getattr(answer, "exception_code", 0)
        coils = f"coil {first}" if count == 1 else f"coils {first} to {first + count - 1}"
        if code in _LASTING:
            raise OutputRefused(
                f"outputs.module {self._where}: {coils}: the module {_LASTING[code]} (exception "
                f"{code}). See which coils it has, and set outputs.*.line."
            )
        raise OutputDeviceAway(self._away(f"answers {coils} with exception {code}"))

    def _away(self, cause: str) -> str:
        return (
            f"outputs.module {self._where}: {cause}. Check its power and cable, and "
            "outputs.module.host."
        )


def _runs(levels: Levels) -> Iterator[tuple[int, list[bool]]]:
    """Yield neighbouring coils together, first coil and values: one request each."""
    coils = sorted((int(line), level) for line, level in levels.items())
    start = 0
    for at in range(1, len(coils) + 1):
        if at == len(coils) or coils[at][0] != coils[at - 1][0] + 1:
            yield coils[start][0], [level for _, level in coils[start:at]]
            start = at
