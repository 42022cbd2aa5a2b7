"""Messages to the service manager: systemd's notification protocol, one datagram per message.

Without ``NOTIFY_SOCKET`` nothing is sent, so that the same program runs in a terminal.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from edge.station.monitoring.health import Health

log = logging.getLogger(__name__)

# A datagram that finds the manager's queue full is given up after this time.
SEND_LIMIT_S = 1.0
# While the model compiles, so often the start is extended, each time by so much.
EXTEND_EVERY_S = 5.0
EXTEND_BY_S = 20.0


class ServiceManager:
    """Speaks to the manager that started this process.

    Sending never raises: a station does not stop because nobody listens. The first fault is logged.
    """

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Find the manager's socket and watchdog in the environment.

        Args:
            environment: ``NOTIFY_SOCKET`` is a path, or ``@name`` of an abstract socket.
            clock_ns: monotonic.
        """
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._clock_ns = clock_ns
        self._fault_logged = False
        self.watchdog_interval_s = _watchdog_interval_s(environment)

    @property
    def present(self) -> bool:
        """Somebody listens."""
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """The station inspects, after a start as after a reload."""
        self._send("READY=1", f"STATUS={status}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Show one line in ``systemctl status``."""
        self._send(f"STATUS={text}")

    def reloading(self, status: str = "") -> None:
        """Settings are read again; ``ready`` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={self._clock_ns() // 1000}", f"STATUS={status}")

    def stopping(self, status: str = "") -> None:
        """The station ends in order."""
        self._send("STOPPING=1", f"STATUS={status}")

    def extend_timeout(self, by_s: float) -> None:
        """Ask for more time to start, reload or stop, counted from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(by_s * 1e6)}")

    @contextmanager
    def more_time(
        self, max_s: float, every_s: float = EXTEND_EVERY_S, by_s: float = EXTEND_BY_S
    ) -> Iterator[None]:
        """Extend the timeout from a thread while the block compiles, self-tests or delivers.

        Args:
            max_s: then no more, so that a compilation that hangs ends the start.
            every_s, by_s: how often, and by how much.
        """
        if not self.present:
            yield
            return
        done = threading.Event()
        last_ns = self._clock_ns() + int(max_s * 1e9)

        def extend() -> None:
            while self._clock_ns() < last_ns:
                self.extend_timeout(by_s)
                if done.wait(every_s):
                    return
            log.warning(
                "not finished after %.0f s; the service manager is not asked for more time",
                max_s,
            )

        thread = threading.Thread(target=extend, name="more time", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(SEND_LIMIT_S + 1.0)

    def _send(self, *fields: str) -> None:
        if not self._address:
            return
        # A line break would begin another field.
        lines = [field.replace("\n", " ") for field in fields if not field.endswith("STATUS=")]
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_LIMIT_S)
                sender.connect(address)
                sender.sendall("\n".join(lines).encode(errors="backslashreplace"))
        except (OSError, ValueError) as error:
            if not self._fault_logged:
                self._fault_logged = True
                log.warning(
                    "the service manager at %s cannot be sent %s (%s); logged once",
                    self._address,
                    lines[0].partition("=")[0],
                    error,
                )


class StatusLine:
    """The line that ``systemctl status`` shows of a station.

    Attributes:
        not_reloaded: why the last reload was refused; empty when it was not.
    """

    def __init__(self, manager: ServiceManager, health: Health) -> None:
        self.not_reloaded = ""
        self._manager = manager
        self._health = health
        health.subscribe(lambda _: manager.status(self.text))

    @property
    def text(self) -> str:
        reasons = self._health.reasons
        now = f"degraded: {', '.join(reasons)}" if reasons else "inspecting"
        if not self.not_reloaded:
            return now
        return f"{now}; the last reload was refused: {self.not_reloaded}"

    def ready(self) -> None:
        """Tell the manager that the station inspects."""
        self._manager.ready(self.text)

    @contextmanager
    def reloading(self, what: str, max_s: float) -> Iterator[None]:
        """Show that the station reloads, for as long as the block takes."""
        self._manager.reloading(what)
        try:
            with self._manager.more_time(max_s):
                yield
        finally:
            self.ready()


def _watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """Return the watchdog's interval if it is meant for this process."""
    try:
        interval_us = int(environment.get("WATCHDOG_USEC", "0"))
        process = int(environment.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        log.warning("WATCHDOG_USEC or WATCHDOG_PID is not a number; the watchdog is not served")
        return None
    if interval_us <= 0 or process != os.getpid():
        return None
    return interval_us / 1e6
