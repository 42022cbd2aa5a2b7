"""How a frame becomes the model's input: levels, tiles, where the part is found, what counts."""

import base64
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from edge.bundle.bounds import (
    MAX_POINTS,
    MAX_POLYGONS,
    MAX_REFERENCE_PX,
    MAX_RUNS,
    MAX_SCALE_SHARE,
    MAX_SIDE_PX,
    MAX_ZONE_NAME_BYTES,
    MAX_ZONE_NAME_LENGTH,
    MAX_ZONES,
    MIN_LIKENESS_SIZED,
    MIN_REFERENCE_PX,
)
from edge.bundle.manifest_types import ManifestPart, Score, Side, _plain, demand_pixels
from edge.bundle.polygons import polygon_fault
from edge.imaging.frame import PixelFormat


class Crop(ManifestPart):
    """Region of interest in frame pixels, origin top-left."""

    x: int = Field(ge=0, le=MAX_SIDE_PX)
    y: int = Field(ge=0, le=MAX_SIDE_PX)
    width: Side
    height: Side


class Levels(ManifestPart):
    """The 16-bit samples that become 0 and 255."""

    black: int = Field(ge=0, le=65535)
    white: int = Field(ge=0, le=65535)

    @model_validator(mode="after")
    def _ordered(self) -> "Levels":
        if self.black >= self.white:
            raise ValueError(f"black ({self.black}) must lie below white ({self.white})")
        return self


class TileSpec(ManifestPart):
    """Pieces that a frame is inspected in.

    Attributes:
        height, width: of a tile in frame pixels.
        overlap: share of a tile that neighbours have in common at least.
    """

    height: int = Field(ge=16, le=MAX_SIDE_PX)
    width: int = Field(ge=16, le=MAX_SIDE_PX)
    overlap: float = Field(ge=0.0, le=0.9)


class AlignMode(StrEnum):
    """How a part may lie; the angles that are searched."""

    SHIFT = "shift"
    SHIFT_ROTATION = "shift+rotation"
    FULL_ROTATION = "full-rotation"

    @property
    def most_turn_deg(self) -> float:
        """By so much the part may be turned, to either side."""
        return {"shift": 0.0, "shift+rotation": 45.0, "full-rotation": 180.0}[self.value]


