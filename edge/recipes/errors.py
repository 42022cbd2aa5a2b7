"""What can be wrong with a recipe; each message names the cause and the next step."""

from edge.errors import ConfigurationError


class RecipeError(ConfigurationError):
    """Base of what a recipe or its folder is refused for."""


class RecipeNameInvalid(RecipeError):
    """A name that no folder of a recipe can have."""


class RecipeUnknown(RecipeError):
    """No recipe, or no version of it, of that name is in the folder."""


class RecipeDamaged(RecipeError):
    """A file of a version is missing, altered, or not what it should be."""


class RecipeNotInForce(RecipeError):
    """The recipe has versions, but none is in force; or none before the one that is."""


class CodeNamesNoRecipe(RecipeError):
    """The code on a part says nothing that names a recipe."""


class ArchiveRefused(RecipeError):
    """A file of a recipe or of settings cannot be accepted; nothing of it was."""
