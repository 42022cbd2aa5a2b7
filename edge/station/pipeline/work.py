"""What the station works on and with: exposures, the line that inspects them, the rules."""

from dataclasses import dataclass
from typing import Protocol

from edge.contract.verdict import Recipe, StationIdentity
from edge.errors import StationError
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.inspector import Inspector
from edge.station.handshake.part import Part
from edge.station.monitoring.heartbeat import Beat, Heartbeats


@dataclass(frozen=True, slots=True, eq=False)
class QueuedFrame:
    """A frame on its way to an inspector.

    Attributes:
        part: what it was exposed for; None where every frame is a part of its own.
        code_recipe: that a code on the part names, which is what it is inspected for; None where
            none does, or its trigger names one.
    """

    frame: Frame
    part: Part | None = None
    code_recipe: Recipe | None = None


@dataclass(slots=True, eq=False)
class NewestFrame:
    """The complete frame that a station took last; None before the first."""

    frame: Frame | None = None

    def add(self, frame: Frame) -> None:
        """Take a frame; one that is not complete shows nothing of the camera's images."""
        if frame.status is FrameStatus.COMPLETE:
            self.frame = frame

    def read(self) -> Frame | None:
        return self.frame


@dataclass(frozen=True, slots=True, eq=False)
class InspectionSetup:
    """What inspects, exchanged as one.

    Attributes:
        inspectors: one for each thread.
        identity: what the verdicts say of model and settings; None where nobody records them.
        recipe: what it inspects for; None where the site names none.
    """

    inspectors: tuple[Inspector, ...]
    identity: StationIdentity | None = None
    recipe: Recipe | None = None

    def refusal(self, part: Part | None) -> str | None:
        """Return why it must not inspect a part; None when it may."""
        if part is None or part.recipe is None or part.recipe == self.recipe:
            return None
        return (
            f"the part was announced for {part.recipe}, but {self.recipe or 'no recipe'} "
            "was activated before it was inspected. Inspect it again."
        )


class RecipeUnavailable(StationError):
    """A recipe cannot inspect: it could not be loaded, or not in time."""


class RecipeSetups(Protocol):
    """What inspects parts of other recipes than the one that is live."""

    def want(self, recipe: Recipe | None) -> None:
        """Have it loaded for a part that is on its way; never waits."""

    def setup(self, recipe: Recipe | None) -> InspectionSetup:
        """Return it; waits for a bounded time.

        Raises:
            RecipeUnavailable: it cannot inspect this part.
        """


@dataclass(frozen=True, slots=True)
class StationRules:
    """What a station holds every part to.

    Attributes:
        deadline_ms: from the arrival of the frame, or from the trigger, to the decision.
        max_age_ms: a frame that waited longer is not inspected; None for files.
        max_parts: the run ends after so many; None for no limit.
    """

    deadline_ms: float | None = None
    max_age_ms: float | None = None
    max_parts: int | None = None


@dataclass(frozen=True, slots=True)
class Beats:
    """The heartbeats of the station's threads; they rest while somebody else keeps them waiting."""

    capture: Beat
    inspect: tuple[Beat, ...]

    @classmethod
    def of(
        cls, heartbeats: Heartbeats, inspectors: int, capture_s: float, inspect_s: float
    ) -> "Beats":
        """Add the stages of a station with so many inspectors."""
        capture = heartbeats.stage("capture", capture_s, critical=True)
        inspect = tuple(
            heartbeats.stage(f"inspect {index + 1}", inspect_s, critical=True)
            for index in range(inspectors)
        )
        for beat in (capture, *inspect):
            beat.rest()  # until there is something to do
        return cls(capture, inspect)