class Locator(ManifestPart):
    """How the part is found in a frame, before anything of it is inspected.

    Attributes:
        mode: how the part may lie.
        roi: what of the reference image shows the part; without a crop this is inspected.
        frame_height, frame_width: of the reference image.
        reference: the region of interest in grey, reduced as it is searched: base64 of
            ``(reference_height, reference_width) uint8``.
        least_likeness: normalized cross-correlation that a part reaches at least.
        most_outside: this share of what is inspected may lie outside the frame.
        most_scale: by this share the part may be larger or smaller than in the reference.
    """

    mode: AlignMode
    roi: Crop
    frame_height: Side
    frame_width: Side
    reference: str = Field(max_length=4 * MAX_REFERENCE_PX**2 // 3 + 4)
    reference_height: int = Field(ge=MIN_REFERENCE_PX, le=MAX_REFERENCE_PX)
    reference_width: int = Field(ge=MIN_REFERENCE_PX, le=MAX_REFERENCE_PX)
    least_likeness: float = Field(default=0.5, ge=0.2, le=1.0)
    most_outside: float = Field(default=0.0, ge=0.0, le=0.5)
    most_scale: float = Field(default=0.0, ge=0.0, le=MAX_SCALE_SHARE)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        roi = self.roi
        if roi.x + roi.width > self.frame_width or roi.y + roi.height > self.frame_height:
            raise ValueError("roi does not lie inside the reference image")
        if roi.width < self.reference_width or roi.height < self.reference_height:
            raise ValueError("roi is smaller than the reference")
        if self.most_scale and self.least_likeness < MIN_LIKENESS_SIZED:
            raise ValueError(
                f"least_likeness is below {MIN_LIKENESS_SIZED:g}, by which no size is certain"
            )
        try:
            size = len(base64.b64decode(self.reference, validate=True))
        except ValueError:
            raise ValueError("reference is no base64") from None
        if size != self.reference_height * self.reference_width:
            raise ValueError(
                f"reference has {size} bytes, not {self.reference_width}×{self.reference_height}"
            )
        return self


def _fits_verdict(name: str) -> str:
    size = len(name.encode())
    if size > MAX_ZONE_NAME_BYTES:
        raise ValueError(f"has {size} bytes of UTF-8; at most {MAX_ZONE_NAME_BYTES} are allowed")
    return name


Polygon = Annotated[tuple[tuple[float, float], ...], Field(min_length=3, max_length=MAX_POINTS)]


class Zone(ManifestPart):
    """A part of the image with limits of its own; what is None is as everywhere.

    Attributes:
        polygon: ``(x, y)`` in pixels; its sides do not cross.
        threshold, pixel_threshold: raw.
        guard_band: half-width of the undecided band on the normalized scale.
        smallest_region_px: regions below this area are not reported.
    """

    name: Annotated[
        str,
        Field(min_length=1, max_length=MAX_ZONE_NAME_LENGTH),
        AfterValidator(_plain),
        AfterValidator(_fits_verdict),
    ]
    polygon: Polygon
    threshold: Score | None = None
    pixel_threshold: Score | None = None
    guard_band: float | None = Field(default=None, ge=0.0, lt=0.5)
    smallest_region_px: int | None = Field(default=None, ge=0)


class Areas(ManifestPart):
    """What of an image counts: a mask of what does not, and zones with limits of their own.

    Coordinates are those of the whole frame; where parts are found first, of the whole reference
    image. What is ignored is so in zones, too. Zones may overlap: each decides by all that lies in
    it.

    Attributes:
        width, height: of the image that it was drawn on; another one is refused.
        ignore: polygons that do not count.
        ignored_runs: pixels that do not count either, as painted: row by row, by turns how many
            count and how many do not; empty where nothing was painted.
    """

    width: Side
    height: Side
    ignore: tuple[Polygon, ...] = Field(default=(), max_length=MAX_POLYGONS)
    ignored_runs: tuple[Annotated[int, Field(ge=0, le=MAX_SIDE_PX**2)], ...] = Field(
        default=(), max_length=MAX_RUNS
    )
    zones: tuple[Zone, ...] = Field(default=(), max_length=MAX_ZONES)
    _hash: int = PrivateAttr()

    @model_validator(mode="after")
    def _drawn_inside(self) -> Self:
        named = [(f"ignore {number + 1}", points) for number, points in enumerate(self.ignore)]
        named += [(f"zone {zone.name}", zone.polygon) for zone in self.zones]
        for name, points in named:
            fault = polygon_fault(points, self.width, self.height)
            if fault is not None:
                raise ValueError(f"{name}: {fault}")
        names = [zone.name for zone in self.zones]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two zones are called {name}")
        if self.ignored_runs and sum(self.ignored_runs) != self.width * self.height:
            raise ValueError(
                f"ignored_runs holds {sum(self.ignored_runs)} pixels, not "
                f"{self.width}×{self.height}"
            )
        return self

    def model_post_init(self, _: object, /) -> None:
        """Hash the drawing once: what is made of it is looked up with every frame."""
        self._hash = hash((self.width, self.height, self.ignore, self.ignored_runs, self.zones))

    def __hash__(self) -> int:
        return self._hash

    def scores_like(self, other: "Areas") -> bool:
        """Tell whether an image gets the same score, whatever the zones' own limits are."""
        return self._scored() == other._scored()

    def _scored(self) -> tuple[object, ...]:
        zones = [(zone.polygon, zone.threshold is None) for zone in self.zones]
        return self.width, self.height, self.ignore, self.ignored_runs, zones


class InputSpec(ManifestPart):
    """How a frame becomes the model's input; all that preprocessing needs to know.

    Attributes:
        height, width: model input in pixels.
        colour_order: order of the three prepared channels.
        resize: ``area``: area-averaging where the image shrinks, bilinear where it grows.
        pixel_formats: formats of the images the model was trained on; others are refused.
        levels: mapping of 16-bit samples; required when a 16-bit format is listed.
        crop: default region of interest; the station may set its own. With a locator it lies in
            the reference image.
        tile_plan: pieces the frame is inspected in; null inspects it whole.
        locator: how the part is found; null inspects what lies at the same place of every frame.
        areas: what of the image counts, and by which limits; null: all of it by the same.
    """

    height: Side
    width: Side
    colour_order: Literal["bgr"] = "bgr"
    resize: Literal["area"] = "area"
    pixel_formats: tuple[PixelFormat, ...] = Field(min_length=1, max_length=len(PixelFormat))
    levels: Levels | None = None
    crop: Crop | None = None
    tile_plan: TileSpec | None = None
    locator: Locator | None = None
    areas: Areas | None = None

    @model_validator(mode="after")
    def _levels_for_16_bit(self) -> "InputSpec":
        if self.levels is None and any(f.is_16_bit for f in self.pixel_formats):
            raise ValueError("levels are required for 16-bit pixel formats")
        return self

    @model_validator(mode="after")
    def _of_a_size_to_work_with(self) -> Self:
        demand_pixels(self.height, self.width)
        return self
