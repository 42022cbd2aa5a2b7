"""What is being taught at one time, as the station has it in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.bundle.input_spec import AlignMode, InputSpec
from edge.hmi.actions import InspectedPart
from edge.hmi.contents import (
    CapturedImage,
    Capturing,
    ContradictingMark,
    NotTakenKind,
    TeachingResult,
    TeachingStatus,
)
from edge.hmi.station_end.teaching.build import Build
from edge.hmi.station_end.teaching.trial import TrialRun
from edge.imaging.content_hash import pixels_hash
from edge.imaging.frame import Pixels
from edge.recipes.folder import RecipeVersion
from edge.teaching.build_process import RecipeAt
from edge.teaching.scene_change import Look


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
        inspected_as: likewise by that of what was inspected, as verdicts have it: of a part that
            is kept as a JPEG no other hash is.
        size: shape of every image.
        look: of the newest image; ``before`` of the newest frame.
        asked: images that were asked for one by one; of frames from ``asked_ns`` on.
        contradicted: images that people marked as the opposite of what they were taught as.
        builds: begun ones.
        building_of, built_of: numbers of the images of the build that runs, and of the candidate.
        building_like, built_like: the version whose crop and mask they have; None without one.
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
    inspected_as: dict[str, int] = field(default_factory=dict)
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
    building_like: RecipeAt | None = None
    built_like: RecipeAt | None = None
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

    def known(self, pixels: Pixels, sha256: str | None = None) -> int | None:
        """Return the number of an image that shows the same; None of a new one.

        Args:
            sha256: of what was inspected, where the image was kept of that.
        """
        number = self.contents.get(pixels_hash(pixels))
        if number is None and sha256 is not None:
            number = self.inspected_as.get(sha256)
        return number

    @property
    def taught(self) -> list[CapturedImage]:
        return [image for image in self.images if not image.struck]

    @property
    def wants_frames(self) -> bool:
        trying = self.trial is not None and self.trial.inspector is not None
        return self.asked > 0 or self.capturing != "off" or trying

    def status(self, may_view: bool, most: int) -> TeachingStatus:
        """Return what there is to be seen.

        Args:
            may_view: turned and shifted views may be taught.
            most: images that a session may have.
        """
        why = self.why_not
        return TeachingStatus.model_validate(
            {
                "phase": self.phase,
                "may_view": may_view,
                "recipe": self.recipe,
                "learning": self.learning,
                "by": self.by,
                "begun_utc": self.begun_utc,
                "capturing": self.capturing,
                "images": list(self.images),
                "width_px": self.size[1] if self.size is not None else 0,
                "height_px": self.size[0] if self.size is not None else 0,
                "aligned": self.aligned,
                "most": most,
                "waiting": self.asked,
                "not_taken": self.not_taken,
                "why_not": why.sentence if why is not None else "",
                "why_kind": why.kind if why is not None else None,
                "why_data": dict(why.data) if why is not None else {},
                "contradicted": list(self.contradicted),
                "step": self.step,
                "refused": list(self.refused),
                "refused_kind": self.refused_kind,
                "refused_data": dict(self.refused_data),
                "result": self.result,
                "trial": self.trial.summary() if self.trial is not None else None,
            }
        )
