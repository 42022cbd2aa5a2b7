"""The thread that follows the desired state: it takes releases, goes back, and reports.

Whatever ends the process in between, the next one reads the memory, puts back what was in force
before a release that nobody has seen through, gets the retained desired state again and does the
same steps once more; each of them leaves the station on one whole version.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from edge.bundle.signature import SignatureInvalid, SignatureMissing
from edge.contract.encoding import bounded
from edge.contract.event import Event, Severity
from edge.contract.fleet import (
    MAX_DETAIL,
    NOT_FETCHED,
    PAGE_SETTINGS,
    RECIPE,
    SETTINGS,
    Action,
    Desired,
    FleetReport,
    InForce,
    ReleasedInForce,
    ReleaseFile,
    ReleasePhase,
    payload,
)
from edge.errors import OutputNotWritable, StationError
from edge.journal.entries import JournalError
from edge.recipes.archive import ArchiveManifest, import_recipe, read_archive_manifest
from edge.recipes.errors import ArchiveRefused
from edge.recipes.folder import RecipeFolder
from edge.settings.overrides import PageSettings
from edge.settings.released import ReleasedSettings
from edge.settings.released_archive import SettingsManifest, read_settings_archive
from edge.station.fleet.download import DISK_FULL, ReleaseDownload
from edge.station.fleet.errors import ReleaseNotFetched, ReleaseRefused
from edge.station.fleet.inbox import DesiredInbox
from edge.station.fleet.memory import Before, FleetMemory, InstalledRelease, MemoryFile
from edge.station.fleet.part_counts import PartCounter, last_week

log = logging.getLogger(__name__)

POLL_S = 0.5
COUNT_INTERVAL_S = 2.0
# After a release that did not arrive, while it is still desired.
RETRY_S = 30.0
SPOOL = "fleet.download"
# Of errors that others raise, as the report names them; another one is ``unfit``.
_REASONS: Mapping[type[StationError], str] = {
    SignatureMissing: "unsigned",
    SignatureInvalid: "wrong_signature",
    ArchiveRefused: "damaged",
    OutputNotWritable: "not_writable",
}


class Products(Protocol):
    """What a station inspects for, and how that is changed between two parts."""

    def before(self, name: str, rollout: str) -> Before:
        """Return what is to be put back if a release of this recipe is no good."""

    def put_in_force(self, name: str, version: int, change_product: bool) -> None:
        """Put a version of the folder in force, between two parts; raises StationError."""

    def put_back(self, before: Before) -> None:
        """Put in force what was before; raises StationError."""

    def in_force(self, name: str | None) -> InForce:
        """Return what inspects parts of a recipe; with None those that name none."""

    def page_settings(self, name: str, version: int) -> PageSettings:
        """Return what was set at the page for a version of the folder, and counts."""

    def page_settings_left(self, name: str, before: int, now: int) -> PageSettings:
        """Return what was set at the page for a version, and by which another does not decide."""

    def page_settings_beside_release(self) -> tuple[PageSettings, PageSettings]:
        """Return what was set at the page and counts over released settings, or not any more."""

    def released(self) -> ReleasedSettings | None:
        """Return the release of settings that counts; None where the station's own count alone."""

    def make_release(self, manifest: SettingsManifest, sha256: str) -> ReleasedSettings:
        """Return a release of settings as this station takes it; raises StationError."""

    def release_settings(self, released: ReleasedSettings | None) -> None:
        """Put released settings in force, between two parts, or none; raises StationError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentServices:
    """What the agent works on.

    Attributes:
        station: SITE/LINE/STATION/CAMERA.
        journal: UUIDs of the journal and, before it, of those that it follows.
        journal_path: the database.
        publish: has the report published, now and at every connection.
    """

    station: str
    journal: tuple[str, ...]
    journal_path: Path
    recipes: RecipeFolder
    products: Products
    download: ReleaseDownload
    memory: MemoryFile
    inbox: DesiredInbox
    publish: Callable[[Mapping[str, Any]], None]
    record_event: Callable[[Event], None]
    clock_s: Callable[[], float] = time.monotonic
    utc_ns: Callable[[], int] = time.time_ns


@dataclass(frozen=True, slots=True)
class _Ready:
    """A release that was verified, and can come in force.

    Attributes:
        local: its version in the station's folder; of settings that of the release.
        put: puts it in force; raises StationError.
    """

    local: int
    put: Callable[[], None]


class FleetAgent:
    """Follows the newest desired state; ``run`` is the body of its thread."""

    def __init__(self, services: AgentServices) -> None:
        """Read the memory."""
        self._services = services
        self._memory = services.memory.read()
        self._desired: Desired | None = None
        self._retry_at_s = float("inf")
        self._count_at_s = 0.0
        self._counter: PartCounter | None = None
        self._reported: FleetReport | None = None

    def run(self, ending: Callable[[], bool]) -> None:
        """Follow until the station ends."""
        self._undo_interrupted()
        self._begin_counting()
        self._report()
        while not ending():
            content = self._services.inbox.get(POLL_S)
            if content is not None:
                self._receive(content)
            elif self._services.clock_s() >= self._retry_at_s and self._desired is not None:
                self._follow(self._desired)
            if self._services.clock_s() >= self._count_at_s:
                self._count_at_s = self._services.clock_s() + COUNT_INTERVAL_S
                self._look_for_fall_back()
                self._look_for_page_settings()
                self._report()

    def _undo_interrupted(self) -> None:
        """Put back what was in force before a change in which the process ended.

        What it was changed to may lie in force here, and never have passed its trial; the desired
        state, which is retained, asks for it again if it is still wanted.
        """
        memory = self._memory
        before = memory.before
        if (
            memory.phase is not ReleasePhase.ACTIVATING
            or before is None
            or before.rollout != memory.rollout
        ):
            return
        log.warning(
            "the station ended while a release was put in force: going back to what was in force "
            "before, and taking it anew if it is still wanted"
        )
        try:
            self._put_back(before)
        except StationError as error:
            log.warning("what was in force before the release is not put back: %s", error)
        except Exception:  # a defect of ours; the station goes on with what it has
            log.exception("what was in force before the release is not put back")

    def _put_back(self, before: Before) -> None:
        products = self._services.products
        if before.kind == SETTINGS:
            products.release_settings(before.settings)
        else:
            products.put_back(before)

    def _receive(self, content: bytes) -> None:
        try:
            desired = Desired.model_validate_json(content)
        except ValidationError as error:
            # Nobody's desired state: what the station has stays as it is.
            fault = error.errors()[0]
            key = ".".join(str(part) for part in fault["loc"])[:60]
            log.warning("fleet/desired: not a valid message (%s); ignored", key)
            return
        memory = self._memory
        if desired.order < (memory.claim, memory.step):
            log.warning(
                "fleet/desired: %s from a command that no longer leads (claim %d step %d, "
                "known %d/%d); ignored",
                *(desired.action, *desired.order, memory.claim, memory.step),
            )
            self._report(again=True)
            return
        same = desired.order == (memory.claim, memory.step) and desired.rollout == memory.rollout
        self._desired = desired
        if same and memory.phase.over and memory.reason != NOT_FETCHED:
            self._report(again=True)
            return
        self._follow(desired)

    def _follow(self, desired: Desired) -> None:
        """Do what is desired, and keep how it ended."""
        self._retry_at_s = float("inf")
        try:
            self._check_meant(desired)
            match desired.action:
                case Action.TAKE:
                    self._adopt(desired)
                case Action.RETURN:
                    self._return(desired)
                case Action.KEEP:
                    self._enter(desired, ReleasePhase.KEPT)
        except ReleaseNotFetched as error:
            self._retry_at_s = self._services.clock_s() + RETRY_S
            self._end(desired, ReleasePhase.FAILED, error.reason, str(error))
        except ReleaseRefused as error:
            self._end(desired, ReleasePhase.REFUSED, error.reason, str(error))
        except StationError as error:
            refused = self._memory.phase is not ReleasePhase.ACTIVATING
            phase = ReleasePhase.REFUSED if refused else ReleasePhase.FAILED
            self._end(desired, phase, _reason(error), str(error))
        except Exception as error:  # a defect of ours; the station goes on as it was
            log.exception("a release met a defect")
            detail = f"internal error: {type(error).__name__}: {error}"
            self._end(desired, ReleasePhase.FAILED, "internal_error", detail)

    def _check_meant(self, desired: Desired) -> None:
        own = self._services.journal
        if desired.journal is not None and desired.journal not in own:
            raise ReleaseRefused(
                "name_reused",
                f"the roll-out is for the station with journal {desired.journal}, but this "
                f"one has {own[0]}: its name belonged to another station before. Release "
                "again to address the present stations.",
            )

    def _adopt(self, desired: Desired) -> None:
        services, release = self._services, desired.release
        if release is None:
            raise ReleaseRefused("no_release", "the desired state names no release. Release again.")
        if release.kind not in (RECIPE, SETTINGS):
            raise ReleaseRefused(
                "unknown_kind",
                f"{release}: this version of the station accepts only recipes and settings. Update "
                "this station.",
            )
        known = self._memory.taken.get(release.key)
        there = known is not None and known.sha256 == release.sha256
        if known is not None and there and self._local_in_force(release) == known.local:
            self._in_force(desired, release, known.local)
            return
        self._enter(desired, ReleasePhase.FETCHING)
        newest = self._memory.newest.get(release.key, 0)
        if release.version < newest and not desired.older:
            raise ReleaseRefused(
                "older",
                f"{release}: version {newest} was in force here. Release a newer version, or say "
                "older: true in the plan if this one is meant.",
            )
        spool = services.journal_path.with_name(SPOOL)
        try:
            services.download.fetch(release, spool)
            self._enter(desired, ReleasePhase.VERIFYING)
            verified = self._recipe if release.kind == RECIPE else self._settings
            ready = verified(desired, release, spool)
        finally:
            spool.unlink(missing_ok=True)
        self._activate(desired, release, ready)

    def _local_in_force(self, release: ReleaseFile) -> int | str | None:
        """Return which version of it is in force here, as ``InstalledRelease`` has it."""
        products = self._services.products
        if release.kind == RECIPE:
            return products.in_force(release.name).version
        now = products.released()
        known = now is not None and now.name == release.name and now.sha256 == release.sha256
        return now.version if now is not None and known else None

    @property
    def _key_file(self) -> Path:
        return Path(self._services.download.settings.public_key)

    def _settings(self, _desired: Desired, release: ReleaseFile, file: Path) -> _Ready:
        """Check a release of settings against those of this station."""
        manifest = read_settings_archive(file, self._key_file)
        self._check_manifest(release, manifest)
        products = self._services.products
        made = products.make_release(manifest, release.sha256)
        return _Ready(manifest.version, lambda: products.release_settings(made))

    def _recipe(self, desired: Desired, release: ReleaseFile, file: Path) -> _Ready:
        """Take a recipe into the folder of recipes."""
        services, name = self._services, release.name
        manifest = read_archive_manifest(file, self._key_file)
        self._check_manifest(release, manifest)
        unpacked = sum(one.bytes for one in manifest.files.values())
        services.recipes.make()
        services.download.demand_room(unpacked, services.recipes.path)
        local = import_recipe(services.recipes, file, self._key_file).version
        change = desired.change_product
        return _Ready(local, lambda: services.products.put_in_force(name, local, change))

    def _check_manifest(
        self, release: ReleaseFile, manifest: ArchiveManifest | SettingsManifest
    ) -> None:
        """Demand that a file is the one that is released, and meant for this station."""
        services = self._services
        if (manifest.name, manifest.version) != (release.name, release.version):
            raise ReleaseRefused(
                "other_file",
                f"the file is {release.kind} {manifest.name!r} version {manifest.version}, the "
                f"roll-out says {release}. Release again.",
            )
        if not manifest.meant_for(services.station):
            meant = ", ".join(manifest.stations or ())
            raise ReleaseRefused(
                "foreign",
                f"{release} is meant for {meant}, not for {services.station}. Export it for this "
                "station, too, or take the station out of the plan.",
            )

    def _activate(self, desired: Desired, release: ReleaseFile, ready: _Ready) -> None:
        services, memory = self._services, self._memory
        before = memory.before
        if before is None or before.rollout != desired.rollout:
            before = services.products.before(release.name, desired.rollout)
            product = release.name if before.version is not None else before.choice
            if release.kind == SETTINGS:
                product = services.products.in_force(None).name
                update = {"kind": SETTINGS, "settings": services.products.released()}
                before = before.model_copy(update=update)
            before = before.model_copy(update={"release": self._find_release(before)})
            week, after_seq = last_week(services.journal_path, product, services.utc_ns())
            memory = memory.model_copy(
                update={"before": before, "week": week, "after_seq": after_seq}
            )
        self._keep(memory, desired, ReleasePhase.ACTIVATING)
        ready.put()
        self._in_force(desired, release, ready.local)

    def _in_force(self, desired: Desired, release: ReleaseFile, local: int) -> None:
        memory = self._memory
        newest = memory.newest.get(release.key, 0)
        version = release.version if desired.older else max(release.version, newest)
        taken = InstalledRelease(release=release.version, sha256=release.sha256, local=local)
        memory = memory.with_taken(release.key, taken).with_newest(release.key, version)
        self._memory = memory.model_copy(update={"release": release})
        self._end(desired, ReleasePhase.IN_FORCE, *self._in_force_detail(release, local))

    def _in_force_detail(self, release: ReleaseFile, local: int) -> tuple[str | None, str]:
        """Return reason and detail of a release in force: whether it alone decides its parts."""
        products, before = self._services.products, self._memory.before
        left, of_version = PageSettings(), ""
        if release.kind == SETTINGS:
            over, left = products.page_settings_beside_release()
        else:
            over = products.page_settings(release.name, local)
            if (
                before is not None
                and (before.kind, before.name) == (RECIPE, release.name)
                and before.version is not None
                and before.version != local
            ):
                left = products.page_settings_left(release.name, before.version, local)
                of_version = f" for version {before.version}"
        notes = []
        if over:
            notes.append(f"in its place counts what was set at the page: {over}")
        if left:
            notes.append(f"not used any more is what was set at the page{of_version}: {left}")
        reason = PAGE_SETTINGS if notes else None
        return reason, "; ".join([f"{release} is in force", *notes])

    def _return(self, desired: Desired) -> None:
        before = self._memory.before
        if before is None or before.rollout != desired.rollout:
            self._end(
                desired, ReleasePhase.KEPT, None, "no release of this roll-out was in force here"
            )
            return
        self._enter(desired, ReleasePhase.ACTIVATING)
        key, over_it = before.key, ""
        self._put_back(before)
        if before.kind == SETTINGS:
            shown = str(before.settings or "what the station's own settings say")
        else:
            now = self._services.products.in_force(before.name)
            name, version = now.name or before.choice or "model.path", now.version
            shown = name if version is None else f"{name} version {version}"
            if before.version is not None and (
                over := self._services.products.page_settings(before.name, before.version)
            ):
                over_it = f"; what was set at the page for {before.name} counts again: {over}"
        memory, given_up = self._memory, self._memory.taken.get(key)
        if given_up is not None and memory.newest.get(key) == given_up.release:
            # It is not the newest that counts any more: the next one may have its number, but none
            # that is older than what is in force again.
            again = before.release.release if before.release is not None else 0
            memory = memory.with_newest(key, max(given_up.release - 1, again))
        memory = memory.with_taken(key, before.release)
        self._memory = memory.model_copy(update={"release": None})
        self._end(desired, ReleasePhase.RETURNED, None, f"{shown} is in force again{over_it}")

    def _find_release(self, before: Before) -> InstalledRelease | None:
        """Return the release by which something came in force; None for none."""
        for one in self._memory.installed(before.key):
            if before.kind == RECIPE and one.local == before.version:
                return one
            if before.settings is not None and one.sha256 == before.settings.sha256:
                return one
        return None

    def _look_for_fall_back(self) -> None:
        """See whether the station has given the release up itself, or somebody here has."""
        memory = self._memory
        if memory.phase is not ReleasePhase.IN_FORCE or memory.release is None:
            return
        taken = memory.taken.get(memory.release.key)
        now = self._local_in_force(memory.release)
        if taken is None or now == taken.local:
            return
        detail = (
            f"version {now} is in force instead: the station rolled back to it, "
            "or somebody here chose it; see its journal."
        )
        if memory.release.kind == SETTINGS:
            detail = (
                "it is not in force any more, or not all of it: the station's own settings were "
                "changed since, or somebody here rolled back; see its journal."
            )
        self._memory = memory.model_copy(
            update={"phase": ReleasePhase.FELL_BACK, "reason": "fell_back", "detail": detail}
        )
        self._save()

    def _look_for_page_settings(self) -> None:
        """See whether somebody has set at the page what counts over the release, or took it back.

        The page has recorded who did; here it is for those who look at all stations.
        """
        memory = self._memory
        if memory.phase is not ReleasePhase.IN_FORCE or memory.release is None:
            return
        taken = memory.taken.get(memory.release.key)
        if taken is None:
            return
        reason, detail = self._in_force_detail(memory.release, taken.local)
        detail = bounded(detail, MAX_DETAIL)
        if (reason, detail) == (memory.reason, memory.detail):
            return
        self._memory = memory.model_copy(update={"reason": reason, "detail": detail})
        self._save()

    def _enter(self, desired: Desired, phase: ReleasePhase) -> None:
        self._keep(self._memory, desired, phase)
        self._report()

    def _keep(self, memory: FleetMemory, desired: Desired, phase: ReleasePhase) -> None:
        self._memory = memory.model_copy(
            update={
                "rollout": desired.rollout,
                "claim": desired.claim,
                "step": desired.step,
                "phase": phase,
                "reason": None,
                "detail": "",
            }
        )
        self._save()

    def _end(self, desired: Desired, phase: ReleasePhase, reason: str | None, detail: str) -> None:
        """Keep how it ended, record it, and report."""
        repeated = self._memory.phase is phase and self._memory.reason == reason
        self._memory = self._memory.model_copy(
            update={
                "rollout": desired.rollout,
                "claim": desired.claim,
                "step": desired.step,
                "phase": phase,
                "reason": reason,
                "detail": bounded(detail, MAX_DETAIL),
            }
        )
        self._save()
        self._begin_counting()
        self._report()
        if repeated:
            return
        notable = phase.bad or reason == PAGE_SETTINGS
        log.log(logging.WARNING if notable else logging.INFO, "release %s: %s", phase, detail)
        severity = Severity.WARNING if notable else Severity.INFO
        data = {"rollout": desired.rollout, "action": desired.action.value, "reason": reason}
        self._services.record_event(Event(f"release_{phase}", severity, detail, data))

    def _save(self) -> None:
        try:
            self._services.memory.write(self._memory)
        except OutputNotWritable as error:
            log.warning("%s Until it is, a restart begins with what was kept before.", error)

    def _begin_counting(self) -> None:
        memory = self._memory
        taken = memory.taken.get(memory.release.key) if memory.release else None
        self._counter = None
        if (
            memory.release is not None
            and taken is not None
            and memory.phase is ReleasePhase.IN_FORCE
        ):
            in_force = InForce(name=memory.release.name, version=taken.local)
            if memory.release.kind == SETTINGS:
                in_force = self._services.products.in_force(None)
            self._counter = PartCounter(in_force.name, in_force.version, after_seq=memory.after_seq)

    def _report(self, again: bool = False) -> None:
        memory, services = self._memory, self._services
        name = memory.release.name if memory.release and memory.release.kind == RECIPE else None
        in_force = services.products.in_force(name)
        for one in memory.installed(in_force.name or ""):
            if one.local == in_force.version:
                update = {"release": one.release, "sha256": one.sha256}
                in_force = in_force.model_copy(update=update)
                break
        since = None
        if self._counter is not None:
            try:
                since = self._counter.update(services.journal_path)
            except JournalError as error:
                log.warning("parts since the release are not counted: %s", error)
        report = FleetReport(
            journal=services.journal[0],
            rollout=memory.rollout,
            claim=memory.claim,
            step=memory.step,
            phase=memory.phase,
            reason=memory.reason,
            detail=memory.detail,
            in_force=in_force,
            settings=_shown(services.products.released()),
            since=since,
            week=memory.week,
        )
        if report != self._reported or again:
            self._reported = report
            services.publish(payload(report))


def _shown(released: ReleasedSettings | None) -> ReleasedInForce | None:
    if released is None:
        return None
    return ReleasedInForce(name=released.name, version=released.version, sha256=released.sha256)


def _reason(error: StationError) -> str:
    """Return the kind of an error as the report names it."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in DISK_FULL:
        return "disk_full"
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    return "unfit"
