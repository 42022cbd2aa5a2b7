"""The status of a station, for its page: everything but parts and images."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import edge
from edge.bundle.manifest import Guarantee, precision_text
from edge.cameras.interface import CameraReport
from edge.cameras.supervised.state_machine import CameraStatus
from edge.contract.encoding import utc_text
from edge.contract.event import Event
from edge.contract.verdict import Recipe
from edge.hmi.contents import (
    BrokerSummary,
    CameraSummary,
    DiskSpace,
    GoodScores,
    GuaranteedRate,
    HistogramCounts,
    ImageFolderSummary,
    JournalSummary,
    ModbusSummary,
    ModelSummary,
    OpcUaSummary,
    OutputSummary,
    RecipeSummary,
    RollbackTarget,
    RunCounts,
    SparkplugSummary,
    StageLatency,
    StationStatus,
    TeachingStatus,
    VerdictTotals,
)
from edge.mqtt.publisher import MqttPublisher
from edge.mqtt.sparkplug.publisher import SparkplugPublisher
from edge.redaction import redacted
from edge.settings.station import Settings
from edge.station.handshake.modbus_link import ModbusStatus
from edge.station.images.recent_images import RecentImages
from edge.station.images.snapshot_folder import SnapshotFolder
from edge.station.model.manager import ModelManager
from edge.station.model.store import LoadedModel
from edge.station.monitoring.health import Health
from edge.station.opcua.server_process import OpcUaProcess
from edge.station.outputs.control import OutputStatus
from edge.station.outputs.lateness import BOUNDS_S, EdgeLateness
from edge.station.pipeline.latency import Quantiles
from edge.station.pipeline.run_summary import RunSummary
from edge.station.recording.station_journal import StationJournal


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the page's status comes from; the page's thread reads each once a second.

    Attributes:
        model: and the settings in force.
        simulated: the images come from files or a fake camera.
        condition: ``starting``, ``online``, ``degraded`` or ``stopped``.
        camera: None for files.
        queues: items that wait, by queue; the journal's comes from ``journal``.
        handshake: counts of the hand-shake.
        modbus, sparkplug, opcua: None without the section.
        outputs: empty without the section.
    """

    model: ModelManager
    simulated: bool
    journal: StationJournal | None
    publisher: MqttPublisher | None
    sparkplug: SparkplugPublisher | None
    opcua: OpcUaProcess | None
    record_event: Callable[[Event], None]
    health: Health
    condition: Callable[[], str]
    camera: Callable[[], CameraStatus | None]
    summary: Callable[[], RunSummary | None]
    queues: Callable[[], Mapping[str, int]]
    handshake: Callable[[], Mapping[str, int]]
    modbus: Callable[[], ModbusStatus | None]
    outputs: Callable[[], Sequence[OutputStatus]]
    snapshots: Callable[[], SnapshotFolder | None]
    recent: Callable[[], RecentImages | None]

    @property
    def settings(self) -> Settings:
        """As they are in force."""
        return self.model.settings

    def status(
        self,
        journal_folder: Path,
        counts: VerdictTotals,
        *,
        acknowledged: Mapping[str, str],
        to_capture: int,
        teaching: TeachingStatus | None = None,
    ) -> StationStatus:
        """Return the status.

        Args:
            journal_folder: whose disk is looked at.
            counts: of this run's verdicts.
            acknowledged: by reason, who has acknowledged it.
            to_capture: training images that are still to be kept.
            teaching: None where nothing is taught.
        """
        settings, journal, recent = self.settings, self.journal, self.recent()
        summary = self.summary()
        return StationStatus(
            software=f"edge {edge.__version__}",
            station=settings.mqtt.station if settings.mqtt else None,
            condition=self.condition(),
            simulated=self.simulated,
            reasons=self.health.reasons,
            config_sha256=settings.sha256,
            recipe=settings.recipe,
            recipes=_recipes(self.model),
            deadline_ms=settings.decision.deadline_ms,
            camera=_camera(settings, self.camera()),
            broker=_broker(settings, self.publisher),
            modbus=_modbus(self.modbus()),
            outputs=[_output(one) for one in self.outputs()],
            sparkplug=_sparkplug(self.sparkplug),
            opcua=OpcUaSummary(**asdict(self.opcua.status())) if self.opcua else None,
            journal=JournalSummary(
                writable=journal.writable if journal else True,
                id=journal.journal if journal else None,
            ),
            disk=_disk(journal_folder),
            snapshots=_image_folder(self.snapshots()),
            recent_images=_image_folder(recent.folder if recent else None),
            model=_model(self.model),
            skipped=summary.skipped if summary else 0,
            queues={**self.queues(), "journal": journal.waiting if journal else 0},
            handshake=dict(self.handshake()),
            acknowledged=dict(acknowledged),
            to_capture=to_capture,
            teaching=teaching,
            run=_run(summary) if summary else None,
            counts=counts,
        )


