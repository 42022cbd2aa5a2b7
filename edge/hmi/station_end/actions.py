"""What can be done from the page, carried out in the station's process and recorded as events."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge.contract.encoding import bounded, utc_text
from edge.contract.event import Datum, Event, Severity
from edge.contract.verdict import Verdict
from edge.errors import ConfigurationError
from edge.settings.overrides import Override, Overrides
from edge.settings.station import Settings
from edge.station.images.recent_images import RecentImages
from edge.station.images.snapshot_folder import SnapshotFolder
from edge.station.model.manager import ModelManager
from edge.station.model.reloadable_settings import changed_keys
from edge.station.monitoring.health import Health

MOST_CAPTURED = 500
# Not reasons of the moment, but news that stays until somebody has read it.
ENDED_BY_ACKNOWLEDGEMENT = ("journal_quarantined", "journal_lost_records")


class DeedRefused(ConfigurationError):
    """The station does not do what the page asks for; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Doer:
    """Who asks.

    Attributes:
        name: the user a reverse proxy names, or ``token``.
        address: of the browser or proxy.
    """

    name: str
    address: str

    def data(self) -> dict[str, Datum]:
        return {"by": self.name, "address": self.address}


@dataclass(frozen=True, slots=True)
class ActionServices:
    """What the deeds work on.

    Attributes:
        model: loaded, and exchanged by ``reload``.
        reread: the settings as files and options have them now, with overrides.
        reload: takes them over between two parts.
        overrides: None for a station without a journal.
        snapshots, recent: None where none are kept.
        health: whose reasons can be acknowledged.
        record_event: keeps who did what.
    """

    model: ModelManager
    reread: Callable[[], Settings]
    reload: Callable[[], Mapping[str, Datum]]
    overrides: Overrides | None
    snapshots: Callable[[], SnapshotFolder | None]
    recent: Callable[[], RecentImages | None]
    health: Health
    record_event: Callable[[Event], None]


