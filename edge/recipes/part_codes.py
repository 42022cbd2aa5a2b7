"""What the code on a part says: the recipe that inspects it, and what the part is called."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

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
            pattern: regular expression of the whole text, with a group ``recipe``, maybe ``part``.
            names: recipes by what that group says; empty where it says the recipe's name.

        Raises:
            ValueError: what is wrong with the pattern.
        """
        try:
            self._pattern = re.compile(pattern)
            # Python's own engine may take for ever over a text that does not match, and nothing
            # else runs meanwhile. This one takes a time in proportion to the text.
            whole = StringConstraints(pattern=f"^(?:{pattern})$")
            self._matching: TypeAdapter[str] = TypeAdapter(Annotated[str, whole])
        except (re.error, SchemaError, RecursionError) as error:
            raise ValueError(f"is not a regular expression that can be used: {error}") from error
        if RECIPE_GROUP not in self._pattern.groupindex:
            raise ValueError(
                "has no group (?P<recipe>...), which says what of the code names the recipe"
            )
        self._names = dict(names)

    def read(self, text: str) -> CodeContent:
        """Return what a code says.

        Raises:
            CodeNamesNoRecipe: the text does not fit, or its recipe is not among the names.
        """
        found = self._pattern.fullmatch(text) if self._fits(text) else None
        named = found[RECIPE_GROUP] if found is not None else None
        if found is None or not named:
            raise CodeNamesNoRecipe(
                f"the code {text!r} names no recipe: it does not fit code.recipe.pattern. Check "
                "which code was read (code.region), or change the pattern."
            )
        if self._names and named not in self._names:
            raise CodeNamesNoRecipe(
                f"the code {text!r} names no recipe: {named!r} is not among code.recipe.names. "
                "Add it, or take the part out."
            )
        part_id = found[PART_GROUP] if PART_GROUP in self._pattern.groupindex else None
        return CodeContent(self._names.get(named, named), part_id or text)

    def _fits(self, text: str) -> bool:
        try:
            self._matching.validate_python(text)
        except ValidationError:
            return False
        return True
