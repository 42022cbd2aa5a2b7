"""Coils of a remote I/O module, which is a Modbus TCP server; pymodbus' client writes them."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from edge.errors import ConfigurationError, StationError
from edge.plc.output_device import Levels, OutputDeviceAway, OutputRefused
from edge.settings.outputs import RemoteIoSettings

T = TypeVar("T")
# Answers that no other moment will change: unknown function, address, value.
_LASTING = {
    code: (
        f"the module {what} (exception {{code}}). Find out which coils it has, and "
        "set outputs.*.line."
    )
    for code, what in {1: "writes no coils", 2: "has no such coil", 3: "rejects the value"}.items()
}


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


class ModbusDevice:
    """Asks a Modbus TCP server; connects when it has to."""

    def __init__(self, *, key: str, host: str, port: int, timeout_ms: float) -> None:
        """Nothing is connected yet.

        Args:
            key: of its settings, for messages.

        Raises:
            ModbusClientMissing: the extra is not installed.
        """
        self._key = key
        self._timeout_ms = timeout_ms
        self._where = f"{key} {host}:{port}"
        self.client = modbus_client(host, port, timeout_ms / 1e3)

    def ask(self, requests: Callable[[], T]) -> T:
        """Do what needs the connection.

        Raises:
            OutputDeviceAway: it does not answer.
            StationError: what the requests raise.
        """
        try:
            if not self.client.connect():
                raise OutputDeviceAway(self._away("cannot be reached"), asked=False)
            return requests()
        except StationError:
            raise
        except Exception as error:  # whatever the socket gives, and exceptions of pymodbus' own
            connected = self.client.connected
            self.client.close()
            silent = f"did not answer within {self._timeout_ms:g} ms"
            cause = silent if connected else "closed the connection"
            raise OutputDeviceAway(self._away(cause)) from error

    def raise_if_refused(self, answer: Any, what: str, lasting: Mapping[int, str]) -> None:
        """Raise where an answer is an exception.

        Args:
            what: was asked for.
            lasting: exceptions that no other moment will change, and what to say of them.

        Raises:
            OutputRefused: one of these.
            OutputDeviceAway: another one.
        """
        if not answer.isError():
            return
        code = getattr(answer, "exception_code", 0)
        if code in lasting:
            raise OutputRefused(f"{self._where}: {what}: {lasting[code].format(code=code)}")
        raise OutputDeviceAway(self._away(f"answers {what} with exception {code}"))

    def _away(self, cause: str) -> str:
        return f"{self._where}: {cause}. Check its power and cable, and {self._key}.host."


class RemoteIo:
    """The coils of one module."""

    def __init__(self, settings: RemoteIoSettings) -> None:
        """Nothing is connected yet.

        Raises:
            ModbusClientMissing: the extra is not installed.
        """
        self.refresh_s: float | None = settings.refresh_ms / 1e3
        self._settings = settings
        self._device = ModbusDevice(
            key="outputs.module",
            host=settings.host,
            port=settings.port,
            timeout_ms=settings.timeout_ms,
        )

    def open(self, levels: Levels) -> None:
        self._device.client.close()
        self.write(levels)

    def write(self, levels: Levels) -> None:
        client, unit = self._device.client, self._settings.unit

        def write_all() -> None:
            for first, values in _runs(levels):
                if len(values) == 1:
                    answer = client.write_coil(first, values[0], device_id=unit)
                else:
                    answer = client.write_coils(first, values, device_id=unit)
                self._device.raise_if_refused(answer, _coils(first, len(values)), _LASTING)

        self._device.ask(write_all)

    def read(self, coils: Sequence[int]) -> None:
        """Read coils, for whoever wants to know whether they are there; writes nothing.

        Raises:
            OutputDeviceAway: the module does not answer now.
            OutputRefused: it does not have one of them.
        """
        client, unit = self._device.client, self._settings.unit

        def read_all() -> None:
            for coil in coils:
                answer = client.read_coils(coil, count=1, device_id=unit)
                self._device.raise_if_refused(answer, _coils(coil, 1), _LASTING)

        self._device.ask(read_all)

    def close(self) -> None:
        self._device.client.close()


def _coils(first: int, count: int) -> str:
    return f"coil {first}" if count == 1 else f"coils {first} to {first + count - 1}"


def _runs(levels: Levels) -> Iterator[tuple[int, list[bool]]]:
    """Yield neighbouring coils together, first coil and values: one request each."""
    coils = sorted((int(line), level) for line, level in levels.items())
    start = 0
    for at in range(1, len(coils) + 1):
        if at == len(coils) or coils[at][0] != coils[at - 1][0] + 1:
            yield coils[start][0], [level for _, level in coils[start:at]]
            start = at
