"""The settings of a station in layers: the file's, a release's, the recipe's, and the page's.

Crop, thresholds and mask belong to the product: of a recipe only its own count, never those that
the file has for the model at ``model.path``.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from edge.atomic_files import open_regular, write_whole
from edge.contract.verdict import Recipe
from edge.errors import ConfigurationError, StationError
from edge.recipes.errors import RecipeError, RecipeUnknown
from edge.recipes.folder import RecipeFolder, RecipeListing, RecipeVersion
from edge.recipes.names import recipe_name
from edge.settings.decision import DecisionSettings
from edge.settings.overrides import ModelInForce, Overrides, PageSettings
from edge.settings.recipe import RecipeSettings
from edge.settings.released import (
    ReleasedSettings,
    ReleasedSettingsFile,
    keys_of_no_release,
    values_at,
    with_fragment,
)
from edge.settings.station import Settings

CHOICE_FILE = "recipe.json"
MAX_CHOICE_BYTES = 10_000

log = logging.getLogger(__name__)


class _Choice(BaseModel):
    """The recipe that was chosen last; None is the model at ``model.path``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str | None = Field(max_length=100)


class RecipeChoice:
    """Which recipe parts are inspected for that name none; survives a restart."""

    def __init__(self, journal_folder: Path | None) -> None:
        """Read what is kept beside the journal; None keeps nothing beyond this run."""
        self._path = journal_folder / CHOICE_FILE if journal_folder is not None else None
        self.id = self._read()

    def keep(self, recipe_id: str | None) -> None:
        """Keep another choice.

        Raises:
            OutputNotWritable: the disk refuses; the one before still counts.
        """
        if self._path is not None:
            write_whole(self._path, _Choice(id=recipe_id).model_dump_json().encode() + b"\n")
        self.id = recipe_id

    def _read(self) -> str | None:
        if self._path is None:
            return None
        try:
            with open_regular(self._path) as file:
                return _Choice.model_validate_json(file.read(MAX_CHOICE_BYTES)).id
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            # Another product than was chosen must not be inspected without a word.
            raise RecipeUnknown(
                f"{self._path}: the chosen recipe cannot be read ({type(error).__name__}). "
                "Remove the file to start with model.path, and choose the recipe again."
            ) from error


