"""What the doctor says of recipes and codes: whether parts can be told apart and judged."""

import time
from collections.abc import Iterator
from pathlib import Path

from edge.bundle.loading import load_bundle
from edge.doctor.finding import Finding, advice, fault, good
from edge.errors import StationError
from edge.imaging.codes import demand_readable, read_code
from edge.imaging.frame import Box, Frame
from edge.recipes.errors import CodeNamesNoRecipe
from edge.recipes.folder import RecipeFolder
from edge.settings.code import CodeRecipeSettings, CodeSettings
from edge.settings.recipes import RecipesSettings
from edge.settings.station import Settings
from edge.station.model.recipe_limits import (
    MIB,
    find_uncallable,
    model_bytes,
    offered_recipe,
    recipes_in_force,
    recipes_of_codes_not_in_force,
)


def recipe_findings(settings: Settings) -> Iterator[Finding]:
    """Read and verify each recipe in force, and look whether they have room, and can be called."""
    section = settings.recipes
    if section is None:
        return
    subject = "recipes"
    folder, key = RecipeFolder(Path(section.folder)), settings.model.public_key
    sizes: dict[str, int] = {}
    try:
        names = recipes_in_force(settings)
        if not names:
            found = f"none is in force in {section.folder}"
            yield advice(subject, found, "edge-run --recipe add, then --recipe use")
            return
        for name in names:
            version = folder.load(name)
            load_bundle(version.model, Path(key) if key else None)
            sizes[f"{name} {version.version}"] = model_bytes(version.model)
    except StationError as error:
        yield fault(subject, str(error), "")
        return
    yield good(subject, f"in force and intact: {', '.join(sizes)}")
    yield _room(section, sizes, model_bytes(Path(settings.model.path)))
    if uncallable := find_uncallable(settings, names):
        found = f"the PLC cannot select {', '.join(uncallable)}: its register holds only 1 to 65535"
        yield advice(subject, found, "give recipes for the PLC a number as name (docs/modbus.md)")


def _room(section: RecipesSettings, sizes: dict[str, int], own_bytes: int) -> Finding:
    subject, limit = "recipes' memory", section.memory_mb * MIB
    largest = max(sizes, key=lambda name: sizes[name])
    found = (
        f"{largest} takes {sizes[largest] / MIB:.0f} MB of recipes.memory_mb {section.memory_mb}"
    )
    if sizes[largest] > limit:
        return fault(subject, f"{found}: its parts are never inspected", "raise it")
    whole = sum(sizes.values()) + own_bytes
    if whole > limit or len(sizes) + 1 > section.resident:
        found = f"{found}; not all {len(sizes) + 1} are in memory at once ({whole / MIB:.0f} MB)"
        todo = "raise recipes.memory_mb and resident, or parts wait at a change (recipes.wait_ms)"
        return advice(subject, found, todo)
    return good(subject, f"all {len(sizes) + 1} fit: {whole / MIB:.0f} MB")


def code_findings(settings: Settings, frame: Frame | None) -> Iterator[Finding]:
    """Say whether codes can be read here, and what that of the camera's image says and names."""
    code = settings.code
    if code is None:
        return
    try:
        demand_readable(code.kinds)
    except StationError as error:
        yield fault("code", str(error), "")
        return
    text = None
    if frame is None:
        yield good("code", f"{' and '.join(code.kinds)} can be read here")
    else:
        finding, text = _read(code, frame)
        yield finding
    if code.recipe is None:
        return
    subject = "recipes of codes"
    if missing := recipes_of_codes_not_in_force(settings):
        found = f"code.recipe.names has recipes that are not in force: {', '.join(missing)}"
        yield advice(subject, found, "edge-run --recipe use, or correct the names")
    if text is not None:
        yield _named_by(subject, code.recipe, text, settings)


def _named_by(subject: str, section: CodeRecipeSettings, text: str, settings: Settings) -> Finding:
    try:
        name = section.reader().read(text).recipe
    except CodeNamesNoRecipe as error:
        return advice(subject, str(error), "put a part in front of the camera")
    recipe = offered_recipe(settings, name)
    if recipe is None:
        found = f"the code in an image of the camera names {name!r}, which is not in force"
        return advice(subject, found, "edge-run --recipe use, or its parts are ERROR")
    return good(subject, f"the code in an image of the camera names {recipe}")


def _read(code: CodeSettings, frame: Frame) -> tuple[Finding, str | None]:
    """Read the code of an image; the text is None where there is none."""
    subject, region = "code", code.region
    box = None if region is None else Box(region.x, region.y, region.width, region.height)
    began_s = time.perf_counter()
    reading = read_code(frame.pixels, code.kinds, box)
    elapsed_ms = (time.perf_counter() - began_s) * 1e3
    if reading.text is None:
        found = f"an image of the camera: {reading.fault}"
        return advice(subject, found, "put a part in front of it"), None
    found = f"the code in an image of the camera is {reading.text!r}, read in {elapsed_ms:.1f} ms"
    if elapsed_ms > code.timeout_ms:
        todo = f"set code.region, or raise code.timeout_ms (now {code.timeout_ms:g})"
        return fault(subject, found, todo), reading.text
    return good(subject, found), reading.text
