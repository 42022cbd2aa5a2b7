"""What a station remembers of releases, beside its journal: it survives kills and restarts."""

from pathlib import Path

from pydantic import Field, TypeAdapter

from edge.contract.fleet import (
    RECIPE,
    FleetMessage,
    PartCounts,
    ReleaseFile,
    ReleasePhase,
    RolloutId,
)
from edge.settings.released import ReleasedSettings
from edge.settings.small_record import read_record, write_record

FILE_NAME = "fleet.json"
MAX_NAMES = 1000
# Releases that came in force before the last one: of one name, and of so many names.
MAX_EARLIER, MAX_EARLIER_NAMES = 20, 50


class InstalledRelease(FleetMessage):
    """A release that was in force here.

    Attributes:
        release: its version, by which a later one is newer.
        local: version of the station's folder.
    """

    release: int
    sha256: str
    local: int


class Before(FleetMessage):
    """What was in force before a release.

    Attributes:
        rollout: of the release.
        name: of its recipe.
        version: of the folder that was in force of this recipe; None for none.
        choice: recipe that parts without a name were inspected for; None for ``model.path``.
        kind: of the release; of ``settings`` the name is that of the release.
        settings: that were released before; None for the file's alone.
        release: that had brought this; None for none.
    """

    rollout: RolloutId
    name: str
    version: int | None
    choice: str | None
    kind: str = RECIPE
    settings: ReleasedSettings | None = None
    release: InstalledRelease | None = None

    @property
    def key(self) -> str:
        """As ``ReleaseFile.key``."""
        return self.name if self.kind == RECIPE else f"{self.kind}/{self.name}"


class FleetMemory(FleetMessage):
    """The file.

    Attributes:
        rollout, claim, step: of the newest desired state that was followed.
        before: of the newest roll-out that changed something.
        after_seq: newest verdict before the release came in force.
        newest: by ``ReleaseFile.key``, the newest release that was in force.
        taken: by ``ReleaseFile.key``, the release that came in force last, and was not given up.
        earlier: by ``ReleaseFile.key``, other releases that were in force, the newest first: a
            rollback, or somebody at the station, puts them in force again.
    """

    rollout: RolloutId | None = None
    claim: int = 0
    step: int = 0
    phase: ReleasePhase = ReleasePhase.IDLE
    reason: str | None = None
    detail: str = ""
    release: ReleaseFile | None = None
    before: Before | None = None
    after_seq: int = 0
    week: PartCounts | None = None
    newest: dict[str, int] = Field(default_factory=dict, max_length=MAX_NAMES)
    taken: dict[str, InstalledRelease] = Field(default_factory=dict, max_length=MAX_NAMES)
    earlier: dict[str, tuple[InstalledRelease, ...]] = Field(
        default_factory=dict, max_length=MAX_EARLIER_NAMES
    )

    def installed(self, key: str) -> tuple[InstalledRelease, ...]:
        """Return the releases of a name that were in force here, the newest first."""
        last = self.taken.get(key)
        return (*([last] if last is not None else []), *self.earlier.get(key, ()))

    def with_taken(self, key: str, release: InstalledRelease | None) -> "FleetMemory":
        """Return it with the release of a name that counts now; None where none does.

        The names that were released longest ago are forgotten.
        """
        others = tuple(
            one
            for one in self.installed(key)
            if release is None or (one.local, one.sha256) != (release.local, release.sha256)
        )
        taken = {name: one for name, one in self.taken.items() if name != key}
        earlier = {name: some for name, some in self.earlier.items() if name != key}
        if release is not None:
            taken[key] = release
        if others:
            earlier[key] = others[:MAX_EARLIER]
        return self.model_copy(
            update={
                "taken": dict(list(taken.items())[-MAX_NAMES:]),
                "earlier": dict(list(earlier.items())[-MAX_EARLIER_NAMES:]),
            }
        )

    def with_newest(self, key: str, version: int) -> "FleetMemory":
        """Return it with the newest release of a name; that of the longest unused name goes."""
        newest = {name: one for name, one in self.newest.items() if name != key}
        newest[key] = version
        return self.model_copy(update={"newest": dict(list(newest.items())[-MAX_NAMES:])})


_CONTENT = TypeAdapter(FleetMemory)


class MemoryFile:
    """Reads and writes it whole."""

    def __init__(self, journal_folder: Path) -> None:
        self._path = journal_folder / FILE_NAME

    def read(self) -> FleetMemory:
        """Return what is kept; nothing, with a warning, of a file that cannot be used."""
        return read_record(
            self._path,
            _CONTENT,
            FleetMemory(),
            "what releases were in force here is not known, and an older one is taken until a "
            "newer one was.",
        )

    def write(self, memory: FleetMemory) -> None:
        """Keep it.

        Raises:
            OutputNotWritable: the disk refuses; what was kept before still is.
        """
        write_record(self._path, memory)
