"""The study: every part in every round through the inspector of the station."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge.challenge.presentation import Showings, order_of_showing
from edge.challenge.reference_parts import ReferencePart
from edge.contract.verdict import pixels_sha256
from edge.errors import StationError
from edge.imaging.frame import Frame
from edge.inspection.attribute_agreement import PartResults
from edge.inspection.decision import Result
from edge.inspection.inspector import Inspection, Inspector
from edge.redaction import one_line
from edge.wording import counted


class StudyInterrupted(StationError):
    """Somebody broke the study off."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class Showing:
    """One part in one round.

    Attributes:
        inspection: without its map, which nobody keeps.
        image_sha256: of the samples, as in a verdict; None of a frame without any.
    """

    inspection: Inspection
    image_sha256: str | None


@dataclass(frozen=True, slots=True)
class StudiedPart:
    """A part and what the station found of it, round by round."""

    part: ReferencePart
    showings: tuple[Showing, ...]

    @property
    def results(self) -> PartResults:
        found = tuple(showing.inspection.decision.result for showing in self.showings)
        return PartResults(self.part.defective, found)


def run_study(
    parts: Sequence[ReferencePart],
    rounds: int,
    showings: Showings,
    inspector: Inspector,
    *,
    emit: Callable[[str], None],
) -> list[StudiedPart]:
    """Show every part in every round.

    Args:
        inspector: of the station: prepares, infers and decides as on the line.
        emit: shows a line of progress.

    Raises:
        StationError: a part could not be shown; the study has no result.
    """
    found: dict[str, list[Showing]] = {part.name: [] for part in parts}
    place = "before the first part"
    try:
        for turn, part, place in order_of_showing(parts, rounds):
            if part is parts[0]:
                emit(f"round {turn + 1} of {rounds}: {counted(len(parts), 'part')}")
            frame = showings.frame(part, place)
            showing = _inspected(frame, inspector)
            found[part.name].append(showing)
            if showing.inspection.decision.result is Result.ERROR:
                emit(f"{place}: {part.name}: ERROR: {one_line(showing.inspection.detail)}")
    except KeyboardInterrupt:
        raise StudyInterrupted(f"interrupted ({place}); nothing was recorded.") from None
    return [StudiedPart(part, tuple(found[part.name])) for part in parts]


def _inspected(frame: Frame, inspector: Inspector) -> Showing:
    inspection = inspector.inspect(frame)
    return Showing(
        without_map(inspection), pixels_sha256(frame.pixels) if frame.pixels.size else None
    )


def without_map(inspection: Inspection) -> Inspection:
    """Return an inspection that holds no array."""
    return replace(inspection, decided_map=None, map_scale=None)
