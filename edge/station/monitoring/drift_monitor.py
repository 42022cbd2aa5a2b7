"""Drift on a running station: the detector of the current model, its alarm as an event."""

from collections.abc import Callable
from dataclasses import asdict

from edge.bundle.loading import Bundle
from edge.contract.event import Datum, Event, Severity
from edge.contract.verdict import Verdict
from edge.settings.drift import DriftSettings
from edge.station.monitoring.drift_detector import Alarm, DriftDetector
from edge.station.monitoring.health import Health


class DriftMonitor:
    """Shows every decided part to the detector of its model. One thread observes."""

    def __init__(
        self,
        current: Callable[[], Bundle],
        settings: DriftSettings,
        health: Health,
        record_event: Callable[[Event], None],
    ) -> None:
        """Begin with the detector of the current model.

        Args:
            current: the bundle that inspects now; another one gets a detector of its own.
        """
        self._current = current
        self._settings = settings
        self._health = health
        self._record_event = record_event
        self._model = ""
        self._detector: DriftDetector | None = None

    def on_verdict(self, verdict: Verdict) -> None:
        """Observe the score of one part."""
        identity = verdict.identity
        if identity is None or not self._settings.enabled:
            return
        if identity.model_sha256 != self._model:
            self._begin(identity.model_sha256)
        if self._detector is None or identity.model_sha256 != self._model:
            return  # also of a part of another recipe, whose scores have another scale
        inspection = verdict.inspection
        score = inspection.score
        if inspection.shared_score is not None:
            # As in training: where a zone decided by its own threshold, its score is moved.
            score = inspection.shared_score
        found = self._detector.observe(score, inspection.decision.result)
        if found is None:
            return
        alarmed = isinstance(found, Alarm)
        self._health.set("drift", alarmed, str(found))
        severity = Severity.ALARM if alarmed else Severity.INFO
        kind = "drift" if alarmed else "drift_over"
        self._record_event(Event(kind, severity, str(found), _evidence(asdict(found))))

    def _begin(self, model_sha256: str) -> None:
        bundle = self._current()
        if bundle.sha256 != model_sha256:
            return  # the last parts of a model that has been exchanged
        self._model = model_sha256
        self._health.set("drift", False)
        manifest = bundle.manifest
        self._detector = DriftDetector(
            manifest.statistics, manifest.threshold.good_count, self._settings
        )


def _evidence(found: dict[str, object]) -> dict[str, Datum]:
    """Return the evidence flat, as events hold it."""
    flat: dict[str, Datum] = {}
    for name, value in found.items():
        if isinstance(value, tuple):
            flat |= {f"{name}_{index}": float(part) for index, part in enumerate(value)}
        elif isinstance(value, str | int | float):
            flat[name] = value
    return flat
