"""What one run did, in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge.inspection.thresholding import Result


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a run.

    Attributes:
        results: parts by result.
        skipped: frames that were replaced by newer ones before inspection.
        dropped: by sink, verdicts that its full queue refused.
    """

    results: Mapping[Result, int]
    skipped: int
    dropped: Mapping[str, int]

    @property
    def parts(self) -> int:
        return sum(self.results.values())

    def __str__(self) -> str:
        counts = ", ".join(f"{self.results.get(result, 0)} {result.value}" for result in Result)
        line = f"{self.parts} parts: {counts}; {self.skipped} frames skipped"
        lost = [f"{count} not seen by {name}" for name, count in self.dropped.items() if count]
        return "; ".join([line, *lost])
