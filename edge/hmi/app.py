"""The page's HTTP interface: what can be asked, and who answers."""

import asyncio
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.errors import StationError
from edge.hmi.guard import Actor, Guard, Refused, bounded_body
from edge.hmi.metrics import CONTENT_TYPE, metrics_text
from edge.hmi.numbers import Numbers
from edge.hmi.parts import MOST_FOUND, PICTURES, Parts, SearchTooLong
from edge.hmi.preview import PARTS, preview
from edge.hmi.view import View
from edge.inspection.thresholding import Result
from edge.journal.outbox import Outbox
from edge.journal.query import Query
from edge.journal.records import RecordKind
from edge.messaging.text import to_json
from edge.station.reports import journal_report

STATIC = Path(__file__).with_name("static")
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
# So long nothing new may come before a viewer is told that the page still lives.
STREAM_SILENCE_S = 5.0
# A viewer is told of changes no more often.
STREAM_PAUSE_S = 0.1
BODY_LIMIT_S = 10.0
NUMBERS_S = 1.0
MOST_EXPORTS = 2
# A station that has said nothing for so long does not live.
LIVE_WITHIN_S = 5.0
# Reasons for which no part is inspected; others degrade the station, which goes on.
_NOT_READY = (
    "camera_lost", "camera_failed", "journal_unwritable", "journal_full", "model_error",
)  # fmt: skip
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


class DoesDeeds(Protocol):
    """The station, as far as the page can ask it for something."""

    async def do(self, name: str, asked: Mapping[str, Any], actor: Actor) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Application:
    """What the answers are made of."""

    title: str
    language: str
    view: View
    station: DoesDeeds
    guard: Guard
    parts: Parts
    numbers: Numbers


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    comment: str = Field(default="", max_length=200)


class ThresholdAsked(_Asked):
    image_threshold: float | None = Field(ge=-1e9, le=1e9)


class FeedbackAsked(_Asked):
    seq: int = Field(ge=1, le=2**62)
    mark: str = Field(pattern="^(false_reject|missed_defect|none)$")


class CaptureAsked(_Asked):
    count: int = Field(ge=0, le=500)


class AcknowledgeAsked(_Asked):
    reason: str = Field(pattern="^[a-z0-9_]{1,60}$")


ACTIONS: dict[str, type[_Asked]] = {
    "threshold": ThresholdAsked,
    "feedback": FeedbackAsked,
    "capture": CaptureAsked,
    "rollback": _Asked,
    "acknowledge": AcknowledgeAsked,
    "unlock": _Asked,
}


