"""How late edges are: quantiles for people, buckets for Prometheus."""

from bisect import bisect_left

from edge.station.pipeline.latency import Histogram, Quantiles

BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class EdgeLateness:
    """Durations, counted in bounded memory; one thread adds, any reads.

    Attributes:
        buckets: how many lie below each of ``BOUNDS_S`` and above the one before, and above all.
        sum_s: of all.
    """

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0
        self._histogram = Histogram()

    def add(self, duration_ns: int) -> None:
        """Count one duration."""
        self.buckets[bisect_left(BOUNDS_S, duration_ns / 1e9)] += 1
        self.sum_s += duration_ns / 1e9
        self._histogram.record(max(0, duration_ns))

    def quantiles(self) -> Quantiles:
        return self._histogram.quantiles()
