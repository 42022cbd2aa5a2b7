"""What a site sets about its recipes."""

from pydantic import Field

from edge.section import Section


class RecipesSettings(Section):
    """Products that this station changes between, each with a model of its own."""

    folder: str = Field(
        min_length=1,
        description="Folder with one subfolder per recipe, which holds its versions; may be empty.",
        examples=["/var/lib/edge/cam1/recipes"],
    )
    resident: int = Field(
        default=8,
        ge=2,
        le=1000,
        description="Recipes in memory at once; the least recently used one is unloaded.",
    )
    memory_mb: int = Field(
        default=2048,
        ge=1,
        le=1_000_000,
        description="Memory for their models, counted as twice the size of their files.",
    )
    max_images: int = Field(
        default=200,
        ge=2,
        le=500,
        description="Most images that a version may be taught with, and that a recipe keeps of "
        "all its versions; the oldest make room.",
    )
    wait_ms: float = Field(
        default=2000.0,
        ge=0,
        le=600_000,
        description=(
            "Longest time that a part waits for a recipe that is not in memory yet; "
            "then it is an ERROR. Must be less than watchdog.inspect_s."
        ),
    )
