"""Masks and zones at the page: what is in force, and what somebody has drawn."""

from typing import Annotated

from pydantic import Field, FiniteFloat

from edge.bundle.bounds import MAX_POLYGONS, MAX_SIDE_PX, MAX_ZONES
from edge.bundle.input_spec import Polygon, Zone
from edge.hmi.contents import Content

MAX_STROKES, MAX_STROKE_POINTS = 200, 400

Place = tuple[FiniteFloat, FiniteFloat]


class Stroke(Content):
    """A line of the brush."""

    width_px: float = Field(ge=1, le=2000)
    erase: bool = Field(description="what was painted along it counts again")
    points: tuple[Place, ...] = Field(min_length=1, max_length=MAX_STROKE_POINTS)


class Drawing(Content):
    """What somebody has drawn, in pixels of the whole frame or the whole reference image."""

    width_px: int = Field(ge=1, le=MAX_SIDE_PX)
    height_px: int = Field(ge=1, le=MAX_SIDE_PX)
    ignore: tuple[Polygon, ...] = Field(default=(), max_length=MAX_POLYGONS)
    zones: tuple[Zone, ...] = Field(default=(), max_length=MAX_ZONES)
    keep_painted: bool = Field(
        default=False, description="strokes go on from what is painted of the mask in force"
    )
    strokes: tuple[Stroke, ...] = Field(default=(), max_length=MAX_STROKES)


class MaskInForce(Content):
    """What of the image counts now."""

    sha256: str = Field(description="of mask and zones; empty without any")
    origin: Annotated[str, Field(description="none, bundle, settings or page")]
    refused: str = Field(description="why this model takes no mask; empty where it does")
    reference: tuple[int, int] | None = Field(
        description="size of the reference image that it is drawn on; null: the frame"
    )
    pivot: Place | None = Field(description="point of the reference about which parts are turned")
    width_px: int | None
    height_px: int | None
    ignore: list[Polygon]
    zones: list[Zone]
    painted: str | None = Field(description="data URL of a PNG, white where it is ignored")
    threshold: float = Field(description="raw, of the part")
