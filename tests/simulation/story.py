"""What happened, in plain words: kept short, and hashed whole."""

import hashlib
from collections import deque

from tests.simulation.scheduler import SECOND, Scheduler


class Story:
    """Lines of what happened, with their time.

    Attributes:
        lines: how many there were.
    """

    def __init__(self, scheduler: Scheduler, max_count: int = 120) -> None:
        self._scheduler = scheduler
        self._began_ns = scheduler.now_ns
        self._last: deque[str] = deque(maxlen=max_count)
        self._hash = hashlib.sha256()
        self.lines = 0

    def add(self, what: str) -> None:
        seconds = (self._scheduler.now_ns - self._began_ns) / SECOND
        line = f"{seconds:12.4f} s  {what}"
        self._hash.update(line.encode() + b"\n")
        self._last.append(line)
        self.lines += 1

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def end(self) -> str:
        """Return the last lines."""
        return "\n".join(self._last)
