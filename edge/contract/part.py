"""A part that several stations looked at: their verdicts as one, schema ``part/1``."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge.contract.encoding import bounded, utc_text
from edge.contract.verdict import ACT_WITHIN_NS
from edge.inspection.decision import Result

PART_SCHEMA = "part/1"
MAX_DETAIL_LENGTH = 300


class PartReason(StrEnum):
    """Why a part got its result."""

    VIEWS_OK = "views_ok"
    VIEW_NOK = "view_nok"
    VIEW_NOT_DECIDABLE = "view_not_decidable"
    VIEW_MISSING = "view_missing"
    VIEW_REPEATED = "view_repeated"
    VIEW_ERROR = "view_error"
    VIEW_LATE = "view_late"
    OVERFLOW = "overflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one station found of a part.

    Attributes:
        station: ``SITE/LINE/STATION/CAMERA``.
        id, journal, seq: of its verdict.
        result, reason: of its verdict.
        decided_utc_ns: by the station's clock.
        in_time: False where the station itself missed its deadline.
        simulated, replayed: as in its verdict.
    """

    station: str
    id: str
    journal: str
    seq: int
    result: Result
    reason: str
    decided_utc_ns: int
    in_time: bool = True
    simulated: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedPart:
    """One decided part.

    Attributes:
        part_id: as all its views name it.
        views: in the order in which they came; a station that came twice is there twice.
        missing: stations of which nothing came.
        detail: for people; empty where the reason says all.
        simulated: one of its views is.
        replayed: one of its views was, or it was decided too late to be acted on.
        decided_utc_ns: by the clock of who joined it.
    """

    part_id: str
    result: Result
    reason: PartReason
    views: tuple[View, ...]
    missing: tuple[str, ...]
    detail: str
    simulated: bool
    replayed: bool
    decided_utc_ns: int


def judge_views(
    views: Sequence[View], missing: Sequence[str], overflow: bool = False
) -> tuple[Result, PartReason]:
    """Make one result of several: the worst counts, and what is not there is an ERROR.

    Any NOK is NOK. Else what is missing, repeated, late or itself an ERROR is ERROR; else
    any NOT_DECIDABLE is NOT_DECIDABLE; OK is what every view found OK.

    Args:
        views: what came, at least one.
        missing: stations of which nothing came.
        overflow: given up before its time, as too many parts were open.
    """
    results = {view.result for view in views}
    if Result.NOK in results:
        return Result.NOK, PartReason.VIEW_NOK
    faults = {
        PartReason.OVERFLOW: overflow,
        PartReason.VIEW_MISSING: bool(missing),
        PartReason.VIEW_REPEATED: len({view.station for view in views}) < len(views),
        PartReason.VIEW_ERROR: Result.ERROR in results,
        PartReason.VIEW_LATE: not all(view.in_time for view in views),
    }
    for reason, found in faults.items():
        if found:
            return Result.ERROR, reason
    if Result.NOT_DECIDABLE in results:
        return Result.NOT_DECIDABLE, PartReason.VIEW_NOT_DECIDABLE
    return Result.OK, PartReason.VIEWS_OK


def part_payload(part: JoinedPart, name: str, identity: str, within_ms: float) -> dict[str, Any]:
    """Build the ``part/1`` payload (``schemas/part-1.json``).

    Args:
        part: what was decided.
        name: whose topic it is published on.
        identity: UUIDv7 of this result.
        within_ms: in what time all views had to be there.
    """
    return {
        "schema": PART_SCHEMA,
        "id": identity,
        "name": name,
        "part_id": part.part_id,
        "result": part.result.value,
        "reason": part.reason.value,
        "detail": bounded(part.detail, MAX_DETAIL_LENGTH) or None,
        "simulated": part.simulated,
        "replayed": part.replayed,
        "views": [_view(view) for view in part.views],
        "missing": list(part.missing),
        "within_ms": within_ms,
        "decided_utc": utc_text(part.decided_utc_ns),
        "expires_utc": utc_text(part.decided_utc_ns + ACT_WITHIN_NS),
    }


def _view(view: View) -> dict[str, Any]:
    return {
        "station": view.station,
        "id": view.id,
        "journal": view.journal,
        "seq": view.seq,
        "result": view.result.value,
        "reason": view.reason,
        "replayed": view.replayed,
        "decided_utc": utc_text(view.decided_utc_ns),
    }
