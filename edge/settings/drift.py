"""What a site sets about the drift alarm."""

from pydantic import Field

from edge.section import Section


class DriftSettings(Section):
    """Alarm when the scores of the line leave the band of the good images in training."""

    enabled: bool = Field(default=True, description="Watch the scores for drift.")
    window: int = Field(
        default=200, ge=20, le=100_000, description="Number of decided parts that are compared."
    )
    false_alarms_per_million: float = Field(
        default=1.0,
        gt=0,
        le=10_000,
        description="False alarms per million decided parts, on an unchanged line whose parts "
        "are independent.",
    )
