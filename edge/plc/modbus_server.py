"""A Modbus TCP server over a few registers: connections, limits, and pymodbus for the messages.

Framing is ours (MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3), so that requests
that come together are answered one by one and in order, and that connections, silence and rate
have bounds. Requests and responses are pymodbus' own.
"""

import asyncio
import errno
import logging
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from edge.errors import ConfigurationError
from edge.token_bucket import TokenBucket

log = logging.getLogger(__name__)

HEADER = struct.Struct(">HHHB")  # transaction, protocol, length from the unit on, unit
MAX_PDU_BYTES = 253
# Units that every device at the end of a TCP connection answers for.
ANY_UNIT = (0, 255)
# Reading and writing of bits and registers; whatever else there is, is no business of this table.
FUNCTIONS = frozenset({1, 2, 3, 4, 5, 6, 15, 16, 22, 23})
WRITES = frozenset({5, 6, 15, 16, 22, 23})
# Exception codes.
UNKNOWN_FUNCTION, OUTSIDE, WRONG_VALUE, BUSY, UNKNOWN_UNIT = 0x01, 0x02, 0x03, 0x06, 0x0B
COIL_VALUES = (b"\x00\x00", b"\xff\x00")
# A connection without a request for so long is dead; a new one may replace it sooner.
SILENT_S = 60.0
REPLACEABLE_S = 2.0
# A master that does not read its answers is hung up on.
MAX_UNREAD_BYTES = 64 * 1024
RATE_POLL_S = 0.02

_TO_DO = {
    errno.EADDRINUSE: "Another program uses it: stop that program, or choose another port",
    errno.EACCES: (
        "Ports below 1024 need the capability CAP_NET_BIND_SERVICE (docs/modbus.md), "
        "or choose another port"
    ),
}


class ModbusNotInstalled(ConfigurationError):
    """The library that reads and writes Modbus messages is not installed."""


class ModbusAddressUnusable(ConfigurationError):
    """Nothing can listen at the address that the settings name."""


class Registers(Protocol):
    """What masters read and write; every call is one moment of it."""

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        """Return what a function code reads there; None outside of the table."""

    def may_write(self, master: str) -> bool:
        """Tell whether the master at this address may write now."""

    def write(self, function: int, address: int, values: list[int], master: str) -> bool:
        """Write for the master at this address; False outside of the table, and nothing written."""


@dataclass(frozen=True, slots=True)
class _Library:
    """What is used of pymodbus: requests from bytes, exception responses, their codes."""

    decode: Callable[[bytes], Any]
    refusal: Callable[[int, int], Any]
    code: Callable[[int], Any]


def modbus_library() -> _Library:
    """Load pymodbus.

    Raises:
        ModbusNotInstalled: names what to install.
    """
    try:
        # pymodbus is an extra of its own.
        from pymodbus.constants import ExcCodes
        from pymodbus.pdu import DecodePDU, ExceptionResponse
    except ImportError as error:
        raise ModbusNotInstalled(
            f"the Modbus server cannot run: {error}. Install the extra: pip install "
            "'inspection-station[modbus]', or leave the section modbus out."
        ) from error
    # What it cannot decode is answered and counted here; a flood of it must not fill the log.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    return _Library(DecodePDU(True).decode, ExceptionResponse, ExcCodes)


