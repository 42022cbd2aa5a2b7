"""A candidate beside the line: it judges the parts that the line judges, and only events tell."""

from collections import Counter
from dataclasses import dataclass, field

from edge.contract.encoding import utc_text
from edge.contract.event import Datum, Event, Severity
from edge.contract.verdict import Verdict
from edge.hmi.contents import TrialPart, TrialSummary
from edge.inspection.inspector import Inspection, Inspector
from edge.wording import counted

MAX_TRIAL_PARTS = 24
# Verdicts on trial that one event holds, and so long they wait for it.
TRIAL_RECORDED, TRIAL_RECORD_S = 16, 10.0


@dataclass(slots=True, kw_only=True)
class TrialRun:
    """Counts of a trial; the inspector is None once it is over.

    Attributes:
        threshold: raw, of the candidate.
        to_record: what the next event says, by the id of the verdict that counts.
        since_s: monotonic time of the first of these.
    """

    inspector: Inspector | None
    live: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    alike: int = 0
    missed: int = 0
    newest: list[TrialPart] = field(default_factory=list)
    threshold: float | None = None
    to_record: dict[str, Datum] = field(default_factory=dict)
    since_s: float = 0.0

    def _add_to_record(self, verdict_id: str, found: Inspection, now_s: float) -> None:
        """Keep for the next event what the candidate makes of a part: result, reason and score."""
        score = "" if found.score is None else f" {found.score:.6g}"
        self.since_s = self.since_s if self.to_record else now_s
        decision = found.decision
        self.to_record[verdict_id] = f"{decision.result.value} {decision.reason.value}{score}"

    def must_record(self, now_s: float) -> bool:
        """Tell whether enough wait for an event, or for long enough."""
        waited = bool(self.to_record) and now_s - self.since_s >= TRIAL_RECORD_S
        return waited or len(self.to_record) >= TRIAL_RECORDED

    @property
    def parts(self) -> int:
        return self.judged.total()

    def summary(self) -> TrialSummary:
        return TrialSummary(
            running=self.inspector is not None,
            parts=self.parts,
            missed=self.missed,
            alike=self.alike,
            live=dict(self.live),
            trial=dict(self.judged),
            newest=list(self.newest),
        )

    def count(self, verdict: Verdict, found: Inspection, now_s: float) -> None:
        """Count a part that line and candidate have judged."""
        live, judged = verdict.inspection.decision.result, found.decision.result
        self.live[live.value] += 1
        self.judged[judged.value] += 1
        self.alike += live is judged
        part = TrialPart(
            id=verdict.id,
            part_id=verdict.part_id,
            utc=utc_text(verdict.decided_utc_ns),
            live=live,
            trial=judged,
            score=found.normalized_score,
        )
        self.newest = [part, *self.newest][:MAX_TRIAL_PARTS]
        self.threshold = found.threshold
        self._add_to_record(verdict.id, found, now_s)

    def pop_record(self, recipe: str, model_sha256: str | None) -> Event | None:
        """Return what was judged since the last time, as an event; None of nothing."""
        judged, self.to_record = self.to_record, {}
        if not judged:
            return None
        return Event(
            "trial_verdicts",
            Severity.INFO,
            f"on trial for {recipe}: {counted(len(judged), 'part was', 'parts were')} judged, by "
            "the ids of "
            "the verdicts that count",
            {
                "recipe": recipe,
                "raw_threshold": self.threshold,
                "model_sha256": model_sha256,
                **judged,
            },
        )

    def end_event(self, recipe: str) -> Event:
        """Return what is recorded at its end."""
        return Event(
            "trial_ended",
            Severity.INFO,
            f"the trial of {recipe} has ended: {self.alike} of {counted(self.parts, 'part')} "
            "judged the same",
            {
                "recipe": recipe,
                "parts": self.parts,
                "alike": self.alike,
                "missed": self.missed,
                **{f"live_{result}": count for result, count in self.live.items()},
                **{f"trial_{result}": count for result, count in self.judged.items()},
            },
        )
