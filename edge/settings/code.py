"""What a site sets about a code on the part that names it."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from edge.bundle.manifest import Crop
from edge.section import Section

Kind = Literal["qr", "datamatrix"]


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

    @field_validator("kinds")
    @classmethod
    def _each_once(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        return tuple(dict.fromkeys(kinds))
