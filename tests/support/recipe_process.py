"""Publishes versions of a recipe and puts them in force, until it is killed."""

import sys
from pathlib import Path

from edge.recipes.content import RecipeContent
from edge.recipes.folder import RecipeFolder
from tests.support.recipes import copied_bundle


def main(folder: Path, bundle: Path) -> None:
    recipes = RecipeFolder(folder)
    print("ready", flush=True)
    while True:
        made = recipes.publish(RecipeContent(name="part", version=1), copied_bundle(bundle))
        recipes.put_in_force("part", made.version)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
