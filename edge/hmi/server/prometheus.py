"""The station's numbers in the text format of Prometheus."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from edge.cameras.supervised.state_machine import CameraState
from edge.hmi.contents import HistogramCounts, ImageFolderSummary, OutputSummary, StationStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CONDITIONS = ("starting", "online", "degraded", "stopped")
CAMERA_STATES = ("files", *(state.value for state in CameraState))


@dataclass(frozen=True, slots=True)
class JournalBacklog:
    """The journal, and what of it the broker does not have yet.

    Attributes:
        rows: that the broker does not have.
        oldest_age_s: of the oldest of them; None without any.
        bytes: of the journal's files.
        last_seq: number of the newest verdict; None without any.
    """

    rows: int
    oldest_age_s: float | None
    bytes: int
    last_seq: int | None


def metrics_text(status: StationStatus, journal: JournalBacklog | None, viewers: int) -> bytes:
    """Return all metrics.

    Args:
        status: the station's newest.
        journal: its backlog; None without a journal, or while it cannot be read.
        viewers: of the page.
    """
    registry = CollectorRegistry()
    registry.register(_Once([*_parts(status), *_state(status), *_records(status, journal)]))
    registry.register(_Once([_gauge("edge_page_viewers", "Open pages.", viewers)]))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _parts(status: StationStatus) -> Iterable[Metric]:
    counts, run = status.counts, status.run
    parts = CounterMetricFamily(
        "edge_parts", "Decided parts by result and reason.", labels=("result", "reason")
    )
    for result, reason, count in counts.parts:
        parts.add_metric((result, reason), count)
    yield parts
    stages = HistogramMetricFamily(
        "edge_stage_seconds", "Time of a part in each stage of the frame path.", labels=("stage",)
    )
    for stage, found in counts.stages.items():
        stages.add_metric((stage,), _buckets(found), found.sum)
    yield stages
    scores = HistogramMetricFamily(
        "edge_score", "Normalized anomaly scores; the threshold is at 0.5."
    )
    scores.add_metric((), _buckets(counts.scores), counts.scores.sum)
    yield scores
    text = "Parts decided after their deadline."
    yield _counter("edge_deadlines_missed", text, run.deadlines_missed if run else 0)
    text = "Frames that were replaced by newer ones before inspection."
    yield _counter("edge_frames_skipped", text, run.skipped if run else 0)
    dropped = CounterMetricFamily(
        "edge_dropped", "Verdicts that a consumer's full queue refused.", labels=("sink",)
    )
    for sink, count in (run.dropped if run else {}).items():
        dropped.add_metric((sink,), count)
    yield dropped
    handshake = CounterMetricFamily(
        "edge_handshake", "Phases and faults of the hand-shake.", labels=("what",)
    )
    for what, count in status.handshake.items():
        handshake.add_metric((what,), count)
    yield handshake


def _state(status: StationStatus) -> Iterable[Metric]:
    model, camera = status.model, status.camera
    yield _info(
        "edge_model",
        "The model in use.",
        model.model_dump(include={"name", "version", "sha256", "precision", "device"}),
    )
    yield _info(
        "edge_station",
        "The station.",
        {
            "station": status.station or "",
            "software": status.software,
            "config_sha256": status.config_sha256,
            "simulated": str(status.simulated).lower(),
        },
    )
    if status.recipe is not None:
        recipe = {"id": status.recipe.id, "version": str(status.recipe.version)}
        yield _info("edge_recipe", "Recipe of parts that name none.", recipe)
    if status.recipes is not None:
        resident = sum(one.resident for one in status.recipes)
        yield _gauge("edge_recipes_resident", "Recipes in force that are in memory.", resident)
    yield _gauge("edge_threshold", "Raw threshold in force.", model.threshold)
    condition = GaugeMetricFamily(
        "edge_condition", "1 for the station's present condition.", labels=("condition",)
    )
    for name in CONDITIONS:
        condition.add_metric((name,), float(status.condition == name))
    yield condition
    reasons = GaugeMetricFamily(
        "edge_degraded", "1 for each reason for which it is degraded.", labels=("reason",)
    )
    for reason in status.reasons:
        reasons.add_metric((reason,), 1.0)
    yield reasons
    states = GaugeMetricFamily(
        "edge_camera_state", "1 for the state of the camera.", labels=("state",)
    )
    for name in CAMERA_STATES:
        states.add_metric((name,), float(camera.state == name))
    yield states
    yield _counter("edge_camera_losses", "How often the camera was lost.", camera.losses)
    yield _counter(
        "edge_camera_recoveries", "How often the camera was connected again.", camera.recoveries
    )
    if camera.temperature_c is not None:
        text = "As the camera reports it."
        yield _gauge("edge_camera_temperature_celsius", text, camera.temperature_c)
    driver = GaugeMetricFamily(
        "edge_camera_driver",
        "The driver's counters since the camera was opened.",
        labels=("counter",),
    )
    for name, count in camera.counters.items():
        driver.add_metric((name,), count)
    yield driver


def _records(status: StationStatus, journal: JournalBacklog | None) -> Iterable[Metric]:
    queues = GaugeMetricFamily("edge_queue_items", "Items waiting in a queue.", labels=("queue",))
    for name, count in status.queues.items():
        queues.add_metric((name,), count)
    yield queues
    broker = status.broker
    if broker is not None:
        connected = float(broker.connected)
        yield _gauge("edge_broker_connected", "1 while connected to the broker.", connected)
        text = "Records in this run that could not be delivered."
        yield _counter("edge_dead_letters", text, broker.dead_letters)
        text = "Records that the broker accepted in this run."
        yield _counter("edge_acknowledged", text, broker.acknowledged)
    modbus = status.modbus
    if modbus is not None:
        text = "1 while the PLC's heartbeat changes."
        yield _gauge("edge_modbus_master", text, float(modbus.master))
        yield _gauge("edge_modbus_connections", "Connected masters.", modbus.connections)
        for what, text, count in (
            ("refused", "Connections that were refused.", modbus.refused),
            ("requests", "Answered requests.", modbus.requests),
            ("exceptions", "Requests answered with an exception.", modbus.exceptions),
            ("triggers", "Triggers of the PLC.", modbus.triggers),
            (
                "results_missed",
                "Results that were dropped without acknowledgement.",
                modbus.results_missed,
            ),
        ):
            yield _counter(f"edge_modbus_{what}", text, count)
    yield from _outputs(status.outputs)
    node = status.sparkplug
    if node is not None:
        text = "1 while the Sparkplug node is online."
        yield _gauge("edge_sparkplug_born", text, float(node.phase == "born"))
        text = "Verdicts not yet acknowledged by the broker."
        yield _gauge("edge_sparkplug_waiting", text, node.waiting)
        for what, text, count in (
            ("births", "NBIRTHs of this run.", node.births),
            ("published", "Verdicts of this run.", node.published),
            ("historical", "Verdicts published late, as historical.", node.historical),
            (
                "missing",
                "Verdicts deleted from the journal before they were published.",
                node.missing,
            ),
            ("too_large", "Messages not sent because of the broker's size limit.", node.too_large),
        ):
            yield _counter(f"edge_sparkplug_{what}", text, count)
    opcua = status.opcua
    if opcua is not None:
        yield _gauge("edge_opcua_serving", "1 while clients can connect.", float(opcua.serving))
        yield _gauge("edge_opcua_connections", "Connected clients.", opcua.connections)
        yield _counter("edge_opcua_events", "Verdicts published as events.", opcua.events)
        yield _counter("edge_opcua_skipped", "Verdicts published without an event.", opcua.skipped)
    writable = float(status.journal.writable)
    yield _gauge("edge_journal_writable", "1 while the journal accepts records.", writable)
    if journal is not None:
        for name, text, value in (
            ("edge_journal_backlog_rows", "Records the broker does not have yet.", journal.rows),
            ("edge_journal_oldest_seconds", "Age of the oldest of them.", journal.oldest_age_s),
            ("edge_journal_bytes", "Size of the journal's files.", journal.bytes),
            ("edge_journal_last_seq", "Number of the newest verdict.", journal.last_seq),
        ):
            yield _gauge(name, text, value or 0)
    free = status.disk.free_bytes
    yield _gauge("edge_disk_free_bytes", "Free space on the journal's disk.", free)
    yield from _image_folder("edge_snapshots", status.snapshots)
    yield from _image_folder("edge_recent_images", status.recent_images)


def _image_folder(name: str, folder: ImageFolderSummary | None) -> Iterable[Metric]:
    if folder is not None:
        yield _counter(f"{name}_written", "Of this run.", folder.written)
        yield _counter(
            f"{name}_refused", "Messages dropped because the queue was full.", folder.refused
        )


def _outputs(outputs: Sequence[OutputSummary]) -> Iterable[Metric]:
    if not outputs:
        return
    active = GaugeMetricFamily(
        "edge_output_active", "1 while the output is active.", labels=("output",)
    )
    edges = CounterMetricFamily(
        "edge_output_edges", "Edges switched for parts.", labels=("output",)
    )
    text = "Edges that were not confirmed in time."
    missed = CounterMetricFamily("edge_output_missed", text, labels=("output",))
    text = "Time from when an edge was due to its confirmation."
    late = HistogramMetricFamily("edge_output_late_seconds", text, labels=("output",))
    text = "Time from the decision to the confirmed edge."
    decided = HistogramMetricFamily("edge_output_decision_seconds", text, labels=("output",))
    for one in outputs:
        if one.active is not None:
            active.add_metric((one.name,), float(one.active))
        edges.add_metric((one.name,), one.edges)
        missed.add_metric((one.name,), one.missed)
        late.add_metric((one.name,), _buckets(one.late), one.late.sum)
        decided.add_metric((one.name,), _buckets(one.from_decision), one.from_decision.sum)
    yield from (active, edges, missed, late, decided)


def _buckets(found: HistogramCounts) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip([*found.bounds, "+Inf"], found.buckets, strict=True):
        total += count
        buckets.append((str(bound), float(total)))
    return buckets


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _info(name: str, text: str, value: dict[str, str]) -> Metric:
    return InfoMetricFamily(name, text, value=value)
