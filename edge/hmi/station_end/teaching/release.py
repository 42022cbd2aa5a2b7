"""Makes a candidate the next version of its recipe."""

import shutil
from pathlib import Path

from edge.contract.event import Datum
from edge.hmi.actions import CandidateReleased
from edge.hmi.contents import TeachingResult
from edge.hmi.station_end.teaching.build_request import version_in_force
from edge.hmi.station_end.teaching.folder import TeachingFolder
from edge.hmi.station_end.teaching.session import TeachingSession
from edge.recipes.content import MAX_NOTE, follow_up
from edge.recipes.folder import MODEL, RecipeFolder, RecipeVersion, taught_place
from edge.recipes.taught import TAUGHT_FILE


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
    known = version_in_force(recipes, session.recipe)
    candidate = folder.candidate(result.build)
    return recipes.publish(
        follow_up(
            session.recipe,
            f"taught with {result.images} images: {comment}"[:MAX_NOTE],
            known.content if known is not None else None,
        ),
        lambda version: _copy_bundle(candidate, version),
        public_key,
        images=taught,
        max_images=max_images,
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
