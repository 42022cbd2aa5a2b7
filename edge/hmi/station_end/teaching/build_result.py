"""What a build has made, as the page shows it."""

from collections.abc import Sequence

from edge.hmi.contents import (
    CapturedImage,
    PartPlace,
    PartsCompared,
    TaughtAlignment,
    TeachingResult,
    ThresholdChoiceRow,
)
from edge.teaching.build_process import AlignmentResult, BuildResult


def with_scores(images: Sequence[CapturedImage], result: BuildResult) -> list[CapturedImage]:
    """Return the images with what a build says of each; of others nothing."""
    scored = {_number(one.name): one for one in result.scored}
    aligned = result.alignment
    places = {_number(one.name): one for one in aligned.places} if aligned is not None else {}
    found = []
    for image in images:
        one, place = scored.get(image.number), places.get(image.number)
        scores = {
            "score": one.score if one is not None else None,
            "doubtful": one is not None and one.doubtful,
            "has_map": one is not None and one.has_map,
            "before": one.before if one is not None else None,
            "after": one.after if one is not None else None,
            "place": PartPlace.model_validate(place.model_dump(exclude={"name"}))
            if place is not None
            else None,
        }
        found.append(image.model_copy(update=scores))
    return found


def _number(name: str) -> int:
    return int(name.partition(".")[0])


def shown_result(build: int, result: BuildResult) -> TeachingResult:
    """Return the result of a build as the page shows it."""
    return TeachingResult(
        build=build,
        model_sha256=result.sha256,
        threshold=result.threshold,
        images=result.images,
        learned=result.learned,
        cross_validated=result.cross_validated,
        left_out=result.left_out,
        known_good=result.known_good,
        passed=result.passed,
        defective=result.defective,
        max_false_rejects=result.max_false_rejects,
        options=[
            ThresholdChoiceRow.model_validate(option.model_dump()) for option in result.options
        ],
        guaranteed_rate=result.guaranteed_rate,
        confidence=result.confidence,
        counted=result.counted,
        alignment=_shown_alignment(result.alignment),
        line=None
        if result.line is None
        else PartsCompared.model_validate(result.line.model_dump()),
    )


def _shown_alignment(found: AlignmentResult | None) -> TaughtAlignment | None:
    if found is None:
        return None
    roi = found.roi
    return TaughtAlignment(
        mode=found.mode,
        reference=_number(found.reference) if found.reference is not None else None,
        roi=(roi.x, roi.y, roi.width, roi.height),
        least_likeness=found.least_likeness,
        scale=found.scale,
    )
