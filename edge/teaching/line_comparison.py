"""A candidate beside the verdicts of the line: the newest parts of its recipe, judged again."""

import time
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from edge.errors import FrameUnsuitable, ImageUnreadable
from edge.imaging.frame import Frame
from edge.imaging.image_files import read_image
from edge.inspection.decision import Result
from edge.inspection.inspector import Inspector
from edge.section import Section

LIMIT_S = 90.0
MAX_CHANGED = 60


class LinePart(Section):
    """A part that was inspected, and where its image is kept."""

    seq: int
    id: str
    result: Result
    path: str


class LineParts(Section):
    """Parts to compare on, the newest first."""

    parts: list[LinePart] = Field(max_length=1000)


class ChangedVerdict(Section):
    """A part that a candidate judges otherwise; ``before`` is its verdict."""

    seq: int
    id: str
    before: Result
    after: Result


class LineComparison(Section):
    """What a candidate makes of the parts.

    Attributes:
        parts: that were judged again, of ``kept``.
        rejected: were OK, and would not be.
        passed: were not OK, and would be.
        changed: the newest of these.
    """

    parts: int
    kept: int
    rejected: int
    passed: int
    changed: list[ChangedVerdict]


def compare(
    inspector: Inspector, line: LineParts, clock_s: Callable[[], float] = time.monotonic
) -> LineComparison:
    """Judge parts again, as many as go in 90 s. Images that are gone since are left out."""
    until_s = clock_s() + LIMIT_S
    judged = rejected = passed = 0
    changed: list[ChangedVerdict] = []
    for part in line.parts:
        if clock_s() > until_s:
            break
        after = _judged(inspector, Path(part.path))
        if after is None:
            continue
        judged += 1
        was_ok, is_ok = part.result is Result.OK, after is Result.OK
        rejected += was_ok and not is_ok
        passed += is_ok and not was_ok
        if was_ok != is_ok and len(changed) < MAX_CHANGED:
            changed.append(
                ChangedVerdict(seq=part.seq, id=part.id, before=part.result, after=after)
            )
    return LineComparison(
        parts=judged, kept=len(line.parts), rejected=rejected, passed=passed, changed=changed
    )


def _judged(inspector: Inspector, path: Path) -> Result | None:
    try:
        pixels = read_image(path)
        frame = Frame(pixels=pixels, number=0, captured_ns=0, captured_utc_ns=0)
        return inspector.inspect(frame).decision.result
    except (ImageUnreadable, FrameUnsuitable):
        return None