class SettingsLayers:
    """Settings for each recipe of a station; of the file those that were taken over last.

    Attributes:
        recipes: the folder; None without the section ``recipes``.
        chosen: what is inspected for where no part names a recipe.
    """

    def __init__(
        self, settings: Settings, read: Callable[[], Settings], journal_folder: Path | None
    ) -> None:
        """Begin with the settings of the file, and what was chosen and set before.

        Args:
            settings: of the file and the command line.
            read: reads them again.

        Raises:
            RecipeUnknown: the choice that was kept cannot be read.
        """
        self._read = read
        self._released = (
            ReleasedSettingsFile.beside(journal_folder)
            if journal_folder is not None and settings.fleet is not None
            else None
        )
        # Of the file alone: as it was read last, and as it was taken over.
        self._written = self._taken_over = settings
        self._accepted = self._newest = self._with_release(settings)
        self._overrides = Overrides.beside(journal_folder) if journal_folder else None
        # What was compared last, and what came of it.
        self._left: tuple[tuple[PageSettings, str, DecisionSettings], PageSettings] | None = None
        section = settings.recipes
        self.recipes = RecipeFolder(Path(section.folder)) if section else None
        self.chosen = RecipeChoice(journal_folder if section else None)

    @property
    def base(self) -> Settings:
        """What the file says, and over it what was released; without a recipe."""
        return self._accepted

    def first(self) -> Settings:
        """Return what the station begins with.

        Raises:
            RecipeError: the chosen recipe is not there.
        """
        return self._laid(self._accepted, self.chosen.id, None)

    def reread(self, in_force: ModelInForce | None) -> Settings:
        """Return the settings as they are written now, for the chosen recipe.

        Args:
            in_force: counts in place of the files at its path.

        Raises:
            ConfigurationError: they cannot be used.
        """
        self._written = self._read()
        self._newest = self._with_release(self._written)
        return self._laid(self._newest, self.chosen.id, in_force)

    def accept(self) -> None:
        """Take over what was read last, for recipes that are loaded from here on."""
        self._taken_over, self._accepted = self._written, self._newest

    @property
    def outdated(self) -> bool:
        """Whether another release of settings counts than ``base`` was made with."""
        return self._with_release(self._taken_over) != self._accepted

    def renew_release(self) -> None:
        """Lay the release that counts now over what the file said when it was taken over."""
        self._accepted = self._with_release(self._taken_over)

    def is_own(self, settings: Settings) -> bool:
        """Return whether settings are for the model at ``model.path``, not for a recipe's.

        Also those that were read for a reload that is under way.
        """
        own = (chosen_recipe(self._accepted), chosen_recipe(self._newest))
        return chosen_recipe(settings) in own

    @property
    def released(self) -> ReleasedSettings | None:
        """The release of settings that counts, all of it; None where there is none."""
        now = self._released.now if self._released is not None else None
        if now is None or self._released is None:
            return None
        return now if self._released.counting(self._taken_over) == now.settings else None

    def make_release(
        self, name: str, version: int, sha256: str, settings: dict[str, dict[str, JsonValue]]
    ) -> ReleasedSettings:
        """Return a release of settings for this station, on what its file says now.

        Raises:
            ConfigurationError: it does not fit, or the file cannot be used.
        """
        written = self._read()
        with_fragment(written, settings)
        return ReleasedSettings(
            name=name,
            version=version,
            sha256=sha256,
            settings=settings,
            instead_of=values_at(written, settings),
        )

    def release(
        self, now: ReleasedSettings | None
    ) -> tuple[ReleasedSettings | None, ReleasedSettings | None]:
        """Keep a release of settings, or none; a reload takes it over.

        Returns:
            What ``restore_release`` takes.

        Raises:
            OutputNotWritable: the disk refuses; nothing was changed.
        """
        assert self._released is not None  # stations without the section fleet take none
        kept = (self._released.now, self._released.before)
        self._released.write(now, kept[0] if now != kept[0] else kept[1])
        return kept

    def restore_release(
        self, kept: tuple[ReleasedSettings | None, ReleasedSettings | None]
    ) -> None:
        """Keep again what ``release`` replaced."""
        if self._released is not None:
            self._released.write(*kept)

    def follow_rollback(self, given_up: Settings, now: Settings) -> str:
        """Give a release up of which somebody has taken a value back.

        Returns:
            What was done, for people; empty for nothing.

        Raises:
            OutputNotWritable: the disk refuses; it counts again from the next reload on.
        """
        release = self._released.now if self._released is not None else None
        if self._released is None or release is None or keys_of_no_release(release.settings):
            return ""
        before, after = values_at(given_up, release.settings), values_at(now, release.settings)
        wanted = {
            f"{section}.{key}": value
            for section, keys in release.settings.items()
            for key, value in keys.items()
        }
        if not any(before[key] == wanted[key] != after[key] for key in wanted):
            return ""
        self._released.write(self._released.before, None)
        return f"the released {release} is not in force any more"

    def _with_release(self, settings: Settings) -> Settings:
        return self._released.laid_over(settings) if self._released is not None else settings

    def of(self, recipe: Recipe | None) -> Settings:
        """Return the settings for exactly this recipe; None is one without a name.

        Raises:
            RecipeError: it is not there.
        """
        base = self._accepted
        if recipe == chosen_recipe(base):
            return self._over(base, None, None)
        if recipe is None or self.recipes is None or not isinstance(recipe.version, int):
            raise RecipeUnknown(f"{recipe or 'no recipe'} is not among those of this station.")
        version = self.recipes.load(recipe.id, recipe.version)
        recipe = Recipe(version.name, version.version)
        return self._over(with_recipe(base, version), recipe, None)

    def offered(self, recipe_id: str, version: int | str | None) -> Recipe | None:
        """Return the recipe that a part may ask for; None where none of that name is in force.

        Args:
            version: None for the one in force; another one than that is not offered.
        """
        base = chosen_recipe(self._accepted)
        if base is not None and recipe_id == base.id:
            found: Recipe | None = base
        else:
            found = self._in_force(recipe_id)
        return found if found is not None and version in (None, found.version) else None

    def names(self) -> list[str]:
        """Return the ids that may be asked for."""
        base = chosen_recipe(self._accepted)
        listing = self.recipes.listing() if self.recipes is not None else []
        found = [base.id] if base is not None else []
        found += [one.name for one in listing if one.in_force is not None and one.name not in found]
        return found

    def listing(self) -> list[RecipeListing]:
        """Return the recipes of the folder, and before them the one that the settings name.

        Raises:
            RecipeError: the folder cannot be read.
        """
        base = chosen_recipe(self._accepted)
        found = self.recipes.listing() if self.recipes is not None else []
        if base is None:
            return found
        own = RecipeListing(base.id, (base.version,), base.version)
        return [own, *(one for one in found if one.name != base.id)]

    def chosen_version(self, recipe: Recipe) -> str | None:
        """Return what to keep as the choice of a recipe; None is the model at ``model.path``."""
        return None if recipe == chosen_recipe(self._accepted) else recipe.id

    def _in_force(self, recipe_id: str) -> Recipe | None:
        if self.recipes is None:
            return None
        try:
            name = recipe_name(recipe_id)
        except RecipeError:
            return None
        in_force = self.recipes.in_force(name)
        return Recipe(name, in_force) if in_force is not None else None

    def _laid(
        self, base: Settings, recipe_id: str | None, in_force: ModelInForce | None
    ) -> Settings:
        if recipe_id is None:
            return self._over(base, None, in_force)
        if self.recipes is None:
            raise RecipeUnknown(f"recipe {recipe_id!r} was chosen, but recipes is not set.")
        version = self.recipes.load(recipe_id)
        recipe = Recipe(version.name, version.version)
        return self._over(with_recipe(base, version), recipe, in_force)

    def page_settings(self, recipe: Recipe | None) -> PageSettings:
        """Return what was set at the page for a recipe and counts; nothing of one that is gone.

        Args:
            recipe: None is the model at ``model.path`` where it has no name.
        """
        if self._overrides is None:
            return PageSettings()
        base = self._accepted
        try:
            if recipe == chosen_recipe(base):
                return self._overrides.counting(base)
            if recipe is None or self.recipes is None or not isinstance(recipe.version, int):
                return PageSettings()
            version = self.recipes.load(recipe.id, recipe.version)
            return self._overrides.counting(with_recipe(base, version), recipe=recipe)
        except ConfigurationError as error:
            log.warning("what was set at the page for %s is not known: %s", recipe, error)
            return PageSettings()

    def page_settings_left(self, before: Recipe, now: Recipe) -> PageSettings:
        """Return what was set at the page for a version, and by which another does not decide."""
        left = self.page_settings(before)
        if self._overrides is None or not left:
            return left
        try:
            settings = self.of(now)
            key = (left, settings.model.path, settings.decision)
            if self._left is None or self._left[0] != key:  # versions are never changed
                self._left = key, self._overrides.left_behind(left, settings)
            return self._left[1]
        except StationError as error:
            log.warning("what was set at the page for %s is not compared: %s", before, error)
            return left

    def page_settings_beside_release(self) -> tuple[PageSettings, PageSettings]:
        """Return what was set at the page for ``model.path``, of what released settings set.

        Returns:
            What counts over them, and what does not count any more because of them.
        """
        over, left = PageSettings(), PageSettings()
        if self._overrides is None or self._released is None or self.released is None:
            return over, left
        try:
            counting = self._overrides.counting(self._accepted)
            if _released_threshold(self.released) is not None:
                over = PageSettings(threshold=counting.threshold)
            # It counted over the file's alone, or over those that were released before.
            for threshold in (
                self._taken_over.decision.image_threshold,
                _released_threshold(self._released.before),
            ):
                decision = self._accepted.decision.model_copy(update={"image_threshold": threshold})
                former = self._accepted.model_copy(update={"decision": decision})
                left = left or self._overrides.counting(former).without(counting)
        except ConfigurationError as error:
            log.warning("what was set at the page is not known: %s", error)
        return over, left

    def _over(
        self, settings: Settings, recipe: Recipe | None, in_force: ModelInForce | None
    ) -> Settings:
        """Lay over what was set at the page for a recipe of the folder; None is the file's."""
        if self._overrides is None:
            return settings
        return self._overrides.laid_over(settings, in_force, recipe=recipe)


