"""What the code on a part says: the recipe that inspects it, and what the part is called."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import re2

from edge.recipes.errors import CodeNamesNoRecipe

RECIPE_GROUP, PART_GROUP = "recipe", "part"


@dataclass(frozen=True, slots=True)
class CodeContent:
    """What a code says.

    Attributes:
        recipe: its name; whether there is such a recipe is another matter.
        part_id: of the part; the whole text where the pattern has no group for it.
    """

    recipe: str
    part_id: str


class CodePattern:
    """How the text of a code names recipe and part."""

    def __init__(self, pattern: str, names: Mapping[str, str]) -> None:
        """Prepare to read.

        Args:
            pattern: regular expression (RE2) of the whole text, with a group ``recipe`` and
                maybe one ``part``.
            names: recipes by what that group says; empty where it says the recipe's name.

        Raises:
            ValueError: what is wrong with the pattern.
        """
        options = re2.Options()
        options.log_errors = False
        try:
            self._pattern = re2.compile(pattern, options)
        except re2.error as error:
            what = error.args[0].decode(errors="replace")
            raise ValueError(f"is not a regular expression of RE2: {what}") from error
        if RECIPE_GROUP not in self._pattern.groupindex:
            raise ValueError(
                "has no group (?P<recipe>...), which says what of the code names the recipe"
            )
        self._names = {_composed(key): name for key, name in names.items()}

    def read(self, text: str) -> CodeContent:
        """Return what a code says.

        Raises:
            CodeNamesNoRecipe: the text does not fit, or its recipe is not among the names.
        """
        found = self._pattern.fullmatch(text)
        groups = found.groupdict() if found else {}
        named = groups.get(RECIPE_GROUP)
        if not named:
            raise CodeNamesNoRecipe(
                f"the code {text!r} names no recipe: it does not fit code.recipe.pattern. Check "
                "which code was read (code.region), or change the pattern."
            )
        named = _composed(named)
        if self._names and named not in self._names:
            raise CodeNamesNoRecipe(
                f"the code {text!r} names no recipe: {named!r} is not among code.recipe.names. "
                "Add it, or take the part out."
            )
        return CodeContent(self._names.get(named, named), groups.get(PART_GROUP) or text)


def _composed(text: str) -> str:
    """Return a text as names of recipes are compared: printers of codes may write 한 as ㅎㅏㄴ."""
    return unicodedata.normalize("NFC", text)
