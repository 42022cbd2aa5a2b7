"""``recipe.yaml``: what a product changes beside the model."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from edge.bundle.input_spec import Crop
from edge.bundle.manifest_types import Score
from edge.errors import ConfigurationInvalid
from edge.recipes.errors import RecipeDamaged
from edge.recipes.names import RecipeName
from edge.section import Section
from edge.validation import in_words
from edge.yaml_lines import ConfigurationUnreadable, read_settings_file

RECIPE_FILE = "recipe.yaml"
MAX_VERSION = 9999
MAX_NOTE = 500


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


class RecipeContent(Section):
    """One version of a recipe; keys as in ``station.yaml``.

    Attributes:
        name: of the recipe.
        version: counts up from 1; its folder is called so, in four digits.
        note: where it comes from, for people.
    """

    schema_version: Literal["recipe/1"] = "recipe/1"
    name: RecipeName
    version: int = Field(ge=1, le=MAX_VERSION)
    note: str = Field(default="", max_length=MAX_NOTE)
    camera: RecipeCamera = RecipeCamera()
    decision: RecipeDecision = RecipeDecision()


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
    for own in ("schema_version", "name", "version"):  # of a recipe.yaml that serves as a pattern
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
        raise RecipeDamaged(f"{path}: is missing or not a regular file. Publish the version again.")
    try:
        values = read_settings_file(path).values
        if values.get("schema_version") != "recipe/1":
            raise RecipeDamaged(
                f"{path}: schema {str(values.get('schema_version'))[:50]!r}, this version reads "
                "'recipe/1'. Make the recipe again with this version."
            )
        return RecipeContent.model_validate(values)
    except ConfigurationUnreadable as error:
        raise RecipeDamaged(f"{error} Publish the version again.") from error
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise RecipeDamaged(
            f"{path}: {key}: {in_words(fault)}. Publish the version again."
        ) from error
