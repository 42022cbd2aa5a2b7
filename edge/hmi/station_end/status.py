"""What a station says about itself to its page: everything but parts and images."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edge
from edge.cameras.supervised.state_machine import CameraStatus
from edge.redaction import redacted
from edge.settings.station import Settings
from edge.station.images.recent_images import RecentImages
from edge.station.images.snapshot_folder import SnapshotFolder
from edge.station.model.manager import ModelManager
from edge.station.model.store import LoadedModel
from edge.station.monitoring.health import Health
from edge.station.pipeline.latency import Quantiles
from edge.station.pipeline.tally import RunSummary
from edge.station.recording.recorder import Recording


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the page's numbers come from; each is asked once a second by the page's thread.

    Attributes:
        model: and the settings in force.
        simulated: the images come from files or a fake camera.
        condition: ``starting``, ``online``, ``degraded`` or ``stopped``.
        camera: None for files.
        queues: items that wait, by queue; the journal's comes from ``recording``.
        handshake: counts of the hand-shake.
    """

    model: ModelManager
    simulated: bool
    recording: Recording
    health: Health
    condition: Callable[[], str]
    camera: Callable[[], CameraStatus | None]
    tally: Callable[[], RunSummary | None]
    queues: Callable[[], Mapping[str, int]]
    handshake: Callable[[], Mapping[str, int]]
    snapshots: Callable[[], SnapshotFolder | None]
    recent: Callable[[], RecentImages | None]

    @property
    def settings(self) -> Settings:
        """As they are in force."""
        return self.model.settings

    def content(self, journal_folder: Path) -> dict[str, Any]:
        """Return the status as plain values.

        Args:
            journal_folder: whose disk is looked at.
        """
        return {
            "software": f"edge {edge.__version__}",
            "station": self.settings.mqtt.station if self.settings.mqtt else None,
            "condition": self.condition(),
            "simulated": self.simulated,
            "reasons": self.health.reasons,
            "config_sha256": self.settings.sha256,
            "recipe": self.settings.recipe.model_dump() if self.settings.recipe else None,
            "deadline_ms": self.settings.decision.deadline_ms,
            "camera": _camera(self.settings, self.camera()),
            "broker": _broker(self.settings, self.recording),
            "journal": {"writable": self.recording.writable, "id": self.recording.journal},
            "disk": _disk(journal_folder),
            "snapshots": _snapshots(self.snapshots()),
            "recent_images": _snapshots(recent.folder if (recent := self.recent()) else None),
            "model": _model(self.model),
            "run": _run(tally := self.tally()),
            "skipped": tally.skipped if tally else 0,
            "queues": {**self.queues(), "journal": self.recording.waiting},
            "handshake": dict(self.handshake()),
        }


def _camera(settings: Settings, status: CameraStatus | None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "id": redacted(settings.camera.uri),
        "trigger": settings.camera.trigger.mode,
        "state": "files",
        "detail": "",
        "losses": 0,
        "recoveries": 0,
        "model": None,
        "temperature_c": None,
        "counters": {},
    }
    if status is None:
        return content
    content |= {
        "state": status.state.value,
        "detail": status.detail,
        "losses": status.losses,
        "recoveries": status.recoveries,
    }
    if status.report is not None:
        report = status.report
        content |= {
            "model": report.model,
            "temperature_c": report.temperature_c,
            "counters": dict(report.counters),
        }
    return content


def _broker(settings: Settings, recording: Recording) -> dict[str, Any] | None:
    if settings.mqtt is None:
        return None
    content: dict[str, Any] = {"url": settings.mqtt.url, "connected": False}
    if recording.network is not None:
        delivery = recording.network.publisher.delivery()
        content |= {
            "connected": delivery.connected,
            "acknowledged": delivery.acknowledged,
            "dead_letters": delivery.dead_letters,
            "nobody_listens": delivery.nobody_listens,
            "refusing": delivery.refusing,
            "hints": list(delivery.hints),
        }
    return content


def _disk(folder: Path) -> dict[str, Any]:
    usage = shutil.disk_usage(folder)
    return {"free_bytes": usage.free, "total_bytes": usage.total}


def _snapshots(folder: SnapshotFolder | None) -> dict[str, Any] | None:
    if folder is None:
        return None
    return {"written": folder.written, "refused": folder.refused, "stopped": folder.stopped}


def _model(loaded: ModelManager) -> dict[str, Any]:
    current, before = loaded.store.current, loaded.store.before
    manifest, criteria = current.bundle.manifest, current.criteria
    return {
        **loaded.identity(),
        "algorithm": manifest.identity.algorithm,
        "backbone": manifest.identity.backbone,
        "precision": f"{manifest.precision.weights}/{manifest.precision.inference}",
        "device": loaded.settings.model.device,
        "threshold": criteria.threshold,
        "bundle_threshold": manifest.threshold.image,
        "threshold_method": manifest.threshold.method.value,
        "guard_band": criteria.guard_band,
        "range": criteria.image_scale.range,
        "before": None
        if before is None
        else {**_named(before), "changes": loaded.changes_of_rollback()},
        "good": {
            "probabilities": list(manifest.statistics.probabilities),
            "scores": list(manifest.statistics.scores),
        },
    }


def _named(model: LoadedModel) -> dict[str, Any]:
    return {
        "name": model.bundle.manifest.identity.name,
        "sha256": model.bundle.sha256,
        "threshold": model.criteria.threshold,
    }


def _run(tally: RunSummary | None) -> dict[str, Any] | None:
    if tally is None:
        return None
    return {
        "results": {result.value: count for result, count in tally.results.items()},
        "deadlines_missed": tally.deadlines_missed,
        "skipped": tally.skipped,
        "dropped": dict(tally.dropped),
        "latency_ms": {stage: _quantiles(found) for stage, found in tally.latency.items()},
    }


def _quantiles(found: Quantiles) -> dict[str, float]:
    return {"p50": found.p50_ms, "p95": found.p95_ms, "p99": found.p99_ms, "max": found.most_ms}
