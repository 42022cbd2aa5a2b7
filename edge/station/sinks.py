"""Sinks: what happens to a verdict after the decision, each in a thread of its own."""

import logging
from collections.abc import Callable

from edge.messaging.verdict import Verdict
from edge.station.mailbox import EveryMailbox, MailboxClosed
from edge.station.worker import Failures, Worker

POLL_S = 0.1
# Frames of 29 megapixels have 87 MB: by number alone a queue would fill the memory.
QUEUE_BYTES = 256 * 2**20

log = logging.getLogger(__name__)


class Sink:
    """One consumer of verdicts with a queue that is bounded by verdicts and by bytes.

    When the queue is full: a sink that keeps all makes the station wait. Others make a source that
    can wait do so until the sink has room or the station is stopped; with a live camera, and then,
    the newest verdict is dropped for this sink and counted.

    Attributes:
        dropped: verdicts this sink never saw.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Verdict], None],
        bound: int,
        wait_for_room: bool,
        failures: Failures,
        keeps_all: bool = False,
        max_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.name = name
        self._keeps_all = keeps_all
        self.dropped = 0
        self._deliver = deliver
        self._wait_for_room = wait_for_room or keeps_all
        self._verdicts: EveryMailbox[Verdict] = EveryMailbox(
            bound, POLL_S if self._wait_for_room else 0.0, max_bytes, memory_bytes
        )
        self._worker = Worker(name, self._consume, failures)

    def start(self) -> None:
        self._worker.start()

    def put(self, verdict: Verdict, ending: Callable[[], bool]) -> None:
        """Queue a verdict; ``ending`` ends a wait for room."""
        try:
            refused = self._verdicts.put(verdict)
            while refused is not None and self._wait_for_room:
                if ending() and not self._keeps_all:
                    break
                refused = self._verdicts.put(verdict)
        except MailboxClosed:  # the sink has failed; the station learns it from the failures
            self.dropped += 1
            return
        if refused is not None:
            self.dropped += 1
            if self.dropped == 1:
                log.warning(
                    "the queue of %s is full; verdicts are missing there, and counted", self.name
                )

    def close(self) -> None:
        """Take nothing more; what is queued is still delivered."""
        self._verdicts.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end after ``close``; tell whether it came."""
        return self._worker.join(timeout_s)

    def abandon(self) -> int:
        """Give up what is queued, and count it as dropped; return how many verdicts that were."""
        count = self._verdicts.clear()
        self.dropped += count
        return count

    def _consume(self) -> None:
        try:
            while True:
                verdict = self._verdicts.take(timeout_s=60.0)
                if verdict is not None:
                    self._deliver(verdict)
        except MailboxClosed:
            return
        finally:
            self._verdicts.close()


def memory_bytes(verdict: Verdict) -> int:
    """Return what a verdict that waits keeps in memory: its frame and its map."""
    anomaly_map = verdict.inspection.anomaly_map
    return verdict.frame.pixels.nbytes + (0 if anomaly_map is None else anomaly_map.nbytes)
