"""The images that a recipe was taught with, where a workstation makes its larger model of them."""

from dataclasses import dataclass
from pathlib import Path

from edge.recipes.errors import RecipeDamaged, RecipeUnknown
from edge.recipes.folder import IMAGES, VERSIONS, RecipeFolder
from edge.recipes.taught import TAUGHT_FILE, Taught, read_taught
from edge.wording import counted


@dataclass(frozen=True, slots=True)
class RecipeImages:
    """Files of images, in the order in which they were taught.

    Attributes:
        good: learned, false rejects that were marked among them.
        defective: that the threshold is held against: missed defects that were marked.
    """

    good: tuple[Path, ...]
    defective: tuple[Path, ...]


def is_recipe(folder: Path) -> bool:
    """Tell whether a folder is that of one recipe, with images that it was taught with."""
    return (folder / VERSIONS).is_dir() and (folder / IMAGES).is_dir()


def recipe_images(folder: Path) -> RecipeImages:
    """Return what the newest version that was taught was taught with.

    A version that a workstation made since has no images of its own, and is passed over.

    Args:
        folder: of one recipe.

    Raises:
        RecipeUnknown: none of its versions was taught.
        RecipeDamaged: an image is gone, or what names them cannot be read.
    """
    taught = _newest_taught(folder)
    known = {path.stem: path for path in sorted((folder / IMAGES).glob("*.*"))}
    gone = [one for one in (*taught.images, *taught.defective) if one not in known]
    if gone:
        raise RecipeDamaged(
            f"{folder / IMAGES}: {counted(len(gone), 'image is', 'images are')} gone that it "
            f"was taught with, the first is {gone[0][:12]}. Import the recipe with its images."
        )
    return RecipeImages(
        good=tuple(known[one] for one in taught.images),
        defective=tuple(known[one] for one in taught.defective),
    )


def _newest_taught(folder: Path) -> Taught:
    folder = folder.absolute()
    recipes = RecipeFolder(folder.parent)
    for version in reversed(recipes.versions(folder.name)):
        taught = read_taught(recipes.load(folder.name, version).folder)
        if taught is not None:
            return taught
    raise RecipeUnknown(
        f"{folder}: no version of it was taught; {TAUGHT_FILE} names the images of one that was. "
        "Give a folder of images."
    )
