"""The page's HTTP interface: which paths there are, and what every answer carries."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.errors import StationError
from edge.hmi.answers import Answers, Application
from edge.hmi.guard import Guard, Refused
from edge.hmi.parts import SearchTooLong
from edge.hmi.replies import error_reply

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


def application(parts: Application) -> ASGIApp:
    """Build the ASGI application."""
    app = Starlette(
        routes=make_routes(Answers(parts)),
        exception_handlers={
            Refused: _refused,
            HTTPException: _http_error,
            SearchTooLong: _too_long,
            StationError: _station_error,
        },
    )
    # A redirect would name the address that the proxy calls, not the one that people do.
    app.router.redirect_slashes = False
    return _Guarded(app, parts.guard)


def make_routes(answers: Answers) -> list[Route]:
    """Return every path that is served; those of the interface are described in openapi.json."""
    return [
        Route("/", answers.index),
        Route("/static/{name}", answers.static),
        Route("/api/stream", answers.stream),
        Route("/api/status", answers.status),
        Route("/api/numbers", answers.numbers),
        Route("/api/parts", answers.search),
        Route("/api/parts.csv", answers.csv),
        Route("/api/parts/{seq}", answers.detail),
        Route("/api/threshold/preview", answers.preview),
        Route("/api/feedback", answers.feedback),
        Route("/api/feedback.tar", answers.feedback_tar),
        Route("/api/actions/{name}", answers.act, methods=["POST"]),
        Route("/api/openapi.json", answers.openapi),
        Route("/pictures/{id}/{which}", answers.picture),
        Route("/live/{id}", answers.live),
        Route("/metrics", answers.metrics),
        Route("/livez", answers.livez),
        Route("/readyz", answers.readyz),
    ]


class _Guarded:
    """Checks the name a request comes by, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_SECURE]
            await send(message)

        try:
            self._guard.check_host(Request(scope))
        except Refused as refused:
            await error_reply(refused.status, refused.why)(scope, receive, secured)
            return
        await self._app(scope, receive, secured)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error_reply(error.status, error.why)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_reply(error.status_code, error.detail)


async def _too_long(request: Request, error: Exception) -> Response:
    return error_reply(422, str(error))


async def _station_error(request: Request, error: Exception) -> Response:
    return error_reply(503, str(error))
