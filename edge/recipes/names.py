"""How a recipe may be called: folder, trigger and page name it."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from edge.recipes.errors import RecipeNameInvalid

# Of UTF-8: file systems count bytes, and a Korean syllable has three.
MAX_NAME_BYTES = 100
# As triggers name a recipe.
MAX_NAME_CHARACTERS = 64
_ALLOWED = " ._-"


def recipe_name(text: str) -> str:
    """Return a name as it is compared and written: composed (NFC).

    Letters and digits of any script, space, point, underscore and hyphen; not a point first, for
    such folders are hidden, and no space or point last.

    Raises:
        RecipeNameInvalid: names what is wrong with it.
    """
    name = unicodedata.normalize("NFC", text)
    if fault := _fault(name):
        raise RecipeNameInvalid(
            f"recipe name {text[:MAX_NAME_BYTES]!r}: {fault}. Use letters, digits, space, point, "
            "underscore and hyphen, and begin with a letter or digit."
        )
    return name


def _fault(name: str) -> str:
    if not name:
        return "is empty"
    strange = next((one for one in name if one not in _ALLOWED and not _of_a_word(one)), None)
    if strange is not None:
        return f"holds U+{ord(strange):04X} ({unicodedata.name(strange, 'no name')})"
    if unicodedata.category(name[0])[0] not in "LN":
        return f"begins with {name[0]!r}"
    if name[-1] in " .":
        return f"ends with {name[-1]!r}"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"has {len(name)} characters; at most {MAX_NAME_CHARACTERS} are allowed"
    size = len(name.encode())
    return (
        f"has {size} bytes; at most {MAX_NAME_BYTES} are allowed" if size > MAX_NAME_BYTES else ""
    )


def _of_a_word(character: str) -> bool:
    """Tell whether it is a letter, a mark on one (as Hindi and Thai have), or a decimal digit."""
    category = unicodedata.category(character)
    return category[0] in "LM" or category == "Nd"


def _checked(text: str) -> str:
    try:
        return recipe_name(text)
    except RecipeNameInvalid as error:
        raise ValueError(str(error)) from error


RecipeName = Annotated[str, AfterValidator(_checked)]
