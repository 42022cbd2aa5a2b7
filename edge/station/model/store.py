"""The model a station works with, and its exchange while parts are inspected.

Another model is loaded aside: read once into memory, verified, tried in a process that it may
crash, compiled, self-tested, tried on a real frame. Only then it takes over, between two parts.
Whatever fails before leaves the old model untouched; when the new one fails at its first parts, the
old one comes back by itself.

What parts are decided by (thresholds, guard band, crop) is apart from the network: it is exchanged
between two parts as well, and the network is neither read nor compiled for it.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from edge.bundle.loading import Bundle, fallback_sentence, load_bundle
from edge.contract.event import Datum, Event, Severity
from edge.errors import FrameUnsuitable, ModelError, StationError
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.areas import demand_size
from edge.inspection.criteria import DecisionCriteria
from edge.inspection.decision import Reason
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.graph_trial import try_model
from edge.inspection.inspector import Inspector
from edge.inspection.pieces import frame_pieces
from edge.inspection.plausibility import check_reference
from edge.inspection.self_test import self_test
from edge.station.model.releases import Releases
from edge.wording import counted

log = logging.getLogger(__name__)

# So many parts in a row without a number from the model bring the one before back.
FAILURES_IN_A_ROW = 3
# Of a part for which the model gave a number. Another one, such as an image that never came, says
# nothing of the model, and stands between two failures without ending their row.
_SCORED = (Reason.SCORE_BELOW, Reason.SCORE_ABOVE, Reason.NEAR_THRESHOLD)

# Of a frame that the model could not take; a dark or blurred frame is no fault of the model.
_CANNOT_INSPECT = (Reason.MODEL_ERROR, Reason.FRAME_INCOMPLETE)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model that may inspect: verified, compiled and self-tested.

    Attributes:
        bundle: what it was made of.
        inspectors: one for each inspecting thread.
        shared: its network may be inspecting already, for another recipe: nobody else runs it.
    """

    bundle: Bundle
    inspectors: tuple[Inspector, ...]
    shared: bool = field(default=False, kw_only=True)

    @property
    def criteria(self) -> DecisionCriteria:
        """What its parts are decided by, the same for all threads."""
        return self.inspectors[0].criteria

    def __str__(self) -> str:
        return f"{self.bundle.manifest.identity.name} {self.bundle.sha256[:12]}"


def load_model(
    path: Path,
    inspectors: Callable[[CompiledModel], Sequence[Inspector]],
    plan: Callable[[Bundle], RunPlan] = lambda _: RunPlan(),
    device: str = "CPU",
    *,
    public_key: Path | None = None,
    releases: Releases | None = None,
) -> LoadedModel:
    """Read, verify, compile and self-test a model; the one way by which models come to a line.

    Args:
        path: of the bundle's ``.xml``.
        inspectors: builds them on the compiled network.
        plan: how the network uses this PC.
        public_key: that must have signed it; None asks for no signature.
        releases: of which it must not be older; None takes any.

    Raises:
        BundleError, ModelError: it must not inspect.
    """
    bundle = load_bundle(path, public_key)
    if releases is not None:
        releases.check(bundle.manifest, bundle.path)
    fallback = fallback_sentence(bundle)
    if fallback is not None:
        log.warning("%s", fallback)
    run_plan = plan(bundle)
    try_model(bundle, device, run_plan)
    network = CompiledModel(bundle, device, run_plan)
    self_test(Detector(network), bundle.manifest)
    return LoadedModel(bundle, tuple(inspectors(network)))


class Change(StrEnum):
    """How an exchange ended; all but the first three leave everything as it was."""

    EXCHANGED = "model_exchanged"
    DECISION = "decision_changed"  # the same network, other criteria
    ROLLED_BACK = "model_rolled_back"
    REFUSED = "model_refused"
    BUSY = "model_busy"
    NOTHING_BEFORE = "model_nothing_before"


