"""What one run did, in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge.inspection.decision import Reason, Result
from edge.station.pipeline.latency import Quantiles
from edge.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Counts of a run.

    Attributes:
        results: parts by result.
        reasons: parts by reason; ``overrun`` counts parts that came while the queue was full.
        deadlines_missed: parts decided after their deadline.
        skipped: frames that were replaced by newer ones before inspection.
        dropped: by sink, verdicts that its full queue refused.
        latency: quantiles by stage.
    """

    results: Mapping[Result, int]
    reasons: Mapping[Reason, int]
    deadlines_missed: int
    skipped: int
    dropped: Mapping[str, int]
    latency: Mapping[str, Quantiles]

    @property
    def parts(self) -> int:
        return sum(self.results.values())

    def __str__(self) -> str:
        counts = ", ".join(f"{self.results.get(result, 0)} {result.value}" for result in Result)
        line = f"{counted(self.parts, 'part')}: {counts}; {counted(self.skipped, 'frame')} skipped"
        lost = [f"{count} not sent to {name}" for name, count in self.dropped.items() if count]
        if self.deadlines_missed:
            lost.append(f"{self.deadlines_missed} deadlines missed")
        if overruns := self.reasons.get(Reason.OVERRUN, 0):
            lost.append(f"{overruns} overruns")
        return "; ".join([line, *lost])
