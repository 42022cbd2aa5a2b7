"""What is counted of verdicts for Prometheus: parts by cause, and histograms with fixed bounds."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from edge.contract.verdict import Verdict
from edge.hmi.contents import HistogramCounts, VerdictTotals

STAGE_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
SCORE_BOUNDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


class FixedHistogram:
    """A histogram: how many values lie in each bucket, and their sum."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._buckets = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._buckets[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def counts(self) -> HistogramCounts:
        """Return what was counted so far."""
        return HistogramCounts(
            bounds=list(self._bounds), buckets=list(self._buckets), sum=self._sum
        )


class VerdictCounts:
    """Every verdict of this run; one thread adds, another reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: Counter[tuple[str, str]] = Counter()
        self._stages: dict[str, FixedHistogram] = {}
        self._scores = FixedHistogram(SCORE_BOUNDS)

    def add(self, verdict: Verdict) -> None:
        """Count one verdict; some microseconds, behind the decision."""
        inspection, frame = verdict.inspection, verdict.frame
        durations, decision = inspection.durations, inspection.decision
        stages_ns = {
            "trigger_to_frame": verdict.trigger_to_frame_ns,
            "queue": verdict.inspection_started_ns - frame.captured_ns,
            "preprocess": durations.preprocess_ns,
            "inference": durations.inference_ns,
            "postprocess": durations.postprocess_ns,
            "total": verdict.decided_ns - frame.captured_ns,
        }
        with self._lock:
            self._parts[decision.result.value, decision.reason.value] += 1
            for stage, duration_ns in stages_ns.items():
                if duration_ns is not None and duration_ns >= 0:
                    if stage not in self._stages:
                        self._stages[stage] = FixedHistogram(STAGE_BOUNDS_S)
                    self._stages[stage].add(duration_ns / 1e9)
            if inspection.normalized_score is not None:
                self._scores.add(inspection.normalized_score)

    def totals(self) -> VerdictTotals:
        """Return what was counted so far."""
        with self._lock:
            return VerdictTotals(
                parts=[(*cause, count) for cause, count in self._parts.items()],
                stages={stage: found.counts() for stage, found in self._stages.items()},
                scores=self._scores.counts(),
            )
