"""What the hand-shake speaks of: rules, triggers, parts and their phases, and what follows."""

from dataclasses import dataclass
from enum import StrEnum

from edge.contract.verdict import Recipe
from edge.imaging.frame import Frame
from edge.inspection.decision import Reason, Result


class TriggerSource(StrEnum):
    """What made the camera expose a part."""

    SOFTWARE = "software"
    HARDWARE = "hardware"


class PartPhase(StrEnum):
    """Where a part is.

    A part is decided once: by its score, or by what kept it from having one.
    """

    REJECTED = "rejected"  # never exposed for; it has an ERROR record at most
    ACCEPTED = "accepted"  # waits for its frame
    EXPOSED = "exposed"  # has its frame, waits for its score
    DECIDED = "decided"  # has its verdict, waits for the journal
    VALID = "valid"  # journalled; its result stands at the ports
    CLEARED = "cleared"  # acknowledged, or nobody did in time


# Which phases may follow; the first set are the parts that the station still owes something.
IN_FLIGHT = frozenset({PartPhase.ACCEPTED, PartPhase.EXPOSED, PartPhase.DECIDED})
UNDECIDED = frozenset({PartPhase.ACCEPTED, PartPhase.EXPOSED})
OVER = frozenset({PartPhase.REJECTED, PartPhase.CLEARED})
MAY_FOLLOW = {
    PartPhase.REJECTED: frozenset[PartPhase](),
    PartPhase.ACCEPTED: frozenset({PartPhase.EXPOSED, PartPhase.DECIDED}),
    PartPhase.EXPOSED: frozenset({PartPhase.DECIDED}),
    PartPhase.DECIDED: frozenset({PartPhase.VALID, PartPhase.CLEARED}),
    PartPhase.VALID: frozenset({PartPhase.CLEARED}),
    PartPhase.CLEARED: frozenset[PartPhase](),
}


class Rejection(StrEnum):
    """Why a trigger was not accepted, as the PLC is told."""

    BUSY = "busy"
    NOT_READY = "not_ready"
    RECIPE_MISMATCH = "recipe_mismatch"
    EXPIRED = "expired"


class Pairing(StrEnum):
    """Which frames are parts."""

    SOFTWARE = "software"  # the station exposes for each accepted trigger
    ANNOUNCED = "announced"  # a line exposes, each edge announced by a trigger
    EVERY_FRAME = "every_frame"  # a line exposes, nothing is announced


class Input(StrEnum):
    """What the station needs to be ready."""

    CAMERA = "camera"
    MODEL = "model"
    JOURNAL = "journal"
    MASTER = "master"  # of a port whose master leads the hand-shake and shows that it is there
    OUTPUTS = "outputs"  # of a station with digital outputs: they switch, and in time


