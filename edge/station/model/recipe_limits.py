"""What recipes in force have to keep to: names that a PLC can call, and room in memory."""

from collections.abc import Iterable
from pathlib import Path

from edge.contract.verdict import Recipe
from edge.recipes.errors import RecipeError, RecipeNameInvalid
from edge.recipes.folder import RecipeFolder
from edge.settings.layers import SettingsLayers
from edge.settings.recipes import RecipesSettings
from edge.settings.station import Settings

MIB = 2**20
# Of the register ``recipe``; 0 is the chosen one.
MAX_RECIPE_NUMBER = 65_535


class RecipeTooLarge(RecipeError):
    """A recipe alone needs more memory than all of them may."""


def recipe_number(name: str) -> int | None:
    """Return the number by which a PLC calls a recipe; None where no register holds it."""
    if not _is_number(name) or name.startswith("0"):
        return None
    return int(name) if int(name) <= MAX_RECIPE_NUMBER else None


def recipes_in_force(settings: Settings) -> list[str]:
    """Return the names in ``recipes.folder`` that have a version in force.

    Raises:
        RecipeUnknown: the folder cannot be read.
    """
    if settings.recipes is None:
        return []
    listing = RecipeFolder(Path(settings.recipes.folder)).listing()
    return [one.name for one in listing if one.in_force is not None]


def offered_recipe(settings: Settings, name: str) -> Recipe | None:
    """Return the recipe that a part may ask for by this name; None where none is in force."""
    return SettingsLayers(settings, lambda: settings, None).offered(name, None)


def recipes_of_codes_not_in_force(settings: Settings) -> list[str]:
    """Return the recipes in ``code.recipe.names`` whose parts would be ERROR, each once."""
    section = settings.code.recipe if settings.code is not None else None
    named = dict.fromkeys(section.names.values() if section is not None and section.names else ())
    return [name for name in named if offered_recipe(settings, name) is None]


def find_uncallable(settings: Settings, names: Iterable[str]) -> list[str]:
    """Return those of the recipes that a PLC triggers for here and cannot call."""
    if settings.leader != "modbus" or not settings.camera.trigger.by_message:
        return []
    return [name for name in names if recipe_number(name) is None]


def uncallable_warning(name: str) -> str:
    """Return what to say of a recipe that ``find_uncallable`` found."""
    return (
        f"recipe {name}: the PLC cannot select it: the register recipe holds whole numbers from 1 "
        f"to {MAX_RECIPE_NUMBER} without leading zeros (docs/modbus.md). People can choose it."
    )


def demand_callable(settings: Settings, name: str) -> None:
    """Demand that a number that is to name a recipe fits the register that calls it.

    A name in words is for those who choose; a number that cannot be called is a mistake.

    Raises:
        RecipeNameInvalid: the PLC that triggers here could not call it.
    """
    if _is_number(name) and find_uncallable(settings, [name]):
        raise RecipeNameInvalid(
            f"recipe {name}: no PLC can select it: the register recipe holds whole numbers from 1 "
            f"to {MAX_RECIPE_NUMBER} without leading zeros. Use another number, or a name in words "
            "for a recipe that people choose."
        )


def demand_own_name(of_settings: str | None, name: str) -> None:
    """Demand that a recipe in the folder is not called like the model that the settings name.

    Args:
        of_settings: ``recipe.id``; None where the settings name none.

    Raises:
        RecipeNameInvalid: it would never be used, and the station would not start again.
    """
    if name == of_settings:
        raise RecipeNameInvalid(
            f"recipe {name!r}: the section recipe of the settings gives this name to the model at "
            "model.path, so a recipe of this name would never be used. Choose another name, or "
            "leave the section recipe out of the settings."
        )


def demand_room(section: RecipesSettings, name: object, size_bytes: int) -> None:
    """Demand that a recipe alone fits into the memory for recipes.

    Raises:
        RecipeTooLarge: no part of it would ever be inspected.
    """
    if size_bytes > section.memory_mb * MIB:
        raise RecipeTooLarge(
            f"{name} takes {size_bytes / MIB:.0f} MB, but recipes.memory_mb is "
            f"{section.memory_mb}: its parts would never be inspected. Raise it."
        )


def model_bytes(path: Path) -> int:
    """Return twice the size of a bundle's files: them, and what the device makes of them.

    0 where they are not there: loading says so.
    """
    try:
        return 2 * sum(path.with_suffix(end).stat().st_size for end in (".xml", ".bin"))
    except OSError:
        return 0


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
