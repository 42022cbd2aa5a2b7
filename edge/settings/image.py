"""What a site sets about images that can show a part; else a part is an ERROR and not judged."""

from typing import Self

from pydantic import Field, model_validator

from edge.inspection.image_limits import ImageLimits
from edge.section import Section

_DEFAULT = ImageLimits()


class ReferenceSettings(Section):
    """A place of the frame that looks the same with every part, such as a piece of the fixture."""

    x: int = Field(ge=0, le=65_536, description="Left edge in frame pixels.", examples=[600])
    y: int = Field(ge=0, le=65_536, description="Top edge.", examples=[20])
    width: int = Field(ge=16, le=65_536, description="In pixels, at least 16.", examples=[32])
    height: int = Field(ge=16, le=65_536, description="At least 16.", examples=[32])
    min_mean: float = Field(
        ge=0, le=255, description="Lowest mean grey level of the region.", examples=[110]
    )
    max_mean: float = Field(
        ge=0, le=255, description="Highest mean grey level of the region.", examples=[150]
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _demand_order(self.min_mean, self.max_mean)
        return self


class ImageSettings(Section):
    """Grey levels, 0 to 255, that an image must keep; else the part is an ERROR."""

    min_mean: float = Field(
        default=_DEFAULT.min_mean,
        ge=0,
        le=255,
        description="Lowest mean grey level of the whole image; a darker one is "
        "exposure_out_of_range.",
    )
    max_mean: float = Field(
        default=_DEFAULT.max_mean,
        ge=0,
        le=255,
        description="Highest mean grey level; a brighter image is exposure_out_of_range.",
    )
    min_contrast: int = Field(
        default=_DEFAULT.min_contrast,
        ge=0,
        le=255,
        description="Smallest difference between the lowest and highest grey level; less is "
        "blur_or_dark.",
    )
    min_light_share: float = Field(
        default=_DEFAULT.min_light_share,
        ge=0,
        le=1,
        description=(
            "An image with at least this share of light pixels is not too dark, as with "
            "dark-field lighting; 1: no exception."
        ),
    )
    light_level: int = Field(
        default=_DEFAULT.light_level,
        ge=1,
        le=255,
        description="Grey level from which a pixel counts as light.",
    )
    reference: ReferenceSettings | None = Field(
        default=None,
        description=(
            "Reference region: while its mean grey level is outside the limits, parts "
            "are exposure_out_of_range and are not judged. Left out: none."
        ),
        examples=[{"x": 600, "y": 20, "width": 32, "height": 32, "min_mean": 110, "max_mean": 150}],
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _demand_order(self.min_mean, self.max_mean)
        return self


def _demand_order(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"min_mean ({low:g}) must lie below max_mean ({high:g})")
