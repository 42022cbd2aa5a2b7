"""The statistics of a run: every verdict is counted once, here."""

import threading
from collections import Counter

from edge.contract.verdict import Verdict
from edge.inspection.decision import Reason, Result
from edge.station.pipeline.latency import Quantiles, StageLatencies


class RunStatistics:
    """Counts of verdicts by result and reason, deadlines and latencies; any thread may read."""

    def __init__(self, deadline_ms: float | None = None) -> None:
        """Begin with nothing counted.

        Args:
            deadline_ms: of parts that have none of their own, from the image to the decision.
        """
        self._deadline_ms = deadline_ms
        self._lock = threading.Lock()
        self._results: Counter[Result] = Counter()
        self._reasons: Counter[Reason] = Counter()
        self._deadlines_missed = 0
        self._latencies = StageLatencies()

    def add(self, verdict: Verdict) -> None:
        """Count one verdict."""
        decision = verdict.inspection.decision
        with self._lock:
            self._results[decision.result] += 1
            self._reasons[decision.reason] += 1
            self._deadlines_missed += self._late(verdict)
            self._latencies.record(verdict)

    @property
    def results(self) -> dict[Result, int]:
        with self._lock:
            return dict(self._results)

    @property
    def reasons(self) -> dict[Reason, int]:
        with self._lock:
            return dict(self._reasons)

    @property
    def deadlines_missed(self) -> int:
        return self._deadlines_missed

    def latency(self) -> dict[str, Quantiles]:
        """Return the quantiles of every stage that was seen."""
        with self._lock:
            return self._latencies.quantiles()

    def _late(self, verdict: Verdict) -> bool:
        part = verdict.part
        if part is not None and part.deadline_ms is not None:
            began_ns, deadline_ms = part.triggered_ns, part.deadline_ms
        elif self._deadline_ms is not None:
            began_ns, deadline_ms = verdict.frame.captured_ns, self._deadline_ms
        else:
            return False
        return verdict.decided_ns - began_ns > deadline_ms * 1e6