def application(parts: Application) -> ASGIApp:
    """Build the ASGI application."""
    answers = _Answers(parts)
    routes = [
        Route("/", answers.index),
        Route("/static/{name}", answers.static),
        Route("/api/stream", answers.stream),
        Route("/api/status", answers.status),
        Route("/api/numbers", answers.numbers),
        Route("/api/parts", answers.search),
        Route("/api/parts.csv", answers.csv),
        Route("/api/parts/{seq:int}", answers.detail),
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
    app = Starlette(
        routes=routes,
        exception_handlers={
            Refused: _refused,
            HTTPException: _http_error,
            SearchTooLong: _too_long,
            StationError: _station_error,
        },
    )
    return _Guarded(app, parts.guard)


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
            await _error(refused.status, refused.why)(scope, receive, secured)
            return
        await self._app(scope, receive, secured)


class _Answers:
    """One method for each thing that can be asked."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._acting = asyncio.Lock()
        self._counting = asyncio.Lock()
        self._counted: tuple[float, bytes] = (-NUMBERS_S, b"")
        self._exports = 0
        self._static = {
            path.name: (path.read_bytes(), _KINDS[path.suffix])
            for path in STATIC.iterdir()
            if path.suffix in _KINDS
        }

    # The page itself.

    async def index(self, request: Request) -> Response:
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    async def openapi(self, request: Request) -> Response:
        return self._file("openapi.json")

    def _file(self, name: str) -> Response:
        if name not in self._static:
            raise Refused(404, "there is no such file.")
        content, kind = self._static[name]
        return Response(content, headers={"content-type": kind, "cache-control": "no-cache"})

    # What it shows.

    async def stream(self, request: Request) -> "_Stream":
        return _Stream(self._app.view)

    async def status(self, request: Request) -> Response:
        app = self._app
        return _json(
            {
                "title": app.title,
                "language": app.language,
                "may_act": app.guard.may_act,
                "status": app.view.status,
                "part": app.view.part,
            }
        )

    async def numbers(self, request: Request) -> Response:
        async with self._counting:  # once for all viewers; who waits takes no thread
            now_s = time.monotonic()
            if now_s - self._counted[0] >= NUMBERS_S:
                content = await run_in_threadpool(self._counted_now)
                self._counted = now_s, content
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        return Response(self._counted[1], headers=headers)

    def _counted_now(self) -> bytes:
        return to_json(self._app.numbers.content(datetime.now().astimezone())).encode()

    async def live(self, request: Request) -> Response:
        picture = self._app.view.picture(request.path_params["id"].removesuffix(".jpg"))
        if picture is None:
            raise Refused(404, "this picture is not among the newest any more.")
        jpeg = await run_in_threadpool(picture.jpeg)
        return _picture(jpeg, "image/jpeg")

    async def picture(self, request: Request) -> Response:
        verdict_id, which = request.path_params["id"], request.path_params["which"]
        if which == "thumbnail":
            thumbnail = self._app.view.thumbnail(verdict_id)
            if thumbnail is not None:
                return _picture(await run_in_threadpool(thumbnail.drawn), "image/jpeg")
            which = "overlay"
        if which not in PICTURES:
            raise Refused(404, "there are picture, overlay and thumbnail.")
        path = await run_in_threadpool(self._app.parts.snapshot, verdict_id, which)
        try:
            content = await run_in_threadpool(path.read_bytes) if path else None
        except OSError:  # deleted by the bounds of the folder since
            content = None
        if content is None:
            raise Refused(404, "no picture of this part is kept.")
        return _picture(content, PICTURES[which][1])

    async def search(self, request: Request) -> Response:
        app = self._app
        app.guard.check_rate(request)
        given, wanted = request.query_params, _wanted(request)
        most = min(_whole(given.get("limit"), 50) or 50, MOST_FOUND)
        before = _whole(given.get("before"), None)

        def found() -> dict[str, Any]:
            page, said = app.parts.search(wanted, before, most), app.parts.feedback()
            rows = [app.parts.content(row, said) for row in page.rows]
            return {"parts": rows, "before": page.before}

        return _json(await run_in_threadpool(found))

    async def csv(self, request: Request) -> Response:
        app = self._app
        app.guard.check_rate(request)
        pieces = self._export(app.parts.csv(_wanted(request)))
        return _download(pieces, "parts.csv", "text/csv; charset=utf-8")

    def _export(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Let only a few read the whole journal at a time.

        Raises:
            Refused: with 503 when so many do.
        """
        if self._exports >= MOST_EXPORTS:
            raise Refused(503, "other exports are running. Try again when they are done.")

        def counted() -> Iterator[bytes]:
            self._exports += 1
            try:
                yield from pieces
            finally:
                self._exports -= 1

        return counted()

    async def detail(self, request: Request) -> Response:
        app, seq = self._app, request.path_params["seq"]

        def found() -> dict[str, Any] | None:
            row = app.parts.verdict(min(seq, 2**62))
            return app.parts.detail(row, app.parts.feedback()) if row else None

        content = await run_in_threadpool(found)
        if content is None:
            raise Refused(404, "the journal has no part of this number.")
        thumbnail = app.view.thumbnail(content["verdict"]["id"])
        if thumbnail is not None and not content["pictures"]:
            content["pictures"] = ["thumbnail"]
        return _json(content)

    async def preview(self, request: Request) -> Response:
        app = self._app
        app.guard.check_rate(request)
        threshold = _number(request.query_params.get("image_threshold"))
        if app.view.status is None:
            raise Refused(503, "the station has not said anything yet.")
        model = app.view.status["model"]

        def tried() -> dict[str, Any]:
            rows = app.parts.last_decided(model["sha256"], PARTS)
            return preview(rows, threshold, model["guard_band"], app.parts.feedback())

        return _json(await run_in_threadpool(tried))

    async def feedback(self, request: Request) -> Response:
        said = await run_in_threadpool(self._app.parts.feedback)
        return _json({"feedback": [said[seq] for seq in sorted(said, reverse=True)]})

    async def feedback_tar(self, request: Request) -> Response:
        self._app.guard.check_rate(request)
        pieces = self._export(self._app.parts.feedback_tar())
        return _download(pieces, "feedback.tar", "application/x-tar")

    # What it does.

    async def act(self, request: Request) -> Response:
        app, name = self._app, request.path_params["name"]
        if name not in ACTIONS:
            raise Refused(404, f"there is no such action; there are {', '.join(ACTIONS)}.")
        try:
            actor = app.guard.actor(request)
        except Refused as refused:
            await self._note_refused(request, name, refused)
            raise
        try:
            body = await asyncio.wait_for(bounded_body(request), BODY_LIMIT_S)
        except TimeoutError as error:
            raise Refused(408, "the body of the request did not come.") from error
        asked = _validated(ACTIONS[name], body)
        if name == "unlock":
            return _json({"done": {"by": actor.name}})
        if name == "feedback":
            asked = await run_in_threadpool(self._with_verdict, asked)
        if self._acting.locked():
            raise Refused(409, "another action is being carried out. Try again when it is done.")
        async with self._acting:
            return _json({"done": dict(await app.station.do(name, asked, actor))})

    async def _note_refused(self, request: Request, name: str, refused: Refused) -> None:
        """Have it recorded that somebody tried; what comes in masses is recorded once a while."""
        address = request.client.host if request.client else "unknown"
        if refused.status in (401, 403) and self._app.guard.worth_noting(address):
            asked = {"action": name, "why": refused.why}
            await self._app.station.do("note_refused", asked, Actor("nobody", address))

    def _with_verdict(self, asked: dict[str, Any]) -> dict[str, Any]:
        row = self._app.parts.verdict(asked["seq"])
        if row is None:
            raise Refused(404, "the journal has no part of this number.")
        allowed = {"false_reject": ("NOK", "NOT_DECIDABLE"), "missed_defect": ("OK",)}
        if row.result not in allowed.get(asked["mark"], (row.result,)):
            raise Refused(409, f"a part that is {row.result} is no {asked['mark']}.")
        content = json.loads(row.payload)
        return {
            **asked,
            "verdict_id": content["id"],
            "part_id": row.part_id,
            "result": row.result,
            "raw_score": content["raw_score"],
        }

    # For machines.

    async def metrics(self, request: Request) -> Response:
        app = self._app
        if app.view.status is None:
            raise Refused(503, "the station has not said anything yet.")
        status, viewers = app.view.status, app.view.viewers
        journal = await run_in_threadpool(self._journal)
        return Response(
            metrics_text(status, journal, viewers), headers={"content-type": CONTENT_TYPE}
        )

    def _journal(self) -> dict[str, Any] | None:
        path = self._app.parts.journal
        try:
            outbox = Outbox(path)
            try:
                found = journal_report("", outbox, path, time.time_ns())
            finally:
                outbox.close()
        except StationError:
            return None
        return {
            "backlog": found.backlog,
            "oldest_age_s": found.oldest_age_s,
            "bytes": found.bytes,
            "last_seq": found.last_seq,
        }

    async def livez(self, request: Request) -> Response:
        silent_s = time.monotonic() - self._app.view.status_at_s
        live = self._app.view.status is not None and silent_s < LIVE_WITHIN_S
        return _json({"live": live, "silent_s": round(silent_s, 1)}, 200 if live else 503)

    async def readyz(self, request: Request) -> Response:
        view = self._app.view
        silent = time.monotonic() - view.status_at_s >= LIVE_WITHIN_S
        if view.status is None or silent:
            return _json({"ready": False, "reasons": {"silent": "the station says nothing"}}, 503)
        reasons, condition = view.status["reasons"], view.status["condition"]
        hindering = [reason for reason in reasons if reason in _NOT_READY]
        ready = condition in ("online", "degraded") and not hindering
        content = {"ready": ready, "condition": condition, "reasons": reasons}
        return _json(content, 200 if ready else 503)


class _Stream(Response):
    """Server-sent events: who is slow gets the newest later, and nothing queues for them."""

    def __init__(self, view: View) -> None:
        super().__init__(
            headers={
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-store",
                "x-accel-buffering": "no",
            }
        )
        del self.headers["content-length"]
        self._view = view

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        gone = asyncio.create_task(_until_gone(receive))
        self._view.viewer_came()
        try:
            seen = 0
            while not gone.done():
                seen, events = await self._view.newer(seen, STREAM_SILENCE_S)
                # Waits while the viewer does not read; the kernel ends who never does.
                await send({"type": "http.response.body", "body": events, "more_body": True})
                await asyncio.sleep(STREAM_PAUSE_S)
        finally:
            gone.cancel()
            self._view.viewer_left()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _validated(kind: type[_Asked], body: bytes) -> dict[str, Any]:
    try:
        return kind.model_validate_json(body).model_dump()
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        status = 400 if fault["type"] == "json_invalid" else 422
        raise Refused(status, f"{where}: {fault['msg']}" if where else fault["msg"]) from error


def _json(content: Any, status: int = 200) -> Response:
    return JSONResponse(content, status, headers={"cache-control": "no-store"})


def _error(status: int, why: str) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse({"error": why}, status, headers={"cache-control": "no-store", **headers})


def _picture(content: bytes, kind: str) -> Response:
    # A picture never changes under its id.
    headers = {"content-type": kind, "cache-control": "private, max-age=86400, immutable"}
    return Response(content, headers=headers)


def _download(pieces: Iterator[bytes], name: str, kind: str) -> Response:
    return StreamingResponse(
        pieces,
        headers={
            "content-type": kind,
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": "no-store",
        },
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _error(error.status, error.why)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail)


async def _too_long(request: Request, error: Exception) -> Response:
    return _error(422, str(error))


async def _station_error(request: Request, error: Exception) -> Response:
    return _error(503, str(error))


def _wanted(request: Request) -> Query:
    """Return which verdicts a request asks for."""
    given = request.query_params
    return Query(
        RecordKind.VERDICT,
        _choice(given.get("result"), [result.value for result in Result]),
        given.get("part_id") or None,
        from_utc_ns=_moment(given.get("from")),
        to_utc_ns=_moment(given.get("to")),
    )


def _choice(text: str | None, allowed: list[str]) -> str | None:
    if not text:
        return None
    if text not in allowed:
        raise Refused(400, f"result is one of {', '.join(allowed)}.")
    return text


_WHOLE = re.compile(r"\d{1,18}")


def _whole(text: str | None, default: int | None) -> int | None:
    if not text:
        return default
    if not _WHOLE.fullmatch(text):
        raise Refused(400, "limit and before are whole numbers.")
    return int(text)


def _number(text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Refused(400, "image_threshold is a raw score, a finite number.")
    return number


def _moment(text: str | None) -> int | None:
    """Return RFC 3339, or the local time a browser's field gives, as nanoseconds since 1970."""
    if not text:
        return None
    try:
        utc_s = datetime.fromisoformat(text).astimezone().timestamp()
        return min(max(int(utc_s * 1e9), 0), 2**62)
    except (ValueError, OverflowError, OSError) as error:
        raise Refused(400, "from and to are times such as 2026-11-23T14:00.") from error
