"""The page's answers as models: what is in them, and what the interface's description says."""

from typing import Any, NamedTuple

from pydantic import ConfigDict, Field

from edge.hmi.actions import PageActionResult, Unlocked
from edge.hmi.contents import Content, DecidedPart, StationStatus


class Problem(Content):
    """Not done; cause and next step."""

    error: str
    kind: str = Field(default="", description="of the cause, where the page has words for it")
    data: dict[str, str | int] = Field(default={}, description="what these words name")


class PageStatus(Content):
    title: str
    language: str
    may_act: bool = Field(description="a trusted proxy names the user")
    may_unlock: bool = Field(description="whoever has the token may act")
    user: str | None
    live: bool = Field(description="false while the station sends nothing")
    status: StationStatus | None
    part: DecidedPart | None = Field(description="the newest; null while it sends nothing")


# Numbers.


class SpanCounts(Content):
    """Parts of an hour or a shift."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    begin: str
    counts: dict[str, int] = Field(description="by result")
    total: int
    yield_: float | None = Field(
        validation_alias="yield", serialization_alias="yield", description="share that is OK"
    )


class TrendPoint(NamedTuple):
    seq: int
    score: float | None
    result: str
    raw_score: float | None
    raw_threshold: float


class ScoreHistogram(Content):
    """Raw scores of the newest model in bins of one width."""

    counts: list[int]
    low: float
    high: float
    threshold: float
    parts: int
    model_sha256: str = Field(description="of the model that gave these scores")


class LatencyQuantiles(Content):
    """From image to decision, in milliseconds."""

    p50: float
    p95: float
    p99: float
    parts: int


class DeadlineCounts(Content):
    parts: int = Field(description="that had a deadline")
    late: int


class RejectedPart(Content):
    seq: int
    id: str
    part_id: str | None
    image_name: str | None
    utc: str
    result: str
    reason: str
    score: float | None


class RecordedEvent(Content):
    seq: int
    utc: str | None
    kind: str
    severity: str | None
    detail: str | None
    data: dict[str, Any] | None


class ProductionNumbers(Content):
    now: str
    since: str | None = Field(description="from when on parts are counted")
    complete: bool = Field(description="false while a long journal is still being counted back")
    hours: list[SpanCounts]
    shift: SpanCounts
    shift_before: SpanCounts
    reasons: list[tuple[str, int]] = Field(
        description="of rejected parts of this shift, and counts"
    )
    trend: list[TrendPoint]
    histogram: ScoreHistogram | None
    latency: LatencyQuantiles | None
    deadlines: DeadlineCounts
    rate_per_minute: float
    strip: list[RejectedPart] = Field(description="the last rejected parts, newest first")
    events: list[RecordedEvent] = Field(description="newest first")


# Parts.


class FeedbackRecord(Content):
    """How somebody marked a part."""

    model_config = ConfigDict(extra="ignore")

    seq: int
    mark: str
    utc: str
    by: str | None = None
    address: str | None = None
    verdict_id: str | None = None
    part_id: str | None = None
    result: str | None = None
    raw_score: float | None = None
    comment: str | None = None


class FoundPart(Content):
    seq: int
    id: str
    utc: str
    part_id: str | None
    image_name: str | None
    result: str | None
    reason: str
    score: float | None = Field(description="normalized, threshold at 0.5")
    raw_score: float | None
    raw_threshold: float
    total_ms: float | None
    simulated: bool
    mark: str | None
    image: bool = Field(description="one is kept")


class FoundParts(Content):
    parts: list[FoundPart]
    before: int | None = Field(description="position to go on from; null where nothing is older")


class PartDetail(Content):
    seq: int
    recorded_utc: str
    acknowledged: bool
    dead: str | None = Field(description="why the broker never took it")
    verdict: dict[str, Any] = Field(description="schema verdict/1")
    image_name: str | None
    feedback: FeedbackRecord | None
    images: list[str] = Field(description="kinds that are kept: image, overlay, thumbnail")


class MarkedParts(Content):
    feedback: list[FeedbackRecord] = Field(description="newest first")


class FlippedPart(Content):
    """A part that another threshold would decide otherwise."""

    seq: int
    id: str
    part_id: str | None
    image_name: str | None
    raw_score: float
    before: str
    after: str
    mark: str | None


class MarkOutcome(Content):
    marked: int
    put_right: int


class ThresholdPreview(Content):
    threshold: float
    parts: int
    before: dict[str, int]
    after: dict[str, int]
    nok_interval: tuple[float, float] | None = Field(
        description="of the share of NOK with it, exact, at 95 %; null without parts"
    )
    changed: int
    flips: list[FlippedPart] = Field(description="the newest of those that change")
    marks: dict[str, MarkOutcome]


class ZoneOfGoodParts(Content):
    """What good parts scored in a zone: those that passed, or were marked as falsely rejected."""

    name: str
    parts: int = Field(description="since the settings last changed, of the newest ones")
    median: float = Field(description="raw")
    highest: float = Field(description="raw")
    threshold: float = Field(description="the lowest raw one that rejects at most 1 % of them")
    rejected: int = Field(description="of them, by that threshold")
    rejected_interval: tuple[float, float] = Field(
        description="share of all such parts, exact 95 % interval"
    )


class ZonesOfGoodParts(Content):
    zones: list[ZoneOfGoodParts]


# Actions.


class ActionAnswer(Content):
    done: PageActionResult | Unlocked = Field(description="what came of it")


# For machines.


class Liveness(Content):
    live: bool
    silent_s: float | None = Field(
        description="seconds since the last status; null before the first"
    )


class Readiness(Content):
    ready: bool
    condition: str | None
    reasons: dict[str, str]
