"""What of a frame the network sees: the inspected box, whole or in tiles."""

from typing import NamedTuple

from edge.bundle.input_spec import InputSpec
from edge.imaging.frame import Box
from edge.inspection.alignment import reference_box
from edge.inspection.preprocessing import inspected_box
from edge.inspection.tiling import TilePlan, plan_tiles


class Pieces(NamedTuple):
    """The inspected part of a frame, the boxes the network sees, and their plan if tiled.

    Where the part is to be found first, all in pixels of the reference image.
    """

    whole: Box
    boxes: tuple[Box, ...]
    plan: TilePlan | None


def frame_pieces(frame: tuple[int, ...], spec: InputSpec) -> Pieces:
    """Return what of a frame of a shape the network sees, piece by piece.

    Raises:
        FrameUnsuitable: the crop does not lie inside the frame, or what is left is too small.
    """
    if spec.locator is None:
        box = inspected_box(frame, spec.crop)
    else:
        box = reference_box(spec.locator, spec.crop)
    if spec.tile_plan is None:
        return Pieces(box, (box,), None)
    plan = plan_tiles(box, spec.tile_plan)
    return Pieces(box, tuple(plan.tile(index) for index in range(len(plan))), plan)
