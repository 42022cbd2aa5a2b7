"""What a site sets about the hand-shake."""

from pydantic import Field

from edge.section import Section


class HandshakeSettings(Section):
    """Between trigger and acknowledgement."""

    slots: int = Field(
        default=8,
        ge=1,
        le=1000,
        description=(
            "Parts in flight, and results that may wait for their acknowledgement; the "
            "oldest is dropped for a new one."
        ),
    )
    result_hold_ms: float = Field(
        default=2000.0,
        gt=0,
        le=600_000,
        description="How long a result stays valid without acknowledgement.",
    )
