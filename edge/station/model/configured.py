"""A model with the settings that its inspectors were made with."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from edge.bundle.loading import Bundle
from edge.inspection.criteria import crop_sentence, decision_criteria
from edge.inspection.detector import RunPlan
from edge.settings.station import Settings
from edge.station.model.inspectors import make_inspectors, run_plan, station_limits
from edge.station.model.releases import Releases
from edge.station.model.store import LoadedModel, load_model

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ConfiguredModel(LoadedModel):
    """A model, and the settings that its inspectors were made with."""

    settings: Settings

    def deciding_by(self, settings: Settings) -> "ConfiguredModel":
        """Return the same network, to be decided by other settings."""
        criteria = decision_criteria(self.bundle.manifest, station_limits(settings))
        _warn_of_crop(self.bundle, settings)
        inspectors = tuple(one.deciding_by(criteria) for one in self.inspectors)
        return ConfiguredModel(self.bundle, inspectors, settings, shared=True)


def load_configured(
    settings: Settings, path: Path, tuning: Path, releases: Releases, *, streams: int = 1
) -> ConfiguredModel:
    """Load a model as a station with these settings does.

    Args:
        path: of the bundle's ``.xml``.
        tuning: file that may hold a measured run plan.
        releases: that were in use on this station.
        streams: of a model without tiles at least so many, each an inspector.

    Raises:
        BundleError, ModelError: it must not inspect.
    """
    key = settings.model.public_key

    def plan(bundle: Bundle) -> RunPlan:
        found = run_plan(settings, bundle, tuning)
        tiled = bundle.manifest.input.tile_plan is not None
        return found if tiled else replace(found, streams=max(found.streams, streams))

    loaded = load_model(
        path,
        lambda network: make_inspectors(network, settings),
        plan,
        settings.model.device,
        public_key=Path(key) if key else None,
        releases=releases if key and not settings.model.allow_downgrade else None,
    )
    _warn_of_crop(loaded.bundle, settings)
    return ConfiguredModel(loaded.bundle, loaded.inspectors, settings)


def _warn_of_crop(bundle: Bundle, settings: Settings) -> None:
    squeezed = crop_sentence(bundle.manifest.input, settings.camera.crop)
    if squeezed is not None:
        log.warning("%s", squeezed)
