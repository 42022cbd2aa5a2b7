"""What is being taught at one time, as the station has it in memory."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge.bundle.manifest import AlignMode, InputSpec
from edge.contract.event import Datum
from edge.hmi.actions import InspectedPart
from edge.hmi.contents import (
    CapturedImage,
    Capturing,
    ContradictingMark,
    NotTakenKind,
    PartPlace,
    PartsCompared,
    TaughtAlignment,
    TeachingResult,
    ThresholdChoiceRow,
    TrialPart,
    TrialSummary,
)
from edge.hmi.station_end.build_process import Build
from edge.inspection.inspector import Inspection, Inspector
from edge.recipes.folder import RecipeVersion
from edge.teaching.build_process import AlignmentResult, BuildResult
from edge.teaching.scene_change import Look

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

    def add_to_record(self, verdict_id: str, found: Inspection, now_s: float) -> None:
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


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Why an image is not taught with.

    Attributes:
        kind: for the page, which has its own words for each.
        sentence: in English.
        data: what the words name.
    """

    kind: NotTakenKind
    sentence: str
    data: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class TeachingSession:
    """What is being taught; changed under the lock of ``Teaching`` alone.

    Attributes:
        spec: of the teacher's input.
        aligned: how the version in force finds the part; None where it does not.
        used_s: monotonic time of the last action.
        contents: numbers of images by the SHA-256 of their pixels.
        size: shape of every image.
        look: of the newest image; ``before`` of the newest frame.
        asked: images that were asked for one by one; of frames from ``asked_ns`` on.
        contradicted: images that people marked as the opposite of what they were taught as.
        builds: begun ones.
        building_of, built_of: numbers of the images of the build that runs, and of the candidate.
        refused, refused_kind, refused_data: why the newest build came to nothing.
        published: version of the candidate, where it could not be put in force yet.
        inspected: newest parts of the recipe whose images are kept, to compare a candidate on.
    """

    recipe: str
    learning: bool
    by: str
    begun_utc: str
    spec: InputSpec
    used_s: float
    aligned: AlignMode | None = None
    images: list[CapturedImage] = field(default_factory=list)
    contents: dict[bytes, int] = field(default_factory=dict)
    size: tuple[int, ...] | None = None
    look: Look | None = None
    before: Look | None = None
    capturing: Capturing = "off"
    asked: int = 0
    asked_ns: int = 0
    not_taken: int = 0
    why_not: NotTaken | None = None
    contradicted: list[ContradictingMark] = field(default_factory=list)
    builds: int = 0
    building_of: frozenset[int] = frozenset()
    built_of: frozenset[int] = frozenset()
    build: Build | None = None
    step: int = 0
    refused: list[str] = field(default_factory=list)
    refused_kind: str = ""
    refused_data: Mapping[str, str | int] = field(default_factory=dict)
    result: TeachingResult | None = None
    published: RecipeVersion | None = None
    trial: TrialRun | None = None
    releasing: bool = False
    inspected: tuple[InspectedPart, ...] = ()

    @property
    def phase(self) -> str:
        if self.build is not None:
            return "building"
        return "built" if self.result is not None else "collecting"

    @property
    def taught(self) -> list[CapturedImage]:
        return [image for image in self.images if not image.struck]

    @property
    def wants_frames(self) -> bool:
        trying = self.trial is not None and self.trial.inspector is not None
        return self.asked > 0 or self.capturing != "off" or trying


def with_scores(images: Sequence[CapturedImage], result: BuildResult) -> list[CapturedImage]:
    """Return the images with what a build says of each; of others nothing."""
    scored = {_number(one.name): one for one in result.scored}
    aligned = result.alignment
    places = {_number(one.name): one for one in aligned.places} if aligned is not None else {}
    found = []
    for image in images:
        one, place = scored.get(image.number), places.get(image.number)
        scores = {
            "score": one.score if one is not None else None,
            "doubtful": one is not None and one.doubtful,
            "has_map": one is not None and one.has_map,
            "before": one.before if one is not None else None,
            "after": one.after if one is not None else None,
            "place": PartPlace.model_validate(place.model_dump(exclude={"name"}))
            if place is not None
            else None,
        }
        found.append(image.model_copy(update=scores))
    return found


def _number(name: str) -> int:
    return int(name.partition(".")[0])


def shown_result(build: int, result: BuildResult) -> TeachingResult:
    """Return the result of a build as the page shows it."""
    return TeachingResult(
        build=build,
        model_sha256=result.sha256,
        threshold=result.threshold,
        images=result.images,
        learned=result.learned,
        cross_validated=result.cross_validated,
        left_out=result.left_out,
        known_good=result.known_good,
        passed=result.passed,
        defective=result.defective,
        max_false_rejects=result.max_false_rejects,
        options=[
            ThresholdChoiceRow.model_validate(option.model_dump()) for option in result.options
        ],
        guaranteed_rate=result.guaranteed_rate,
        confidence=result.confidence,
        counted=result.counted,
        alignment=_shown_alignment(result.alignment),
        line=None
        if result.line is None
        else PartsCompared.model_validate(result.line.model_dump()),
    )


def _shown_alignment(found: AlignmentResult | None) -> TaughtAlignment | None:
    if found is None:
        return None
    roi = found.roi
    return TaughtAlignment(
        mode=found.mode,
        reference=_number(found.reference) if found.reference is not None else None,
        roi=(roi.x, roi.y, roi.width, roi.height),
        least_likeness=found.least_likeness,
        scale=found.scale,
    )
