"""The model a station inspects with: loaded, exchanged, reloaded, and what verdicts say of it."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import openvino
from pydantic import JsonValue

from edge.bundle.loading import Bundle, manifest_sha256
from edge.bundle.manifest import Guarantee, precision_text
from edge.bundle.mask_file import read_mask_file
from edge.contract.event import Datum, Event
from edge.contract.verdict import Recipe, StationIdentity, Verdict
from edge.errors import ModelError, StationError
from edge.imaging.frame import Frame
from edge.inspection.criteria import guarantee_in_force
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.inspector import Inspector
from edge.inspection.self_test import self_test
from edge.recipes.errors import RecipeError, RecipeUnknown
from edge.recipes.folder import RecipeListing, RecipeVersion
from edge.settings.layers import SettingsLayers, chosen_recipe, with_recipe
from edge.settings.overrides import ModelInForce, PageSettings
from edge.settings.released import ReleasedSettings
from edge.settings.station import Settings
from edge.station.model.configured import ConfiguredModel, load_configured
from edge.station.model.inspectors import run_plan
from edge.station.model.recipe_limits import (
    demand_callable,
    find_uncallable,
    model_bytes,
    recipes_in_force,
    uncallable_warning,
)
from edge.station.model.releases import Releases
from edge.station.model.reloadable_settings import check_exchangeable, described, only_decision
from edge.station.model.resident_recipes import ResidentRecipes
from edge.station.model.store import Change, ExchangeResult, LoadedModel, ModelStore
from edge.station.model.tuning import tuning_path
from edge.station.pipeline.work import InspectionSetup, RecipeUnavailable
from edge.wording import counted

# Reads the settings again, with what was set at the page for the model that is named.
Reread = Callable[[ModelInForce | None], Settings]

log = logging.getLogger(__name__)


class ModelExchangeFailed(ModelError):
    """Another model or other settings were not taken over; the station goes on as it was.

    The journal has it as an event already.
    """


class ModelExchangeBusy(ModelExchangeFailed):
    """Another exchange is under way; in a moment it is not."""


class ModelManager:
    """Loads models with the station's settings, and exchanges them on a running station.

    Attributes:
        settings: as they are in force.
        store: the current model and the one before it.
        recipes: those in memory; None without the section ``recipes``.
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
        layers: SettingsLayers | None = None,
    ) -> None:
        """Load the first model.

        Args:
            tuning: file that may hold a measured run plan.
            simulated: what verdicts say of the camera.
            trial: the newest complete frame of the camera, whatever product it shows.
            reread: reads the settings again.
            record_event: keeps what was changed.
            releases: that were in use here.
            layers: the settings of each recipe, whose chosen one is in ``settings``.

        Raises:
            BundleError, ModelError: the model cannot be used.
            RecipeError: the folder of recipes cannot be read.
        """
        self.settings = settings
        self._layers = layers
        self.recipes: ResidentRecipes | None = None
        self._wanted = settings  # what the next model is loaded with; ``_reloading`` guards it
        self._reloading = threading.Lock()
        self._tuning = tuning
        self._simulated = simulated
        self._exchanges: list[Callable[[InspectionSetup], None]] = []
        self._listeners: list[Callable[[], None]] = []
        self._reread = reread
        self._record_event = record_event
        self._releases = releases
        for name in find_uncallable(settings, recipes_in_force(settings)):
            log.warning("%s", uncallable_warning(name))
        self._trial = trial
        first = self._load(Path(settings.model.path))
        self._remember_release(first)
        self.store = ModelStore(
            first=first,
            load=self._load,
            on_change=self._activate,
            trial=self._trial_frame,
            on_changed=self._on_changed,
            may_return=self._share_recipe,
            on_rollback=self._put_back_beside,
        )
        if settings.recipes is not None and layers is not None:
            self.recipes = ResidentRecipes(
                settings=settings.recipes,
                size_bytes=self._recipe_bytes,
                load=self._load_recipe,
                setup=self._setup,
            )
            self.recipes.on_activated(chosen_recipe(settings), first)

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
        return chosen_recipe(self.settings)

    @property
    def folder_recipe(self) -> Recipe | None:
        """The version of the folder that is inspected for; None for the model at ``model.path``."""
        chosen = self._layers.chosen.id if self._layers is not None else None
        return self.recipe if chosen is not None else None

    def reload(self) -> Mapping[str, Datum]:
        """Read the settings again, and take them and the model over if all is well.

        Raises:
            ConfigurationError: the settings cannot be used, or need a restart.
            ModelExchangeFailed: the model cannot be used, or another reload is under way; nothing
                was changed.
        """
        with self._exclusively():
            return self._reload()

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        if not self._reloading.acquire(blocking=False):
            detail = "a reload is already in progress. Try again when it is done."
            self._record_event(ExchangeResult(Change.BUSY, detail).event())
            raise ModelExchangeBusy(detail)
        try:
            yield
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
        redrawn = self._redrawn(wanted)
        if (keys or redrawn) and only_decision(keys):
            outcome = self._exchange_decision(wanted)
        else:
            wanted = self._reread(None)  # another model may lie at the path
            keys = check_exchangeable(before, wanted)
            self._wanted = wanted
            outcome = self.store.exchange(Path(wanted.model.path))
        left = ""
        if outcome.changed:
            left = self.left_behind(chosen_recipe(before), self.recipe)
            changes = [described(before, self.settings), redrawn, left and f"not used: {left}"]
            outcome = outcome.of_settings(", ".join(filter(None, changes)))
            self._renew_recipes()
        self._record_event(outcome.event())
        if not outcome.changed:
            raise ModelExchangeFailed(outcome.detail)
        changed = ", ".join([*keys, *filter(None, [redrawn])]) or "only the model"
        done = {"changed": changed, **self.describe()}
        return {**done, "left_behind": left} if left else done

    def page_settings(self, recipe: Recipe | None) -> PageSettings:
        """Return what was set at the page for a recipe and counts; nothing of one that is gone.

        Args:
            recipe: None is the model at ``model.path`` where it has no name.
        """
        return self._layers.page_settings(recipe) if self._layers is not None else PageSettings()

    def page_settings_left(self, before: Recipe, now: Recipe) -> PageSettings:
        """Return what was set at the page for a version, and by which another does not decide."""
        if self._layers is None:
            return PageSettings()
        return self._layers.page_settings_left(before, now)

    def page_settings_beside_release(self) -> tuple[PageSettings, PageSettings]:
        """Return what was set at the page for ``model.path``, of what released settings set.

        Returns:
            What counts over them, and what does not count any more because of them.
        """
        if self._layers is None:
            return PageSettings(), PageSettings()
        return self._layers.page_settings_beside_release()

    def left_behind(self, before: Recipe | None, now: Recipe | None) -> str:
        """Return what was set at the page for a version, and does not count for its successor.

        Returns:
            For people; empty for nothing.
        """
        if before is None or now is None or before.id != now.id or before == now:
            return ""
        left = self.page_settings_left(before, now)
        if left:
            log.warning("%s: %s; not used for version %s", before, left, now.version)
        return f"{left} for version {before.version}" if left else ""

    def _redrawn(self, wanted: Settings) -> str:
        """Return that a mask of the same name holds another drawing, for people; else nothing.

        Raises:
            ConfigurationError: the mask cannot be read.
        """
        mask = wanted.decision.mask
        if mask is None or mask != self.settings.decision.mask:
            return ""
        same = read_mask_file(Path(mask)) == self.store.current.criteria.input.areas
        return "" if same else f"the drawing in {mask}"

    def _exchange_decision(self, wanted: Settings) -> ExchangeResult:
        """Decide by other settings; the files of the network need not even be there."""
        current = self.store.current
        assert isinstance(current, ConfiguredModel)  # ``_load`` makes all of them
        outcome = self.store.exchange_decision(current.deciding_by(wanted), current)
        path, notes = Path(wanted.model.path), []
        if manifest_sha256(path) != current.bundle.sha256:
            notes.append(
                f"the files at {path} are not those of the active model; reload once more to "
                "load them"
            )
        if wanted.camera.crop != current.settings.camera.crop:
            notes.append(
                "with another crop the network sees parts at a different scale; check the "
                "threshold with known parts"
            )
        if outcome.changed and notes:
            return replace(outcome, detail=f"{outcome.detail} ({'; '.join(notes)})")
        return outcome

    def roll_back(self, why: str) -> ExchangeResult:
        """Bring back the model before, or what the same one decided by before.

        Returns:
            How it ended, with what differs now; the caller records it.

        Raises:
            ModelExchangeFailed: a reload is under way.
        """
        with self._exclusively():
            before = self.settings
            outcome = self.store.rollback(why)
            if not outcome.changed:
                return outcome
            self._renew_release(wait=True)
            return outcome.of_settings(described(before, self.settings))

    def rollback_changes(self) -> str:
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

    def guarantee(self) -> Guarantee | None:
        """Return what the threshold in force guarantees; None where it guarantees nothing."""
        current = self.store.current
        return guarantee_in_force(current.bundle.manifest, current.criteria)

    def arithmetic(self) -> dict[str, str]:
        """Return what the current model computes in, and what its bundle was made for."""
        bundle = self.store.current.bundle
        precision = precision_text(bundle.manifest)
        return {"precision": precision, "made_for": bundle.made_for or precision}

    def describe(self) -> dict[str, Datum]:
        """Return name and hash of the current model."""
        bundle = self.store.current.bundle
        return {"model": bundle.manifest.identity.name, "model_sha256": bundle.sha256}

    def choose_recipe(
        self, asked: str, version: int | str | None, *, release: bool = False
    ) -> Mapping[str, Datum]:
        """Inspect for another recipe from the next part on that names none itself.

        Args:
            asked: id of a recipe, or of the model at ``model.path`` where the settings name it.
            version: None for the one in force.
            release: put the version in force if it is not.

        Raises:
            RecipeUnknown: no such version is in force.
            StationError: it must not inspect; nothing was changed.
        """
        layers = self._layers
        if layers is None or self.recipes is None:
            raise RecipeUnknown("this station has one model and no recipes. Set recipes.folder.")
        recipe = layers.offered(asked, version)
        folder = layers.recipes
        release = release and recipe is None and folder is not None and isinstance(version, int)
        if release and version is not None:
            demand_callable(self.settings, asked)
            recipe = Recipe(asked, version)
        if recipe is None or folder is None:
            raise RecipeUnknown(
                f"{Recipe(asked, version or 0)} is not in force at this station; in force: "
                f"{', '.join(layers.names()) or 'none'}."
            )
        self.recipes.load(recipe)  # takes as long as a start; the line goes on meanwhile
        with self._exclusively():
            before, in_force = layers.chosen.id, folder.in_force(asked)
            try:
                if release and isinstance(version, int):
                    folder.put_in_force(asked, version)
                layers.chosen.keep(layers.chosen_version(recipe))
                return {"recipe": recipe.id, "version": recipe.version, **self._reload()}
            except BaseException:
                layers.chosen.keep(before)
                if release:
                    folder.restore(asked, in_force)
                raise

    @property
    def of_settings(self) -> Recipe | None:
        """The recipe that the settings name for ``model.path``."""
        return chosen_recipe(self._layers.base) if self._layers is not None else None

    @property
    def chosen(self) -> str | None:
        """The recipe that parts without a name are inspected for; None for ``model.path``."""
        return self._layers.chosen.id if self._layers is not None else None

    def offer_recipe(self, name: str, version: int) -> None:
        """Put a version in force for the parts that name it; what is inspected for stays.

        Raises:
            RecipeUnknown: there is no such version.
            StationError: it must not inspect; nothing was changed.
        """
        folder = self._layers.recipes if self._layers is not None else None
        if folder is None or self.recipes is None:
            raise RecipeUnknown("this station has one model and no recipes. Set recipes.folder.")
        demand_callable(self.settings, name)
        self.recipes.load(Recipe(name, version))
        with self._exclusively():
            folder.put_in_force(name, version)

    @property
    def released(self) -> ReleasedSettings | None:
        """The release of settings that counts, all of it; None where the file's alone count."""
        return self._layers.released if self._layers is not None else None

    def make_release(
        self, name: str, version: int, sha256: str, settings: dict[str, dict[str, JsonValue]]
    ) -> ReleasedSettings:
        """Return a release of settings for this station, on what its file says now.

        Raises:
            ConfigurationError: it does not fit, or the file cannot be used.
        """
        assert self._layers is not None  # a station that takes releases has some
        return self._layers.make_release(name, version, sha256, settings)

    def release_settings(self, released: ReleasedSettings | None) -> Mapping[str, Datum]:
        """Put released settings in force between two parts, or with None the file's alone.

        Raises:
            StationError: they must not be in force; nothing was changed.
        """
        layers = self._layers
        assert layers is not None  # a station that takes releases has some
        with self._exclusively():
            kept = layers.release(released)
            try:
                return self._reload()
            except BaseException:
                layers.restore_release(kept)
                raise

    def put_back(self, name: str, version: int | None, choice: str | None) -> Mapping[str, Datum]:
        """Put in force what was before a release: of its recipe, and what is inspected for.

        Args:
            version: of the recipe ``name``; None for none.
            choice: recipe that parts without a name are inspected for; None for ``model.path``.

        Raises:
            StationError: it must not inspect; nothing was changed.
        """
        layers = self._layers
        folder = layers.recipes if layers is not None else None
        if layers is None or folder is None:
            raise RecipeUnknown("this station has one model and no recipes. Set recipes.folder.")
        with self._exclusively():
            chosen, in_force = layers.chosen.id, folder.in_force(name)
            try:
                folder.restore(name, version)
                layers.chosen.keep(choice)
                return self._reload()
            except BaseException:
                layers.chosen.keep(chosen)
                folder.restore(name, in_force)
                raise

    def recipe_settings(self, recipe: Recipe) -> Settings:
        """Return the settings by which parts of a recipe are decided, with those of the page.

        Raises:
            StationError: it is not there, or what was set cannot be read.
        """
        if recipe == self.recipe:
            return self.settings
        if self._layers is None:
            raise RecipeUnknown(f"this station has one model and no {recipe}.")
        return self._layers.of(recipe)

    def candidate(self, version: RecipeVersion) -> Inspector:
        """Load a model that is not in force, for a thread that judges parts beside the line.

        It decides as it would in force: what is set for another product does not count for it.

        Raises:
            BundleError, ModelError: it must not inspect.
        """
        assert self._layers is not None  # who teaches has recipes
        settings, path = with_recipe(self._layers.base, version), version.model
        alone = {"threads": 1, "objective": "latency"}
        settings = settings.model_copy(update={"model": settings.model.model_copy(update=alone)})
        loaded = load_configured(settings, path, tuning_path(None, path), Releases(None))
        return loaded.inspectors[0]

    def recipe_listing(self) -> Sequence[RecipeListing] | None:
        """Return the recipes there are, in force or not; None for a station with one model."""
        if self._layers is None or self.recipes is None:
            return None
        try:
            return self._layers.listing()
        except RecipeError:  # the folder cannot be read now; a recipe that is asked for says so
            return []

    def want_recipes(self) -> None:
        """Have recipes in force loaded before a part asks for them, as many as have room."""
        layers = self._layers
        if layers is None or self.recipes is None:
            return
        for recipe in filter(None, (layers.offered(name, None) for name in layers.names())):
            if not self.recipes.want_early(recipe):
                return

    def _load(self, path: Path) -> ConfiguredModel:
        return self._load_as(self._wanted, path)

    def _load_as(self, settings: Settings, path: Path) -> ConfiguredModel:
        """Load a model, or use the network of one in memory that has the same bundle."""
        if self._layers is None or settings.recipes is None:
            return load_configured(settings, path, self._tuning, self._releases)
        known = self.recipes.models() if self.recipes is not None else []
        sha256 = manifest_sha256(path)
        for one in known:
            same_key = one.settings.model.public_key == settings.model.public_key
            if same_key and one.bundle.sha256 == sha256:
                return one.deciding_by(settings)
        if self._layers.is_own(settings):
            return load_configured(settings, path, self._tuning, self._releases)
        return load_configured(
            settings,
            path,
            tuning_path(None, path),
            # Which of its versions is in force was somebody's choice.
            Releases(None),
            streams=len(known[0].inspectors) if known else 1,
        )

    def _load_recipe(self, recipe: Recipe | None) -> ConfiguredModel:
        assert self._layers is not None  # recipes are loaded by those who have some
        settings = self._layers.of(recipe)
        check_exchangeable(self.settings, settings)
        model = self._load_as(settings, Path(settings.model.path))
        threads = len(self.store.current.inspectors)
        if len(model.inspectors) < threads:
            raise ModelError(
                f"{recipe} works with {len(model.inspectors)} inspectors, the station runs "
                f"{counted(threads, 'thread')}. Set model.objective: latency, or start the "
                "station with "
                "this recipe."
            )
        return model

    def _share_recipe(self, before: LoadedModel, now: LoadedModel) -> bool:
        """Tell whether two models inspect the same product: another's model never judges a part."""
        if self.recipes is None:
            return True
        assert isinstance(before, ConfiguredModel) and isinstance(now, ConfiguredModel)
        first, second = chosen_recipe(before.settings), chosen_recipe(now.settings)
        return (first and first.id) == (second and second.id)

    def _put_back_beside(self, given_up: LoadedModel, before: LoadedModel) -> str:
        """Put back what else belongs to the model given up: a release of settings, a version.

        Returns:
            What was done, for people; empty for nothing.

        Raises:
            RecipeError, OutputNotWritable: they stay in force.
        """
        assert isinstance(given_up, ConfiguredModel) and isinstance(before, ConfiguredModel)
        done = [self._put_version_back(given_up, before)]
        if self._layers is not None:
            done.append(self._layers.follow_rollback(given_up.settings, before.settings))
        return "; ".join(filter(None, done))

    def _put_version_back(self, given_up: LoadedModel, before: LoadedModel) -> str:
        """Have parts that name the recipe judged by the version that a rollback brings back, too.

        Returns:
            What was done, for people; empty for nothing.

        Raises:
            RecipeError, OutputNotWritable: they go on being judged by the version given up.
        """
        layers = self._layers
        if self.recipes is None or layers is None or layers.recipes is None:
            return ""
        assert isinstance(given_up, ConfiguredModel) and isinstance(before, ConfiguredModel)
        old, new = chosen_recipe(given_up.settings), chosen_recipe(before.settings)
        if old is None or new is None or old == new:
            return ""
        offered = layers.offered(old.id, None)
        if offered != old:  # somebody has put another one in force since
            return f"parts that name {old.id!r} are judged by {offered or 'no version'}"
        if old == chosen_recipe(layers.base) or not isinstance(new.version, int):
            raise RecipeError(
                f"parts that name {old.id!r} are still judged by its version {old.version}: "
                "the settings name it. Put the sections model and recipe back and reload, or "
                "take a recipe of the folder with `edge-run --recipe use`."
            )
        try:
            layers.recipes.put_in_force(new.id, new.version)
        except StationError as error:
            raise RecipeError(
                f"parts that name {old.id!r} are still judged by its version {old.version}: "
                f"{error} Then `edge-run --recipe use '{new.id}@{new.version}'`, and reload."
            ) from error
        return f"version {new.version} of {new.id!r} is in force again instead of {old.version}"

    def _recipe_bytes(self, recipe: Recipe | None) -> int:
        """Return what a model takes in memory: its files, and what the device makes of them."""
        assert self._layers is not None
        return model_bytes(Path(self._layers.of(recipe).model.path))

    def _setup(self, model: ConfiguredModel) -> InspectionSetup:
        return self._line(model, model.settings)

    def _renew_recipes(self) -> None:
        """Have recipes in memory decided by what the settings say now."""
        if self._layers is None:
            return
        if self.recipes is None:
            self._layers.accept()
        else:
            self.recipes.renew(self._layers.accept, self._renewed)

    def _renew_release(self, *, wait: bool) -> None:
        """Have other recipes decided without a release of settings that was given up.

        Args:
            wait: until they are, also for one that is being loaded; else the loader thread does it.
        """
        layers = self._layers
        if layers is None or not layers.outdated:
            return
        if self.recipes is None:
            layers.renew_release()
        else:
            renew = self.recipes.renew if wait else self.recipes.renew_soon
            renew(layers.renew_release, self._renewed)

    def _renewed(self, recipe: Recipe | None, model: ConfiguredModel) -> ConfiguredModel:
        assert self._layers is not None
        settings = self._layers.of(recipe)
        path = Path(settings.model.path)
        if settings.model != model.settings.model or manifest_sha256(path) != model.bundle.sha256:
            raise RecipeUnavailable("its files have changed; they are loaded for the next part.")
        return model.deciding_by(settings)

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
            self._renew_release(wait=False)  # parts wait for this thread

    def _activate(self, model: LoadedModel) -> None:
        assert isinstance(model, ConfiguredModel)  # ``_load`` makes all of them
        line = self._line(model, model.settings)
        for exchange in self._exchanges:
            exchange(line)
        self.settings = model.settings
        if self.recipes is not None:
            self.recipes.on_activated(chosen_recipe(model.settings), model)
        self._remember_release(model)

    def _trial_frame(self) -> Frame | None:
        """Return a frame as this camera gives them for every product; None where none is known.

        It may show another product than the model is for. A trial refuses only what holds for
        each of them: size and format of a camera's frames, and that numbers come out. Files have
        any size, so with several products the newest one says nothing.
        """
        frame = self._trial()
        products = self.settings.recipes is not None or self.settings.recipe is not None
        return None if frame is not None and frame.source is not None and products else frame

    def _on_changed(self) -> None:
        for listener in self._listeners:
            listener()

    def _remember_release(self, model: ConfiguredModel) -> None:
        chosen = model.settings.model
        own = self._layers is None or self._layers.is_own(model.settings)
        if chosen.public_key is not None and own:
            self._releases.remember(model.bundle.manifest, chosen.allow_downgrade)

    def _line(self, model: LoadedModel, settings: Settings) -> InspectionSetup:
        identity = station_identity(settings, model.bundle, self._simulated)
        return InspectionSetup(model.inspectors, identity, chosen_recipe(settings))


def station_identity(settings: Settings, bundle: Bundle, simulated: bool) -> StationIdentity:
    """Return what every verdict says of model and settings."""
    manifest = bundle.manifest
    return StationIdentity(
        simulated=simulated,
        trigger_source="hardware" if settings.camera.trigger.mode == "hardware" else "free_run",
        model_name=manifest.identity.name,
        model_version=manifest.identity.created.strftime("%Y%m%dT%H%M%SZ"),
        model_sha256=bundle.sha256,
        precision=precision_text(manifest),
        device=settings.model.device,
        runtime=f"openvino {openvino.__version__.partition('-')[0]}",
        config_sha256=settings.sha256,
        deadline_ms=settings.decision.deadline_ms,
        recipe=chosen_recipe(settings),
    )
