"""The reporter: what the state and the metrics say, of the parts that are there so far."""

import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from edge.contract.announcements import Metrics
from edge.contract.state import StationReport
from edge.journal.entries import JournalError
from edge.journal.outbox import Outbox
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.model.manager import ModelManager
from edge.station.monitoring.camera_monitor import CameraMonitor
from edge.station.pipeline.pipeline import Station
from edge.station.recording import reports
from edge.station.recording.station_journal import StationJournal


class StationReporter:
    """Reports of a station that starts, too: its state is published before it has a model.

    Attributes:
        camera, model, handshake, station: each from when it is built.
    """

    def __init__(self, journal: StationJournal, folder: Path) -> None:
        """Read when the station was started before; ``folder`` is whose disk is looked at.

        Raises:
            JournalError: the journal cannot be read.
        """
        self.camera: CameraMonitor | None = None
        self.model: ModelManager | None = None
        self.handshake: HandshakeCoordinator | None = None
        self.station: Station | None = None
        self._journal = journal
        self._folder = folder
        self._outbox: Outbox | None = None  # opened by the thread that reports, whose it is
        with closing(Outbox(journal.path)) as before:
            self._starts_ns = reports.starts(before)

    def report(self) -> StationReport:
        """Return what goes with the state; one thread calls."""
        now_ns, journal = time.time_ns(), None
        with suppress(JournalError):  # its writer says why; the rest is reported all the same
            self._outbox = self._outbox or Outbox(self._journal.path)
            journal = reports.journal_report(
                self._journal.journal, self._outbox, self._journal.path, now_ns
            )
        found = reports.station_report(
            camera=self.camera.status if self.camera else None,
            model={**self.model.identity(), **self.model.arithmetic()} if self.model else {},
            journal=journal,
            folder=self._folder,
            trigger_ready=self.handshake.ready if self.handshake else None,
        )
        return replace(found, restarts_1h=reports.within_an_hour(self._starts_ns, now_ns))

    def metrics(self) -> Metrics:
        """Return the numbers of the run so far."""
        if self.station is None or self.camera is None:
            return Metrics()
        return reports.metrics(
            summary=self.station.summary(),
            camera=self.camera.status,
            camera_dropped=self.camera.dropped,
            handshake=self.handshake.counts() if self.handshake else {},
            journal_waiting=self._journal.waiting,
        )
