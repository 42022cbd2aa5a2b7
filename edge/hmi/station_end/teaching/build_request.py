"""What a build is asked for: which images, and what the version in force says for the next one."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.input_spec import AlignMode
from edge.bundle.loading import load_bundle
from edge.contract.verdict import Recipe
from edge.hmi.actions import TeachAlignment, TeachBuildBody
from edge.hmi.contents import CapturedImage
from edge.hmi.station_end.teaching.folder import TeachingFolder
from edge.hmi.station_end.teaching.session import TeachingSession
from edge.recipes.folder import RecipeFolder, RecipeVersion
from edge.settings.station import Settings
from edge.settings.teach import TeachSettings
from edge.teaching.build_process import AlignmentRequest, BuildRequest, RecipeAt
from edge.teaching.refusals import TeachingNotPossible


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSources:
    """What a build is made from, beside the session.

    Attributes:
        recipe_settings: by which parts of a version are decided, with what was set at the page.
    """

    teach: TeachSettings
    public_key: Path | None
    recipes: RecipeFolder
    folder: TeachingFolder
    recipe_settings: Callable[[Recipe], Settings]


def build_request(
    session: TeachingSession, asked: TeachBuildBody, build: int, sources: BuildSources
) -> BuildRequest:
    """Return what a build of a session is asked for.

    Raises:
        TeachingNotPossible: the reference is no good image that is taught with.
        StationError: the version in force cannot be read.
    """
    taught, teach, key = session.taught, sources.teach, sources.public_key
    before, before_threshold = _before(session, sources)

    def paths(images: Iterable[CapturedImage]) -> list[str]:
        return [str(sources.folder.image(image.number)) for image in images]

    return BuildRequest(
        name=session.recipe,
        teacher=teach.teacher,
        images=paths(one for one in taught if one.is_learned),
        confirmed=paths(one for one in taught if one.confirmed),
        passed=paths(one for one in taught if one.kind == "passed"),
        defective=paths(one for one in taught if one.kind == "missed_defect"),
        rejected=paths(one for one in taught if one.kind == "rejected"),
        learning=session.learning,
        max_false_rejects=asked.max_false_rejects,
        before=before,
        before_threshold=before_threshold,
        like=like_in_force(session.recipe, sources.recipes, sources.recipe_settings),
        alignment=alignment_request(asked.alignment, taught, sources.folder),
        line=str(sources.folder.line(build)) if session.inspected else None,
        folder=str(sources.folder.candidate(build)),
        views=asked.views,
        threads=teach.threads,
        public_key=str(key) if key else None,
        key=teach.key,
    )


def alignment_request(
    asked: TeachAlignment | None, taught: Sequence[CapturedImage], folder: TeachingFolder
) -> AlignmentRequest | None:
    """Return how the part is to be found; None as in the version in force.

    Raises:
        TeachingNotPossible: the reference is no good image that is taught with.
    """
    if asked is None:
        return None
    number = asked.reference
    if number is None:
        return AlignmentRequest(mode=asked.mode, scale=asked.scale)
    if all(image.number != number for image in taught if image.is_learned):
        raise TeachingNotPossible(
            f"image {number} cannot be the reference: it is excluded, or not a good one. "
            "Choose another, or use it again.",
            kind="no_reference",
            n=number,
        )
    path = str(folder.image(number))
    return AlignmentRequest(mode=asked.mode, reference=path, roi=asked.roi, scale=asked.scale)


def aligned(recipes: RecipeFolder, recipe: str, public_key: Path | None) -> AlignMode | None:
    """Return how the version in force finds its part.

    Raises:
        StationError: its bundle cannot be read.
    """
    version = version_in_force(recipes, recipe)
    if version is None:
        return None
    locator = load_bundle(version.model, public_key).manifest.input.locator
    return locator.mode if locator is not None else None


def version_in_force(recipes: RecipeFolder, recipe: str) -> RecipeVersion | None:
    return recipes.load(recipe) if recipes.in_force(recipe) is not None else None


def like_in_force(
    recipe: str, recipes: RecipeFolder, recipe_settings: Callable[[Recipe], Settings]
) -> RecipeAt | None:
    """Return the version whose crop and mask count for the next one, too, as it is in force now.

    Raises:
        StationError: it cannot be read, or what was set for it.
    """
    version = version_in_force(recipes, recipe)
    if version is None:
        return None
    settings = recipe_settings(Recipe(version.name, version.version))
    return RecipeAt(
        folder=str(recipes.path),
        name=version.name,
        version=version.version,
        mask=settings.decision.mask,
    )


def _before(session: TeachingSession, sources: BuildSources) -> tuple[str | None, float | None]:
    """Return the model that the recipe has in force, and the threshold it decides by."""
    if not session.learning:
        return None, None
    version = sources.recipes.load(session.recipe)
    settings = sources.recipe_settings(Recipe(version.name, version.version))
    return str(version.model), settings.decision.image_threshold
