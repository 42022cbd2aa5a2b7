"""Latency histograms: every stage of every part, in bounded memory."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the page's process reads quantiles and inspects nothing
    from edge.contract.verdict import Verdict

# Buckets grow by 2 % from a microsecond to 100 seconds; a quantile is exact to half of that.
_GROWTH = 1.02
_MIN_NS = 1_000
_MAX_NS = 100_000_000_000
_ROUNDING = 1e-9  # 0.55 × 100 is a hair more than 55
_BUCKETS = math.ceil(math.log(_MAX_NS / _MIN_NS, _GROWTH)) + 2

STAGES = ("trigger_to_frame", "queue", "preprocess", "inference", "postprocess", "total")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Latencies of one stage in milliseconds, over ``count`` parts."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Histogram:
    """Counts durations in logarithmic buckets; memory does not grow with their number."""

    def __init__(self) -> None:
        self.count = 0
        self._max_ns = 0
        self._buckets = [0] * _BUCKETS

    def record(self, duration_ns: int) -> None:
        """Count one duration; those out of range count in the outermost buckets."""
        self.count += 1
        self._max_ns = max(self._max_ns, duration_ns)
        position = math.log(max(duration_ns, _MIN_NS) / _MIN_NS, _GROWTH)
        self._buckets[min(int(position), _BUCKETS - 1)] += 1

    def quantile_ns(self, probability: float) -> float:
        """Return a quantile; 0 without any duration."""
        rank = math.ceil(probability * self.count - _ROUNDING)
        seen = 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if seen >= rank > 0:
                middle = _MIN_NS * _GROWTH ** (bucket + 0.5)
                return min(middle, float(self._max_ns))
        return 0.0

    def quantiles(self) -> Quantiles:
        p50, p95, p99, p999 = (self.quantile_ns(p) / 1e6 for p in (0.5, 0.95, 0.99, 0.999))
        return Quantiles(
            count=self.count,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            p999_ms=p999,
            max_ms=self._max_ns / 1e6,
        )


class StageLatencies:
    """One histogram for each stage of the frame path."""

    def __init__(self) -> None:
        self._histograms = {stage: Histogram() for stage in STAGES}

    def record(self, verdict: "Verdict") -> None:
        """Count the stages that a part went through."""
        frame, durations = verdict.frame, verdict.inspection.durations
        for stage, duration_ns in (
            ("trigger_to_frame", verdict.trigger_to_frame_ns),
            ("queue", verdict.inspection_started_ns - frame.captured_ns),
            ("preprocess", durations.preprocess_ns),
            ("inference", durations.inference_ns),
            ("postprocess", durations.postprocess_ns),
            ("total", verdict.decided_ns - frame.captured_ns),
        ):
            if duration_ns is not None:
                self._histograms[stage].record(duration_ns)

    def quantiles(self) -> dict[str, Quantiles]:
        """Return the quantiles of the stages that were seen."""
        return {s: h.quantiles() for s, h in self._histograms.items() if h.count}
