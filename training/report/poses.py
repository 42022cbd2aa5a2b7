"""Where the part was found in the images of a fit, outliers first."""

import base64
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from edge.bundle.input_spec import InputSpec
from edge.imaging.frame import Box
from edge.inspection.alignment import reference_box, reference_image
from edge.inspection.overlay import Image
from training.alignment import LookedAt, outliers_first
from training.data.loading import read_sample
from training.report.evidence import as_bgr

_MAX_SHOWN = 6
_MAX_LISTED = 200
_SHOWN_WIDTH_PX = 320
_QUALITY = 82
_COLOUR = (40, 200, 40)  # BGR


class PoseRow(NamedTuple):
    """One image, as a report lists it."""

    name: str
    x: str
    y: str
    angle: str
    size: str
    likeness: str


class PoseCard(NamedTuple):
    """One image with the part's region drawn in, as base64 of a JPEG."""

    name: str
    jpeg: str


class Poses(NamedTuple):
    """What a report shows of the search for the part.

    Attributes:
        mode, region, lowest: how the part may lie, where it lies in the reference, and the lowest
            likeness.
        sized: whether it may be larger or smaller than in the reference.
        reference: base64 of a PNG.
        left_out: how many rows are not listed.
    """

    mode: str
    region: str
    lowest: str
    sized: bool
    reference: str
    rows: list[PoseRow]
    cards: list[PoseCard]
    left_out: int


def find_poses(found: Sequence[LookedAt], spec: InputSpec) -> Poses | None:
    """Return what to show; None of a model that does not look for the part.

    Raises:
        DataError: an image cannot be read any more; names the file.
    """
    locator = spec.locator
    if locator is None:
        return None
    ordered = outliers_first(found)
    roi = locator.roi
    box = Box(roi.x, roi.y, roi.width, roi.height)
    inspected = reference_box(locator, spec.crop)
    likenesses = [one.located.likeness for one in found if one.located is not None]
    _, encoded = cv2.imencode(".png", reference_image(locator))
    return Poses(
        mode=locator.mode.value,
        sized=locator.most_scale > 0.0,
        region=f"{roi.width}×{roi.height}+{roi.x}+{roi.y}",
        lowest=f"{min(likenesses):.2f}" if likenesses else "–",
        reference=base64.b64encode(encoded.tobytes()).decode(),
        rows=[_row(one) for one in ordered[:_MAX_LISTED]],
        cards=[_card(one, (box, inspected)) for one in ordered[:_MAX_SHOWN]],
        left_out=max(len(ordered) - _MAX_LISTED, 0),
    )


def _row(one: LookedAt) -> PoseRow:
    name = "/".join(one.sample.label.split("/")[-2:])
    if one.located is None:
        return PoseRow(name, "–", "–", "–", "–", one.fault)
    pose = one.located.pose
    likeness = f"{one.located.likeness:.3f}"
    turned, size = f"{pose.angle_deg:.1f}°", f"{pose.scale:.3f}"
    return PoseRow(name, f"{pose.x:.1f}", f"{pose.y:.1f}", turned, size, likeness)


def _card(one: LookedAt, boxes: Sequence[Box]) -> PoseCard:
    image: Image = as_bgr(read_sample(one.sample)).copy()
    if one.located is not None:
        line_px = max(1, min(image.shape[:2]) // 200)
        for box in boxes:
            corners = np.rint(one.located.pose.corners(box) - 0.5).astype(np.int32)
            cv2.polylines(image, [corners], True, _COLOUR, line_px, cv2.LINE_AA)
            # The region's upper edge, thicker: it tells how the part is turned.
            first, second = (tuple(map(int, corner)) for corner in corners[:2])
            cv2.line(image, first, second, _COLOUR, 3 * line_px, cv2.LINE_AA)
    height = max(1, round(image.shape[0] * _SHOWN_WIDTH_PX / image.shape[1]))
    small = cv2.resize(image, (_SHOWN_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return PoseCard(_row(one).name, base64.b64encode(encoded.tobytes()).decode())
