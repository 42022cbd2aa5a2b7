"""Which images of parts a site keeps."""

from pydantic import Field

from edge.section import Section

_GIB = 2**30


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
