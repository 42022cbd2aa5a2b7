"""Which frames of the line are taught with."""

from pathlib import Path

from edge.contract.verdict import Verdict
from edge.errors import FrameUnsuitable
from edge.hmi.station_end.teaching.images import SessionImages
from edge.hmi.station_end.teaching.session import NotTaken, TeachingSession
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.decision import Reason
from edge.teaching.images import taught_image
from edge.teaching.scene_change import look_at, scene_changed


def is_whole(frame: Frame) -> bool:
    """Tell whether a frame has come complete."""
    return frame.status is FrameStatus.COMPLETE and frame.pixels.size > 0


def shows_new_scene(session: TeachingSession, frame: Frame, waits_until_still: bool) -> bool:
    """Tell whether a frame shows something else than the newest image; notes how it looks.

    Args:
        waits_until_still: not as long as it differs from the frame before.
    """
    if not is_whole(frame):
        return False
    now, before = look_at(frame.pixels), session.before
    session.before = now
    moving = before is None or scene_changed(before, now)
    if waits_until_still and moving:
        return False
    if session.look is not None and not scene_changed(session.look, now):
        return False
    session.look = now
    return True


def frame_fault(
    session: TeachingSession, verdict: Verdict, images: SessionImages
) -> NotTaken | None:
    """Return why a frame shows no good part; None where it may."""
    frame = verdict.frame
    if not is_whole(frame):
        cause = frame.detail or verdict.inspection.detail
        return NotTaken("incomplete", f"the image is {frame.status.value}: {cause}")
    if len(session.images) >= images.most:
        return images.enough()
    if session.size is not None and frame.pixels.shape != session.size:
        now, first = (f"{shape[1]}×{shape[0]}" for shape in (frame.pixels.shape, session.size))
        return NotTaken(
            "other_size",
            f"the image has {now} pixels, the others have {first}; all images must have "
            "the same size.",
            {"now": now, "first": first},
        )
    try:
        content = taught_image(Path(), frame.pixels, session.spec).content
    except FrameUnsuitable as error:
        return NotTaken("unsuitable", str(error))
    known = session.contents.get(content)
    if known is not None:
        sentence = (
            f"it is identical to image {known}. Check that the camera does not repeat one image."
        )
        return NotTaken("repeated", sentence, {"n": known})
    return None


def other_product(session: TeachingSession, verdict: Verdict) -> NotTaken | None:
    """Return that code or trigger of a part name another product than is taught; else None."""
    named = verdict.named_recipe
    if named is None:
        return None
    if named.id != session.recipe:
        return NotTaken(
            "other_product",
            f"the part's code or trigger names recipe {named.id}, not {session.recipe}. Capture "
            "parts of this product, or one by one.",
            {"recipe": named.id, "taught": session.recipe},
        )
    inspection = verdict.inspection
    if verdict.code_recipe is None and inspection.decision.reason is Reason.RECIPE_MISMATCH:
        return NotTaken(
            "names_differ", inspection.detail
        )  # the code names another than the trigger
    return None
