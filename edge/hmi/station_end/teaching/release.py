"""Makes a candidate the next version of its recipe."""

import shutil
from pathlib import Path

from edge.contract.event import Datum
from edge.hmi.actions import CandidateReleased
from edge.hmi.contents import TeachingResult
from edge.hmi.station_end.teaching.build_request import version_in_force
from edge.hmi.station_end.teaching.folder import TeachingFolder
from edge.hmi.station_end.teaching.session import TeachingSession
from edge.recipes.content import MAX_NOTE, RecipeContent, follow_up
from edge.recipes.folder import MODEL, RecipeFolder, RecipeVersion, taught_place
from edge.recipes.taught import TAUGHT_FILE
from edge.teaching.build_process import RecipeAt
from edge.teaching.refusals import TeachingNotPossible
from edge.wording import counted


def publish_candidate(
    session: TeachingSession,
    result: TeachingResult,
    comment: str,
    *,
    folder: TeachingFolder,
    recipes: RecipeFolder,
    max_images: int,
    public_key: Path | None,
) -> RecipeVersion:
    """Publish it with the images that it was taught with; it is not in force yet.

    Raises:
        StationError: the disk refuses, or the folder of recipes.
    """
    taught = {
        taught_place(content, folder.image(number)): folder.image(number)
        for content, number in session.contents.items()
        if number in session.built_of
    }
    candidate = folder.candidate(result.build)
    return recipes.publish(
        next_content(
            session.recipe, recipes, f"taught with {counted(result.images, 'image')}: {comment}"
        ),
        lambda version: _copy_bundle(candidate, version),
        public_key,
        images=taught,
        max_images=max_images,
    )


def next_content(recipe: str, recipes: RecipeFolder, note: str = "") -> RecipeContent:
    """Return what the next version of a recipe says beside its model."""
    known = version_in_force(recipes, recipe)
    return follow_up(recipe, note[:MAX_NOTE], known.content if known is not None else None)


def demand_like_built(session: TeachingSession, like: RecipeAt | None) -> None:
    """Demand that what a candidate was built like, and compared with, is still in force.

    Args:
        like: what is in force now.

    Raises:
        TeachingNotPossible: a release, or somebody at the page, has replaced it since.
    """
    published = session.published
    if like == session.built_like:
        return
    if like is not None and published is not None and like.version == published.version:
        return  # of an attempt before
    now = f"version {like.version}" if like is not None else "no version"
    raise TeachingNotPossible(
        f"after the candidate was built, another version of {session.recipe!r} was put in force "
        f"or its mask was changed ({now} is in force): the candidate knows nothing of it. Build "
        "it again.",
        kind="version_since",
        recipe=session.recipe,
    )


def release_data(
    session: TeachingSession, result: TeachingResult, released: CandidateReleased, comment: str
) -> dict[str, Datum]:
    """Return what the event of a release keeps."""
    trial = session.trial
    return {
        "recipe": released.recipe,
        "version": released.version,
        "before": released.before,
        "model_sha256": released.model_sha256,
        "threshold": result.threshold,
        "images": result.images,
        "trial_parts": trial.parts if trial is not None else 0,
        "trial_alike": trial.alike if trial is not None else 0,
        "comment": comment,
    }


def _copy_bundle(candidate: Path, folder: Path) -> None:
    """Copy the files of a version, the manifest last."""
    names = (TAUGHT_FILE, *(f"{MODEL}{suffix}" for suffix in (".xml", ".bin", ".sig", ".json")))
    for name in names:
        source = candidate / name
        if source.exists():
            shutil.copyfile(source, folder / source.name)
