"""The journal of a station that does not run, opened to keep the result of a study."""

from pathlib import Path

from edge.contract.event import Event, event_payload
from edge.errors import ConfigurationError
from edge.journal.database import Synchronous, lock_folder
from edge.journal.entries import Entry, JournalRefuses, JournalUnsuitable, RecordKind
from edge.journal.open import open_journal
from edge.settings.journal import JournalSettings
from edge.settings.station import Settings
from edge.station.monitoring.health import Health
from edge.station.monitoring.heartbeat import Heartbeats
from edge.station.recording.station_journal import StationJournal
from edge.system.file_access import whose_beside_root


class StationRuns(JournalUnsuitable):
    """A station writes the journal that is to keep the result."""


class StudyJournal:
    """Holds the journal for as long as a study takes; no station can start meanwhile."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Open it.

        Raises:
            StationRuns: it cannot be had now.
            ConfigurationError: the files would belong to root, whom the station is not.
            JournalError: the disk refuses, or the journal is full.
        """
        _refuse_root(folder)
        try:
            lock = lock_folder(folder)
        except JournalUnsuitable as error:
            raise StationRuns(
                f"{error} A study keeps its result in that journal: stop the station, for example "
                "with `systemctl stop edge-run@cam1`, and start it again after the study."
            ) from error
        kept = settings.journal or JournalSettings()
        self._journal = StationJournal(
            journal=open_journal(folder, Synchronous(kept.synchronous), lock=lock),
            settings=kept,
            relayed=settings.mqtt is not None,
            health=Health(),
            heartbeats=Heartbeats(),
            silence_limit_s=settings.watchdog.journal_s,
        )
        refusal = self._journal.writer.refusal
        if refusal is not None:
            self.close()
            raise JournalRefuses(
                refusal,
                f"{folder}: the journal accepts no records ({refusal}). Restore the broker.",
            )

    def record(self, event: Event, utc_ns: int) -> None:
        """Keep an event; it is on the disk when ``close`` has returned."""
        self._journal.writer.submit(Entry(RecordKind.EVENT, event_payload(event, utc_ns)))

    def close(self) -> None:
        """Write what is to be kept, and let the station have the journal again.

        Raises:
            JournalError: the disk did not take it.
        """
        self._journal.writer.close()
        self._journal.writer.run()


def _refuse_root(folder: Path) -> None:
    if user := whose_beside_root(folder):
        raise ConfigurationError(
            f"{folder}: belongs to the user of the station, who could not read files that "
            f"root creates there. Run the study as that user: runuser -u {user} -- edge-run "
            "--challenge …"
        )
