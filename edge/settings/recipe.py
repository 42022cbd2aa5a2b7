"""The recipe of a station that has one model."""

from pydantic import Field

from edge.section import Section


class RecipeSettings(Section):
    """What this station is set up to inspect."""

    id: str = Field(
        min_length=1,
        max_length=100,
        description="Recipe that triggers name.",
        examples=["bottle"],
    )
    version: int | str = Field(default=1, description="Its version, as triggers name it.")
