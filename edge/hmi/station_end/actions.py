"""What can be done from the page, carried out in the station's process and recorded as events."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from edge.contract.encoding import bounded, utc_text
from edge.contract.event import Datum, Event, Severity
from edge.contract.verdict import Verdict
from edge.errors import ConfigurationError
from edge.hmi.actions import (
    AcknowledgeAlarm,
    AcknowledgeBody,
    Actor,
    AlarmAcknowledged,
    BeginTeaching,
    BuildCandidate,
    CaptureBegun,
    CaptureBody,
    CaptureImages,
    CaptureToTeach,
    ChooseRecipe,
    EndTeaching,
    MarkPart,
    MaskBody,
    MaskChanged,
    PartMarked,
    RecipeBody,
    RecipeChosen,
    RecordRefusal,
    RefusalRecorded,
    ReleaseCandidate,
    RollBack,
    RollbackBody,
    RolledBack,
    SetMask,
    SetThreshold,
    StationAction,
    StationActionResult,
    StrikeOut,
    TeachingAction,
    ThresholdBody,
    ThresholdChanged,
    TryCandidate,
)
from edge.hmi.contents import TeachingStatus
from edge.hmi.masks import MaskInForce
from edge.hmi.station_end.mask_drawing import MaskDrawing
from edge.hmi.station_end.teaching.teaching import Teaching
from edge.settings.overrides import Override, Overrides
from edge.settings.station import Settings
from edge.station.images.recent_images import RecentImages
from edge.station.images.snapshot_folder import SnapshotFolder
from edge.station.model.manager import ModelManager
from edge.station.model.reloadable_settings import changed_keys
from edge.station.monitoring.health import Health
from edge.wording import counted

# Not reasons of the moment, but news that stays until somebody has read it.
ENDED_BY_ACKNOWLEDGEMENT = ("journal_quarantined", "journal_lost_records")


class ActionRefused(ConfigurationError):
    """The station does not do what the page asks for; cause and next step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionServices:
    """The parts of the station that actions change.

    Attributes:
        model: loaded, and exchanged by ``reload``.
        reread: the settings as files and options have them now, with overrides.
        reload: puts them in force between two parts.
        choose_recipe: changes over to a recipe by id and version; None for the one in force.
        overrides: None for a station without a journal.
        snapshots, recent: None where none are kept.
        health: whose reasons can be acknowledged.
        record_event: records who did what.
        teaching: None where nothing is taught at the page.
    """

    model: ModelManager
    reread: Callable[[], Settings]
    reload: Callable[[], Mapping[str, Datum]]
    choose_recipe: Callable[[str, int | str | None], Mapping[str, Datum]]
    overrides: Overrides | None
    snapshots: Callable[[], SnapshotFolder | None]
    recent: Callable[[], RecentImages | None]
    health: Health
    record_event: Callable[[Event], None]
    teaching: Teaching | None = None


