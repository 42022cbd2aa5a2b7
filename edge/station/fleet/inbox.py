"""The newest desired state, from the connection to the thread that follows it."""

import threading


class DesiredInbox:
    """Holds one message: only the newest desired state counts."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest: bytes | None = None

    def put(self, content: bytes) -> None:
        """Take a message; never waits."""
        with self._changed:
            self._newest = content
            self._changed.notify_all()

    def get(self, timeout_s: float) -> bytes | None:
        """Return the newest message that was not taken yet; None when none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None, timeout_s)
            newest, self._newest = self._newest, None
        return newest
