"""From settings to a running station, and the report of its end."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge.app.secret_files import check_secrets
from edge.app.service import StationService
from edge.app.signals import Stopper
from edge.cameras.factory import checked_kind
from edge.errors import CameraLost, StationError
from edge.settings.station import Settings
from edge.settings.unprotected_access import unprotected_access
from edge.station.pipeline.run_summary import RunSummary

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended.

    Attributes:
        summary: the counts.
        overlays: where the overlays are and how many; None without ``--save``.
        not_inspected: what files held beside the images of the parts; empty for nothing.
    """

    summary: RunSummary
    overlays: tuple[Path, int] | None
    not_inspected: str

    def __str__(self) -> str:
        lines = [str(self.summary)]
        if self.not_inspected:
            lines.append(self.not_inspected)
        if self.overlays is not None:
            folder, count = self.overlays
            lines.append(f"{count} overlays in {folder}")
        return "\n".join(lines)


def run_station(
    settings: Settings,
    *,
    once: bool,
    tuning: Path,
    report: Callable[[RunReport], None],
    reread: Callable[[], Settings],
    stopper: Stopper,
) -> None:
    """Run until the images end or a signal comes; not at all if it came already.

    Args:
        settings: validated.
        once: inspect every image of a file source once, or one frame of a live camera.
        tuning: file that may hold a measured run plan.
        report: is given the counts at the end, also of a run that fails on its way.
        reread: reads the settings again, for a reload.
        stopper: receives the signals.

    Raises:
        StationError: cause and next step, with the exit code of the process.
    """
    checked_kind(settings.camera)  # a wrong address is told before anything is opened
    check_secrets(settings)
    for finding in unprotected_access(settings):
        log.warning("%s", finding)
    # Nothing that is written here is for everybody on this PC; a service says the same.
    os.umask(os.umask(0o077) | 0o027)
    cv2.setNumThreads(1)  # the images are small; OpenCV's pool would fight with inference
    if stopper.stopped:
        log.info("stopped before the start")
        return
    reasons: tuple[str, ...] = ("internal",)
    service = StationService(
        settings=settings, once=once, tuning=tuning, reread=reread, stopper=stopper
    )
    try:
        service.run()
        reasons = ()
    except CameraLost:
        reasons = ("camera_lost",)
        raise
    except StationError as error:
        reasons = (type(error).__name__,)
        raise
    finally:
        unaccounted = service.end(reasons)
        summary = service.summary
        if summary is not None:
            overlays = service.overlays
            saved = (overlays.folder, overlays.written) if overlays else None
            report(RunReport(summary, saved, service.not_inspected))
    if unaccounted is not None:
        raise unaccounted
