"""Publishes versions of a recipe, puts them in force and carries them on, until it is killed.

Each has three images of its own, and the recipe keeps seven.
"""

import hashlib
import os
import sys
from pathlib import Path

from edge.recipes.archive import export_recipe, import_recipe
from edge.recipes.content import RecipeContent
from edge.recipes.folder import RecipeFolder, taught_place
from tests.support.recipes import taught_bundle

MAX_IMAGES = 7


def main(folder: Path, bundle: Path, imported: Path) -> None:
    recipes, next_station = RecipeFolder(folder), RecipeFolder(imported)
    imported.mkdir(exist_ok=True)
    print("ready", flush=True)
    while True:
        note = f"of {os.getpid()}, after {recipes.versions('part')[-1:]}"  # no two are alike
        content = RecipeContent(name="part", version=1, note=note)
        images = {}
        for number in range(3):
            path = imported.with_suffix(f".{os.getpid()}-{number}.png")
            path.write_bytes(f"{note}, {number}".encode())
            images[hashlib.sha256(path.read_bytes()).digest()] = path
        made = recipes.publish(
            content,
            taught_bundle(bundle, images),
            images={taught_place(one, path): path for one, path in images.items()},
            max_images=MAX_IMAGES,
        )
        recipes.put_in_force("part", made.version)
        carried = imported.with_suffix(f".{os.getpid()}-{made.version}")
        export_recipe(recipes, made, carried, images=True, key=None)
        import_recipe(next_station, carried, max_images=MAX_IMAGES)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