# What every station needs.
INPUTS = frozenset({Input.CAMERA, Input.MODEL, Input.JOURNAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What does not change while a station runs.

    Attributes:
        pairing: which frames are parts.
        slots: parts that may be in flight, and as many results that may stand at the ports.
        result_hold_ms: how long a result stands without acknowledgement.
        frame_timeout_ms: from an accepted trigger to its frame.
        deadline_ms: from the frame to the verdict, where the trigger names none.
        recipe: the one that is live.
        recorded_refusals: refused triggers that have a record each, at once; more are counted.
        recorded_refusals_per_minute: how many more of them may have one.
        max_accepted_known: accepted parts whose trigger ids are known again.
        inputs: what has to be there before a trigger is accepted.
    """

    pairing: Pairing
    slots: int = 8
    result_hold_ms: float = 2000.0
    frame_timeout_ms: float = 1000.0
    deadline_ms: float | None = None
    recipe: Recipe | None = None
    recorded_refusals: int = 300
    recorded_refusals_per_minute: int = 60
    max_accepted_known: int = 50_000
    inputs: frozenset[Input] = INPUTS


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerRequest:
    """A part as PLC or MES announced it.

    Attributes:
        trigger_id: chosen by the sender; the same again is the same part, never a second one.
        part_id: of the product; None where the sender has none.
        recipe: None takes the one that is live.
        deadline_ms: from ``received_ns`` to the verdict; None takes the station's own, which
            counts from the frame.
        received_ns, received_utc_ns: monotonic and wall-clock time of arrival.
        source: whether the station exposes, or a line does.
        offered: whether the station can inspect for the recipe, whichever is live; None where it
            has the live one alone.
    """

    trigger_id: str
    part_id: str | None
    recipe: Recipe | None
    deadline_ms: float | None
    received_ns: int
    received_utc_ns: int
    source: TriggerSource
    offered: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part that is owed exactly one verdict.

    Attributes:
        number: 1, 2, …; of this process only.
        trigger_id: None where every frame is a part.
        part_id, recipe: as announced.
        names_recipe: the trigger named the recipe; else it is the one that was live.
        source: what made the camera expose.
        announced_ns, announced_utc_ns: when the trigger came; without triggers, the frame, or
            when that was to be expected which never came.
        due_ns: monotonic time from which a score comes too late; None without a deadline.
    """

    number: int
    trigger_id: str | None
    part_id: str | None
    recipe: Recipe | None
    source: TriggerSource
    announced_ns: int
    announced_utc_ns: int
    due_ns: int | None
    names_recipe: bool = False

    @classmethod
    def announced(cls, number: int, request: TriggerRequest, live: Recipe | None) -> "Part":
        """Make the part that a trigger asks for; its deadline, if it has one, runs already."""
        due_ns = None
        if request.deadline_ms is not None:
            due_ns = request.received_ns + nanoseconds(request.deadline_ms)
        return cls(
            number=number,
            trigger_id=request.trigger_id,
            part_id=request.part_id,
            recipe=request.recipe or live,
            source=request.source,
            announced_ns=request.received_ns,
            announced_utc_ns=request.received_utc_ns,
            due_ns=due_ns,
            names_recipe=request.recipe is not None,
        )

    @classmethod
    def seen(cls, number: int, frame: Frame, live: Recipe | None, sooner_ns: int = 0) -> "Part":
        """Make the part that nobody announced of a frame, or of one so much sooner than it."""
        return cls(
            number=number,
            trigger_id=None,
            part_id=None,
            recipe=live,
            source=TriggerSource.HARDWARE,
            announced_ns=frame.captured_ns - sooner_ns,
            announced_utc_ns=frame.captured_utc_ns - sooner_ns,
            due_ns=None,
        )


@dataclass(frozen=True, slots=True)
class FrameStamp:
    """Which frame a part had: the camera's counter, and when it arrived."""

    number: int
    captured_ns: int
    captured_utc_ns: int

    @classmethod
    def of(cls, frame: Frame) -> "FrameStamp":
        return cls(frame.number, frame.captured_ns, frame.captured_utc_ns)


@dataclass(frozen=True, slots=True)
class PartResult:
    """What a part was decided to be, as ports show it.

    Attributes:
        score: normalized, threshold at 0.5; None without one.
    """

    result: Result
    reason: Reason
    score: float | None = None


class PhaseError(RuntimeError):
    """An event that the phase of its part does not allow: a defect of the caller."""


@dataclass(slots=True, kw_only=True)
class OpenPart:
    """A part and where it is; the hand-shake's own book-keeping.

    Attributes:
        awaited_ns: monotonic time from which its frame may come.
        seq: of its record; None before it is journalled.
        valid_ns: monotonic time since which its result stands at the ports.
        exposed: its frame arrived complete.
        stamp: of that frame; None before.
        result: what it was decided to be; None before.
        rejection: why it was rejected; None otherwise.
    """

    part: Part
    phase: PartPhase
    awaited_ns: int = 0
    seq: int | None = None
    valid_ns: int = 0
    exposed: bool = False
    stamp: FrameStamp | None = None
    result: Result | None = None
    rejection: Rejection | None = None

    def move(self, phase: PartPhase) -> None:
        """Go on to another phase.

        Raises:
            PhaseError: it does not follow the one the part is in.
        """
        if phase not in MAY_FOLLOW[self.phase]:
            raise PhaseError(f"part {self.part.number} cannot go from {self.phase} to {phase}")
        self.phase = phase
        self.exposed = self.exposed or phase is PartPhase.EXPOSED


@dataclass(frozen=True, slots=True)
class Accepted:
    """Tell the ports; of a software trigger, expose now."""

    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Tell the ports, and write the ERROR record of the part: it passed without inspection.

    Attributes:
        recorded: False of one that is counted in ``RefusalsCounted`` and has no record.
    """

    part: Part
    rejection: Rejection
    reason: Reason
    detail: str
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class RefusalsCounted:
    """Record one event that stands for refused triggers without a record of their own.

    Attributes:
        count: how many they are.
        detail: why the last of them was refused.
        since_ns: monotonic time of the first.
    """

    count: int
    detail: str
    since_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """The trigger was seen before: tell the ports where its part is, do not expose again.

    Attributes:
        rejection: why a rejected one was.
        exposed: its frame has arrived complete.
        result: None before it is on record; until then it may still become an ERROR.
    """

    part: Part
    phase: PartPhase
    seq: int | None
    rejection: Rejection | None = None
    exposed: bool = False
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Exposed:
    """The frame of this part arrived complete: tell the ports, inspect it."""

    part: Part
    frame: Frame


@dataclass(frozen=True, slots=True)
class Decided:
    """The score counts: write the verdict it led to."""

    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Write an ERROR verdict with this reason.

    Attributes:
        frame: the frame that was the part's and cannot be used; None where there is none.
        stamp: of the complete frame that it had, whose pixels are with the inspector or gone.
    """

    part: Part
    reason: Reason
    detail: str
    frame: Frame | None = None
    stamp: FrameStamp | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """Frame or score of a part that has its verdict: a detail to note (``frame_late``), no more.

    Attributes:
        what: ``frame`` or ``score``.
        late_ns: after the deadline, or the announcement where there is none.
    """

    part: Part
    what: str
    late_ns: int


@dataclass(frozen=True, slots=True)
class Unexpected:
    """A frame that is no part's: count and report it, never inspect it."""

    frame: Frame
    detail: str


@dataclass(frozen=True, slots=True)
class ResultValid:
    """The verdict is journalled: tell the ports.

    Attributes:
        in_time: False when the commit came after the deadline; the ports then say ERROR.
    """

    part: Part
    seq: int
    in_time: bool


@dataclass(frozen=True, slots=True)
class SlotFreed:
    """The result no longer stands at the ports.

    Attributes:
        ack_missing: nobody acknowledged it; an event for people.
    """

    part: Part
    seq: int
    ack_missing: bool


@dataclass(frozen=True, slots=True)
class ReadyChanged:
    """Tell the ports whether a trigger would be accepted now."""

    ready: bool


HandshakeEffect = (
    Accepted
    | Rejected
    | RefusalsCounted
    | Repeated
    | Exposed
    | Decided
    | Failed
    | Late
    | Unexpected
    | ResultValid
    | SlotFreed
    | ReadyChanged
)


def nanoseconds(ms: float) -> int:
    """Convert a duration of the settings."""
    return round(ms * 1e6)
