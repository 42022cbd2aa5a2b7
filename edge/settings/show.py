"""What a site sets about the window on the station's own screen."""

from pydantic import Field

from edge.section import Section


class ShowSettings(Section):
    """A window on this PC's own screen."""

    window: bool = Field(
        default=True, description="Open the window; edge-run --show does the same."
    )
    width_px: int = Field(
        default=1280, ge=160, le=4096, description="Wider frames are scaled down."
    )
