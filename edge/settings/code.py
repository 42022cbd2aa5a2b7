"""What a site sets about a code on the part that names it, and maybe its recipe."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from edge.bundle.input_spec import Crop
from edge.recipes.part_codes import CodePattern
from edge.section import Section

Kind = Literal["qr", "datamatrix"]
CodeText = Annotated[str, Field(min_length=1, max_length=100)]


class CodeRecipeSettings(Section):
    """How the code of a part names the recipe that inspects it."""

    pattern: str = Field(
        default="(?P<recipe>.+)",
        min_length=1,
        max_length=500,
        description="Regular expression (RE2) of the whole text of the code: the group "
        "(?P<recipe>...) names the recipe, (?P<part>...) the part's id, left out: the whole text.",
    )
    names: dict[CodeText, CodeText] | None = Field(
        default=None,
        min_length=1,
        max_length=10_000,
        description="Recipe by what the group recipe says. Left out: it is the recipe's name.",
        examples=[{"A17": "bottle", "A18": "nut M8"}],
    )

    @field_validator("pattern")
    @classmethod
    def _can_be_used(cls, pattern: str) -> str:
        CodePattern(pattern, {})
        return pattern

    def reader(self) -> CodePattern:
        """Return what reads the text of a code."""
        return CodePattern(self.pattern, self.names or {})


class CodeSettings(Section):
    """A code in the frame that is the part's id where its trigger gives none."""

    kinds: Annotated[tuple[Kind, ...], Field(strict=False)] = Field(
        default=("qr",),
        min_length=1,
        description="Kinds of code to read: qr, datamatrix (needs the extra codes).",
        examples=[["qr", "datamatrix"]],
    )
    region: Crop | None = Field(
        default=None,
        description="Region with the code and its white border, in frame pixels; left out: "
        "anywhere.",
        examples=[{"x": 40, "y": 40, "width": 400, "height": 300}],
    )
    unreadable: Literal["error", "empty"] = Field(
        default="error",
        description="error: a part whose code cannot be read is an ERROR; empty: it has no id.",
    )
    timeout_ms: float = Field(
        default=200.0,
        gt=0,
        le=10_000,
        description="Time limit for reading the code of a frame.",
    )
    recipe: CodeRecipeSettings | None = Field(
        default=None,
        description="The code also names the recipe that inspects its part. Left out: it does not.",
    )

    @field_validator("kinds")
    @classmethod
    def _each_once(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        return tuple(dict.fromkeys(kinds))
