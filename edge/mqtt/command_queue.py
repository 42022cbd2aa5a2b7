"""The bounded queue in which the control thread takes messages from the connection's thread."""

import threading
from collections import deque

from edge.contract.commands import ControlMessage

MAX_WAITING = 256


class CommandQueue:
    """Carries messages from the connection's thread to the control thread, in order, bounded."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._waiting: deque[ControlMessage] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, message: ControlMessage) -> bool:
        """Queue a message; False when the queue is full or closed, and it was not taken."""
        with self._changed:
            if self._closed or len(self._waiting) >= self._max_waiting:
                return False
            self._waiting.append(message)
            self._changed.notify()
            return True

    def get(self, timeout_s: float) -> ControlMessage | None:
        """Return the oldest message; None when none came in time or after ``close``."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
            return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """Take nothing more, and end the waits of ``take``."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
