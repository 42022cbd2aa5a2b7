"""What a station reports of itself beside its verdicts: state, meta and metrics."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from edge.bundle.manifest import Guarantee
from edge.cameras.interface import CameraReport
from edge.cameras.supervised.state_machine import CameraStatus
from edge.contract.announcements import Meta, Metrics, ThresholdGuarantee
from edge.contract.state import JournalReport, StationReport
from edge.journal.entries import RecordKind
from edge.journal.outbox import Outbox
from edge.redaction import redacted
from edge.settings.station import Settings
from edge.station.monitoring.kernel_clock import clock_sync
from edge.station.pipeline.latency import Quantiles
from edge.station.pipeline.run_summary import RunSummary

COMMANDS = ("resend", "reload", "set_recipe", "selftest")
# The event of every start, by which restarts are counted.
STARTED = "station_started"
_EVENTS_READ = 200
_HOUR_NS = 3_600_000_000_000


def journal_report(journal: str, outbox: Outbox, path: Path, utc_ns: int) -> JournalReport:
    """Return how full the journal is.

    Args:
        outbox: a reading connection of the caller's thread.
        utc_ns: wall-clock time; only for the age, which people read.

    Raises:
        JournalError: it cannot be read.
    """
    backlog = outbox.backlog()
    oldest_s = None
    if backlog.oldest_utc_ns is not None:
        oldest_s = max(0.0, (utc_ns - backlog.oldest_utc_ns) / 1e9)
    files = (path, path.with_name(path.name + "-wal"))
    return JournalReport(
        journal=journal,
        last_seq=backlog.last_seq[RecordKind.VERDICT],
        backlog=backlog.count,
        oldest_age_s=oldest_s,
        bytes=sum(file.stat().st_size for file in files if file.exists()),
        first_seq=backlog.first_seq,
        follows=backlog.follows,
        head=backlog.head,
    )


def starts(outbox: Outbox) -> tuple[int, ...]:
    """Return the wall-clock times of the last starts that the journal knows.

    Raises:
        JournalError: it cannot be read.
    """
    last = outbox.backlog().last_seq[RecordKind.EVENT]
    rows = outbox.rows(RecordKind.EVENT, last - _EVENTS_READ + 1, last, _EVENTS_READ)
    return tuple(row.created_utc_ns for row in rows if json.loads(row.payload)["kind"] == STARTED)


def within_an_hour(starts_ns: Iterable[int], now_ns: int) -> int:
    """Count the starts of the last hour; times are the wall clock's, for people."""
    return sum(0 <= now_ns - start_ns <= _HOUR_NS for start_ns in starts_ns)


def station_report(
    *,
    camera: CameraStatus | None,
    model: Mapping[str, str],
    journal: JournalReport | None,
    folder: Path,
    trigger_ready: bool | None,
) -> StationReport:
    """Return what goes with the state.

    Args:
        camera: None for files.
        model: ``version``, ``sha256``, ``precision`` and ``made_for``; empty before one is loaded.
        folder: whose disk is looked at.
        trigger_ready: None for a station that takes no triggers.
    """
    found = camera.report if camera and camera.report else CameraReport()
    return StationReport(
        camera_state=camera.state.value if camera else None,
        camera_model=found.model,
        camera_temperature_c=found.temperature_c,
        model_version=model.get("version"),
        model_sha256=model.get("sha256"),
        model_precision=model.get("precision"),
        model_made_for=model.get("made_for"),
        journal=journal,
        disk_free_bytes=_free_bytes(folder),
        clock_sync=clock_sync().source,
        trigger_ready=trigger_ready,
    )


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:  # the folder is gone, which its writer reports
        return None


def meta(
    settings: Settings,
    simulated: bool,
    model: Mapping[str, str],
    journal: str,
    *,
    guarantee: Guarantee | None = None,
) -> Meta:
    """Return what consumers configure themselves by."""
    commands = (*COMMANDS, "snapshot") if settings.snapshots else COMMANDS
    return Meta(
        camera=redacted(settings.camera.uri),
        simulated=simulated,
        model_name=model.get("name"),
        model_version=model.get("version"),
        model_sha256=model.get("sha256"),
        guarantee=ThresholdGuarantee(**guarantee.model_dump()) if guarantee else None,
        config_sha256=settings.sha256,
        journal=journal,
        trigger_mode=settings.camera.trigger.mode,
        commands=commands,
        fleet=settings.fleet is not None,
    )


def metrics(
    *,
    summary: RunSummary,
    camera: CameraStatus | None,
    camera_dropped: int,
    handshake: Mapping[str, int],
    journal_waiting: int,
) -> Metrics:
    """Return the numbers of a run so far."""
    counters = {f"parts_{result.value.lower()}": n for result, n in summary.results.items()}
    counters |= {f"reason_{reason.value}": n for reason, n in summary.reasons.items()}
    counters |= {f"handshake_{name.lower()}": n for name, n in handshake.items()}
    counters |= {
        "frames_skipped": summary.skipped,
        "deadlines_missed": summary.deadlines_missed,
        **{f"{name}_dropped": n for name, n in summary.dropped.items()},
    }
    if camera is not None:
        counters |= {
            "camera_losses": camera.losses,
            "camera_recoveries": camera.recoveries,
            "camera_dropped": camera_dropped,
        }
        if camera.report is not None:
            counters |= {f"camera_{name}": n for name, n in camera.report.counters}
    return Metrics(
        counters=counters,
        gauges={"journal_waiting": float(journal_waiting)},
        latency_ms={stage: _quantiles(found) for stage, found in summary.latency.items()},
    )


def _quantiles(found: Quantiles) -> dict[str, float | None]:
    return {
        "p50": found.p50_ms,
        "p95": found.p95_ms,
        "p99": found.p99_ms,
        "p999": found.p999_ms,
        "max": found.max_ms,
    }
