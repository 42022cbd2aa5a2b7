"""What all parts of a manifest are made of: texts, numbers within bounds, no unknown keys."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edge.bundle.bounds import (
    MAX_INPUT_PX,
    MAX_NAME_LENGTH,
    MAX_SCORE,
    MAX_SIDE_PX,
    MAX_TEXT_LENGTH,
)


def plain_text(text: str, max_length: int = MAX_TEXT_LENGTH) -> str:
    """Return a text as a manifest may hold it: cut, and ``?`` for what is no plain character."""
    return "".join(one if one.isprintable() else "?" for one in text[:max_length])


def _plain(text: str) -> str:
    for one in text:
        if not one.isprintable():  # control, bidi, line and paragraph separators, surrogates
            name = unicodedata.name(one, "no name")
            raise ValueError(f"holds U+{ord(one):04X} ({name}), which is not a plain character")
    return text


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH), AfterValidator(_plain)]
Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH), AfterValidator(_plain)]
Score = Annotated[float, Field(ge=-MAX_SCORE, le=MAX_SCORE)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Count = Annotated[int, Field(ge=0, le=10**9)]


class ManifestPart(BaseModel):
    """What every part of a manifest keeps: unknown keys and numbers that are none are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


def demand_pixels(height: int, width: int) -> None:
    """Demand a size that has no more pixels than a model may take; raises ValueError."""
    if height * width > MAX_INPUT_PX:
        raise ValueError(f"{width}×{height} are more than {MAX_INPUT_PX} pixels")
