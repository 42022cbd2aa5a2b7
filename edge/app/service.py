"""One run of a station: what it stands on, what inspects, and its end in order."""

from collections.abc import Callable
from pathlib import Path

from edge.app.inspection_line import InspectionLine
from edge.app.signals import Stopper
from edge.app.station_base import StationBase
from edge.errors import StationError
from edge.settings.layers import SettingsLayers
from edge.settings.station import Settings
from edge.station.images.overlay_folder import OverlayWriter
from edge.station.pipeline.run_summary import RunSummary
from edge.station.recording.journal_folder import journal_folder

# A model that takes longer to compile and test will not come.
START_LIMIT_S = 600.0


class StationService:
    """A station with everything around it.

    ``run`` and ``end`` are called once each, in this order and by one thread; ``end`` also after a
    run that failed.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        once: bool,
        tuning: Path,
        reread: Callable[[], Settings],
        stopper: Stopper,
    ) -> None:
        """Open records and camera; no thread runs yet.

        Raises:
            StationError: one of them cannot be used.
        """
        layers = SettingsLayers(settings, reread, journal_folder(settings))
        self._once = once
        self._tuning = tuning
        self._stopper = stopper
        self._base = StationBase(layers, once=once, stopper=stopper)
        self._line: InspectionLine | None = None  # from when the model is loaded

    def run(self) -> RunSummary:
        """Load the model, inspect to the end, see that the broker has everything.

        Raises:
            StationError: something cannot be used, the camera is lost for good, a thread met a
                defect, or verdicts wait.
        """
        with self._base.manager.more_time(START_LIMIT_S):
            self._base.start()
            self._line = line = InspectionLine(
                self._base, once=self._once, tuning=self._tuning, stopper=self._stopper
            )
        return line.inspect()

    def end(self, reasons: tuple[str, ...]) -> StationError | None:
        """Publish ``stopped``, with the reasons of a run that failed, and let go of everything.

        Returns:
            The error of parts without a record, or not written; None when there are none.
        """
        if self._line is not None:
            self._line.stop_observers()
        self._base.stop(reasons)
        return self._line.recorder.unaccounted() if self._line is not None else None

    @property
    def summary(self) -> RunSummary | None:
        """The counts so far; None when the run ended before the first part."""
        return self._line.station.summary() if self._line is not None else None

    @property
    def not_inspected(self) -> str:
        """What the source of files holds beside the images that were given; empty for nothing."""
        return str(self._base.camera.not_inspected)

    @property
    def overlays(self) -> OverlayWriter | None:
        """Of ``--save``; None without."""
        return self._line.images.overlays if self._line is not None else None
