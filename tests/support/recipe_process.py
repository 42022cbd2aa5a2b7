"""Publishes versions of a recipe, puts them in force and carries them on, until it is killed."""

import os
import sys
from pathlib import Path

from edge.recipes.archive import export_recipe, import_recipe
from edge.recipes.content import RecipeContent
from edge.recipes.folder import RecipeFolder
from tests.support.recipes import copied_bundle


def main(folder: Path, bundle: Path, imported: Path) -> None:
    recipes, next_station = RecipeFolder(folder), RecipeFolder(imported)
    imported.mkdir(exist_ok=True)
    print("ready", flush=True)
    while True:
        note = f"of {os.getpid()}, after {recipes.versions('part')[-1:]}"  # no two are alike
        content = RecipeContent(name="part", version=1, note=note)
        made = recipes.publish(content, copied_bundle(bundle))
        recipes.put_in_force("part", made.version)
        carried = imported.with_suffix(f".{os.getpid()}-{made.version}")
        export_recipe(recipes, made, carried, images=False, key=None)
        import_recipe(next_station, carried)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
