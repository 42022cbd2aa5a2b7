"""The page's actions: what a request holds, what the station carries out, and the result."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from edge.bundle.bounds import MAX_SCALE_SHARE
from edge.bundle.input_spec import AlignMode, Crop
from edge.contract.event import Datum
from edge.hmi.contents import MAX_IMAGE_NUMBER, Capturing, Content
from edge.hmi.masks import Drawing
from edge.inspection.decision import Result
from edge.recipes.names import RecipeName

MAX_CAPTURED = 500


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts.

    Attributes:
        name: the user a reverse proxy names, or ``token``.
        address: of the browser or proxy.
    """

    name: str
    address: str

    def data(self) -> dict[str, Datum]:
        """Return it as an event has it."""
        return {"by": self.name, "address": self.address}


# What a request carries.


class ActionBody(Content):
    """The body of an action's request."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    comment: str = Field(default="", max_length=200)


class ThresholdBody(ActionBody):
    image_threshold: float | None = Field(
        ge=-1e9, le=1e9, description="raw; null takes the settings' own back"
    )


class MaskBody(ActionBody):
    before: str = Field(
        max_length=64, description="sha256 of the mask that it was begun from; empty without any"
    )
    drawing: Drawing | None = Field(description="null takes the settings' own back")
    image_threshold: float | None = Field(
        default=None,
        ge=-1e9,
        le=1e9,
        description="raw; null keeps the one in force where no good part can score higher",
    )


class FeedbackBody(ActionBody):
    seq: int = Field(ge=1, le=2**62)
    mark: Literal["false_reject", "missed_defect", "none"]


class CaptureBody(ActionBody):
    count: int = Field(ge=0, le=MAX_CAPTURED)


class RollbackBody(ActionBody):
    pass


class RecipeBody(ActionBody):
    id: str = Field(min_length=1, max_length=100)
    version: int | str | None = Field(
        default=None, description="is put in force; null takes the one that is"
    )


class AcknowledgeBody(ActionBody):
    reason: str = Field(pattern="^[a-z0-9_]{1,60}$")


class TeachBody(ActionBody):
    recipe: RecipeName = Field(description="gets its next version, or its first one")
    learn: bool = Field(
        default=False,
        description="begin with what it was taught with, and the parts of it that were marked",
    )


class TeachCaptureBody(ActionBody):
    automatic: Capturing | None = Field(
        default=None,
        description="changed: each new scene; every: each part; off; null: one image now",
    )


class TeachStrikeBody(ActionBody):
    number: int = Field(ge=1, le=MAX_IMAGE_NUMBER)
    struck: bool


class TeachAlignment(ActionBody):
    """How the part is to be found before it is inspected."""

    mode: AlignMode | None = Field(description="null: it is not looked for")
    reference: int | None = Field(
        default=None,
        ge=1,
        le=MAX_IMAGE_NUMBER,
        description="number of the image that shows the part; null: the most typical good one",
    )
    roi: Crop | None = Field(
        default=None,
        description="of the part in the reference, in pixels; null: what stands out there",
    )
    scale: float = Field(
        default=0.0,
        ge=0.0,
        le=MAX_SCALE_SHARE,
        description="share by which the part may be larger or smaller than in the reference",
    )

    @model_validator(mode="after")
    def _of_an_image(self) -> Self:
        if self.mode is None and self.reference is not None:
            raise ValueError("a reference is only used where the part is looked for")
        if self.mode is None and self.scale:
            raise ValueError("a size is only searched where the part is looked for")
        if self.reference is None and self.roi is not None:
            raise ValueError("a region needs the reference that it was drawn on")
        return self


class TeachBuildBody(ActionBody):
    views: bool = Field(default=False, description="learn up to 8 images turned and shifted, too")
    max_false_rejects: float | None = Field(
        default=None,
        ge=0,
        le=0.5,
        description="of what is known to be good, from marks only; null: no more than until now",
    )
    alignment: TeachAlignment | None = Field(
        default=None, description="null: as in the version in force"
    )


class TeachTrialBody(ActionBody):
    running: bool


class TeachReleaseBody(ActionBody):
    comment: str = Field(min_length=1, max_length=200, description="why it is released")


class TeachEndBody(ActionBody):
    pass


class UnlockBody(ActionBody):
    pass


# What the station carries out.


class MarkedPart(Content):
    """What the journal says of a part that is marked.

    Attributes:
        record: its verdict.
        has_snapshot: its image is kept for good already.
    """

    verdict_id: str
    part_id: str | None
    result: str | None
    raw_score: float | None
    record: dict[str, Any]
    has_snapshot: bool


class SetThreshold(Content):
    name: Literal["threshold"] = "threshold"
    body: ThresholdBody


class SetMask(Content):
    name: Literal["mask"] = "mask"
    body: MaskBody


class MarkPart(Content):
    name: Literal["feedback"] = "feedback"
    body: FeedbackBody
    part: MarkedPart


class CaptureImages(Content):
    name: Literal["capture"] = "capture"
    body: CaptureBody


class RollBack(Content):
    name: Literal["rollback"] = "rollback"
    body: RollbackBody


class ChooseRecipe(Content):
    name: Literal["recipe"] = "recipe"
    body: RecipeBody


class AcknowledgeAlarm(Content):
    name: Literal["acknowledge"] = "acknowledge"
    body: AcknowledgeBody


class MarkedImage(Content):
    """A marked part of a recipe; ``path`` is None where its image is gone.

    Attributes:
        sha256: of what was inspected, as its verdict has it: the image that is kept may be a JPEG.
    """

    seq: int
    mark: Literal["false_reject", "missed_defect"]
    path: str | None
    sha256: str | None = None


class InspectedPart(Content):
    """A part that a recipe inspected and whose image is kept; ``sha256`` as ``MarkedImage``."""

    seq: int
    id: str
    result: Result
    path: str
    sha256: str | None = None


class BeginTeaching(Content):
    name: Literal["teach"] = "teach"
    body: TeachBody
    marked: list[MarkedImage] = Field(default_factory=list, max_length=1000)
    inspected: list[InspectedPart] = Field(default_factory=list, max_length=1000)


class CaptureToTeach(Content):
    name: Literal["teach_capture"] = "teach_capture"
    body: TeachCaptureBody


class StrikeOut(Content):
    name: Literal["teach_strike"] = "teach_strike"
    body: TeachStrikeBody


class BuildCandidate(Content):
    name: Literal["teach_build"] = "teach_build"
    body: TeachBuildBody


class TryCandidate(Content):
    name: Literal["teach_trial"] = "teach_trial"
    body: TeachTrialBody


class ReleaseCandidate(Content):
    name: Literal["teach_release"] = "teach_release"
    body: TeachReleaseBody


class EndTeaching(Content):
    name: Literal["teach_end"] = "teach_end"
    body: TeachEndBody


TeachingAction = (
    BeginTeaching
    | CaptureToTeach
    | StrikeOut
    | BuildCandidate
    | TryCandidate
    | ReleaseCandidate
    | EndTeaching
)


class RecordRefusal(Content):
    """Somebody tried what they may not; ``not_recorded`` more did since the last record."""

    name: Literal["record_refusal"] = "record_refusal"
    action: str
    why: str
    not_recorded: int


StationAction = Annotated[
    SetThreshold
    | SetMask
    | MarkPart
    | CaptureImages
    | RollBack
    | ChooseRecipe
    | AcknowledgeAlarm
    | TeachingAction
    | RecordRefusal,
    Field(discriminator="name"),
]


# Results.


class ThresholdChanged(Content):
    before: float
    now: float


class MaskChanged(Content):
    """Mask and zones that count from the next part on."""

    ignored_before: float = Field(description="share of the image")
    ignored_now: float = Field(description="share of the image")
    zones: list[str]
    threshold_before: float
    threshold: float


class PartMarked(Content):
    seq: int
    mark: str
    image_kept: bool


class CaptureBegun(Content):
    count: int
    folder: str


class RolledBack(Content):
    """The model before is in force; ``before`` and ``now`` where only its threshold differed."""

    model: str
    model_sha256: str
    threshold: float
    same_model: bool
    changed: str | None
    before: float | None = None
    now: float | None = None


class RecipeChosen(Content):
    """What is inspected for from the next part on that names no recipe itself."""

    recipe: str
    version: int | str
    before: str | None
    left_behind: str | None = Field(
        default=None, description="what was set at the page for the version before, and stays there"
    )


class AlarmAcknowledged(Content):
    reason: str


class TeachingChanged(Content):
    """Teaching goes on; the status has what it is at."""

    recipe: str
    phase: str


class CandidateReleased(Content):
    """The candidate is a version in force, and inspects from the next part on."""

    recipe: str
    version: int
    before: str | None
    model_sha256: str


class RefusalRecorded(Content):
    pass


class Unlocked(Content):
    by: str


PageActionResult = (
    ThresholdChanged
    | MaskChanged
    | PartMarked
    | CaptureBegun
    | RolledBack
    | RecipeChosen
    | AlarmAcknowledged
    | TeachingChanged
    | CandidateReleased
)
StationActionResult = PageActionResult | RefusalRecorded
