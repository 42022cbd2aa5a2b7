"""What a site sets about its records: journal, snapshots, hand-shake, drift and watchdog."""

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


class SnapshotSettings(Section):
    """Which images are kept and for how long."""

    folder: str = Field(
        min_length=1,
        description="Folder for images; created if it does not exist.",
        examples=["/var/lib/edge/cam1/snapshots"],
    )
    every_nth_ok: int = Field(
        default=100,
        ge=0,
        le=1_000_000_000,
        description="Keep every n-th OK image; 0: only those near the threshold.",
    )
    near_threshold: float = Field(
        default=0.05,
        ge=0.0,
        le=0.5,
        description="OK images this close to the threshold (0.5 on the normalized scale) are "
        "always kept.",
    )
    max_count: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="Most images in the folder; NOK images are deleted last.",
    )
    max_age_days: float = Field(
        default=30.0,
        gt=0,
        le=3650,
        description="How long images are kept; NOK images four times as long.",
    )
    max_bytes: int = Field(default=5 * _GIB, ge=2**20, description="Largest size of the folder.")
    free_space_floor_bytes: int = Field(
        default=_GIB, ge=0, description="With less free space on the disk, nothing is written."
    )
    jpeg_quality: int = Field(default=90, ge=1, le=100, description="JPEG quality of the overlay.")
    queue_bound: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description=(
            "Parts that may wait to be written. With a live camera, further parts are "
            "left out and counted."
        ),
    )
    queue_max_bytes: int = Field(
        default=_GIB // 4, ge=2**20, description="Memory for the images that wait."
    )
    recent_hours: float = Field(
        default=8.0,
        ge=0,
        le=8760,
        description=(
            "How long the images of all other parts are kept, too, so that a missed "
            "defect can be marked; 0: none."
        ),
    )
    recent_max_bytes: int = Field(
        default=2 * _GIB,
        ge=2**20,
        description="Largest size of these images (JPEG, about 80 KB at 640×480 and 600 KB at 5 "
        "megapixels).",
    )


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


class RecipeSettings(Section):
    """What this station is set up to inspect."""

    id: str = Field(
        min_length=1,
        max_length=100,
        description="Recipe that triggers name.",
        examples=["bottle"],
    )
    version: int | str = Field(default=1, description="Its version, as triggers name it.")


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


class WatchdogSettings(Section):
    """How long a stage may be silent before the process is given up, in seconds."""

    capture_s: float = Field(
        default=10.0, gt=0, le=3600, description="Limit of the camera's thread."
    )
    inspect_s: float = Field(default=10.0, gt=0, le=3600, description="An inspection.")
    journal_s: float = Field(default=30.0, gt=0, le=3600, description="A commit.")