def _released_threshold(released: ReleasedSettings | None) -> JsonValue:
    return released.settings.get("decision", {}).get("image_threshold") if released else None


def with_recipe(settings: Settings, version: RecipeVersion) -> Settings:
    """Return a station's settings as a recipe has them."""
    camera, decision = version.content.camera, version.content.decision
    sensor = {key: value for key, value in camera.sensor.model_dump().items() if value is not None}
    shared = {"guard_band": decision.guard_band, "smallest_region_px": decision.smallest_region_px}
    return settings.model_copy(
        update={
            "camera": settings.camera.model_copy(
                update={
                    "crop": camera.crop,
                    "sensor": settings.camera.sensor.model_copy(update=sensor),
                }
            ),
            "model": settings.model.model_copy(update={"path": str(version.model)}),
            "decision": settings.decision.model_copy(
                update={
                    "image_threshold": decision.image_threshold,
                    "pixel_threshold": decision.pixel_threshold,
                    "mask": str(version.mask) if version.mask is not None else None,
                    **{key: value for key, value in shared.items() if value is not None},
                }
            ),
            "recipe": RecipeSettings(id=version.name, version=version.version),
        }
    )


def chosen_recipe(settings: Settings) -> Recipe | None:
    """Return what settings inspect for."""
    recipe = settings.recipe
    return Recipe(recipe.id, recipe.version) if recipe else None
