"""Begins a session with what a recipe was taught with, and with what people marked since."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from edge.errors import ImageUnreadable
from edge.hmi.actions import MarkedImage
from edge.hmi.contents import ContradictingMark
from edge.hmi.station_end.teaching.images import SessionImages
from edge.hmi.station_end.teaching.session import NotTaken, TeachingSession
from edge.imaging.frame import Pixels
from edge.imaging.image_files import read_image
from edge.recipes.folder import RecipeFolder
from edge.recipes.taught import read_taught
from edge.teaching.learning_from_marks import parts_beside_marks
from edge.teaching.refusals import TeachingNotPossible


def fill_with_marks(
    session: TeachingSession,
    marked: Sequence[MarkedImage],
    images: SessionImages,
    recipes: RecipeFolder,
) -> None:
    """Begin with what a recipe was taught with, and with what people marked since.

    Raises:
        TeachingNotPossible: there is nothing to learn from.
        StationError: an image cannot be read or written.
    """
    version = recipes.load(session.recipe)
    taught = read_taught(version.folder)
    if taught is None:
        raise TeachingNotPossible(
            f"{version} was not taught here, and its images are not known. Teach it "
            "again, or learn from marks with train-station calibrate.",
            kind="not_taught_here",
            recipe=version.name,
            version=version.version,
        )
    defective, confirmed = set(taught.defective), set(taught.confirmed)
    sources = {path.stem: path for path in recipes.images(session.recipe).glob("*.*")}
    for content in (*taught.images, *taught.defective):
        path = sources.get(content)
        if path is None:
            raise TeachingNotPossible(
                f"{version} was taught with image {content[:12]}, which is missing from "
                f"{recipes.images(session.recipe)}: newer versions took its place "
                "(recipes.max_images), or somebody removed it. Import the recipe with its "
                "images, or teach it again.",
                kind="taught_image_gone",
                recipe=version.name,
                version=version.version,
            )
        kind = "missed_defect" if content in defective else "taught"
        images.add(session, read_image(path), kind, confirmed=content in confirmed)
    learns = False
    for part in marked:
        if part.path is None or not Path(part.path).exists():
            session.not_taken += 1
            sentence = f"part {part.seq} is marked, but its image is no longer kept."
            session.why_not = NotTaken("image_gone", sentence, {"seq": part.seq})
            continue
        try:
            pixels = read_image(Path(part.path))
        except ImageUnreadable:  # cut, or gone since
            session.not_taken += 1
            sentence = f"part {part.seq} is marked, but its image cannot be read."
            session.why_not = NotTaken("image_gone", sentence, {"seq": part.seq})
            continue
        learns = _add_marked(session, part, pixels, images) or learns
    if not learns:
        raise TeachingNotPossible(
            f"there are no marked parts of {session.recipe!r} that it was not taught "
            "with in this way. Mark parts that were judged wrongly; their images must be there "
            "(snapshots.recent_hours).",
            kind="nothing_marked",
            recipe=session.recipe,
        )

    _fill_beside(session, {part.seq for part in marked}, images)


def _add_marked(
    session: TeachingSession, part: MarkedImage, pixels: Pixels, images: SessionImages
) -> bool:
    """Take a marked part into a session; tell whether its mark says anything new.

    Where the very same image was taught before, the mark counts: it is what somebody says of it
    now. One that contradicts is named, because one of the two is wrong.
    """
    good = part.mark == "false_reject"
    number = session.known(pixels, part.sha256)
    if number is None:
        count = len(session.images)
        images.add(session, pixels, part.mark, seq=part.seq, confirmed=good, sha256=part.sha256)
        return len(session.images) > count
    index = [image.number for image in session.images].index(number)
    before = session.images[index]
    if before.kind == part.mark or (good and before.confirmed):
        return False
    if before.is_learned != good:
        session.contradicted.append(ContradictingMark(mark=part.mark, seq=part.seq, number=number))
    session.images[index] = before.model_copy(
        update={"kind": part.mark, "confirmed": good, "seq": part.seq}
    )
    return True


def _fill_beside(session: TeachingSession, marked: Collection[int], images: SessionImages) -> None:
    """Add parts of the line that nobody marked: the threshold is held against them, too."""
    unmarked = [part for part in session.inspected if part.seq not in marked]
    chosen = parts_beside_marks(unmarked, images.most - len(session.images))
    for kind, parts in zip(("passed", "rejected"), chosen, strict=True):
        for part in parts:
            with suppress(ImageUnreadable):  # gone since
                pixels = read_image(Path(part.path))
                images.add(session, pixels, kind, seq=part.seq, sha256=part.sha256)