def _camera(settings: Settings, status: CameraStatus | None) -> CameraSummary:
    uri, trigger = redacted(settings.camera.uri), settings.camera.trigger.mode
    if status is None:
        return CameraSummary(id=uri, trigger=trigger)
    report = status.report or CameraReport()
    return CameraSummary(
        id=uri,
        trigger=trigger,
        state=status.state.value,
        detail=status.detail,
        losses=status.losses,
        recoveries=status.recoveries,
        model=report.model,
        temperature_c=report.temperature_c,
        counters=dict(report.counters),
    )


def _broker(settings: Settings, publisher: MqttPublisher | None) -> BrokerSummary | None:
    if settings.mqtt is None:
        return None
    if publisher is None:
        return BrokerSummary(url=settings.mqtt.url)
    delivery = publisher.delivery()
    return BrokerSummary(
        url=settings.mqtt.url,
        connected=delivery.connected,
        acknowledged=delivery.acknowledged,
        dead_letters=delivery.dead_letters,
        nobody_listens=delivery.nobody_listens,
        refusing=delivery.refusing,
        hints=list(delivery.hints),
    )


def _modbus(status: ModbusStatus | None) -> ModbusSummary | None:
    return ModbusSummary(**asdict(status)) if status is not None else None


def _output(status: OutputStatus) -> OutputSummary:
    utc_ns = status.last_edge_utc_ns
    return OutputSummary(
        name=status.name,
        device=status.device,
        line=status.line,
        active=status.active,
        edges=status.edges,
        missed=status.missed,
        last_edge_utc=None if utc_ns is None else utc_text(utc_ns),
        late=_edge_times(status.late),
        from_decision=_edge_times(status.from_decision),
    )


def _edge_times(times: EdgeLateness) -> HistogramCounts:
    return HistogramCounts(bounds=list(BOUNDS_S), buckets=list(times.buckets), sum=times.sum_s)


def _sparkplug(node: SparkplugPublisher | None) -> SparkplugSummary | None:
    return SparkplugSummary(**asdict(node.status())) if node is not None else None


def _disk(folder: Path) -> DiskSpace:
    usage = shutil.disk_usage(folder)
    return DiskSpace(free_bytes=usage.free, total_bytes=usage.total)


def _image_folder(folder: SnapshotFolder | None) -> ImageFolderSummary | None:
    if folder is None:
        return None
    return ImageFolderSummary(
        written=folder.written, refused=folder.refused, stopped=folder.stopped
    )


def _recipes(manager: ModelManager) -> list[RecipeSummary] | None:
    resident = manager.recipes.names() if manager.recipes is not None else []
    found = manager.recipe_listing()
    if found is None:
        return None
    return [
        RecipeSummary(
            name=one.name,
            versions=list(one.versions),
            in_force=one.in_force,
            resident=one.in_force is not None and Recipe(one.name, one.in_force) in resident,
        )
        for one in found
    ]


def _model(manager: ModelManager) -> ModelSummary:
    current, before = manager.store.current, manager.store.before
    manifest, criteria = current.bundle.manifest, current.criteria
    statistics = manifest.statistics
    return ModelSummary(
        **manager.identity(),
        algorithm=manifest.identity.algorithm,
        backbone=manifest.identity.backbone,
        precision=precision_text(manifest),
        device=manager.settings.model.device,
        threshold=criteria.threshold,
        bundle_threshold=manifest.threshold.image,
        threshold_method=manifest.threshold.method.value,
        guarantee=_guarantee(manager.guarantee()),
        guard_band=criteria.guard_band,
        range=criteria.image_scale.range,
        before=_rollback_target(before, manager.rollback_changes()) if before else None,
        good=GoodScores(
            probabilities=list(statistics.probabilities), scores=list(statistics.scores)
        ),
    )


def _guarantee(found: Guarantee | None) -> GuaranteedRate | None:
    return None if found is None else GuaranteedRate(**found.model_dump())


def _rollback_target(model: LoadedModel, changes: str) -> RollbackTarget:
    return RollbackTarget(
        name=model.bundle.manifest.identity.name,
        sha256=model.bundle.sha256,
        threshold=model.criteria.threshold,
        changes=changes,
    )


def _run(summary: RunSummary) -> RunCounts:
    return RunCounts(
        results={result.value: count for result, count in summary.results.items()},
        deadlines_missed=summary.deadlines_missed,
        skipped=summary.skipped,
        dropped=dict(summary.dropped),
        latency_ms={stage: _latency(found) for stage, found in summary.latency.items()},
    )


def _latency(found: Quantiles) -> StageLatency:
    return StageLatency(p50=found.p50_ms, p95=found.p95_ms, p99=found.p99_ms, max=found.max_ms)
