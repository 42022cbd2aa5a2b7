"""What a site sets about its camera: address, crop, sensor, trigger and supervision."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from edge.bundle.input_spec import Crop
from edge.imaging.image_header import MAX_PIXELS
from edge.section import Section
from edge.settings.addresses import Scheme, parse_scheme, with_plain_scheme


class SensorSettings(Section):
    """What is written to a camera at every opening and read back."""

    pixel_format: str | None = Field(
        default=None,
        min_length=1,
        description="GenICam name of the format; for a USB camera its FourCC, such as MJPG.",
        examples=["Mono8"],
    )
    width_px: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="Width of the sensor region that is read out.",
        examples=[2448],
    )
    height_px: int | None = Field(
        default=None, ge=1, le=65_536, description="Height of the region.", examples=[2048]
    )
    offset_x_px: int | None = Field(
        default=None, ge=0, le=65_536, description="Left edge of the region.", examples=[0]
    )
    offset_y_px: int | None = Field(
        default=None, ge=0, le=65_536, description="Top edge of the region.", examples=[0]
    )
    frame_rate_fps: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        description="Frames per second of a free-running camera.",
        examples=[10],
    )
    exposure_us: float | None = Field(
        default=None,
        gt=0,
        le=60e6,
        description="Exposure time; automatic exposure is switched off.",
        examples=[2000],
    )
    gain_db: float | None = Field(
        default=None,
        ge=-100,
        le=10_000,
        description=("Gain; automatic gain is switched off. USB cameras use a unit of their own."),
        examples=[0],
    )
    white_balance_red: float | None = Field(
        default=None, gt=0, le=100, description="Ratio to green.", examples=[1.4]
    )
    white_balance_blue: float | None = Field(
        default=None, gt=0, le=100, description="Ratio to green.", examples=[1.8]
    )
    white_balance_k: int | None = Field(
        default=None,
        ge=1000,
        le=20_000,
        description="Colour temperature of USB cameras.",
        examples=[5000],
    )
    packet_size_bytes: int | None = Field(
        default=None,
        ge=576,
        le=16_384,
        description="GigE Vision packet size; left out: negotiated.",
        examples=[8000],
    )
    packet_delay_ns: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="GigE Vision: pause between two packets.",
        examples=[0],
    )
    chunks: bool = Field(
        default=True,
        description="Record exposure and gain of each frame, where the camera reports them.",
    )
    buffers: int = Field(
        default=16, ge=2, le=1000, description="Number of frames that may wait in the driver."
    )


class TriggerSettings(Section):
    """What makes the camera expose."""

    mode: Literal["free_run", "software", "hardware"] = Field(
        default="free_run",
        description=(
            "free_run; software: a message triggers the exposure (with files: takes the "
            "next file); hardware: a line of the camera triggers it."
        ),
    )
    selector: str = Field(
        default="FrameStart",
        min_length=1,
        description="TriggerSelector (GenICam) of the hardware line.",
    )
    source: str = Field(default="Line1", min_length=1, description="GenICam's TriggerSource.")
    activation: Literal["RisingEdge", "FallingEdge", "AnyEdge", "LevelHigh", "LevelLow"] = Field(
        default="RisingEdge", description="RisingEdge, FallingEdge, AnyEdge, LevelHigh or LevelLow."
    )
    delay_us: float | None = Field(
        default=None,
        ge=0,
        le=60e6,
        description="Delay from the edge to the exposure.",
        examples=[0],
    )
    debounce_us: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="Edges that follow sooner are ignored.",
        examples=[50],
    )
    frame_timeout_ms: float = Field(
        default=1000.0,
        gt=0,
        le=600_000,
        description="Longest time from an accepted trigger to its frame.",
    )
    announced: bool = Field(
        default=True,
        description=(
            "With mode hardware, each part is announced by a message before its edge; "
            "false: every frame is a part of its own."
        ),
    )

    @property
    def by_message(self) -> bool:
        """Whether every part is announced by a message."""
        return self.mode == "software" or (self.mode == "hardware" and self.announced)


class WatchSettings(Section):
    """Of a watched folder."""

    existing: Literal["take", "skip"] = Field(
        default="skip",
        description=(
            "Images that arrived while the station was not running and have no verdict "
            "in the journal. skip: counted and reported; take: inspected."
        ),
    )


class SupervisionSettings(Section):
    """When a camera counts as lost and a frame as not fresh."""

    lost_after_s: float = Field(
        default=1.5,
        gt=0,
        le=3600,
        description="Longest time without a frame (triggered camera: without an answer) before "
        "the camera counts as lost.",
    )
    opening_limit_s: float = Field(
        default=10.0, gt=0, le=600, description="Time limit for opening and configuring."
    )
    stuck_after_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="If a driver call takes longer, the process ends and is started again.",
    )
    max_age_ms: float = Field(
        default=1000.0,
        gt=0,
        le=600_000,
        description="A frame that waited longer than this is STALE and is not inspected.",
    )
    frozen_after: int = Field(
        default=2,
        ge=0,
        le=1_000_000,
        description="This many identical frames in a row are FROZEN; 0: never.",
    )
    first_delay_s: float = Field(
        default=0.1,
        gt=0,
        le=60,
        description="First pause between attempts to open; it doubles up to longest_delay_s, "
        "with ±50 % jitter.",
    )
    longest_delay_s: float = Field(
        default=1.0, gt=0, le=3600, description="Longest pause between attempts to open."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.frozen_after == 1:
            raise ValueError("frozen_after must be 0 (never) or at least 2 frames")
        if self.first_delay_s > self.longest_delay_s:
            raise ValueError("first_delay_s must not be above longest_delay_s")
        return self


class CameraSettings(Section):
    """Where images come from."""

    uri: str = Field(
        min_length=1,
        max_length=4096,
        description=(
            "Folder, glob, image, video file, watch://FOLDER, gige://…, usb3://…, 0, "
            "/dev/v4l/by-id/…, rtsp://… or http://…; edge-run --list-cameras lists those "
            "that are found."
        ),
        examples=["demo/frames"],
        json_schema_extra={"type": ["string", "integer"]},
    )
    rate_fps: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        description="Pace of images from files; left out: as fast as they are inspected.",
        examples=[5],
    )
    loop: bool = Field(default=False, description="Start again at the end of the files.")
    policy: Literal["latest", "every", "auto"] = Field(
        default="auto",
        description=(
            "latest: the newest frame wins, others are skipped; every: each frame is inspected; "
            "auto: every for files, latest for live cameras."
        ),
    )
    queue_depth: int = Field(
        default=8, ge=1, le=1000, description="With every, frames of a live camera that may wait."
    )
    crop: Crop | None = Field(
        default=None,
        description="Region of interest in frame pixels.",
        examples=[{"x": 80, "y": 0, "width": 480, "height": 480}],
    )
    max_pixels: int = Field(
        default=2**26,
        ge=1,
        le=MAX_PIXELS,
        description="Most pixels of an image file; a larger one is not decoded.",
    )
    ca_file: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Certificates that verify a camera at https:// or rtsps://; left out: those "
            "of the system."
        ),
        examples=["camera-ca.crt"],
    )
    sensor: SensorSettings = Field(
        default=SensorSettings(),
        description=(
            "Settings written to the camera at every opening and read back; what is "
            "left out keeps the camera's value."
        ),
    )
    trigger: TriggerSettings = Field(
        default=TriggerSettings(), description="What triggers an exposure."
    )
    supervision: SupervisionSettings = Field(
        default=SupervisionSettings(),
        description="When a camera counts as lost and a frame as stale.",
    )
    watch: WatchSettings = Field(
        default=WatchSettings(), description="For a watched folder (watch://FOLDER)."
    )

    @field_validator("uri", mode="before")
    @classmethod
    def _as_compared(cls, uri: object) -> object:
        # `uri: 0` is a number in YAML and the first camera to everybody.
        if isinstance(uri, int) and not isinstance(uri, bool):
            return str(uri)
        return with_plain_scheme(uri) if isinstance(uri, str) else uri

    @model_validator(mode="after")
    def _verifies_what_is_encrypted(self) -> Self:
        encrypted = parse_scheme(self.uri) in (Scheme.HTTPS, Scheme.RTSPS)
        if self.ca_file is not None and not encrypted:
            raise ValueError("ca_file needs a uri that starts with https:// or rtsps://")
        return self

    def watches(self, folder: Path) -> bool:
        """Tell whether a folder is the watched one, or inside of it."""
        if parse_scheme(self.uri) != Scheme.WATCH:
            return False
        watched = os.path.realpath(self.uri.partition("://")[2])
        return Path(os.path.realpath(folder)).is_relative_to(watched)
