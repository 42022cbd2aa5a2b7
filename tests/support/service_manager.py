"""The socket of a service manager: what a station tells systemd arrives here."""

import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

GENEROUS_S = 60.0
_MARK = "the test's own mark"


class NotifySocket:
    """A real datagram socket, of a path or abstract (``@name``), read all the time as systemd does.

    Attributes:
        address: as in ``NOTIFY_SOCKET``.
    """

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        abstract = self.address.startswith("@")
        self._bound_to = "\0" + self.address[1:] if abstract else self.address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._bound_to)
        self._arrived = threading.Condition()
        self._messages: list[str] = []
        self._taken = 0
        self._open = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def environment(self, watchdog_s: float | None = None) -> dict[str, str]:
        found = {"NOTIFY_SOCKET": self.address}
        if watchdog_s is not None:
            found["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        return found

    @property
    def received(self) -> list[str]:
        """Every message so far."""
        self._mark()
        with self._arrived:
            return [message for message in self._messages if message != _MARK]

    def next(self, timeout_s: float = GENEROUS_S) -> str | None:
        """Return the next message; None if none comes."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._messages) > self._taken, timeout_s):
                return None
            self._taken += 1
            return self._messages[self._taken - 1]

    def wait_for(self, field: str, timeout_s: float = GENEROUS_S) -> str:
        """Return the next message that holds a field which begins so."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            message = self.next(left_s)
            if message and any(line.startswith(field) for line in message.split("\n")):
                return message
        raise AssertionError(f"no {field} within {timeout_s} s; the last: {self.received[-3:]}")

    def waiting(self) -> list[str]:
        """Return what was sent until now and was not taken yet."""
        self._mark()
        with self._arrived:
            found = [message for message in self._messages[self._taken :] if message != _MARK]
            self._taken = len(self._messages)
            return found

    def close(self) -> None:
        self._open = False
        self._send_mark()  # wakes the reader
        self._reader.join(GENEROUS_S)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _mark(self) -> None:
        """Send a message to itself and wait for it: what was sent before has arrived by then."""
        with self._arrived:
            before = self._messages.count(_MARK)
        self._send_mark()
        with self._arrived:
            assert self._arrived.wait_for(lambda: self._messages.count(_MARK) > before, GENEROUS_S)

    def _send_mark(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(_MARK.encode(), self._bound_to)

    def _read(self) -> None:
        while self._open:
            message = self._socket.recv(65536).decode()
            with self._arrived:
                self._messages.append(message)
                self._arrived.notify_all()
