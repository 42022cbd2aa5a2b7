"""Roll-out over the broker: what each station is to have in force, and what it has.

::

    vi/v1/fleet/owner                     which command leads the roll-out, retained, with a will
    vi/v1/fleet/rollout                   the roll-out: release, plan, how far it is, retained
    vi/v1/SITE/LINE/STATION/CAMERA/fleet/desired    what the station is to have, retained
    vi/v1/SITE/LINE/STATION/CAMERA/fleet/report     what it has, retained

Whoever leads has the highest ``claim``; of one claim a higher ``step`` is newer. A station follows
nothing older than what it has seen, so that a command that lost its lead changes nothing.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from edge.contract.topics import ROOT
from edge.section import Section

FLEET_ROOT = f"{ROOT}/fleet"
OWNER_TOPIC = f"{FLEET_ROOT}/owner"
ROLLOUT_TOPIC = f"{FLEET_ROOT}/rollout"
DESIRED_SCHEMA: Literal["fleet-desired/1"] = "fleet-desired/1"
REPORT_SCHEMA: Literal["fleet-report/1"] = "fleet-report/1"
OWNER_SCHEMA: Literal["fleet-owner/1"] = "fleet-owner/1"
ROLLOUT_SCHEMA: Literal["fleet-rollout/1"] = "fleet-rollout/1"
MAX_CLAIM = 2**31
MAX_RELEASE_BYTES = 16 * 2**30
MAX_DETAIL = 300
# What a release may be: a version of a product, or a part of the settings.
RECIPE, SETTINGS = "recipe", "settings"
# Reason of a station that could not fetch a release; it tries again while it is to take it.
NOT_FETCHED = "not_fetched"
# Reason of a release in force where something was set at the station's page for its product:
# it counts over the release, or does not count any more; ``detail`` says what and which.
PAGE_SETTINGS = "page_settings"

Claim = Annotated[int, Field(ge=1, le=MAX_CLAIM)]
Step = Annotated[int, Field(ge=0, le=MAX_CLAIM)]
RolloutId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]
FileSha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
JournalId = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
]
ShortText = Annotated[str, StringConstraints(max_length=MAX_DETAIL)]


class FleetMessage(Section):
    """A message of the roll-out; with JSON, texts become enumerations."""

    model_config = ConfigDict(strict=False, populate_by_name=True)


class ReleaseFile(FleetMessage):
    """The one file that a release is.

    Attributes:
        kind: of its content; a station refuses what it does not know.
        name, version: of the recipe, or of the release of settings, as the file says.
        sha256, bytes: of the file.
        address: from which stations fetch it.
    """

    kind: str = Field(default=RECIPE, pattern="^[a-z_]{1,32}$")
    name: str = Field(min_length=1, max_length=100)
    version: int = Field(ge=1, le=MAX_CLAIM)
    sha256: FileSha256
    bytes: int = Field(ge=1, le=MAX_RELEASE_BYTES)
    address: str = Field(min_length=1, max_length=1000)

    def __str__(self) -> str:
        return f"{self.kind} {self.name} version {self.version}"

    @property
    def key(self) -> str:
        """What tells it from releases of other names and kinds; recipes have no ``/``."""
        return self.name if self.kind == RECIPE else f"{self.kind}/{self.name}"


class Action(StrEnum):
    """What a station is asked to do: take the release, go back, or stay as it is."""

    TAKE = "take"
    RETURN = "return"
    KEEP = "keep"


class Desired(FleetMessage):
    """What one station is to have in force.

    Attributes:
        rollout: id; ``RETURN`` goes back to what was in force before its release.
        journal: UUID of the station that is meant; None for whoever has the name.
        release: for ``TAKE``.
        older: also where a newer version of that name was in force here.
        change_product: also where the station inspects for another product.
    """

    schema_: Literal["fleet-desired/1"] = Field(default=DESIRED_SCHEMA, alias="schema")
    rollout: RolloutId
    claim: Claim
    step: Step
    action: Action
    journal: JournalId | None = None
    release: ReleaseFile | None = None
    older: bool = False
    change_product: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return (self.claim, self.step)


class ReleasePhase(StrEnum):
    """How far a station is with what it is asked for; below ``ACTIVATING`` it is over."""

    IDLE = "idle"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    ACTIVATING = "activating"
    IN_FORCE = "in_force"
    RETURNED = "returned"
    KEPT = "kept"
    REFUSED = "refused"
    FAILED = "failed"
    FELL_BACK = "fell_back"

    @property
    def over(self) -> bool:
        return self not in (
            ReleasePhase.IDLE,
            ReleasePhase.FETCHING,
            ReleasePhase.VERIFYING,
            ReleasePhase.ACTIVATING,
        )

    @property
    def bad(self) -> bool:
        return self in (ReleasePhase.REFUSED, ReleasePhase.FAILED, ReleasePhase.FELL_BACK)


class PartCounts(FleetMessage):
    """Parts of one recipe, as the station's journal has them.

    Attributes:
        p99_ms: from trigger or frame to decision; None without parts.
    """

    ok: int = Field(default=0, ge=0)
    nok: int = Field(default=0, ge=0)
    not_decidable: int = Field(default=0, ge=0)
    error: int = Field(default=0, ge=0)
    p99_ms: float | None = None

    @property
    def parts(self) -> int:
        return self.ok + self.nok + self.not_decidable + self.error

    @property
    def decided(self) -> int:
        return self.ok + self.nok


class InForce(FleetMessage):
    """What inspects for a product at a station.

    Attributes:
        name: of the recipe; None for the model that the settings name.
        version: of the station's own folder.
        release: version that the release had, where it came by one.
        sha256: of the release's file.
        model_sha256: of the bundle.
        live: parts that name no recipe are inspected by it.
    """

    name: str | None
    version: int | str | None
    release: int | None = None
    sha256: str | None = None
    model_sha256: str | None = None
    live: bool = True


class ReleasedInForce(FleetMessage):
    """The release of settings that a station goes by.

    Attributes:
        sha256: of the release's file.
    """

    name: str
    version: int
    sha256: str


class FleetReport(FleetMessage):
    """What a station has, and how far it is.

    Attributes:
        journal: UUID of the station's journal, which tells it from another one of its name.
        rollout, claim, step: of the newest desired state that it knows; None and 0 before one.
        reason: machine-readable, of a refusal or failure; ``PAGE_SETTINGS`` of a release in force.
        settings: released settings that count; None where the station's own count alone.
        since: parts since the release is in force; None without one.
        week: parts of its product in the seven days before, by the station's own clock.
    """

    schema_: Literal["fleet-report/1"] = Field(default=REPORT_SCHEMA, alias="schema")
    journal: str
    rollout: str | None = None
    claim: int = 0
    step: int = 0
    phase: ReleasePhase = ReleasePhase.IDLE
    reason: str | None = None
    detail: ShortText = ""
    in_force: InForce | None = None
    settings: ReleasedInForce | None = None
    since: PartCounts | None = None
    week: PartCounts | None = None

    @property
    def order(self) -> tuple[int, int]:
        return (self.claim, self.step)

    @property
    def bad(self) -> bool:
        """Whether the release is no good here; one that did not arrive may do so yet."""
        return self.phase.bad and self.reason != NOT_FETCHED


class Owner(FleetMessage):
    """Which command leads.

    Attributes:
        owner: who and where, for people.
        session: of this run of the command.
        online: False from its will, or when it ended.
    """

    schema_: Literal["fleet-owner/1"] = Field(default=OWNER_SCHEMA, alias="schema")
    owner: str = Field(max_length=200)
    session: str = Field(max_length=64)
    claim: Claim
    online: bool


def payload(message: FleetMessage) -> dict[str, Any]:
    """Return what is sent."""
    return message.model_dump(mode="json", by_alias=True)
