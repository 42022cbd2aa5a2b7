"""The folder of a recipe that was taught at a station, with what people marked since.

versions/0002/taught.json   names the images
images/*.png                as they were captured, and marked parts
masks/*.png                 optional: where marked parts are defective, called like their images
"""

from pathlib import Path

from edge.errors import ConfigurationError
from edge.recipes.folder import IMAGES
from edge.teaching.recipe_images import is_recipe, recipe_images
from training.data.folder import Folder
from training.data.layout_files import find_masks, set_name
from training.data.samples import GOOD, Sample, images_in
from training.errors import DataError

# Kind of what a station let pass and somebody marked.
MISSED_DEFECT = "missed_defect"

_MASKS = "masks"


class TaughtRecipe(Folder):
    """Images of the newest version that was taught; those of earlier ones are left out."""

    def __init__(self, root: Path, category: str | None = None) -> None:
        """Read which images were taught.

        Raises:
            DataError: none was taught, or an image is gone.
        """
        try:
            found = recipe_images(root)
        except ConfigurationError as error:
            raise DataError(str(error)) from error
        self.name = set_name(root)
        self.places = []
        masks = images_in(root / _MASKS)
        # Of an image of an earlier version, too, a mask may be there.
        _, self.stray_masks = find_masks(images_in(root / IMAGES), masks)
        drawn, _ = find_masks(found.defective, masks)
        self.good = [Sample(path=path, kind=GOOD) for path in found.good]
        self.defective = [
            Sample(path=path, kind=MISSED_DEFECT, mask=drawn.get(path)) for path in found.defective
        ]

    @staticmethod
    def matches(root: Path) -> bool:
        return is_recipe(root)
