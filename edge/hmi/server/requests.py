"""What a request asks for, checked before anything is done with it."""

import math
import re
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from edge.hmi.server.auth import RequestRefused
from edge.inspection.thresholding import Result
from edge.journal.entries import RecordKind
from edge.journal.query import Query
from edge.validation import in_words


class ActionRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    comment: str = Field(default="", max_length=200)


class ThresholdAsked(ActionRequest):
    image_threshold: float | None = Field(ge=-1e9, le=1e9)


class FeedbackAsked(ActionRequest):
    seq: int = Field(ge=1, le=2**62)
    mark: str = Field(pattern="^(false_reject|missed_defect|none)$")


class CaptureAsked(ActionRequest):
    count: int = Field(ge=0, le=500)


class AcknowledgeAsked(ActionRequest):
    reason: str = Field(pattern="^[a-z0-9_]{1,60}$")


ACTIONS: dict[str, type[ActionRequest]] = {
    "threshold": ThresholdAsked,
    "feedback": FeedbackAsked,
    "capture": CaptureAsked,
    "rollback": ActionRequest,
    "acknowledge": AcknowledgeAsked,
    "unlock": ActionRequest,
}


def validated(kind: type[ActionRequest], body: bytes) -> dict[str, Any]:
    """Return what an action is asked for.

    Raises:
        Refused: 400 for what is no JSON, 422 for anything but what the action takes.
    """
    try:
        return kind.model_validate_json(body).model_dump()
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        status = 400 if fault["type"] == "json_invalid" else 422
        words = in_words(fault)
        raise RequestRefused(
            status, f"{where}: {words}" if where else f"The body {words}"
        ) from error


def wanted(request: Request) -> Query:
    """Return which verdicts a request asks for."""
    given = request.query_params
    return Query(
        kind=RecordKind.VERDICT,
        result=_choice(given.get("result"), [result.value for result in Result]),
        part_id=given.get("part_id") or None,
        from_utc_ns=_moment(given.get("from")),
        to_utc_ns=_moment(given.get("to")),
    )


def _choice(text: str | None, allowed: list[str]) -> str | None:
    if not text:
        return None
    if text not in allowed:
        raise RequestRefused(400, f"result is one of {', '.join(allowed)}.")
    return text


_WHOLE = re.compile(r"\d{1,18}")


def whole(text: str | None, default: int | None) -> int | None:
    """Return a whole number of a query."""
    if not text:
        return default
    if not _WHOLE.fullmatch(text):
        raise RequestRefused(400, "limit and before are whole numbers.")
    return int(text)


def seq_of(text: str) -> int | None:
    """Return the number of a part in a path; None for what is none."""
    return int(text) if _WHOLE.fullmatch(text) else None


def number(text: str | None) -> float:
    """Return a finite number of a query."""
    try:
        found = float(text or "")
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise RequestRefused(400, "image_threshold is a raw score, a finite number.")
    return found


def _moment(text: str | None) -> int | None:
    """Return RFC 3339, or the local time a browser's field gives, as nanoseconds since 1970."""
    if not text:
        return None
    try:
        utc_s = datetime.fromisoformat(text).astimezone().timestamp()
        return min(max(int(utc_s * 1e9), 0), 2**62)
    except (ValueError, OverflowError, OSError) as error:
        raise RequestRefused(400, "from and to are times such as 2026-11-23T14:00.") from error