def bound_socket(host: str, port: int) -> socket.socket:
    """Bind the address; masters are refused until it is listened at.

    Raises:
        ModbusAddressUnusable: names cause and next step.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        todo = _TO_DO.get(error.errno or 0, "modbus.host must be an address of this PC")
        raise ModbusAddressUnusable(
            f"modbus: nothing can listen at {host}:{port} ({error.strerror}). {todo}."
        ) from error
    return bound


@dataclass(slots=True)
class ServerCounts:
    """What the server has seen.

    Attributes:
        connected: masters that are connected now.
        refused: connections that found no place.
        requests, exceptions: answered, and how many of them with an exception.
    """

    connected: int = 0
    refused: int = 0
    requests: int = 0
    exceptions: int = 0


class ModbusServer:
    """Answers masters; everything here runs in the loop of one thread.

    Attributes:
        counts: read by any thread.
    """

    def __init__(
        self,
        *,
        registers: Registers,
        unit: int,
        max_connections: int,
        requests_per_s: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Prepare a server; nothing listens yet.

        Args:
            unit: that it answers for, besides ``ANY_UNIT``.
            max_connections: at a time; a new one takes the place of one that is silent.
            requests_per_s: of one connection; faster ones have to wait.

        Raises:
            ModbusNotInstalled: pymodbus is missing.
        """
        self.counts = ServerCounts()
        self.requests_per_s = requests_per_s
        self.clock_ns = clock_ns
        self._library = modbus_library()
        self._registers = registers
        self._units = (*ANY_UNIT, unit)
        self._max_connections = max_connections
        self._connections: list[_Connection] = []

    async def serve(self, bound: socket.socket, ended: asyncio.Event) -> None:
        """Serve until ``ended`` is set, then hang up."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), sock=bound)
        try:
            while not ended.is_set():
                self._drop_silent()
                try:
                    await asyncio.wait_for(ended.wait(), 1.0)
                except TimeoutError:
                    continue
        finally:
            server.close()
            for one in tuple(self._connections):
                one.close()
            await asyncio.sleep(0)

    async def answer(self, frame: bytes, unit: int, transaction: int, master: str) -> bytes:
        """Return the whole response to one request.

        Args:
            frame: function code and data.
            master: address of who asks.
        """
        self.counts.requests += 1
        response = await self._response(frame, unit, master)
        self.counts.exceptions += bool(response.function_code & 0x80)
        content = bytes([response.function_code]) + response.encode()
        return HEADER.pack(transaction, 0, len(content) + 1, unit) + content

    def place_for(self, connection: "_Connection") -> bool:
        """Take a connection in, if need be for one that is silent."""
        if len(self._connections) >= self._max_connections:
            # A crowd that says nothing makes room before a master that has said something.
            oldest = min(self._connections, key=lambda one: (one.has_asked, one.heard_ns))
            if self.clock_ns() - oldest.heard_ns < REPLACEABLE_S * 1e9:
                self.counts.refused += 1
                if self.counts.refused == 1:
                    log.warning(
                        "more than %d Modbus connections: one was refused, and further ones are "
                        "counted. Find out who connects, or raise modbus.connections.",
                        self._max_connections,
                    )
                return False
            oldest.close()
            self.leave(oldest)
        self._connections.append(connection)
        self.counts.connected = len(self._connections)
        return True

    def leave(self, connection: "_Connection") -> None:
        """Free the place of a connection."""
        if connection in self._connections:
            self._connections.remove(connection)
            self.counts.connected = len(self._connections)

    async def _response(self, frame: bytes, unit: int, master: str) -> Any:
        function = frame[0]
        if unit not in self._units:
            return self._library.refusal(function, UNKNOWN_UNIT)
        if function not in FUNCTIONS:
            return self._library.refusal(function, UNKNOWN_FUNCTION)
        request = self._library.decode(frame)
        if request is None or (function == 5 and frame[3:5] not in COIL_VALUES):
            return self._library.refusal(function, WRONG_VALUE)
        # A request that reads and writes does neither where it may not do both.
        if function == 23 and not self._readable(request):
            return self._library.refusal(function, OUTSIDE)
        if function in WRITES and not self._registers.may_write(master):
            return self._library.refusal(function, BUSY)
        table = _TableOf(master, self._registers, self._library.code(OUTSIDE))
        return await request.datastore_update(table, unit)

    def _readable(self, request: Any) -> bool:
        return self._registers.read(23, request.read_address, request.read_count) is not None

    def _drop_silent(self) -> None:
        now_ns = self.clock_ns()
        for one in tuple(self._connections):
            if now_ns - one.heard_ns > SILENT_S * 1e9:
                one.close()


@dataclass(frozen=True, slots=True)
class _TableOf:
    """The registers as requests of pymodbus read and write them, for one master."""

    master: str
    registers: Registers
    outside: Any

    async def async_getValues(  # noqa: N802 - as pymodbus' requests call it
        self, unit: int, function: int, address: int, count: int = 1
    ) -> Any:
        found = self.registers.read(function, address, count)
        return self.outside if found is None else found

    async def async_setValues(  # noqa: N802 - as pymodbus' requests call it
        self, unit: int, function: int, address: int, values: list[int]
    ) -> Any:
        written = self.registers.write(function, address, list(values), self.master)
        return None if written else self.outside


class _Connection(asyncio.Protocol):
    """One master: frames in, answers out, in order."""

    def __init__(self, server: ModbusServer) -> None:
        self.heard_ns = server.clock_ns()
        self.has_asked = False
        self._server = server
        self._received = bytearray()
        self._master = ""
        self._transport: asyncio.Transport | None = None
        self._rate = TokenBucket(60 * server.requests_per_s, server.requests_per_s)
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._master = str((transport.get_extra_info("peername") or ("?",))[0])
        if not self._server.place_for(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.leave(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._answering is None or self._answering.done():
            self._answering = asyncio.get_running_loop().create_task(self._answer_all())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _answer_all(self) -> None:
        transport = self._transport
        assert transport is not None
        while len(self._received) > HEADER.size and not transport.is_closing():
            transaction, protocol, length, unit = HEADER.unpack_from(self._received)
            if protocol != 0 or not 2 <= length <= MAX_PDU_BYTES + 1:
                self.close()  # what follows cannot be told apart any more
                return
            end = HEADER.size - 1 + length
            if len(self._received) < end:
                return
            frame = bytes(self._received[HEADER.size : end])
            del self._received[:end]
            while not self._rate.try_consume(self._server.clock_ns()):
                transport.pause_reading()
                await asyncio.sleep(RATE_POLL_S)
                transport.resume_reading()
            self.heard_ns, self.has_asked = self._server.clock_ns(), True
            transport.write(await self._server.answer(frame, unit, transaction, self._master))
            if transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
                self.close()