_SEVERITY = {
    Change.EXCHANGED: Severity.INFO,
    Change.DECISION: Severity.INFO,
    Change.ROLLED_BACK: Severity.ALARM,
    Change.REFUSED: Severity.WARNING,
    Change.BUSY: Severity.WARNING,
    Change.NOTHING_BEFORE: Severity.WARNING,
}


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """How an exchange ended, for whoever asked and for the journal.

    Attributes:
        change: what happened.
        detail: cause and next step.
        evidence: both models, with the thresholds that their parts are decided by.
    """

    change: Change
    detail: str
    evidence: dict[str, Datum] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Another model inspects than before, or it decides by other criteria."""
        return self.change in (Change.EXCHANGED, Change.DECISION, Change.ROLLED_BACK)

    def of_settings(self, changes: str) -> "ExchangeResult":
        """Return it with what changed in the settings, as ``described``; "" for nothing."""
        if not changes:
            return self
        evidence: dict[str, Datum] = {**self.evidence, "changed": changes}
        return replace(self, detail=f"{self.detail}: {changes}", evidence=evidence)

    def event(self) -> Event:
        """Return what the journal keeps of it."""
        return Event(self.change.value, _SEVERITY[self.change], self.detail, self.evidence)


class ModelStore:
    """The current model, and the one before it.

    ``current`` is one reference, read once per part: a part is inspected by one model from its
    beginning to its end. Any thread may call anything.
    """

    def __init__(
        self,
        *,
        first: LoadedModel,
        load: Callable[[Path], LoadedModel],
        on_change: Callable[[LoadedModel], object] = lambda _: None,
        trial: Callable[[], Frame | None] = lambda: None,
        on_changed: Callable[[], None] = lambda: None,
        may_return: Callable[[LoadedModel, LoadedModel], bool] = lambda _before, _now: True,
        on_rollback: Callable[[LoadedModel, LoadedModel], str] = lambda _given_up, _before: "",
        failures_in_a_row: int = FAILURES_IN_A_ROW,
    ) -> None:
        """Begin with a loaded model.

        Args:
            load: ``load_model`` with the station's settings.
            on_change: is given the model that takes over; what it raises refuses it.
            trial: a frame as the camera gives them, or None; a new model must be able to take it.
            on_changed: another model is current now, whatever brought it there.
            may_return: whether the model before may take the place of the one now again.
            on_rollback: is given the model given up and the one before, and returns what else it
                put back; what it raises refuses a rollback that somebody asked for.
            failures_in_a_row: parts with ``model_error`` that bring the model before back.
        """
        self.current = first
        self._before: LoadedModel | None = None
        self._load = load
        self._on_change = on_change
        self._trial = trial
        self._on_changed = on_changed
        self._may_return = may_return
        self._on_rollback = on_rollback
        self._failures_allowed = failures_in_a_row
        self._failures = 0
        self._loading = threading.Lock()
        self._exchanging = threading.Lock()

    @property
    def before(self) -> LoadedModel | None:
        """The model that ``rollback`` would bring back."""
        return self._before

    def exchange(self, path: Path) -> ExchangeResult:
        """Load another model aside, and let it take over if nothing speaks against it.

        Takes as long as a start; the current model inspects meanwhile. Never raises.
        """
        if not self._loading.acquire(blocking=False):
            return ExchangeResult(
                Change.BUSY, f"{path}: another model is being loaded. Try again when it is done."
            )
        try:
            model = self._load(path)
            if model.shared:
                _check_input(model, self._trial())
            else:
                self._try(model)
            with self._exchanging:
                before = self.current
                self._install(model)
                self._before = before if self._may_return(before, model) else None
                self._failures = 0
        except StationError as error:
            return self._refused(str(error), path)
        except Exception as error:  # whatever a foreign file makes happen, the line goes on
            log.exception("%s could not be loaded", path)
            return self._refused(f"{type(error).__name__}: {error}", path)
        finally:
            self._loading.release()
        return _outcome(Change.EXCHANGED, f"{model} inspects from the next part on", before, model)

    def exchange_decision(self, model: LoadedModel, instead_of: LoadedModel) -> ExchangeResult:
        """Let a model of the same network with other criteria take over. Never raises.

        Args:
            model: made of ``instead_of``; its criteria are tried on the newest frame, without
                the network, which inspects meanwhile.
        """
        try:
            _check_input(model, self._trial())
            with self._exchanging:
                if self.current is not instead_of:
                    detail = f"{self.current} was activated meanwhile. Try again."
                    return ExchangeResult(Change.BUSY, detail)
                self._install(model)
                self._before, self._failures = instead_of, 0
        except StationError as error:
            return self._refused(str(error))
        detail = f"{model} decides by the new criteria from the next part on"
        return _outcome(Change.DECISION, detail, instead_of, model)

    def rollback(self, why: str) -> ExchangeResult:
        """Bring the model before back, once; it needs no loading."""
        with self._exchanging:
            return self._roll_back(why, asked=True)

    def part_decided(self, model_sha256: str, reason: Reason) -> ExchangeResult | None:
        """Note the reason of a verdict; return how the model was rolled back, if it was.

        Args:
            model_sha256: of the model the part was inspected by, which may not be current any more.
        """
        failed = reason is Reason.MODEL_ERROR
        if not failed and not (self._failures and reason in _SCORED):
            return None  # every part comes here; only the first after failures needs the lock
        with self._exchanging:
            if model_sha256 != self.current.bundle.sha256:
                return None
            self._failures = self._failures + 1 if failed else 0
            if self._failures < self._failures_allowed or self._before is None:
                return None
            if self._before.bundle is self.current.bundle:
                return None  # the same network would fail again, with another threshold at that
            why = f"{counted(self._failures_allowed, 'part')} in a row got no score"
            return self._roll_back(why, asked=False)

    def _roll_back(self, why: str, *, asked: bool) -> ExchangeResult:
        given_up, before = self.current, self._before
        if before is None:
            return ExchangeResult(
                Change.NOTHING_BEFORE,
                f"{why}: there is no model before {given_up} to return to. Load one by its path.",
                _evidence(now=given_up),
            )
        try:
            beside = self._on_rollback(given_up, before)
        except StationError as error:
            if asked:
                return self._refused(f"{why}: {error}")
            beside = str(error)  # a model that gives no numbers goes in any case
        self._install(before)
        self._before, self._failures = None, 0
        detail = f"{why}: back to {before}" + (f"; {beside}" if beside else "")
        outcome = _outcome(Change.ROLLED_BACK, detail, given_up, before)
        if not beside:
            return outcome
        return replace(outcome, evidence={**outcome.evidence, "also_put_back": beside})

    def _install(self, model: LoadedModel) -> None:
        """Make a model current, unless the station cannot work with it."""
        threads = len(self.current.inspectors)
        if len(model.inspectors) < threads:
            raise ModelError(
                f"{model} works with {len(model.inspectors)} inspectors, the station runs "
                f"{counted(threads, 'thread')}. Start the station with it, or set "
                "model.objective: latency."
            )
        self._on_change(model)
        self.current = model
        self._on_changed()

    def _try(self, model: LoadedModel) -> None:
        """Inspect a frame of this camera; the verdict goes nowhere.

        Raises:
            ModelError: the model does not fit the images, or gives no number for them.
        """
        frame = self._trial()
        if frame is None:
            return
        inspection = model.inspectors[0].inspect(frame)
        if inspection.decision.reason in _CANNOT_INSPECT:
            raise ModelError(
                f"{model} cannot inspect this camera's images: {inspection.detail} "
                "Choose the model that was trained for this camera."
            )

    def _refused(self, cause: str, path: Path | None = None) -> ExchangeResult:
        evidence = _evidence(now=self.current)
        if path is not None:
            evidence["path"] = str(path)
        return ExchangeResult(Change.REFUSED, f"{cause} {self.current} stays active.", evidence)


def _check_input(model: LoadedModel, frame: Frame | None) -> None:
    """Demand that a frame of this camera has the crop and the reference region of the criteria.

    Raises:
        ModelError: one of them does not lie inside the frame, or what is left is too small.
    """
    if frame is None or frame.status is not FrameStatus.COMPLETE:
        return
    try:
        frame_pieces(frame.pixels.shape, model.criteria.input)
        demand_size(frame.pixels.shape, model.criteria.input)
        if model.criteria.image.reference is not None:
            check_reference(frame.pixels, model.criteria.image.reference)
    except FrameUnsuitable as error:
        raise ModelError(f"this camera's frames cannot be inspected this way: {error}") from error


def _outcome(change: Change, detail: str, before: LoadedModel, now: LoadedModel) -> ExchangeResult:
    return ExchangeResult(change, detail, _evidence(before=before) | _evidence(now=now))


def _evidence(**models: LoadedModel) -> dict[str, Datum]:
    """Return what the journal keeps of models, flat: who decides, and by what."""
    found: dict[str, Datum] = {}
    for which, model in models.items():
        identity = model.bundle.manifest.identity
        found[f"{which}_name"] = identity.name
        found[f"{which}_sha256"] = model.bundle.sha256
        found[f"{which}_created"] = identity.created.isoformat()
        found[f"{which}_threshold"] = model.criteria.threshold
        found[f"{which}_bundle_threshold"] = model.bundle.manifest.threshold.image
        found[f"{which}_path"] = str(model.bundle.path)
    return found
