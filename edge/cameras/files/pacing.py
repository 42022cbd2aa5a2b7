"""The pace of a source that has no clock of its own."""

import threading
import time
from collections.abc import Callable


class Pace:
    """Gives the moments at which the images of a replayed source are due.

    Without a rate every image is due at once. A reader that comes late does not make the next
    image late: moments lie on a fixed grid, and missed ones are not made up for in a burst.
    """

    def __init__(
        self,
        rate_fps: float | None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._interval_s = 1.0 / rate_fps if rate_fps else 0.0
        self._clock = clock
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._due_s: float | None = None

    def due(self, timeout_s: float) -> bool:
        """Wait for the next moment, at most ``timeout_s``; tell whether it has come."""
        if not self._interval_s:
            return True
        now = self._clock()
        if self._due_s is None:
            self._due_s = now
        missing_s = self._due_s - now
        if missing_s > timeout_s:
            self._wait(timeout_s)
            return False
        if missing_s > 0:
            self._wait(missing_s)
        missed = max(0, int(-missing_s // self._interval_s))
        self._due_s += (missed + 1) * self._interval_s
        return True

    def close(self) -> None:
        """Wake a waiting reader."""
        self._closed.set()
