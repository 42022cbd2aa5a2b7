"""The overlay: a frame with its anomaly map, areas, regions and result, for people."""

import textwrap

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Box, Pixels
from edge.inspection.areas import ignored_pixels
from edge.inspection.decision import Result
from edge.inspection.heat_map import blend_heat_map
from edge.inspection.inspector import Inspection
from edge.redaction import readable

Image = NDArray[np.uint8]

# Smaller frames are enlarged and low ones extended, so that the label can be read.
MIN_WIDTH_PX = 240
CARD_PX = (360, 480)
WHITE, INK, GREY = (255, 255, 255), (24, 24, 24), (112, 112, 112)
COLOURS = {  # BGR
    Result.OK: (80, 150, 30),
    Result.NOK: (40, 30, 200),
    Result.NOT_DECIDABLE: (20, 140, 225),
    Result.ERROR: (140, 40, 130),
}
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_overlay(pixels: Pixels, inspection: Inspection) -> Image:
    """Draw an inspection over its frame.

    Args:
        pixels: the frame in any format it may have; empty for one that could not be read.
            Not changed.
        inspection: of this frame.

    Returns:
        ``(H, W, 3) uint8`` BGR of the frame's size; a frame narrower than 240 px is enlarged by a
        whole factor, one too low for the label extended, an empty one is a grey card.
    """
    canvas = _as_bgr(pixels) if pixels.size else _card(inspection.detail)
    factor = -(-MIN_WIDTH_PX // canvas.shape[1])
    if factor > 1:
        canvas = cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    anomaly_map, scale, place = inspection.anomaly_map, inspection.map_scale, inspection.placement
    if anomaly_map is not None and scale is not None and place is not None:
        place = Box(*(v * factor for v in (place.x, place.y, place.width, place.height)))
        blend_heat_map(canvas, place, anomaly_map, scale)
    for region in inspection.regions:
        box = [v * factor for v in (region.x, region.y, region.width, region.height)]
        _draw_box(canvas, box)
    _draw_areas(canvas, inspection, factor)
    decision, score = inspection.decision, inspection.normalized_score
    text = f"{decision.result.value} {decision.reason.value if score is None else f'{score:.2f}'}"
    return _with_label(canvas, text.replace("_", " "), COLOURS[decision.result])


def _card(detail: str) -> Image:
    """Return a grey card that says why there is no image."""
    card = np.full((*CARD_PX, 3), 64, np.uint8)
    lines = textwrap.wrap(readable(detail), 52)[:12]
    for row, line in enumerate(lines):
        cv2.putText(card, line, (16, 80 + 22 * row), _FONT, 0.5, WHITE, 1, cv2.LINE_AA)
    return card


def _as_bgr(pixels: Pixels) -> Image:
    """Return a copy with 8 bits and three channels; 16 bits are stretched to what is there."""
    shown = pixels[:, :, :3] if pixels.ndim == 3 else pixels
    if shown.dtype != np.uint8:
        low, high = int(shown.min()), int(shown.max())
        scale = 255.0 / (high - low) if high > low else 0.0
        shown = np.asarray((shown - np.float32(low)) * scale, np.uint8)
    copy = np.array(shown, np.uint8, order="C")
    return cv2.cvtColor(copy, cv2.COLOR_GRAY2BGR) if copy.ndim == 2 else copy


def _draw_box(canvas: Image, box: list[int]) -> None:
    gap, line = 3 * _line_px(canvas), _line_px(canvas)
    x, y, width, height = box
    corners = (x - gap, y - gap), (x + width + gap, y + height + gap)
    cv2.rectangle(canvas, *corners, INK, line + 2)
    cv2.rectangle(canvas, *corners, COLOURS[Result.NOK], line)


def _draw_areas(canvas: Image, inspection: Inspection, factor: int) -> None:
    """Draw outlines: of the part where it was looked for, of what is ignored, and of the zones."""
    located, box, areas = inspection.located, inspection.map_box, inspection.areas
    matrix = np.eye(2, 3) if located is None else located.pose.matrix()

    def outline(points: NDArray[np.float64], colour: tuple[int, int, int]) -> NDArray[np.int32]:
        placed = points @ matrix[:, :2].T + matrix[:, 2]
        corners = np.rint(placed * factor - 0.5).astype(np.int32)
        for ink, line in ((INK, _line_px(canvas) + 2), (colour, _line_px(canvas))):
            cv2.polylines(canvas, [corners], True, ink, line, cv2.LINE_AA)
        return corners

    if located is not None and box is not None:
        right, bottom = box.x + box.width, box.y + box.height
        rectangle = [(box.x, box.y), (right, box.y), (right, bottom), (box.x, bottom)]
        outline(np.array(rectangle, np.float64), WHITE)
    if areas is None:
        return
    ignored = ignored_pixels(areas).astype(np.uint8)
    for edge in cv2.findContours(ignored, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
        outline(edge[:, 0, :] + 0.5, GREY)
    rejected = {one.name for one in inspection.zones if one.result is Result.NOK}
    for zone in areas.zones:
        colour = COLOURS[Result.NOK] if zone.name in rejected else WHITE
        corners = outline(np.array(zone.polygon), colour)
        x, y = corners[corners[:, 1].argmin()]
        _draw_tag(canvas, readable(zone.name), (int(x), int(y)), INK if colour is WHITE else colour)


def _draw_tag(
    canvas: Image, text: str, above: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Write a name on a plate above a point, or as near to it as the image lets."""
    line = _line_px(canvas)
    scale = 0.45 * max(1.0, min(canvas.shape[:2]) / 480)
    (width, height), below = cv2.getTextSize(text, _FONT, scale, line)
    pad, gap = 3 * line, 2 * line + 1
    wide, high = width + 2 * pad, height + below + 2 * pad
    left = min(max(above[0] - wide // 2, 0), max(canvas.shape[1] - wide, 0))
    top = min(max(above[1] - high - gap, 0), max(canvas.shape[0] - high, 0))
    cv2.rectangle(canvas, (left, top), (left + wide - 1, top + high - 1), colour, cv2.FILLED)
    place = (left + pad, top + pad + height)
    cv2.putText(canvas, text, place, _FONT, scale, WHITE, line, cv2.LINE_AA)


def _with_label(canvas: Image, text: str, colour: tuple[int, int, int]) -> Image:
    """Write the text on a coloured badge in the top-left corner."""
    wanted_px = max(14, min(canvas.shape[:2]) // 22)
    scale = wanted_px / cv2.getTextSize("N", _FONT, 1.0, 1)[0][1]
    widest_px = cv2.getTextSize(text, _FONT, scale, 1)[0][0] * 1.15
    scale *= min(1.0, (canvas.shape[1] - wanted_px) / widest_px)
    stroke = max(1, round(scale * 1.8))
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, stroke)
    margin = max(5, height * 2 // 3)
    missing = height + 2 * margin - canvas.shape[0]
    if missing > 0:
        canvas = cv2.copyMakeBorder(canvas, 0, missing, 0, 0, cv2.BORDER_CONSTANT, value=GREY)
    cv2.rectangle(canvas, (0, 0), (width + 2 * margin, height + 2 * margin), colour, cv2.FILLED)
    cv2.putText(canvas, text, (margin, margin + height), _FONT, scale, WHITE, stroke, cv2.LINE_AA)
    return canvas


def _line_px(canvas: Image) -> int:
    return max(1, min(canvas.shape[:2]) // 400)
