"""What a site changes about the decision without a new model."""

from pydantic import Field

from edge.section import Section


class DecisionSettings(Section):
    """What a site may change about the decision; what is left out keeps the value of the bundle."""

    image_threshold: float | None = Field(default=None, description="Raw score.", examples=[1.64])
    pixel_threshold: float | None = Field(default=None, description="Raw score.", examples=[1.63])
    guard_band: float = Field(
        default=0.0,
        ge=0.0,
        lt=0.5,
        description=(
            "Half-width around 0.5, on the normalized scale, in which a part is NOT_DECIDABLE."
        ),
    )
    smallest_region_px: int = Field(
        default=0, ge=0, description="Smallest region that is reported."
    )
    mask: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Mask: YAML with polygons and zones, or an image in which everything that "
            "is not black is ignored; left out: that of the bundle."
        ),
        examples=["mask.yaml"],
    )
    deadline_ms: float | None = Field(
        default=None,
        gt=0,
        description="Time limit from the arrival of the frame to the decision.",
        examples=[100],
    )
