"""The model a station inspects with: loaded, exchanged, reloaded, and what verdicts say of it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import openvino

from edge.bundle.manifest import Bundle, manifest_sha256
from edge.contract.event import Datum, Event
from edge.contract.verdict import Recipe, StationIdentity, Verdict
from edge.errors import ModelError
from edge.imaging.frame import Frame
from edge.inspection.criteria import decision_criteria
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.self_test import self_test
from edge.settings.overrides import ModelInForce
from edge.settings.station import Settings
from edge.station.model.inspectors import make_inspectors, run_plan, station_limits
from edge.station.model.releases import Releases
from edge.station.model.reloadable_settings import check_exchangeable, described, only_decision
from edge.station.model.store import Change, ExchangeResult, LoadedModel, ModelStore, load_model
from edge.station.pipeline.work import InspectionSetup

# Reads the settings again, with what was set at the page for the model that is named.
Reread = Callable[[ModelInForce | None], Settings]


class ModelExchangeFailed(ModelError):
    """Another model or other settings were not taken over; the station goes on as it was.

    The journal has it as an event already.
    """


@dataclass(frozen=True, slots=True, eq=False)
class ConfiguredModel(LoadedModel):
    """A model, and the settings that its inspectors were made with."""

    settings: Settings

    def deciding_by(self, settings: Settings) -> "ConfiguredModel":
        """Return the same network, to be decided by other settings."""
        criteria = decision_criteria(self.bundle.manifest, station_limits(settings))
        inspectors = tuple(one.deciding_by(criteria) for one in self.inspectors)
        return ConfiguredModel(self.bundle, inspectors, settings)


def load_configured(
    settings: Settings, path: Path, tuning: Path, releases: Releases
) -> ConfiguredModel:
    """Load a model as a station with these settings does.

    Args:
        path: of the bundle's ``.xml``.
        tuning: file that may hold a measured run plan.
        releases: that were in use on this station.

    Raises:
        BundleError, ModelError: it must not inspect.
    """
    key = settings.model.public_key
    loaded = load_model(
        path,
        lambda network: make_inspectors(network, settings),
        lambda bundle: run_plan(settings, bundle, tuning),
        settings.model.device,
        public_key=Path(key) if key else None,
        releases=releases if key and not settings.model.allow_downgrade else None,
    )
    return ConfiguredModel(loaded.bundle, loaded.inspectors, settings)


class ModelManager:
    """Loads models with the station's settings, and exchanges them on a running station.

    Attributes:
        settings: as they are in force.
        store: the current model and the one before it.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        tuning: Path,
        simulated: bool,
        trial: Callable[[], Frame | None],
        reread: Reread,
        record_event: Callable[[Event], None],
        releases: Releases,
    ) -> None:
        """Load the first model.

        Args:
            tuning: file that may hold a measured run plan.
            simulated: what verdicts say of the camera.
            trial: the newest frame of the camera.
            reread: reads the settings again.
            record_event: keeps what was changed.
            releases: that were in use here.

        Raises:
            BundleError, ModelError: the model cannot be used.
        """
        self.settings = settings
        self._wanted = settings  # what the next model is loaded with; ``_reloading`` guards it
        self._reloading = threading.Lock()
        self._tuning = tuning
        self._simulated = simulated
        self._exchanges: list[Callable[[InspectionSetup], None]] = []
        self._listeners: list[Callable[[], None]] = []
        self._reread = reread
        self._record_event = record_event
        self._releases = releases
        first = self._load(Path(settings.model.path))
        self._remember_release(first)
        self.store = ModelStore(
            first=first,
            load=self._load,
            on_change=self._take_over,
            trial=trial,
            on_changed=self._on_changed,
        )

    def on_exchange(self, exchange: Callable[[InspectionSetup], None]) -> None:
        """Add who takes another line over between two parts; what it raises refuses the line."""
        self._exchanges.append(exchange)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Add who hears that another model inspects now, or the same with other settings."""
        self._listeners.append(listener)

    def current_bundle(self) -> Bundle:
        """Return the bundle that inspects now."""
        return self.store.current.bundle

    def line(self) -> InspectionSetup:
        """Return what the station begins with."""
        return self._line(self.store.current, self.settings)

    @property
    def recipe(self) -> Recipe | None:
        """What is inspected for."""
        return recipe_of(self.settings)

    def reload(self) -> Mapping[str, Datum]:
        """Read the settings again, and take them and the model over if all is well.

        Raises:
            ConfigurationError: the settings cannot be used, or need a restart.
            ModelExchangeFailed: the model cannot be used, or another reload is under way; nothing
                was changed.
        """
        if not self._reloading.acquire(blocking=False):
            detail = "the settings are being taken over already. Ask again when that is done."
            self._record_event(ExchangeResult(Change.BUSY, detail).event())
            raise ModelExchangeFailed(detail)
        try:
            return self._reload()
        finally:
            self._reloading.release()

    def reread(self) -> Settings:
        """Return the settings as they are written now, for the model that inspects.

        Raises:
            ConfigurationError: they cannot be used.
        """
        return self._reread(self._in_force)

    @property
    def _in_force(self) -> ModelInForce:
        return ModelInForce(self.settings.model.path, self.store.current.bundle.sha256)

    def _reload(self) -> Mapping[str, Datum]:
        before, wanted = self.settings, self.reread()
        keys = check_exchangeable(before, wanted)
        if keys and only_decision(keys):
            outcome = self._exchange_decision(wanted)
        else:
            wanted = self._reread(None)  # another model may lie at the path
            keys = check_exchangeable(before, wanted)
            self._wanted = wanted
            outcome = self.store.exchange(Path(wanted.model.path))
        if outcome.changed:
            outcome = outcome.of_settings(described(before, self.settings))
        self._record_event(outcome.event())
        if not outcome.changed:
            raise ModelExchangeFailed(outcome.detail)
        return {"changed": ", ".join(keys) or "nothing but the model", **self.describe()}

    def _exchange_decision(self, wanted: Settings) -> ExchangeResult:
        """Decide by other settings; the files of the network need not even be there."""
        current = self.store.current
        assert isinstance(current, ConfiguredModel)  # ``_load`` makes all of them
        outcome = self.store.exchange_decision(current.deciding_by(wanted), current)
        path, notes = Path(wanted.model.path), []
        if manifest_sha256(path) != current.bundle.sha256:
            notes.append(
                f"the files at {path} are not those of the model that inspects; reload once more "
                "to take them over"
            )
        if wanted.camera.crop != current.settings.camera.crop:
            notes.append(
                "with another crop the network sees parts at another scale; check the threshold "
                "with known parts"
            )
        if outcome.changed and notes:
            return replace(outcome, detail=f"{outcome.detail} ({'; '.join(notes)})")
        return outcome

    def roll_back(self, why: str) -> ExchangeResult:
        """Bring back the model before, or what the same one decided by before.

        Returns:
            How it ended, with what differs now; the caller records it.
        """
        before = self.settings
        outcome = self.store.rollback(why)
        return outcome.of_settings(described(before, self.settings)) if outcome.changed else outcome

    def changes_of_rollback(self) -> str:
        """Return which settings ``roll_back`` would change; empty for none."""
        before = self.store.before
        return (
            described(self.settings, before.settings) if isinstance(before, ConfiguredModel) else ""
        )

    def self_test(self) -> Mapping[str, Datum]:
        """Inspect the golden images with a copy of the current model, beside the line.

        Raises:
            BundleError, ModelError: it gives other numbers than at its export.
        """
        bundle = self.store.current.bundle
        plan = run_plan(self.settings, bundle, self._tuning)
        self_test(
            Detector(CompiledModel(bundle, self.settings.model.device, plan)), bundle.manifest
        )
        return self.describe()

    def identity(self) -> dict[str, str]:
        """Return name, version and hash of the current model, as verdicts have them."""
        made = station_identity(self.settings, self.store.current.bundle, self._simulated)
        return {
            "name": made.model_name,
            "version": made.model_version,
            "sha256": made.model_sha256,
        }

    def describe(self) -> dict[str, Datum]:
        """Return name and hash of the current model."""
        bundle = self.store.current.bundle
        return {"model": bundle.manifest.identity.name, "model_sha256": bundle.sha256}

    def _load(self, path: Path) -> ConfiguredModel:
        return load_configured(self._wanted, path, self._tuning, self._releases)

    def on_verdict(self, verdict: Verdict) -> None:
        """Roll back a model that gave no number for several parts in a row."""
        if verdict.identity is None:
            return
        before = self.settings
        outcome = self.store.part_decided(
            verdict.identity.model_sha256, verdict.inspection.decision.reason
        )
        if outcome is not None:
            outcome = outcome.of_settings(described(before, self.settings))
            self._record_event(outcome.event())

    def _take_over(self, model: LoadedModel) -> None:
        assert isinstance(model, ConfiguredModel)  # ``_load`` makes all of them
        line = self._line(model, model.settings)
        for exchange in self._exchanges:
            exchange(line)
        self.settings = model.settings
        self._remember_release(model)

    def _on_changed(self) -> None:
        for listener in self._listeners:
            listener()

    def _remember_release(self, model: ConfiguredModel) -> None:
        chosen = model.settings.model
        if chosen.public_key is not None:
            self._releases.remember(model.bundle.manifest, chosen.allow_downgrade)

    def _line(self, model: LoadedModel, settings: Settings) -> InspectionSetup:
        identity = station_identity(settings, model.bundle, self._simulated)
        return InspectionSetup(model.inspectors, identity, recipe_of(settings))


def recipe_of(settings: Settings) -> Recipe | None:
    """Return what a site has set up to inspect for."""
    recipe = settings.recipe
    return Recipe(recipe.id, recipe.version) if recipe else None


def station_identity(settings: Settings, bundle: Bundle, simulated: bool) -> StationIdentity:
    """Return what every verdict says of model and settings."""
    manifest = bundle.manifest
    return StationIdentity(
        simulated=simulated,
        trigger_source="hardware" if settings.camera.trigger.mode == "hardware" else "free_run",
        model_name=manifest.identity.name,
        model_version=manifest.identity.created.strftime("%Y%m%dT%H%M%SZ"),
        model_sha256=bundle.sha256,
        precision=f"{manifest.precision.weights}/{manifest.precision.inference}",
        device=settings.model.device,
        runtime=f"openvino {openvino.__version__.partition('-')[0]}",
        config_sha256=settings.sha256,
        deadline_ms=settings.decision.deadline_ms,
    )
