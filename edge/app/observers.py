"""How a station gets its page and its window."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from edge.app.reload import Renewable
from edge.contract.event import Datum
from edge.hmi.station_end.actions import ActionServices, PageActions
from edge.hmi.station_end.page_process import Page
from edge.hmi.station_end.status import Sources
from edge.hmi.station_end.teaching.teaching import Teaching, TeachingServices
from edge.hmi.window.window import Window
from edge.settings.overrides import Overrides
from edge.station.recording.journal_folder import journal_folder
from edge.station.recording.verdict_recorder import VerdictObserver


class Display(VerdictObserver, Renewable, Protocol):
    """Whoever shows what is decided."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


def make_observers(
    sources: Sources,
    reload: Callable[[], Mapping[str, Datum]],
    choose_recipe: Callable[[str, int | str | None], Mapping[str, Datum]],
) -> list[Display]:
    """Build the page and the window that the settings ask for.

    Args:
        reload: takes them over between two parts.
        choose_recipe: changes over to a recipe, and puts the version in force.

    Raises:
        NoDesktop: there is nothing to open a window on.
    """
    settings, folder = sources.settings, journal_folder(sources.settings)
    found: list[Display] = []
    if settings.show is not None and settings.show.window:
        found.append(Window(settings.show.width_px))
    if settings.hmi is not None and settings.hmi.enabled and folder is not None:
        services = ActionServices(
            model=sources.model,
            reread=sources.model.reread,
            reload=reload,
            choose_recipe=choose_recipe,
            overrides=Overrides.beside(folder),
            snapshots=sources.snapshots,
            recent=sources.recent,
            health=sources.health,
            record_event=sources.record_event,
            teaching=_teaching(sources, folder, choose_recipe),
        )
        found.append(Page(settings.hmi, folder, sources, PageActions(services)))
    return found


def _teaching(
    sources: Sources,
    journal_folder: Path,
    choose_recipe: Callable[[str, int | str | None], Mapping[str, Datum]],
) -> Teaching | None:
    """Return what people teach with; None where the settings have no teacher."""
    settings, model = sources.settings, sources.model
    if settings.teach is None or settings.recipes is None:
        return None
    services = TeachingServices(
        settings=settings,
        journal_folder=journal_folder,
        candidate=model.candidate,
        choose_recipe=choose_recipe,
        recipe=lambda: model.recipe,
        of_settings=lambda: model.of_settings,
        recipe_settings=model.recipe_settings,
        record_event=sources.record_event,
    )
    return Teaching(services)
