"""The page's HTTP interface: which paths there are, and what every answer carries."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from edge.contract.encoding import to_json
from edge.errors import StationError
from edge.hmi.contents import Content, ShownPart, ViewerStatus
from edge.hmi.masks import MaskInForce
from edge.hmi.server.answer_models import (
    ActionAnswer,
    FoundParts,
    Liveness,
    MarkedParts,
    PageStatus,
    PartDetail,
    Problem,
    ProductionNumbers,
    Readiness,
    ThresholdPreview,
    ZonesOfGoodParts,
)
from edge.hmi.server.auth import MARK, NAME, Guard, RequestRefused
from edge.hmi.server.connections import PROBES_ONLY, REQUEST_LIMIT_S
from edge.hmi.server.handlers import Application, Handlers
from edge.hmi.server.limits import MAX_BODY_BYTES, READS_PER_MINUTE
from edge.hmi.server.live_view import StationSilence
from edge.hmi.server.openapi import Answer, Operation, describe
from edge.hmi.server.part_queries import SearchTooLong
from edge.hmi.server.requests import (
    ACTIONS,
    ActionPath,
    FilePath,
    ImagePath,
    LivePath,
    PartPath,
    PartsPageQuery,
    PartsQuery,
    PreviewQuery,
    TaughtImagePath,
)
from edge.hmi.server.responses import error_reply, problem_reply
from edge.hmi.server.threshold_preview import PARTS

_SECURE = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
        b"form-action 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

# What a monitor asks; it is answered also while all places are taken.
PROBES = ("/livez", "/readyz", "/metrics")

_ABOUT = (
    "What the page at a station can be asked. Reading needs no token; actions need "
    "`Authorization: Bearer` with the station's token, or the user header of a trusted reverse "
    "proxy, and always `X-Edge-Request: 1` and `Content-Type: application/json`. Scores named raw "
    "are what was compared; others are normalized, with the threshold at 0.5. A request has to be "
    f"whole within {REQUEST_LIMIT_S:g} s, its body at most {MAX_BODY_BYTES // 1024} KiB. Who asks "
    f"more than {READS_PER_MINUTE:,} times a minute gets 429; who connects while an address has "
    "half of the places, or all are taken, gets 503 for everything but "
    f"{', '.join(f'`{path}`' for path in PROBES)}. 421 is for a host name that is not ours."
)
# Refusals that every path has, and those of all but probes.
_PROBE = (400, 413, 421)
_ALL = (*_PROBE, 429, 503)
_ACTION_HEADERS = (
    {"name": MARK, "in": "header", "required": True, "schema": {"const": "1"}},
    {
        "name": NAME,
        "in": "header",
        "description": "name of who has the token, percent-encoded; recorded, not checked",
        "schema": {"type": "string"},
    },
)


def application(parts: Application) -> "GuardedPage":
    """Build the ASGI application."""
    handlers = Handlers(parts)
    operations = make_operations(handlers)
    handlers.describe = cache(
        lambda: to_json(describe("Inspection station", _ABOUT, operations)).encode()
    )
    app = Starlette(
        routes=make_routes(operations),
        exception_handlers={
            RequestRefused: _refused,
            HTTPException: _http_error,
            SearchTooLong: _too_long,
            StationError: _station_error,
        },
    )
    # A redirect would name the address that the proxy calls, not the one that people do.
    app.router.redirect_slashes = False
    return GuardedPage(app, parts.guard)


def make_operations(handlers: Handlers) -> list[Operation]:
    """Return everything that can be asked: the routes, and what the description says of them."""
    file = Answer(
        "a file of the page", ("text/html", "text/css", "text/javascript", "image/svg+xml")
    )
    image = Answer("an image", ("image/png", "image/jpeg"))
    live, ready = _answer("it does", Liveness), _answer("they are", Readiness)
    return [
        Operation(
            path="/",
            handler=handlers.index,
            summary="The page",
            answers={200: Answer("the page", ("text/html",))},
            refusals=_ALL,
        ),
        Operation(
            path="/static/{name}",
            handler=handlers.static,
            summary="Scripts, styles and words of the page",
            path_model=FilePath,
            answers={200: file},
            refusals=(*_ALL, 404),
        ),
        Operation(
            path="/api/stream",
            handler=handlers.stream,
            summary="State and parts as server-sent events: `status`, `part`, `alive`; "
            "who is slow gets the newest",
            answers={
                200: Answer(
                    "`data` of the events",
                    ("text/event-stream",),
                    (ViewerStatus, ShownPart, StationSilence),
                )
            },
            refusals=_ALL,
        ),
        Operation(
            path="/api/status",
            handler=handlers.status,
            summary="State of the station and its newest part",
            answers={200: _answer("the state", PageStatus)},
            refusals=_ALL,
        ),
        Operation(
            path="/api/numbers",
            handler=handlers.numbers,
            summary="Yield, counts per hour and shift, trend, histogram, latency, last rejected "
            "parts, events; from the journal, at most a second old",
            answers={200: _answer("the numbers", ProductionNumbers)},
            refusals=_ALL,
        ),
        Operation(
            path="/api/parts",
            handler=handlers.search,
            summary="Verdicts, newest first",
            query=PartsPageQuery,
            answers={200: _answer("a page of them", FoundParts)},
            refusals=(*_ALL, 422),
        ),
        Operation(
            path="/api/parts.csv",
            handler=handlers.csv,
            summary="Verdicts, oldest first, with the columns of `edge-run --journal`",
            query=PartsQuery,
            answers={200: Answer("a table", ("text/csv",))},
            refusals=_ALL,
        ),
        Operation(
            path="/api/parts/{seq}",
            handler=handlers.detail,
            summary="Everything that is known of a part",
            path_model=PartPath,
            answers={200: _answer("the part", PartDetail)},
            refusals=(*_ALL, 404, 422),
        ),
        Operation(
            path="/api/threshold/preview",
            handler=handlers.preview,
            summary=f"How the last {PARTS:,} parts of the model would have been decided",
            query=PreviewQuery,
            answers={200: _answer("counts, and the parts that change", ThresholdPreview)},
            refusals=(*_ALL, 422),
        ),
        Operation(
            path="/api/mask",
            handler=handlers.mask,
            summary="What of the image counts, and the zones",
            answers={200: _answer("mask and zones in force", MaskInForce)},
            refusals=_ALL,
        ),
        Operation(
            path="/api/zones",
            handler=handlers.zones,
            summary=f"What the good ones of the last {PARTS:,} parts scored in each zone",
            answers={200: _answer("the zones that parts have had", ZonesOfGoodParts)},
            refusals=_ALL,
        ),
        Operation(
            path="/api/feedback",
            handler=handlers.feedback,
            summary="Parts that people have marked",
            answers={200: _answer("the newest mark of each", MarkedParts)},
            refusals=(*_ALL, 422),
        ),
        Operation(
            path="/api/feedback.tar",
            handler=handlers.feedback_tar,
            summary="Images of marked parts in good/ and defect/, for "
            "`train-station calibrate --data`",
            answers={200: Answer("a tar", ("application/x-tar",))},
            refusals=(*_ALL, 422),
        ),
        Operation(
            path="/api/actions/{name}",
            method="POST",
            handler=handlers.act,
            summary="Do something; recorded as an event with who did it",
            path_model=ActionPath,
            headers=_ACTION_HEADERS,
            bodies=ACTIONS,
            answers={200: _answer("it is done", ActionAnswer)},
            refusals=(*_ALL, 401, 403, 404, 408, 409, 415, 422, 500, 504),
        ),
        Operation(
            path="/api/openapi.json",
            handler=handlers.openapi,
            summary="This description",
            answers={200: Answer("OpenAPI 3.1")},
            refusals=_ALL,
        ),
        Operation(
            path="/images/{id}/{which}",
            handler=handlers.image,
            summary="A kept image of a part: `image` (PNG, without loss; of the last hours JPEG), "
            "`overlay` or `thumbnail` (JPEG)",
            path_model=ImagePath,
            answers={200: image},
            refusals=(*_ALL, 404),
        ),
        Operation(
            path="/live/{id}",
            handler=handlers.live,
            summary="The live image of one of the newest parts, while somebody watches",
            path_model=LivePath,
            answers={200: Answer("an image", ("image/jpeg",))},
            refusals=(*_ALL, 404),
        ),
        Operation(
            path="/teach/{which}/{number}",
            handler=handlers.taught_image,
            summary="An image that is taught with, small (`images`) or to draw on (`large`), or "
            "what is strange about it to a bank without it (`maps`)",
            path_model=TaughtImagePath,
            answers={200: Answer("an image", ("image/jpeg",))},
            refusals=(*_ALL, 404),
        ),
        Operation(
            path="/metrics",
            handler=handlers.metrics,
            summary="Numbers for Prometheus",
            answers={200: Answer("text", ("text/plain",))},
            refusals=(*_PROBE, 503),
        ),
        Operation(
            path="/livez",
            handler=handlers.livez,
            summary="Whether the station's process speaks",
            answers={200: live, 503: replace(live, description="it does not")},
            refusals=_PROBE,
        ),
        Operation(
            path="/readyz",
            handler=handlers.readyz,
            summary="Whether parts are inspected, and why not",
            answers={200: ready, 503: replace(ready, description="they are not")},
            refusals=_PROBE,
        ),
    ]


def make_routes(operations: Sequence[Operation]) -> list[Route]:
    """Return the routes; there is none without a description."""
    return [Route(one.path, one.handler, methods=[one.method]) for one in operations]


def _answer(description: str, model: type[Content]) -> Answer:
    return Answer(description, models=(model,))


class GuardedPage:
    """Checks the name a request comes by, and adds the headers that every answer has.

    Attributes:
        app: what answers.
    """

    def __init__(self, app: Starlette, guard: Guard) -> None:
        self.app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        probes_only = bool(scope.get("state", {}).get(PROBES_ONLY))

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_SECURE]
                if probes_only:  # its place is for the next one
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            _check_framing(scope)
            request = Request(scope)
            self._guard.check_host(request)
            if scope["path"] not in PROBES:
                if probes_only:
                    raise RequestRefused(503, "too many connections. Try again later.")
                self._guard.check_reader(request)
        except RequestRefused as refused:
            answer = error_reply(refused.status, refused.why)
            if refused.status == 400:
                answer.headers["connection"] = "close"
            await answer(scope, receive, secured)
            return
        await self.app(scope, receive, secured)


def _check_framing(scope: Scope) -> None:
    """Refuse a request of which somebody before us may have seen another end than we do.

    Raises:
        RequestRefused: 400 for two lengths, 413 for a body that no action has.
    """
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers and (
        b"content-length" in headers or scope.get("http_version") != "1.1"
    ):
        raise RequestRefused(400, "Content-Length and Transfer-Encoding exclude each other.")
    if int(headers.get(b"content-length", 0)) > MAX_BODY_BYTES:
        raise RequestRefused(413, f"at most {MAX_BODY_BYTES} bytes.")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    problem = Problem(error=error.why, kind=error.kind, data=error.data)
    return problem_reply(error.status, problem)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_reply(error.status_code, error.detail, error.headers)


async def _too_long(request: Request, error: Exception) -> Response:
    return error_reply(422, str(error))


async def _station_error(request: Request, error: Exception) -> Response:
    return error_reply(503, str(error))
