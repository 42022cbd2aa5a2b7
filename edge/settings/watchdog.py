"""What a site sets about the watchdog."""

from pydantic import Field

from edge.section import Section


class WatchdogSettings(Section):
    """How long a stage may be silent before the process is given up, in seconds."""

    capture_s: float = Field(
        default=10.0, gt=0, le=3600, description="Limit of the camera's thread."
    )
    inspect_s: float = Field(default=10.0, gt=0, le=3600, description="An inspection.")
    journal_s: float = Field(default=30.0, gt=0, le=3600, description="A commit.")
