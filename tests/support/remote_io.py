"""A remote I/O module, or the memory of a PLC: pymodbus' own server, with coils and registers."""

import asyncio
import threading
import time
from collections.abc import Callable, Container, Mapping
from typing import Any, Self

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

GENEROUS_S = 60.0
COILS = 16
_WRITES = (5, 15)


class RemoteIoModule:
    """One module; ``stop`` pulls its plug, ``start`` puts it back at the same port.

    Attributes:
        port: of 127.0.0.1; from the first start on.
        delay_s: how long it thinks about each request of the functions in ``delayed``.
        watchdog_s: without a request that writes for so long it writes ``safe`` levels.
        writes: monotonic time, first coil and levels of each request that wrote, in order.
        trips: how often its watchdog ended a level.
    """

    def __init__(self, safe: Mapping[int, bool] = {}) -> None:
        self.trips = 0
        self.watchdog_s: float | None = None
        self.delayed: Container[int] = range(256)
        self._safe = dict(safe)
        self.port = 0
        self.delay_s = 0.0
        self.writes: list[tuple[float, int, tuple[bool, ...]]] = []
        self._written: tuple[bool, ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: ModbusTcpServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        self._thread.start()
        assert started.wait(GENEROUS_S)

    def stop(self) -> None:
        if self._thread is None or self._loop is None or self._server is None:
            return
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(GENEROUS_S)
        self._thread.join(GENEROUS_S)
        self._thread = None

    def edges(self, coil: int) -> list[bool]:
        """Return the levels that a coil had one after the other."""
        levels: list[bool] = []
        for _, first, values in tuple(self.writes):
            if first <= coil < first + len(values):
                level = values[coil - first]
                if not levels or levels[-1] is not level:
                    levels.append(level)
        return levels

    def level(self, coil: int) -> bool:
        """Return what was written to a coil last."""
        return self.edges(coil)[-1]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + GENEROUS_S
        while not condition():
            assert time.monotonic() < deadline, (
                f"not within {GENEROUS_S:g} s: {what}: {self.writes}"
            )
            time.sleep(0.005)

    async def _serve(self, started: threading.Event) -> None:
        coils = [SimData(0, count=COILS, values=False, datatype=DataType.BITS)]
        words = [SimData(0, count=200, datatype=DataType.REGISTERS)]
        self._loop = asyncio.get_running_loop()
        self._server = server = ModbusTcpServer(
            SimDevice(1, (coils, coils, words, words)),
            address=("127.0.0.1", self.port),
            trace_pdu=self._seen,
        )
        await server.serve_forever(background=True)
        assert isinstance(server.transport, asyncio.Server)
        self.port = server.transport.sockets[0].getsockname()[1]
        started.set()
        watching = asyncio.create_task(self._watch())
        await server.serving
        watching.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            fed_s = self.writes[-1][0] if self.writes else time.monotonic()
            if self.watchdog_s is not None and time.monotonic() - fed_s >= self.watchdog_s:
                self.trips += 1
                for coil, level in self._safe.items():
                    self.writes.append((time.monotonic(), coil, (level,)))

    def _seen(self, sending: bool, pdu: Any) -> Any:
        if not sending and pdu.function_code in self.delayed:
            time.sleep(self.delay_s)
        if sending and pdu.function_code in _WRITES:
            self.writes.append((time.monotonic(), pdu.address, self._written))
        if not sending and pdu.function_code in _WRITES:
            levels = tuple(map(bool, pdu.bits))
            self._written = levels[: pdu.count] if pdu.function_code == 15 else levels[:1]
        return pdu
