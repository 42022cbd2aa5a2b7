"""Overlay images of every part."""

from pydantic import Field

from edge.section import Section


class SaveSettings(Section):
    """Where overlay images of every part go."""

    folder: str = Field(
        min_length=1,
        description="Folder for overlays; created if it does not exist.",
        examples=["/var/lib/edge/overlays"],
    )
    queue_bound: int = Field(
        default=16,
        ge=1,
        le=1_000_000,
        description=(
            "Parts that may wait to be drawn. With a live camera, further parts are "
            "left out and counted."
        ),
    )
