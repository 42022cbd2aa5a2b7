"""The content of messages and answers: a station's status, its parts, their images."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from edge.bundle.input_spec import AlignMode
from edge.inspection.decision import Reason, Result
from edge.settings.recipe import RecipeSettings

# x, y, width, height in frame pixels.
Area = tuple[int, int, int, int]


class Content(BaseModel):
    """Content of a message or an answer: frozen, and without keys of another version."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageLayout(Content):
    """How an image and its anomaly map lie in the bytes that come with them, and in the frame."""

    width_px: int = Field(description="of the frame")
    height_px: int = Field(description="of the frame")
    shape: list[int] = Field(min_length=2, max_length=3, description="of the image")
    map_shape: list[int] = Field(min_length=2, max_length=2, description="(0, 0) without a map")
    placement: Area | None = Field(description="of the map in the frame")
    regions: list[Area]


class DecidedPart(Content):
    """A part and its verdict."""

    id: str
    part_id: str | None
    image_name: str | None = Field(description="of the file that the image came from")
    result: Result
    reason: Reason
    detail: str
    score: float | None = Field(description="normalized, threshold at 0.5")
    raw_score: float | None
    raw_threshold: float
    decided_utc: str
    total_ms: float
    frame: int = Field(description="the camera's own number")
    has_image: bool
    recipe: str | None = Field(default=None, description="id and version; null without recipes")


class CameraSummary(Content):
    id: str
    trigger: str
    state: str = "files"
    detail: str = ""
    losses: int = 0
    recoveries: int = 0
    model: str | None = None
    temperature_c: float | None = None
    counters: dict[str, int] = {}


class BrokerSummary(Content):
    url: str
    connected: bool = False
    acknowledged: int = 0
    dead_letters: int = 0
    nobody_listens: bool = False
    refusing: bool = False
    hints: list[str] = []


class ModbusSummary(Content):
    address: str
    leads: bool
    master: bool = Field(description="its heartbeat changes")
    connections: int
    refused: int = Field(description="connections that found no place")
    requests: int
    exceptions: int = Field(description="requests that were answered with one")
    triggers: int
    last_trigger: int | None = Field(description="id of the newest one")
    results_missed: int = Field(description="that left unacknowledged")


class HistogramCounts(Content):
    bounds: list[float]
    buckets: list[int] = Field(description="the last one has no upper bound")
    sum: float


class OutputSummary(Content):
    """A digital output."""

    name: str
    device: str
    line: str
    active: bool | None = Field(description="as its device confirmed; null while it is away")
    edges: int = Field(description="for parts")
    missed: int = Field(description="that its device did not confirm in time")
    last_edge_utc: str | None
    late: HistogramCounts = Field(description="seconds from when an edge was due")
    from_decision: HistogramCounts = Field(description="seconds from the decision to the edge")


class SparkplugSummary(Content):
    node: str = Field(description="GROUP/NODE/DEVICE")
    phase: str = Field(description="connecting, away, host_offline or born")
    births: int
    published: int = Field(description="verdicts of this run")
    historical: int = Field(description="of these, that were not current")
    waiting: int = Field(description="verdicts that the broker is not known to have read")
    missing: int = Field(description="verdicts that left the journal before")
    too_large: int = Field(description="messages that the broker's limit kept back")


class OpcUaSummary(Content):
    address: str
    secured: bool = Field(description="connections are signed or encrypted")
    serving: bool
    connections: int
    events: int = Field(description="verdicts of this run that had their event")
    skipped: int = Field(description="verdicts that had none")


class JournalSummary(Content):
    writable: bool
    id: str | None


class DiskSpace(Content):
    """Of the disk on which the journal lies."""

    free_bytes: int
    total_bytes: int


class ImageFolderSummary(Content):
    written: int
    refused: int
    stopped: bool = Field(description="no images are kept at present")


class RollbackTarget(Content):
    """What ``rollback`` switches to."""

    name: str
    sha256: str
    threshold: float
    changes: str


class GoodScores(Content):
    """Quantiles of the raw scores of good parts in training."""

    probabilities: list[float]
    scores: list[float]


class GuaranteedRate(Content):
    """With this confidence at most this rate, of parts like the calibration images."""

    of: str = Field(description="false_reject_rate or miss_rate")
    rate: float
    confidence: float
    count: int = Field(description="calibration images of that kind")


class ModelSummary(Content):
    name: str
    version: str
    sha256: str
    algorithm: str
    backbone: str
    precision: str = Field(description="weights/inference")
    device: str
    threshold: float = Field(description="raw, in force")
    bundle_threshold: float
    threshold_method: str
    guarantee: GuaranteedRate | None = Field(description="of the threshold in force")
    guard_band: float
    range: float
    before: RollbackTarget | None
    good: GoodScores


