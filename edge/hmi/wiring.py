"""How a station gets its page."""

from collections.abc import Callable, Mapping

from edge.config import Settings
from edge.hmi.deeds import Deeds, Hands
from edge.hmi.page import Page
from edge.hmi.status import Sources
from edge.messaging.event import Datum
from edge.overrides import Overrides
from edge.station.records import journal_folder


def with_overrides(
    settings: Settings, reread: Callable[[], Settings]
) -> tuple[Settings, Callable[[], Settings]]:
    """Return the settings, and how they are read again, with what was set at the page."""
    folder = journal_folder(settings)
    if folder is None:
        return settings, reread
    overrides = Overrides.beside(folder)
    return overrides.laid_over(settings), lambda: overrides.laid_over(reread())


def made_page(
    sources: Sources,
    reread: Callable[[], Settings],
    reload: Callable[[], Mapping[str, Datum]],
) -> Page | None:
    """Build the page of a station; None where the settings ask for none.

    Args:
        reread: reads the settings again, with overrides.
        reload: takes them over between two parts.
    """
    settings, folder = sources.settings, journal_folder(sources.settings)
    if settings.hmi is None or not settings.hmi.enabled or folder is None:
        return None
    hands = Hands(
        model=sources.model,
        reread=reread,
        reload=reload,
        overrides=Overrides.beside(folder),
        snapshots=sources.snapshots,
        health=sources.health,
        record_event=sources.recording.event,
    )
    return Page(settings.hmi, folder, sources, Deeds(hands))
