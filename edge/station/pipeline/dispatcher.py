"""Verdicts are given out here and nowhere else: counted once, in order, to every sink."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge.contract.encoding import new_id
from edge.contract.verdict import ImageAddresses, PartIdentity, Verdict
from edge.inspection.decision import Reason
from edge.inspection.inspector import Inspection
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.part import Part
from edge.station.pipeline.sinks import SINK_STOP_LIMIT_S, Sink
from edge.station.pipeline.statistics import RunStatistics
from edge.station.pipeline.work import InspectionSetup, QueuedFrame
from edge.wording import counted

log = logging.getLogger(__name__)

POLL_S = 0.1


class VerdictDispatcher:
    """Gives verdicts to the sinks.

    Attributes:
        statistics: the counts.
    """

    def __init__(
        self,
        *,
        sinks: Sequence[Sink],
        statistics: RunStatistics,
        handshake: HandshakeCoordinator | None,
        images: Callable[[Verdict], ImageAddresses | None],
        ending: Callable[[], bool],
        clock_ns: Callable[[], int],
        utc_ns: Callable[[], int],
    ) -> None:
        """Take the sinks of a station.

        Args:
            handshake: waits for the record of the verdict of each of its parts.
            images: where the images of a verdict will be kept.
            ending: tells that nobody may wait for a full sink any more.
        """
        self.statistics = statistics
        self._handshake = handshake
        self._sinks = tuple(sinks)
        self._images = images
        self._ending = ending
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._issuing = threading.Lock()

    def start(self) -> None:
        for sink in self._sinks:
            sink.start()

    def issue(
        self, exposure: QueuedFrame, inspection: Inspection, started_ns: int, line: InspectionSetup
    ) -> None:
        """Give out one verdict.

        Args:
            started_ns: monotonic time at which the frame left the mailbox.
            line: what inspected it.
        """
        utc_ns = self._utc_ns()
        with self._issuing:
            verdict = Verdict(
                id=new_id(utc_ns),
                inspection=inspection,
                frame=exposure.frame,
                decided_ns=self._clock_ns(),
                decided_utc_ns=utc_ns,
                inspection_started_ns=started_ns,
                identity=line.identity,
                part=part_identity(exposure.part) if exposure.part else None,
                code_recipe=exposure.code_recipe,
            )
            verdict = replace(verdict, images=self._images(verdict))
            if exposure.part is not None and self._handshake is not None:
                self._handshake.await_record(exposure.part, verdict.id)
            self.statistics.add(verdict)
            for sink in self._sinks:
                sink.put(verdict, self._ending)

    def issue_failure(
        self, exposure: QueuedFrame, reason: Reason, detail: str, line: InspectionSetup
    ) -> None:
        """Give out the ERROR of a part that was not inspected."""
        failure = line.inspectors[0].failure(reason, detail)
        self.issue(exposure, failure, self._clock_ns(), line)

    def dropped(self) -> dict[str, int]:
        """Return by sink how many verdicts it never saw."""
        return {sink.name: sink.dropped for sink in self._sinks}

    def finish(self) -> None:
        """Let every sink deliver what it has; the limit counts from when the run must end.

        At the end of the images nothing presses: a reader of the pipe may take its time.
        """
        for sink in self._sinks:
            sink.close()
        for sink in self._sinks:
            while not self._ending() and not sink.join(POLL_S):
                pass
        deadline = time.monotonic() + SINK_STOP_LIMIT_S
        for sink in self._sinks:
            if not sink.join(max(0.0, deadline - time.monotonic())):
                # One more is in work: it may still be finished while the rest is taken down.
                count = sink.abandon()
                log.error(
                    "%s did not finish in time: %s that waited are not written there",
                    sink.name,
                    counted(count, "verdict"),
                )


def part_identity(part: Part) -> PartIdentity:
    """Return what the record of a part says of its trigger."""
    return PartIdentity(
        part_id=part.part_id,
        trigger_id=part.trigger_id,
        trigger_source=part.source.value,
        recipe=part.recipe,
        triggered_ns=part.announced_ns,
        triggered_utc_ns=part.announced_utc_ns,
        deadline_ms=None if part.due_ns is None else (part.due_ns - part.announced_ns) / 1e6,
        names_recipe=part.names_recipe,
    )
