"""Where a station keeps its journal, as the station itself sees it and as others do."""

import os
from pathlib import Path

from edge.settings.station import Settings
from edge.system.file_access import is_folder

# Of systemd/edge-run@.service.
SERVICE_SETTINGS = Path("/etc/edge")
SERVICE_STATE = Path("/var/lib/edge")


def journal_folder(settings: Settings) -> Path | None:
    """Return where the journal of a station lies; None for a station that keeps none."""
    journal = settings.journal
    if journal is not None and journal.folder is not None:
        return Path(journal.folder)
    if settings.mqtt is None and journal is None:
        return None
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state:
        return Path(state) / "journal"
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "edge"
    if settings.mqtt is None:
        return base / "station"
    return base / settings.mqtt.topic.client_id


def journal_folder_seen_from(config: Path | None, settings: Settings) -> Path | None:
    """Return where the journal lies for somebody who looks at it from a shell.

    A service has a state folder of its own, ``edge-run@cam1`` that of ``/etc/edge/cam1.yaml``,
    which only its own process is told of.

    Args:
        config: the settings' file; None for the command line alone.
    """
    named = settings.journal is not None and settings.journal.folder is not None
    kept = journal_folder(settings)
    if kept is None or named or config is None or "STATE_DIRECTORY" in os.environ:
        return kept
    if config.absolute().parent != SERVICE_SETTINGS:
        return kept
    state = SERVICE_STATE / config.stem
    return state / "journal" if is_folder(state) else kept
