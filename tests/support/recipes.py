"""Recipes of the small bundle."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from edge.recipes.content import RecipeCamera, RecipeContent, RecipeDecision
from edge.recipes.folder import RecipeFolder, RecipeVersion
from edge.recipes.taught import TAUGHT_FILE, Taught, read_taught


def copied_bundle(bundle: Path) -> Callable[[Path], None]:
    """Return what builds a version of a bundle that is there."""

    def build(folder: Path) -> None:
        for suffix in (".xml", ".bin", ".json", ".sig"):
            if bundle.with_suffix(suffix).exists():
                shutil.copyfile(bundle.with_suffix(suffix), folder / f"model{suffix}")

    return build


def taught_bundle(bundle: Path, contents: Iterable[bytes]) -> Callable[[Path], None]:
    """Return what builds a version of a bundle, as if it were taught with images."""
    taught = Taught(
        teacher="0" * 64,
        seed=0,
        views=False,
        check_good=True,
        images=[content.hex() for content in contents],
    )

    def build(folder: Path) -> None:
        copied_bundle(bundle)(folder)
        (folder / TAUGHT_FILE).write_text(taught.model_dump_json())

    return build


def missing_images(recipes: RecipeFolder, name: str, number: int) -> int:
    """Return how many images of a taught version are no longer kept."""
    version = recipes.load(name, number)
    taught = read_taught(version.folder)
    assert taught is not None
    return len(recipes.missing_images(version, taught))


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