class PageActions:
    """Carries out one action after another.

    ``on_verdict`` and the properties may be called by other threads.
    """

    def __init__(self, services: ActionServices) -> None:
        self._services = services
        self._masks = MaskDrawing(services.model, services.reload)
        self._capturing = threading.Lock()
        self._to_capture = 0
        self._requested_ns = 0
        self._acknowledging = threading.Lock()
        self._acknowledged: dict[str, str] = {}

    def do(self, action: StationAction, actor: Actor) -> StationActionResult:
        """Carry out an action; return its result.

        Raises:
            StationError: it was not done; cause and next step.
        """
        match action:
            case SetThreshold():
                return self._set_threshold(action.body, actor)
            case SetMask():
                return self._set_mask(action.body, actor)
            case MarkPart():
                return self._mark_part(action, actor)
            case CaptureImages():
                return self._capture(action.body, actor)
            case RollBack():
                return self._roll_back(action.body, actor)
            case ChooseRecipe():
                return self._choose_recipe(action.body, actor)
            case AcknowledgeAlarm():
                return self._acknowledge(action.body, actor)
            case (
                BeginTeaching()
                | CaptureToTeach()
                | StrikeOut()
                | BuildCandidate()
                | TryCandidate()
                | ReleaseCandidate()
                | EndTeaching()
            ):
                return self._teach(action, actor)
            case RecordRefusal():
                return self._record_refusal(action, actor)
        assert_never(action)

    def on_verdict(self, verdict: Verdict) -> None:
        """Hand a part to teaching; request images, until all training images are kept.

        Only a part that was decided after a request shows what became of it.
        """
        if self.teaching is not None:
            self.teaching.on_verdict(verdict)
        if self._to_capture == 0:
            return
        with self._capturing:
            if self._to_capture and verdict.decided_ns > self._requested_ns:
                self._to_capture -= verdict.images is not None
                self._request_image()

    def _request_image(self) -> None:
        snapshots = self._services.snapshots()
        if snapshots is not None and self._to_capture:
            self._requested_ns = time.monotonic_ns()
            snapshots.keep_next()

    @property
    def teaching(self) -> Teaching | None:
        """What is taught here; None where nothing is."""
        return self._services.teaching

    def teaching_status(self) -> TeachingStatus | None:
        """Return what is being taught; None where nothing can be."""
        return self.teaching.status() if self.teaching is not None else None

    @property
    def to_capture(self) -> int:
        """Training images that are still to be kept."""
        return self._to_capture

    def acknowledged(self) -> dict[str, str]:
        """Return by reason who has acknowledged it, of those that hold now."""
        with self._acknowledging:
            reasons = self._services.health.reasons
            self._acknowledged = {r: who for r, who in self._acknowledged.items() if r in reasons}
            return dict(self._acknowledged)

    def _set_threshold(self, body: ThresholdBody, actor: Actor) -> ThresholdChanged:
        services, threshold = self._services, body.image_threshold
        overrides = services.overrides
        if overrides is None:
            raise ActionRefused(
                "The threshold cannot be saved: this station keeps no journal. Set journal.folder."
            )
        if threshold is not None and not math.isfinite(threshold):
            raise ActionRefused("the threshold must be a finite raw score.")
        current = services.model.store.current
        self._reread_alone("decision.image_threshold", "the threshold")
        recipe = services.model.folder_recipe
        saved = overrides.read(recipe)
        before = current.criteria.threshold
        with overrides.changing():
            self._save(overrides, threshold, actor)
            try:
                services.reload()
            except Exception:  # whatever it was: what is not in force is not saved either
                overrides.write(saved, recipe)
                raise
        now = services.model.store.current.criteria.threshold
        self._record(
            "threshold_changed",
            f"{actor.name} set the threshold from {before:.6g} to {now:.6g}",
            {
                "before": before,
                "now": now,
                "model_sha256": current.bundle.sha256,
                "comment": body.comment,
            },
            actor,
        )
        return ThresholdChanged(before=before, now=now)

    def _reread_alone(self, key: str, what: str) -> Settings:
        """Return the settings as they are written, of which nothing else may have changed."""
        settings = self._services.reread()
        changed = changed_keys(self._services.model.settings, settings)
        if changed := [one for one in changed if one != key]:
            raise ActionRefused(
                f"the settings file has changes that are not in force ({', '.join(changed)}). "
                f"Reload or restart the station first, so that only {what} changes here."
            )
        return settings

    def mask(self) -> MaskInForce:
        """Return which mask and zones are in force; the same object until they change."""
        return self._masks.in_force()

    def _set_mask(self, body: MaskBody, actor: Actor) -> MaskChanged:
        overrides = self._services.overrides
        if overrides is None:
            raise ActionRefused(
                "The mask cannot be saved: this station keeps no journal. Set journal.folder."
            )
        done = self._masks.apply(
            body,
            actor,
            overrides,
            settings=self._reread_alone("decision.mask", "the mask"),
            made_threshold=lambda value: self._made_threshold(overrides, value, actor),
        )
        result = done.result
        data: dict[str, Datum] = {
            **result.model_dump(exclude={"zones"}),
            "zones": ", ".join(result.zones),
            "file": done.file,
            "model_sha256": self._services.model.store.current.bundle.sha256,
            "comment": body.comment,
        }
        what = f"drew {done.file}" if done.file else "restored the mask of the settings"
        detail = (
            f"{actor.name} {what}: {result.ignored_now:.1%} of the image ignored (before "
            f"{result.ignored_before:.1%}), zones: {data['zones'] or 'none'}, threshold "
            f"{result.threshold:.6g}"
        )
        self._record("mask_changed", detail, data, actor)
        return result

    def _save(self, overrides: Overrides, threshold: float | None, actor: Actor) -> None:
        """Write down the threshold that every start begins with from now on."""
        made = None if threshold is None else self._made_threshold(overrides, threshold, actor)
        overrides.write(made, self._services.model.folder_recipe)

    def _made_threshold(self, overrides: Overrides, threshold: float, actor: Actor) -> Override:
        in_settings = self._services.reread().decision.image_threshold
        saved = overrides.read(self._services.model.folder_recipe)
        laid_over = saved is not None and saved.image_threshold == in_settings
        return Override(
            image_threshold=threshold,
            model_sha256=self._services.model.store.current.bundle.sha256,
            instead_of=saved.instead_of if saved is not None and laid_over else in_settings,
            by=bounded(actor.name, 200),
            utc=utc_text(time.time_ns()),
        )

    def _mark_part(self, action: MarkPart, actor: Actor) -> PartMarked:
        body, part = action.body, action.part
        data: dict[str, Datum] = {
            "seq": body.seq,
            "verdict_id": part.verdict_id,
            "part_id": part.part_id,
            "result": part.result,
            "raw_score": part.raw_score,
            "mark": body.mark,
            "comment": body.comment,
        }
        self._record("feedback", f"{actor.name}: part {body.seq} is {body.mark}", data, actor)
        kept = part.has_snapshot or (body.mark != "none" and self._keep_image(part.record))
        return PartMarked(seq=body.seq, mark=body.mark, image_kept=kept)

    def _keep_image(self, record: Mapping[str, Any]) -> bool:
        """Keep the image of a part that is kept for some hours only; False where it is gone."""
        snapshots, recent = self._services.snapshots(), self._services.recent()
        if snapshots is None or recent is None:
            return False
        return recent.promote(record, snapshots)

    def _capture(self, body: CaptureBody, actor: Actor) -> CaptureBegun:
        snapshots = self._services.snapshots()
        if snapshots is None:
            raise ActionRefused(
                "this station keeps no images. Set snapshots.folder, and restart it."
            )
        with self._capturing:
            self._to_capture = body.count
            self._request_image()
        begun = CaptureBegun(count=body.count, folder=str(snapshots.root))
        data: dict[str, Datum] = begun.model_dump()
        detail = f"{actor.name} asked for {counted(begun.count, 'image')}"
        self._record("capture_asked", detail, data, actor)
        return begun

    def _roll_back(self, body: RollbackBody, actor: Actor) -> RolledBack:
        recipe = self._services.model.recipe
        outcome = self._services.model.roll_back(f"{actor.name} asked for the previous model")
        if not outcome.changed:
            self._services.record_event(outcome.event())
            raise ActionRefused(outcome.detail)
        evidence, overrides = outcome.evidence, self._services.overrides
        same = evidence.get("before_sha256") == evidence.get("now_sha256")
        before, threshold = evidence.get("before_threshold"), evidence.get("now_threshold")
        moved, changed = before != threshold, evidence.get("changed")
        another_version = self._services.model.recipe != recipe
        if not same or another_version:
            self._services.record_event(outcome.event())
        elif moved and overrides is not None and isinstance(threshold, float):
            self._save(overrides, threshold, actor)  # the same model with the threshold before
        data: dict[str, Datum] = {
            "model": evidence.get("now_name"),
            "model_sha256": evidence.get("now_sha256"),
            "threshold": threshold,
            "same_model": same,
            "changed": changed,
        }
        detail = f"{actor.name} switched back to {data['model']}, until the next reload or restart"
        kind = "rollback_asked"
        if another_version:
            detail = f"{actor.name} switched back: {changed}"
        elif same and moved:  # to whoever reads the events this is what it does
            kind, detail = "threshold_changed", f"{actor.name} switched back: {changed}"
            data |= {"before": before, "now": threshold}
        elif same:
            kind, detail = "decision_changed", f"{actor.name} switched back: {changed}"
        if also := evidence.get("also_put_back"):
            detail += f"; {also}"
        self._record(kind, detail, {**data, "comment": body.comment}, actor)
        return RolledBack.model_validate(data)

    def _choose_recipe(self, body: RecipeBody, actor: Actor) -> RecipeChosen:
        before = self._services.model.recipe
        done = self._services.choose_recipe(body.id, body.version)
        chosen = RecipeChosen.model_validate(
            {
                "recipe": done["recipe"],
                "version": done["version"],
                "before": f"{before.id} {before.version}" if before else None,
                "left_behind": done.get("left_behind"),
            }
        )
        now = f"{chosen.recipe} {chosen.version}"
        data: dict[str, Datum] = {"before": chosen.before, "now": now, "comment": body.comment}
        detail = f"{actor.name} changed over from {chosen.before or 'no recipe'} to {now}"
        if chosen.left_behind:
            data["left_behind"] = chosen.left_behind
            detail += f"; not used any more: {chosen.left_behind}"
        self._record("recipe_changed", detail, data, actor)
        return chosen

    def _acknowledge(self, body: AcknowledgeBody, actor: Actor) -> AlarmAcknowledged:
        reason, health = body.reason, self._services.health
        if reason not in health.reasons:
            raise ActionRefused(f"{reason} is not active; there is nothing to acknowledge.")
        detail = health.reasons[reason]
        with self._acknowledging:
            self._acknowledged[reason] = actor.name
        data: dict[str, Datum] = {"reason": reason, "said": detail}
        self._record("alarm_acknowledged", f"{actor.name} has seen {reason}", data, actor)
        if reason in ENDED_BY_ACKNOWLEDGEMENT:
            health.set(reason, False)
        return AlarmAcknowledged(reason=reason)

    def _teach(self, action: TeachingAction, actor: Actor) -> StationActionResult:
        if self.teaching is None:
            raise ActionRefused(
                "nothing is taught at this page. Set teach.teacher and recipes.folder, and "
                "restart the station."
            )
        return self.teaching.do(action, actor)

    def _record_refusal(self, refusal: RecordRefusal, actor: Actor) -> RefusalRecorded:
        detail = f"the page refused {refusal.action}: {refusal.why}"
        if refusal.not_recorded:
            detail += f" ({refusal.not_recorded} more since the last record)"
        data: dict[str, Datum] = refusal.model_dump(exclude={"name"})
        event = Event("page_refused", Severity.WARNING, detail, {**data, **actor.data()})
        self._services.record_event(event)
        return RefusalRecorded()

    def _record(self, kind: str, detail: str, data: Mapping[str, Datum], actor: Actor) -> None:
        event = Event(kind, Severity.INFO, detail, {**data, **actor.data()})
        self._services.record_event(event)
