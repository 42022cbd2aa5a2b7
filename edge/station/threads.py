"""Threads that cannot die unnoticed."""

import threading
from collections.abc import Callable


class Failures:
    """The first unexpected exception of any worker, waiting for the main thread to raise it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: BaseException | None = None

    def report(self, error: BaseException) -> None:
        with self._lock:
            self._first = self._first or error

    def any(self) -> bool:
        return self._first is not None

    def raise_first(self) -> None:
        """Raise what a worker died of, if one did."""
        if self._first is not None:
            raise self._first


class Worker:
    """A daemon thread whose exception ends the process through ``failures``.

    A daemon, because it may be stuck in a native call; the station joins it with a limit.
    """

    def __init__(self, name: str, body: Callable[[], None], failures: Failures) -> None:
        self._body = body
        self._failures = failures
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; tell whether it came."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._body()
        except BaseException as error:
            self._failures.report(error)
