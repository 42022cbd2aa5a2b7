"""What a site sets about its records: journal, snapshots, hand-shake, drift and watchdog."""

from typing import Literal

from pydantic import Field

from edge.settings.section import Section

_GIB = 2**30


class JournalSettings(Section):
    """Where every verdict is written before anybody is told, and how much is kept.

    Attributes:
        folder: None is ``$STATE_DIRECTORY`` under systemd, else ``~/.local/state/edge/STATION``.
        max_rows, max_bytes: bounds; at 80 % the station says ``degraded``.
        retention_days: acknowledged rows are kept so long, for resending and as audit trail.
        overflow: of rows the broker has not taken: ``stop`` inspecting, or ``drop_oldest_ok``.
        synchronous: ``full`` survives power loss, ``normal`` the end of the process only.
        commit_interval_ms, commit_rows: bounds of a group commit.
    """

    folder: str | None = Field(default=None, min_length=1)
    max_rows: int = Field(default=1_000_000, ge=100, le=1_000_000_000)
    max_bytes: int = Field(default=2 * _GIB, ge=2**20)
    retention_days: float = Field(default=7.0, gt=0, le=3650)
    overflow: Literal["stop", "drop_oldest_ok"] = "stop"
    synchronous: Literal["full", "normal"] = "full"
    commit_interval_ms: float = Field(default=20.0, ge=0, le=1000)
    commit_rows: int = Field(default=64, ge=1, le=10_000)


class SnapshotSettings(Section):
    """Which images are kept and for how long.

    Attributes:
        every_nth_ok: 0 keeps no OK image but those near the threshold.
        near_threshold: distance from 0.5 on the normalized scale.
        max_count, max_age_days, max_bytes: bounds of the folder; NOK images go last, by age at
            four times ``max_age_days``.
        free_space_floor_bytes: below it nothing is written.
        jpeg_quality: of the overlay.
        recent_hours: so long the image of every other part is kept as well, as JPEG, so that a
            missed defect can be marked with its image; 0 keeps none.
        recent_max_bytes: of those images; what is older than they hold goes first.
        queue_bound, queue_max_bytes: parts that may wait to be written, and their images in
            memory; of a live camera what comes then is not kept, and counted.
    """

    folder: str = Field(min_length=1)
    every_nth_ok: int = Field(default=100, ge=0, le=1_000_000_000)
    near_threshold: float = Field(default=0.05, ge=0.0, le=0.5)
    max_count: int = Field(default=10_000, ge=1, le=10_000_000)
    max_age_days: float = Field(default=30.0, gt=0, le=3650)
    max_bytes: int = Field(default=5 * _GIB, ge=2**20)
    free_space_floor_bytes: int = Field(default=_GIB, ge=0)
    jpeg_quality: int = Field(default=90, ge=1, le=100)
    queue_bound: int = Field(default=16, ge=1, le=10_000)
    queue_max_bytes: int = Field(default=_GIB // 4, ge=2**20)
    recent_hours: float = Field(default=8.0, ge=0, le=8760)
    recent_max_bytes: int = Field(default=2 * _GIB, ge=2**20)


class HandshakeSettings(Section):
    """Between trigger and acknowledgement.

    Attributes:
        slots: parts in flight, and as many results that may stand; the oldest makes room.
        result_hold_ms: so long a result stays valid without one.
    """

    slots: int = Field(default=8, ge=1, le=1000)
    result_hold_ms: float = Field(default=2000.0, gt=0, le=600_000)


class RecipeSettings(Section):
    """What this station is set up to inspect; a trigger that asks for another one is rejected."""

    id: str = Field(min_length=1, max_length=100)
    version: int | str = 1


class DriftSettings(Section):
    """Alarm when the scores of the line leave the band of the good images in training.

    Attributes:
        window: decided parts that are looked at.
        false_alarms_per_million: of decided parts, on a line that has not changed.
    """

    enabled: bool = True
    window: int = Field(default=200, ge=20, le=100_000)
    false_alarms_per_million: float = Field(default=1.0, gt=0, le=10_000)


class WatchdogSettings(Section):
    """How long a stage may be silent before the process is given up, in seconds."""

    capture_s: float = Field(default=10.0, gt=0, le=3600)
    inspect_s: float = Field(default=10.0, gt=0, le=3600)
    journal_s: float = Field(default=30.0, gt=0, le=3600)