class PageActions:
    """Carries out one deed after another.

    ``part_decided`` and what only tells something may be called by other threads.
    """

    def __init__(self, hands: ActionServices) -> None:
        self._hands = hands
        self._capturing = threading.Lock()
        self._to_capture = 0
        self._asked_ns = 0
        self._acknowledging = threading.Lock()
        self._acknowledged: dict[str, str] = {}
        self._deeds: dict[str, Callable[[Mapping[str, Any], Doer], dict[str, Datum]]] = {
            "threshold": self._set_threshold,
            "feedback": self._note_feedback,
            "capture": self._capture,
            "rollback": self._roll_back,
            "acknowledge": self._acknowledge,
            "note_refused": self._note_refused,
        }

    def do(self, name: str, asked: Mapping[str, Any], doer: Doer) -> dict[str, Datum]:
        """Carry out a deed; return what came of it.

        Raises:
            StationError: it was not done; cause and next step.
        """
        return self._deeds[name](asked, doer)

    def part_decided(self, verdict: Verdict) -> None:
        """Ask for one image after the other, as long as some are wanted.

        Only a part that was decided after the asking tells what became of it.
        """
        if self._to_capture == 0:
            return
        with self._capturing:
            if self._to_capture and verdict.decided_ns > self._asked_ns:
                self._to_capture -= verdict.images is not None
                self._ask_for_image()

    def _ask_for_image(self) -> None:
        snapshots = self._hands.snapshots()
        if snapshots is not None and self._to_capture:
            self._asked_ns = time.monotonic_ns()
            snapshots.keep_next()

    @property
    def to_capture(self) -> int:
        """Training images that are still wanted."""
        return self._to_capture

    def acknowledged(self) -> dict[str, str]:
        """Return by reason who has acknowledged it, of those that hold now."""
        with self._acknowledging:
            reasons = self._hands.health.reasons
            self._acknowledged = {r: who for r, who in self._acknowledged.items() if r in reasons}
            return dict(self._acknowledged)

    def _set_threshold(self, asked: Mapping[str, Any], doer: Doer) -> dict[str, Datum]:
        hands, wanted = self._hands, asked["image_threshold"]
        overrides = hands.overrides
        if overrides is None:
            raise DeedRefused("this station keeps no journal to lay a threshold beside.")
        if wanted is not None and not math.isfinite(wanted):
            raise DeedRefused("the threshold must be a finite raw score.")
        current, settings = hands.model.store.current, hands.reread()
        changed = changed_keys(hands.model.settings, settings)
        if changed := [key for key in changed if key != "decision.image_threshold"]:
            raise DeedRefused(
                f"the settings file has changes that are not in force ({', '.join(changed)}). "
                "Reload or restart the station first, so that only the threshold changes here."
            )
        before = overrides.read()
        before_value = current.criteria.threshold
        self._keep(overrides, wanted, doer)
        try:
            hands.reload()
        except Exception:  # whatever it was: what is not in force is not kept either
            overrides.write(before)
            raise
        now = hands.model.store.current.criteria.threshold
        done: dict[str, Datum] = {"before": before_value, "now": now}
        self._record(
            "threshold_changed",
            f"{doer.name} set the threshold from {before_value:.6g} to {now:.6g}",
            {**done, "model_sha256": current.bundle.sha256, "comment": asked.get("comment")},
            doer,
        )
        return done

    def _keep(self, overrides: Overrides, threshold: float | None, doer: Doer) -> None:
        """Write down the threshold that every start begins with from now on."""
        if threshold is None:
            overrides.write(None)
            return
        said, kept = self._hands.reread().decision.image_threshold, overrides.read()
        laid_over = kept is not None and kept.image_threshold == said
        overrides.write(
            Override(
                image_threshold=threshold,
                model_sha256=self._hands.model.store.current.bundle.sha256,
                instead_of=kept.instead_of if kept is not None and laid_over else said,
                by=bounded(doer.name, 200),
                utc=utc_text(time.time_ns()),
            )
        )

    def _note_feedback(self, asked: Mapping[str, Any], doer: Doer) -> dict[str, Datum]:
        names = ("seq", "verdict_id", "part_id", "result", "raw_score", "mark", "comment")
        data = {name: asked.get(name) for name in names}
        self._record("feedback", f"{doer.name}: part {data['seq']} is {data['mark']}", data, doer)
        kept = asked["has_snapshot"] or (
            data["mark"] != "none" and self._keep_image(asked["record"])
        )
        return {"seq": data["seq"], "mark": data["mark"], "image_kept": kept}

    def _keep_image(self, record: Mapping[str, Any]) -> bool:
        """Keep the image of a part that is kept for some hours only; tell whether it is there."""
        snapshots, recent = self._hands.snapshots(), self._hands.recent()
        if snapshots is None or recent is None:
            return False
        return recent.promote(record, snapshots)

    def _capture(self, asked: Mapping[str, Any], doer: Doer) -> dict[str, Datum]:
        snapshots = self._hands.snapshots()
        if snapshots is None:
            raise DeedRefused(
                "this station keeps no images. Set snapshots.folder, and start it again."
            )
        with self._capturing:
            self._to_capture = count = min(int(asked["count"]), MOST_CAPTURED)
            self._ask_for_image()
        data: dict[str, Datum] = {"count": count, "folder": str(snapshots.root)}
        self._record("capture_asked", f"{doer.name} asked for {count} images", data, doer)
        return data

    def _roll_back(self, asked: Mapping[str, Any], doer: Doer) -> dict[str, Datum]:
        outcome = self._hands.model.roll_back(f"{doer.name} asked for the model before")
        if not outcome.changed:
            self._hands.record_event(outcome.event())
            raise DeedRefused(outcome.detail)
        evidence, overrides = outcome.evidence, self._hands.overrides
        same = evidence.get("before_sha256") == evidence.get("now_sha256")
        before, threshold = evidence.get("before_threshold"), evidence.get("now_threshold")
        moved, changed = before != threshold, evidence.get("changed")
        if not same:
            self._hands.record_event(outcome.event())
        elif moved and overrides is not None and isinstance(threshold, float):
            self._keep(overrides, threshold, doer)  # the same model with the threshold before
        data: dict[str, Datum] = {
            "model": outcome.evidence.get("now_name"),
            "model_sha256": outcome.evidence.get("now_sha256"),
            "threshold": threshold,
            "same_model": same,
            "changed": changed,
        }
        detail = f"{doer.name} switched back to {data['model']}, until the next reload or restart"
        kind = "rollback_asked"
        if same and moved:  # to whoever reads the events this is what it does
            kind, detail = "threshold_changed", f"{doer.name} went back: {changed}"
            data |= {"before": before, "now": threshold}
        elif same:
            kind, detail = "decision_changed", f"{doer.name} went back: {changed}"
        self._record(kind, detail, {**data, "comment": asked.get("comment")}, doer)
        return data

    def _acknowledge(self, asked: Mapping[str, Any], doer: Doer) -> dict[str, Datum]:
        reason = str(asked["reason"])
        if reason not in self._hands.health.reasons:
            raise DeedRefused(f"{reason} does not hold now; there is nothing to acknowledge.")
        detail = self._hands.health.reasons[reason]
        with self._acknowledging:
            self._acknowledged[reason] = doer.name
        data: dict[str, Datum] = {"reason": reason, "said": detail}
        self._record("alarm_acknowledged", f"{doer.name} has seen {reason}", data, doer)
        if reason in ENDED_BY_ACKNOWLEDGEMENT:
            self._hands.health.set(reason, False)
        return {"reason": reason}

    def _note_refused(self, asked: Mapping[str, Any], doer: Doer) -> dict[str, Datum]:
        detail = f"the page refused {asked['action']}: {asked['why']}"
        if asked["not_recorded"]:
            detail += f" ({asked['not_recorded']} more since the last record)"
        data = {**asked, **doer.data()}
        self._hands.record_event(Event("page_refused", Severity.WARNING, detail, data))
        return {}

    def _record(self, kind: str, detail: str, data: Mapping[str, Datum], doer: Doer) -> None:
        self._hands.record_event(Event(kind, Severity.INFO, detail, {**data, **doer.data()}))
