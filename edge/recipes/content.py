"""``recipe.yaml``: what a product changes beside the model."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from edge.bundle.input_spec import Crop
from edge.bundle.manifest_types import Score, Text
from edge.errors import ConfigurationInvalid
from edge.recipes.errors import RecipeDamaged
from edge.recipes.names import RecipeName
from edge.section import Section
from edge.validation import in_words
from edge.yaml_lines import ConfigurationUnreadable, read_settings_file

RECIPE_FILE = "recipe.yaml"
# The second has ``set_at_page``; what has none is written as the first, for stations of before.
SCHEMA: Literal["recipe/1"] = "recipe/1"
PAGE_SCHEMA: Literal["recipe/2"] = "recipe/2"
MAX_VERSION = 9999
MAX_NOTE = 500
# The next step of who finds a damaged version in the folder.
PUBLISH_AGAIN = "Publish the version again."


class RecipeSensor(Section):
    """Of the camera; what is left out keeps the value of the station."""

    exposure_us: float | None = Field(default=None, gt=0, le=60e6)
    gain_db: float | None = Field(default=None, ge=-100, le=10_000)


class RecipeCamera(Section):
    """How the product is seen.

    Attributes:
        crop: region of interest in frame pixels; None takes the bundle's, never the station's.
    """

    crop: Crop | None = None
    sensor: RecipeSensor = RecipeSensor()


class RecipeDecision(Section):
    """How the product is decided.

    Attributes:
        image_threshold, pixel_threshold: raw; None takes the bundle's, never the station's.
        guard_band, smallest_region_px: None takes the station's.
    """

    image_threshold: Score | None = None
    pixel_threshold: Score | None = None
    guard_band: float | None = Field(default=None, ge=0.0, lt=0.5)
    smallest_region_px: int | None = Field(default=None, ge=0)


class SetBy(Section):
    """Who set something at the page of a station, and when.

    Attributes:
        by, utc: as the station kept them.
        station: SITE/LINE/STATION/CAMERA; empty of one that publishes nothing.
    """

    by: Text
    utc: Text
    station: Text = ""

    def __str__(self) -> str:
        at = f" of {self.station}" if self.station else ""
        return f"set at the page{at} by {self.by} at {self.utc}"


class SetAtPage(Section):
    """Where a version has something that was set at a station's page, and exported with it.

    Attributes:
        image_threshold: of ``decision``.
        mask: with its zones.
    """

    image_threshold: SetBy | None = None
    mask: SetBy | None = None


class RecipeContent(Section):
    """One version of a recipe; keys as in ``station.yaml``.

    Attributes:
        name: of the recipe.
        version: counts up from 1; its folder is called so, in four digits.
        note: where it comes from, for people.
        set_at_page: what of it was set at a station's page; decides nothing.
    """

    schema_version: Literal["recipe/1", "recipe/2"] = SCHEMA
    name: RecipeName
    version: int = Field(ge=1, le=MAX_VERSION)
    note: str = Field(default="", max_length=MAX_NOTE)
    camera: RecipeCamera = RecipeCamera()
    decision: RecipeDecision = RecipeDecision()
    set_at_page: SetAtPage | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> "RecipeContent":
        if self.set_at_page is not None and self.schema_version != PAGE_SCHEMA:
            raise ValueError(f"set_at_page needs schema_version {PAGE_SCHEMA}")
        origin = self.set_at_page or SetAtPage()
        if origin.image_threshold is not None and self.decision.image_threshold is None:
            raise ValueError("set_at_page.image_threshold needs decision.image_threshold")
        return self

    @property
    def set_at_page_lines(self) -> tuple[str, ...]:
        """What was set at a page, by whom and when, for people."""
        origin = self.set_at_page or SetAtPage()
        threshold = f"threshold {self.decision.image_threshold}"
        named = {threshold: origin.image_threshold, "mask and zones": origin.mask}
        return tuple(f"{what} {one}" for what, one in named.items() if one is not None)

    def inspects_like(self, other: "RecipeContent") -> bool:
        """Tell whether two differ at most in their number, and in who set what they decide by."""
        origin = {"schema_version": SCHEMA, "version": 1, "set_at_page": None}
        return self.model_copy(update=origin) == other.model_copy(update=origin)


def follow_up(name: str, note: str, before: RecipeContent | None) -> RecipeContent:
    """Return what a newly taught version says of its product: as before, but for the model.

    Thresholds go with the model, crop and mask are in its bundle.
    """
    content = RecipeContent(name=name, version=1, note=note)
    if before is None:
        return content
    own = {"image_threshold": None, "pixel_threshold": None}
    return content.model_copy(
        update={
            "camera": before.camera.model_copy(update={"crop": None}),
            "decision": before.decision.model_copy(update=own),
        }
    )


def recipe_yaml(content: RecipeContent) -> bytes:
    """Return the file's bytes; what is left out is not written."""
    values = content.model_dump(mode="json", exclude_defaults=True)
    # Always there: what tells a recipe from any other YAML.
    values = {"schema_version": content.schema_version, **values}
    text: str = yaml.safe_dump(values, allow_unicode=True, sort_keys=False)
    return text.encode()


def read_product_settings(path: Path, name: str) -> RecipeContent:
    """Read the keys of ``camera`` and ``decision`` that a recipe may have, as a site writes them.

    Raises:
        ConfigurationError: the file cannot be read, or says something that a recipe cannot.
    """
    values = dict(read_settings_file(path).values)
    for own in (
        "schema_version",
        "name",
        "version",
        "set_at_page",
    ):  # of a recipe.yaml that serves as a pattern
        values.pop(own, None)
    try:
        return RecipeContent.model_validate({**values, "name": name, "version": 1})
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise ConfigurationInvalid(
            f"{path}: {key}: {in_words(fault)}. A recipe sets camera.crop, "
            "camera.sensor.exposure_us and gain_db, decision.image_threshold, pixel_threshold, "
            "guard_band and smallest_region_px, and a note."
        ) from error


def read_recipe(folder: Path) -> RecipeContent:
    """Read the ``recipe.yaml`` of a version's folder.

    Raises:
        RecipeDamaged: it is missing, no YAML, or says something that a recipe cannot.
    """
    path = folder / RECIPE_FILE
    # Not what it leads to: a link or FIFO is none of ours.
    if path.is_symlink() or not path.is_file():
        raise RecipeDamaged(f"{path}: is missing or not a regular file. {PUBLISH_AGAIN}")
    try:
        values = read_settings_file(path).values
        if values.get("schema_version") not in (SCHEMA, PAGE_SCHEMA):
            raise RecipeDamaged(
                f"{path}: schema {str(values.get('schema_version'))[:50]!r}, this version reads "
                f"{SCHEMA!r} and {PAGE_SCHEMA!r}. Make the recipe again with this version, or "
                "update the station."
            )
        return RecipeContent.model_validate(values)
    except ConfigurationUnreadable as error:
        raise RecipeDamaged(f"{error} {PUBLISH_AGAIN}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise RecipeDamaged(f"{path}: {key}: {in_words(fault)}. {PUBLISH_AGAIN}") from error
