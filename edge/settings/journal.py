"""What a site sets about the journal."""

from typing import Literal

from pydantic import Field

from edge.section import Section

_GIB = 2**30


class JournalSettings(Section):
    """Where every verdict is written before anybody is told, and how much is kept."""

    folder: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of the journal; left out: $STATE_DIRECTORY under systemd, otherwise "
        "~/.local/state/edge/STATION.",
        examples=["/var/lib/edge/cam1/journal"],
    )
    max_rows: int = Field(
        default=1_000_000,
        ge=100,
        le=1_000_000_000,
        description="Most records; at 80 % the station reports degraded.",
    )
    max_bytes: int = Field(default=2 * _GIB, ge=2**20, description="Most bytes of their payloads.")
    retention_days: float = Field(
        default=7.0,
        gt=0,
        le=3650,
        description="How long records that the broker has are kept, for resending and as an "
        "audit trail.",
    )
    overflow: Literal["stop", "drop_oldest_ok"] = Field(
        default="stop",
        description=(
            "When records that the broker has not accepted fill the journal. stop: "
            "inspection stops; drop_oldest_ok: the oldest OK verdicts are deleted."
        ),
    )
    synchronous: Literal["full", "normal"] = Field(
        default="full",
        description="full: records survive a power cut; normal: only the end of the process.",
    )
    commit_interval_ms: float = Field(
        default=20.0, ge=0, le=1000, description="Longest wait of a group commit."
    )
    commit_rows: int = Field(
        default=64, ge=1, le=10_000, description="Most records of a group commit."
    )
