"""Recipes of the small bundle."""

import shutil
from collections.abc import Callable
from pathlib import Path

from edge.recipes.content import RecipeCamera, RecipeContent, RecipeDecision
from edge.recipes.folder import RecipeFolder, RecipeVersion


def copied_bundle(bundle: Path) -> Callable[[Path], None]:
    """Return what builds a version of a bundle that is there."""

    def build(folder: Path) -> None:
        for suffix in (".xml", ".bin", ".json", ".sig"):
            if bundle.with_suffix(suffix).exists():
                shutil.copyfile(bundle.with_suffix(suffix), folder / f"model{suffix}")

    return build


def add_recipe(
    recipes: RecipeFolder,
    name: str,
    bundle: Path,
    *,
    camera: RecipeCamera = RecipeCamera(),
    decision: RecipeDecision = RecipeDecision(),
) -> RecipeVersion:
    """Publish a version and put it in force."""
    content = RecipeContent(name=name, version=1, camera=camera, decision=decision)
    made = recipes.publish(content, copied_bundle(bundle))
    return recipes.put_in_force(name, made.version)
