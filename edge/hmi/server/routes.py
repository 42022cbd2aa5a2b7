"""The page's HTTP interface: which paths there are, and what every answer carries."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.errors import StationError
from edge.hmi.server.auth import MAX_BODY_BYTES, Guard, RequestRefused
from edge.hmi.server.connections import PROBES_ONLY
from edge.hmi.server.handlers import Application, Handlers
from edge.hmi.server.part_queries import SearchTooLong
from edge.hmi.server.responses import error_reply

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


def application(parts: Application) -> ASGIApp:
    """Build the ASGI application."""
    app = Starlette(
        routes=make_routes(Handlers(parts)),
        exception_handlers={
            RequestRefused: _refused,
            HTTPException: _http_error,
            SearchTooLong: _too_long,
            StationError: _station_error,
        },
    )
    # A redirect would name the address that the proxy calls, not the one that people do.
    app.router.redirect_slashes = False
    return _Guarded(app, parts.guard)


def make_routes(answers: Handlers) -> list[Route]:
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
        Route("/pictures/{id}/{which}", answers.image),
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
        await self._app(scope, receive, secured)


def _check_framing(scope: Scope) -> None:
    """Refuse a request of which somebody before us may have seen another end than we do.

    Raises:
        Refused: 400 for two lengths, 413 for a body that no action has.
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
    return error_reply(error.status, error.why)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_reply(error.status_code, error.detail, error.headers)


async def _too_long(request: Request, error: Exception) -> Response:
    return error_reply(422, str(error))


async def _station_error(request: Request, error: Exception) -> Response:
    return error_reply(503, str(error))
