"""What a site sets about its camera: sensor, trigger and supervision."""

from typing import Literal, Self

from pydantic import Field, model_validator

from edge.settings.section import Section


class SensorSettings(Section):
    """What is written to a camera at every opening and read back; None leaves its own value.

    Attributes:
        pixel_format: GenICam's name (``Mono8``), of a USB camera the FourCC (``MJPG``).
        width_px, height_px, offset_x_px, offset_y_px: region of the sensor that is read out.
        frame_rate_fps: of a camera that runs free.
        exposure_us, gain_db: fixed, so automatics are switched off; USB cameras count gain in
            a unit of their own.
        white_balance_red, white_balance_blue: ratios to green.
        white_balance_k: colour temperature, USB cameras.
        packet_size_bytes, packet_delay_ns: of GigE Vision; None negotiates the size.
        chunks: ask for exposure and gain of each frame where the camera offers them.
        buffers: frames that may wait in the driver.
    """

    pixel_format: str | None = Field(default=None, min_length=1)
    width_px: int | None = Field(default=None, ge=1, le=65_536)
    height_px: int | None = Field(default=None, ge=1, le=65_536)
    offset_x_px: int | None = Field(default=None, ge=0, le=65_536)
    offset_y_px: int | None = Field(default=None, ge=0, le=65_536)
    frame_rate_fps: float | None = Field(default=None, gt=0, le=10_000)
    exposure_us: float | None = Field(default=None, gt=0, le=60e6)
    gain_db: float | None = Field(default=None, ge=-100, le=10_000)
    white_balance_red: float | None = Field(default=None, gt=0, le=100)
    white_balance_blue: float | None = Field(default=None, gt=0, le=100)
    white_balance_k: int | None = Field(default=None, ge=1000, le=20_000)
    packet_size_bytes: int | None = Field(default=None, ge=576, le=16_384)
    packet_delay_ns: int | None = Field(default=None, ge=0, le=1_000_000_000)
    chunks: bool = True
    buffers: int = Field(default=16, ge=2, le=1000)


class TriggerSettings(Section):
    """What makes the camera expose.

    Attributes:
        mode: ``free_run``; ``software``, a message exposes; ``hardware``, a line does.
        selector, source, activation, delay_us, debounce_us: GenICam's, of the hardware line.
        frame_timeout_ms: from an accepted trigger to its frame.
        announced: a hardware-triggered part is announced by a message before its edge; without,
            every frame is a part of its own.
    """

    mode: Literal["free_run", "software", "hardware"] = "free_run"
    selector: str = Field(default="FrameStart", min_length=1)
    source: str = Field(default="Line1", min_length=1)
    activation: Literal["RisingEdge", "FallingEdge", "AnyEdge", "LevelHigh", "LevelLow"] = (
        "RisingEdge"
    )
    delay_us: float | None = Field(default=None, ge=0, le=60e6)
    debounce_us: float | None = Field(default=None, ge=0, le=1e6)
    frame_timeout_ms: float = Field(default=1000.0, gt=0, le=600_000)
    announced: bool = True

    @property
    def by_message(self) -> bool:
        """Whether every part is announced by a message."""
        return self.mode == "software" or (self.mode == "hardware" and self.announced)


class WatchSettings(Section):
    """Of a watched folder.

    Attributes:
        existing: images that came while nobody watched, and have no verdict in the journal:
            ``take`` inspects them, ``skip`` counts and tells them.
    """

    existing: Literal["take", "skip"] = "skip"


class SupervisionSettings(Section):
    """When a camera counts as lost and a frame as not fresh.

    Attributes:
        lost_after_s: without a frame; of a triggered camera, without an answer.
        opening_limit_s: for opening and configuring.
        stuck_after_s: a driver call that takes longer ends the process, to be started anew.
        max_age_ms: a frame that waited longer is STALE.
        frozen_after: so many identical frames in a row are FROZEN; 0 never.
        first_delay_s, longest_delay_s: between attempts to open, doubling, with ±50 % jitter.
    """

    lost_after_s: float = Field(default=1.5, gt=0, le=3600)
    opening_limit_s: float = Field(default=10.0, gt=0, le=600)
    stuck_after_s: float = Field(default=30.0, gt=0, le=3600)
    max_age_ms: float = Field(default=1000.0, gt=0, le=600_000)
    frozen_after: int = Field(default=2, ge=0, le=1_000_000)
    first_delay_s: float = Field(default=0.1, gt=0, le=60)
    longest_delay_s: float = Field(default=1.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.frozen_after == 1:
            raise ValueError("frozen_after must be 0 (never) or at least 2 frames")
        if self.first_delay_s > self.longest_delay_s:
            raise ValueError("first_delay_s must not be above longest_delay_s")
        return self
