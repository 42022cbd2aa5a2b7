"""Signals: the first SIGTERM or SIGINT stops in order, the second at once; SIGHUP reloads."""

import signal
from collections.abc import Callable
from typing import Any, Self


class Stopper:
    """Turns signals into flags, which the station's threads look at.

    Attributes:
        stopped: an orderly stop was asked for.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._reload = False
        self._stop: Callable[[], None] = lambda: None
        self._before: dict[int, Any] = {}

    def stop(self) -> None:
        self.stopped = True
        self._stop()

    def stops(self, stop: Callable[[], None]) -> None:
        """Name what is to be stopped; at once, if the signal came while it was built."""
        self._stop = stop
        if self.stopped:
            stop()

    def pop_reload(self) -> bool:
        """Tell, once, that a reload was asked for."""
        asked, self._reload = self._reload, False
        return asked

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle_stop)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._handle_reload)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle_stop(self, _number: int, _frame: object) -> None:
        # Not the default action yet: a second signal may wait for its handler already, and Python
        # drops one whose handler has become the default.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle_second)
        self.stop()

    def _handle_second(self, number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _handle_reload(self, _number: int, _frame: object) -> None:
        self._reload = True
