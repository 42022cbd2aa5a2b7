"""What a site sets about capability studies."""

from pydantic import Field

from edge.section import Section


class ChallengeSettings(Section):
    """How often a station has to prove itself on known parts."""

    every_hours: float = Field(
        gt=0,
        le=8760,
        description=(
            "The state is degraded while the last passed `edge-run --challenge` of this "
            "model and decision is older than this; at most journal.retention_days."
        ),
        examples=[12],
    )
