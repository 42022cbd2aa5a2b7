"""Standard output as the place of verdicts: a thread of its own, for its reader may stand still."""

import threading
from collections import deque
from collections.abc import Callable

from edge.station.recording.stdout import StandardOutput
from edge.station.threads import Failures, Worker

POLL_S = 0.05
# Verdicts that wait for the reader; then the station does.
WAITING_BOUND = 32


class VerdictOutput:
    """Writes verdicts in order, and knows which ones were not written.

    A write to a pipe that nobody reads never returns, so it is left to its thread, and what else
    the station owes a verdict, its record above all, does not hang on it.
    """

    def __init__(self, output: StandardOutput, failures: Failures) -> None:
        self._output = output
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, bytes]] = deque()  # the first is being written
        self._unwritten: list[str] = []
        self._closed = False  # takes nothing more
        self._ended = False  # writes nothing more
        self._worker = Worker("standard output", self._write, failures)

    def start(self) -> None:
        self._worker.start()

    def put(self, name: str, line: bytes, given_up: Callable[[], bool]) -> None:
        """Have a verdict written; wait for room.

        Args:
            name: of the part, for people.
            line: JSON.
            given_up: the reader is not waited for any more; from then on nothing more is written.
        """
        with self._changed:
            while len(self._waiting) >= WAITING_BOUND and not self._closed:
                if given_up():
                    self._closed = True
                else:
                    self._changed.wait(POLL_S)
            if self._closed:
                self._unwritten.append(name)
            else:
                self._waiting.append((name, line))
                self._changed.notify_all()

    def skip(self, name: str) -> None:
        """Note a verdict that was not recorded in time, and so never written."""
        with self._changed:
            self._unwritten.append(name)

    def finish(self, given_up: Callable[[], bool]) -> list[str]:
        """Wait until everything is written; nothing more is taken.

        Returns:
            The verdicts that are not written, in order; of the first, a part may be.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._waiting and not self._ended and not given_up():
                self._changed.wait(POLL_S)
            self._ended = True
            return [*(name for name, _ in self._waiting), *self._unwritten]

    def _write(self) -> None:
        try:
            while (line := self._next()) is not None:
                self._output.publish_text(line)
                with self._changed:
                    if self._ended:  # it was named as not written by now
                        return
                    self._waiting.popleft()
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._closed = self._ended = True
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        """Return the line to write; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting[0][1] if self._waiting and not self._ended else None
