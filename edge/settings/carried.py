"""What a version of a recipe is exported with: itself, and what was set for it at the page."""

from pydantic import ValidationError

from edge.bundle.manifest_types import plain_text
from edge.bundle.mask_file import read_mask_file
from edge.contract.verdict import Recipe
from edge.recipes.archive import CarriedVersion
from edge.recipes.content import PAGE_SCHEMA, RecipeContent, SetAtPage, SetBy
from edge.recipes.errors import RecipeError
from edge.recipes.folder import RecipeVersion
from edge.settings.layers import with_recipe
from edge.settings.mask_overrides import MaskOverride
from edge.settings.overrides import Override, Overrides, PageSettings
from edge.settings.station import Settings
from edge.validation import in_words

MAX_NAME, MAX_UTC = 200, 40
# What a recipe may leave to the station, which then decides by its own: by dotted key.
LEFT_TO_THE_STATION = (
    *("decision.guard_band", "decision.smallest_region_px"),
    *("camera.sensor.exposure_us", "camera.sensor.gain_db"),
)


def page_settings(version: RecipeVersion, station: Settings, overrides: Overrides) -> PageSettings:
    """Return what was set for a version at the page of a station, and counts there.

    Raises:
        ConfigurationError: which masks were drawn cannot be read.
    """
    recipe = Recipe(version.name, version.version)
    return overrides.counting(with_recipe(station, version), recipe=recipe)


def carried_version(
    version: RecipeVersion, station: Settings, overrides: Overrides
) -> CarriedVersion | None:
    """Return a version with what was set for it at the page of a station; None where nothing was.

    Raises:
        ConfigurationError: what was set cannot be read, or no recipe can have it.
    """
    with overrides.unchanging():
        found = page_settings(version, station, overrides)
    if not found:
        return None
    content, name = version.content, station.mqtt.station if station.mqtt is not None else ""
    before = content.set_at_page or SetAtPage()
    decision, origin = content.decision, dict(before)
    if found.threshold is not None:
        threshold = found.threshold.image_threshold
        decision = decision.model_copy(update={"image_threshold": threshold})
        origin["image_threshold"] = _set_by(found.threshold, name)
    areas = None
    if found.mask is not None:
        areas = read_mask_file(overrides.masks.path(found.mask))
        origin["mask"] = _set_by(found.mask, name)
    try:
        made = RecipeContent.model_validate(
            {
                **dict(content),
                "schema_version": PAGE_SCHEMA,
                "decision": decision.model_dump(),
                "set_at_page": SetAtPage.model_validate(origin),
            }
        )
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise RecipeError(
            f"{version}: what was set for it at the page cannot go into a recipe: {key} "
            f"{in_words(fault)}. Set it again at the page, or export with --as-published."
        ) from error
    return CarriedVersion(made, areas)


def station_values(content: RecipeContent, station: Settings) -> dict[str, object]:
    """Return by dotted key what parts of a recipe are decided by that is the station's own."""
    found = {}
    for dotted in LEFT_TO_THE_STATION:
        of_recipe: object = content
        of_station: object = station
        for key in dotted.split("."):
            of_recipe, of_station = getattr(of_recipe, key), getattr(of_station, key)
        if of_recipe is None:
            found[dotted] = of_station
    return found


def _set_by(override: Override | MaskOverride, station: str) -> SetBy:
    return SetBy(
        by=plain_text(override.by, MAX_NAME),
        utc=plain_text(override.utc, MAX_UTC),
        station=plain_text(station, MAX_NAME),
    )
