"""What a request asks for, checked before anything is done with it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from edge.hmi.actions import (
    AcknowledgeBody,
    ActionBody,
    CaptureBody,
    FeedbackBody,
    MaskBody,
    RecipeBody,
    RollbackBody,
    TeachBody,
    TeachBuildBody,
    TeachCaptureBody,
    TeachEndBody,
    TeachReleaseBody,
    TeachStrikeBody,
    TeachTrialBody,
    ThresholdBody,
    UnlockBody,
)
from edge.hmi.contents import MAX_IMAGE_NUMBER, Content
from edge.hmi.server.auth import RequestRefused
from edge.inspection.decision import Result
from edge.journal.entries import RecordKind
from edge.journal.query import Query
from edge.validation import in_words

ACTIONS: dict[str, type[ActionBody]] = {
    "threshold": ThresholdBody,
    "mask": MaskBody,
    "feedback": FeedbackBody,
    "capture": CaptureBody,
    "rollback": RollbackBody,
    "recipe": RecipeBody,
    "acknowledge": AcknowledgeBody,
    "teach": TeachBody,
    "teach_capture": TeachCaptureBody,
    "teach_strike": TeachStrikeBody,
    "teach_build": TeachBuildBody,
    "teach_trial": TeachTrialBody,
    "teach_release": TeachReleaseBody,
    "teach_end": TeachEndBody,
    "unlock": UnlockBody,
}
MAX_FOUND = 100
# As many digits as SQLite takes.
MAX_NUMBER = 10**18 - 1


def _utc_ns(text: str) -> int:
    """Return RFC 3339, or the local time a browser's field gives, as nanoseconds since 1970."""
    try:
        utc_s = datetime.fromisoformat(text).astimezone().timestamp()
        return min(max(int(utc_s * 1e9), 0), 2**62)
    except (OverflowError, OSError) as error:
        raise ValueError(str(error)) from error


Moment = Annotated[int, BeforeValidator(_utc_ns), WithJsonSchema({"type": "string"})]


class RequestQuery(Content):
    """What stands behind the question mark of an address; more is ignored, as is what is empty.

    Attributes:
        faults: by parameter, the answer to one that makes no sense.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    faults: ClassVar[Mapping[str, str]]


class PartsQuery(RequestQuery):
    """Which verdicts."""

    faults: ClassVar = {
        "result": f"result must be one of {', '.join(Result)}.",
        "from": "from and to must be times such as 2026-11-23T14:00.",
        "to": "from and to must be times such as 2026-11-23T14:00.",
        "before": "limit and before must be whole numbers.",
        "limit": "limit and before must be whole numbers.",
    }

    result: Result | None = Field(default=None, description="exactly this")
    part_id: str | None = Field(
        default=None, description="exactly this, or the name of the file that the image came from"
    )
    since: Moment | None = Field(default=None, alias="from", description="RFC 3339, or local time")
    to: Moment | None = Field(default=None, description="RFC 3339, or local time")

    def question(self) -> Query:
        """Return it as the journal takes it."""
        return Query(
            kind=RecordKind.VERDICT,
            result=self.result.value if self.result else None,
            part_id=self.part_id,
            from_utc_ns=self.since,
            to_utc_ns=self.to,
        )


class PartsPageQuery(PartsQuery):
    """Which verdicts, page by page."""

    before: int | None = Field(
        default=None, ge=0, le=MAX_NUMBER, description="position to go on from"
    )
    limit: int = Field(default=50, ge=0, le=MAX_NUMBER, description=f"at most {MAX_FOUND}")


class PreviewQuery(RequestQuery):
    faults: ClassVar = {"image_threshold": "image_threshold must be a raw score, a finite number."}

    image_threshold: float = Field(description="raw score")


class PartPath(Content):
    seq: int = Field(ge=0, le=MAX_NUMBER)


class LivePath(Content):
    id: str = Field(description="of a verdict; it may end in .jpg")


class ImagePath(Content):
    id: str = Field(description="of a verdict", json_schema_extra={"format": "uuid"})
    which: Literal["image", "overlay", "thumbnail"]


class FilePath(Content):
    name: str


class TaughtImagePath(Content):
    which: Literal["images", "large", "maps"]
    number: int = Field(ge=1, le=MAX_IMAGE_NUMBER)


class ActionPath(Content):
    name: Literal[
        "threshold",
        "mask",
        "feedback",
        "capture",
        "rollback",
        "recipe",
        "acknowledge",
        "teach",
        "teach_capture",
        "teach_strike",
        "teach_build",
        "teach_trial",
        "teach_release",
        "teach_end",
        "unlock",
    ]


Q = TypeVar("Q", bound=RequestQuery)


def parsed_query(kind: type[Q], given: Mapping[str, str]) -> Q:
    """Return the parameters of a query.

    Raises:
        RequestRefused: 400 for what makes no sense.
    """
    try:
        return kind.model_validate({name: text for name, text in given.items() if text})
    except ValidationError as error:
        raise RequestRefused(400, kind.faults[str(error.errors()[0]["loc"][0])]) from error


P = TypeVar("P", bound=Content)


def parsed_path(kind: type[P], given: Mapping[str, Any], why: str) -> P:
    """Return the parameters of a path.

    Raises:
        RequestRefused: 404 for a path that leads nowhere.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise RequestRefused(404, why) from error


B = TypeVar("B", bound=ActionBody)


def parsed_body(kind: type[B], body: bytes) -> B:
    """Return the body of an action's request.

    Raises:
        RequestRefused: 400 for what is no JSON, 422 for anything but what the action takes.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        status = 400 if fault["type"] == "json_invalid" else 422
        words = in_words(fault)
        raise RequestRefused(
            status, f"{where}: {words}" if where else f"The body {words}"
        ) from error
