"""Sinks: what happens to a verdict after the decision, each in a thread of its own."""

import logging
import time
from collections.abc import Callable

from edge.contract.verdict import Verdict
from edge.station.pipeline.mailbox import EveryMailbox, MailboxClosed
from edge.station.threads import Failures, Worker

POLL_S = 0.1
# From when the run must end: what a sink has not taken then, it never will.
SINK_STOP_LIMIT_S = 10.0
# Frames of 29 megapixels have 87 MB: by number alone a queue would fill the memory.
QUEUE_BYTES = 256 * 2**20

log = logging.getLogger(__name__)


class Sink:
    """One consumer of verdicts with a queue that is bounded by verdicts and by bytes.

    When the queue is full: a sink that keeps all makes the station wait, once it ends no longer
    than its end may take. Others make a source that can wait do so until the sink has room or the
    station is stopped; with a live camera, and then, the newest verdict is dropped for this sink
    and counted.

    Attributes:
        dropped: verdicts this sink never saw.
    """

    def __init__(
        self,
        *,
        name: str,
        deliver: Callable[[Verdict], None],
        bound: int,
        wait_for_room: bool,
        failures: Failures,
        keeps_all: bool = False,
        max_bytes: int = QUEUE_BYTES,
        undelivered: Callable[[Verdict], None] | None = None,
    ) -> None:
        """Prepare a queue; ``start`` begins to deliver.

        Args:
            deliver: called by the sink's thread.
            bound, max_bytes: of the verdicts that wait.
            wait_for_room: the source of the frames can wait.
            keeps_all: the station waits for this sink, whatever the source.
            undelivered: called with each verdict that the end of the station leaves behind.
        """
        self.name = name
        self._undelivered = undelivered
        self._ending_s: float | None = None  # monotonic, since the station ends
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
            while refused is not None and self._wait_for_room and not self._given_up(ending):
                refused = self._verdicts.put(verdict)
            if refused is None:
                return
            if not self.dropped:
                log.warning(
                    "the queue of %s is full; verdicts are missing there, and counted", self.name
                )
        except MailboxClosed:  # the sink has failed; the station learns it from the failures
            pass
        self.dropped += 1
        if self._undelivered is not None and ending():
            self._undelivered(verdict)

    def close(self) -> None:
        """Take nothing more; what is queued is still delivered."""
        self._verdicts.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end after ``close``; tell whether it came."""
        return self._worker.join(timeout_s)

    def abandon(self) -> int:
        """Give up what is queued, and count it as dropped; return how many verdicts that were."""
        left = self._verdicts.clear()
        self.dropped += len(left)
        if self._undelivered is not None:
            for verdict in left:
                self._undelivered(verdict)
        return len(left)

    def _given_up(self, ending: Callable[[], bool]) -> bool:
        """Tell whether nobody waits for room any more."""
        if not ending():
            return False
        self._ending_s = self._ending_s or time.monotonic()
        return not self._keeps_all or time.monotonic() - self._ending_s > SINK_STOP_LIMIT_S

    def _consume(self) -> None:
        try:
            while True:
                verdict = self._verdicts.get(timeout_s=60.0)
                if verdict is not None:
                    self._deliver(verdict)
        except MailboxClosed:
            return
        finally:
            self._verdicts.close()


def memory_bytes(verdict: Verdict) -> int:
    """Return what a verdict that waits keeps in memory: its frame and its map."""
    anomaly_map = verdict.inspection.decided_map
    return verdict.frame.pixels.nbytes + (0 if anomaly_map is None else anomaly_map.nbytes)