class StageLatency(Content):
    """In milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float


class RunCounts(Content):
    """Since the station began to inspect."""

    results: dict[str, int]
    deadlines_missed: int
    skipped: int
    dropped: dict[str, int]
    latency_ms: dict[str, StageLatency]


class VerdictTotals(Content):
    """Of all verdicts since the station started."""

    parts: list[tuple[str, str, int]] = Field(description="result, reason, count")
    stages: dict[str, HistogramCounts] = Field(description="seconds")
    scores: HistogramCounts


class RecipeSummary(Content):
    """A recipe that the station can change over to."""

    name: str
    versions: list[int | str]
    in_force: int | str | None
    resident: bool = Field(description="its version in force is in memory")


# Of an image that is taught with, in a run of the station.
MAX_IMAGE_NUMBER = 1_000_000

Capturing = Literal["off", "changed", "every"]


class PartPlace(Content):
    """Where the part was found in an image."""

    x: float = Field(description="of the middle of the reference's region, in pixels of the image")
    y: float
    angle_deg: float = Field(description="of its turn, clockwise as seen")
    scale: float = Field(default=1.0, description="how many times as large as in the reference")
    likeness: float = Field(description="to the reference, at most 1")
    strangeness: float = Field(description="how far it lies from where most parts lie")


class CapturedImage(Content):
    """An image that was captured to teach with."""

    number: int
    kind: Literal["captured", "taught", "false_reject", "missed_defect", "passed", "rejected"] = (
        Field(
            default="captured",
            description="missed_defect, and of unmarked parts of the line passed and rejected: not "
            "learned, the threshold is held against it",
        )
    )
    confirmed: bool = Field(default=False, description="good, by a person; it is never left out")
    seq: int | None = Field(default=None, description="of a marked part")
    struck: bool = Field(description="it is not taught with")
    score: float | None = Field(
        default=None, description="raw, by a bank that was made without it; null before a build"
    )
    doubtful: bool = Field(default=False, description="it looks like a defect")
    has_map: bool = False
    place: PartPlace | None = Field(
        default=None, description="null where the part was not looked for"
    )
    before: Result | None = Field(
        default=None, description="what the recipe's model in force makes of it"
    )
    after: Result | None = Field(
        default=None,
        description="what the candidate does, of an image that is taught with without that",
    )

    @property
    def is_learned(self) -> bool:
        """Whether the bank is made of it."""
        return self.kind in ("captured", "taught", "false_reject")


NotTakenKind = Literal[
    "image_gone",
    "enough",
    "incomplete",
    "other_size",
    "other_product",
    "names_differ",
    "repeated",
    "unsuitable",
    "disk",
]


class ChangedPart(Content):
    """A part of the line that the candidate judges otherwise than its verdict says."""

    seq: int
    id: str
    before: Result = Field(description="the verdict")
    after: Result


class PartsCompared(Content):
    """What the candidate makes of the newest parts of its recipe whose images are kept."""

    parts: int = Field(description="judged again; of more within the time allowed")
    kept: int = Field(description="of the last 1000 parts, those of the recipe with an image")
    rejected: int = Field(description="were OK, and would not be")
    passed: int = Field(description="were not OK, and would be")
    changed: list[ChangedPart] = Field(description="the newest of these")


class ThresholdChoiceRow(Content):
    """What a candidate would do that allows so many false rejects."""

    rate: float = Field(description="of the good, at most")
    threshold: float = Field(description="raw")
    rejected: int = Field(description="of the known good")
    missed: int = Field(description="of the defective")


class TaughtAlignment(Content):
    """How the candidate finds the part."""

    mode: AlignMode
    reference: int | None = Field(
        description="number of the image that shows the part; null: as in the version before"
    )
    roi: Area = Field(description="of the part in the reference")
    least_likeness: float = Field(description="that a part must reach")
    scale: float = Field(default=0.0, description="share by which a part may be larger or smaller")


class TeachingResult(Content):
    """What the last build has learned."""

    build: int = Field(description="counts up")
    model_sha256: str
    threshold: float = Field(description="raw")
    images: int
    learned: int
    cross_validated: int
    left_out: int = Field(description="images that look like defects")
    known_good: int = Field(description="images that the threshold rests on")
    passed: int = Field(description="of these, parts of the line that nobody marked; not learned")
    defective: int = Field(description="images that the threshold is held against")
    max_false_rejects: float | None = Field(
        description="of the known good, which the threshold allows; null: not learned from marks"
    )
    options: list[ThresholdChoiceRow] = Field(description="what other allowances would do")
    guaranteed_rate: float | None = Field(
        description="of good parts that are rejected; null: nothing is guaranteed"
    )
    confidence: float | None
    counted: int | None = Field(description="images that the guarantee rests on")
    alignment: TaughtAlignment | None = Field(
        default=None, description="null: the part is not looked for"
    )
    line: PartsCompared | None = Field(
        default=None, description="null unless it is learned from marks"
    )


class TrialPart(Content):
    """A part that the candidate has judged beside the model in force."""

    id: str
    part_id: str | None
    utc: str
    live: Result = Field(description="the verdict")
    trial: Result = Field(description="what the candidate makes of it; nobody acts on it")
    score: float | None = Field(description="of the candidate, normalized")


class TrialSummary(Content):
    """The trial of the candidate, which goes on or is over."""

    running: bool
    parts: int
    missed: int = Field(description="parts that came while another one was judged")
    alike: int
    live: dict[str, int]
    trial: dict[str, int]
    newest: list[TrialPart] = Field(description="newest first")


class ContradictingMark(Content):
    """A mark on an image that was taught as the opposite; the mark counts."""

    mark: Literal["false_reject", "missed_defect"]
    seq: int = Field(description="of the marked part")
    number: int = Field(description="of the image")


class TeachingStatus(Content):
    """What is being taught at this station."""

    phase: Literal["idle", "collecting", "building", "built"]
    may_view: bool = Field(description="few images may be learned turned, flipped and shifted")
    recipe: str | None = None
    learning: bool = Field(default=False, description="from what people have marked")
    by: str | None = None
    begun_utc: str | None = None
    capturing: Capturing = "off"
    images: list[CapturedImage] = []
    width_px: int = Field(default=0, description="of the images; 0 before the first one")
    height_px: int = 0
    aligned: AlignMode | None = Field(
        default=None, description="how the version in force finds the part; null: it does not"
    )
    most: int = Field(default=0, description="images at most")
    waiting: int = Field(default=0, description="images that were asked for and have not come")
    not_taken: int = 0
    why_not: str = Field(default="", description="the newest of these was not taken")
    why_kind: NotTakenKind | None = Field(default=None, description="of that cause")
    why_data: dict[str, str | int] = Field(default={}, description="what its words name")
    contradicted: list[ContradictingMark] = Field(
        default=[], description="images that were taught as good and marked as a defect, or reverse"
    )
    step: int = Field(default=0, description="of the build")
    refused: list[str] = Field(default=[], description="why the last build came to nothing")
    refused_kind: str = Field(default="", description="of that cause")
    refused_data: dict[str, str | int] = Field(default={}, description="what its words name")
    result: TeachingResult | None = None
    trial: TrialSummary | None = None


class ViewerStatus(Content):
    """The state of a station, as far as people look at it."""

    software: str
    station: str | None
    condition: str
    simulated: bool
    reasons: dict[str, str] = Field(
        description="for which it is degraded, with cause and next step"
    )
    config_sha256: str
    recipe: RecipeSettings | None
    recipes: list[RecipeSummary] | None = Field(
        default=None, description="null: the station has one model"
    )
    deadline_ms: float | None
    camera: CameraSummary
    broker: BrokerSummary | None
    modbus: ModbusSummary | None = None
    outputs: list[OutputSummary] = []
    sparkplug: SparkplugSummary | None = None
    opcua: OpcUaSummary | None = None
    journal: JournalSummary
    disk: DiskSpace
    snapshots: ImageFolderSummary | None
    recent_images: ImageFolderSummary | None
    model: ModelSummary
    skipped: int
    queues: dict[str, int]
    handshake: dict[str, int]
    acknowledged: dict[str, str] = Field(description="by reason, who has acknowledged it")
    to_capture: int
    teaching: TeachingStatus | None = Field(
        default=None, description="null: nothing is taught at this station's page"
    )


class StationStatus(ViewerStatus):
    """The state of a station, with what changes with every part."""

    run: RunCounts | None
    counts: VerdictTotals

    def for_viewers(self) -> ViewerStatus:
        """Return it without what people have from the journal."""
        shown = {name: getattr(self, name) for name in ViewerStatus.model_fields}
        return ViewerStatus.model_construct(**shown)


class ImageLayers(Content):
    """What lies over a live image, in frame pixels."""

    width_px: int
    height_px: int
    placement: Area | None
    heat: str | None = Field(description="data URL of a small image with transparency")
    contours: list[list[float]] = Field(description="x, y, x, y, … of each line at the threshold")
    regions: list[Area]


class ShownPart(DecidedPart):
    """The newest part as it is shown."""

    image: ImageLayers | None

    @classmethod
    def of(cls, part: DecidedPart, image: ImageLayers | None) -> Self:
        """Return a part with what lies over its image."""
        return cls.model_construct(**dict(part), image=image)
