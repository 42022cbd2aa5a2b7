"""Who answers what the page can be asked."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from edge.contract.encoding import to_json
from edge.errors import StationError
from edge.hmi.server.auth import MAX_WAITING, Actor, Guard, RequestRefused, TokenWrong, bounded_body
from edge.hmi.server.live_view import LiveView
from edge.hmi.server.part_queries import IMAGES, KINDS, MOST_FOUND, PartQueries
from edge.hmi.server.production_stats import ProductionStats
from edge.hmi.server.prometheus import CONTENT_TYPE, metrics_text
from edge.hmi.server.requests import ACTIONS, number, seq_of, validated, wanted, whole
from edge.hmi.server.responses import Download, file_reply, image_reply, json_reply
from edge.hmi.server.sse import Stream
from edge.hmi.server.threshold_preview import PARTS, preview
from edge.journal.outbox import Outbox
from edge.station.recording.reports import journal_report

STATIC = Path(__file__).parents[1] / "static"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
BODY_LIMIT_S = 10.0
MOST_EXPORTS = 2
# That are made at a time: a list asks for fifty, and others wait for a thread, too.
MAX_THUMBNAILS = 2
# A station that has said nothing for so long does not live.
LIVE_WITHIN_S = 5.0
# Reasons for which no part is inspected; others degrade the station, which goes on.
_NOT_READY = (
    "camera_lost", "camera_failed", "journal_unwritable", "journal_full",
)  # fmt: skip


_JSON = {"content-type": "application/json", "cache-control": "no-store"}


class OnceASecond:
    """An answer that is made at most once a second for all who ask; who waits takes no thread."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._made: tuple[float, bytes] | None = None

    async def made(self) -> bytes:
        """Return the newest."""
        async with self._making:
            now_s = time.monotonic()
            if self._made is None or now_s - self._made[0] >= 1.0:
                self._made = now_s, await run_in_threadpool(self._make)
            return self._made[1]


class StationClient(Protocol):
    """The station, as far as the page can ask it for something."""

    async def do(self, name: str, asked: Mapping[str, Any], actor: Actor) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Application:
    """What the answers are made of."""

    title: str
    language: str
    view: LiveView
    station: StationClient
    guard: Guard
    parts: PartQueries
    numbers: ProductionStats


class Handlers:
    """One method for each thing that can be asked."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._acting = asyncio.Lock()
        self._guessing = 0
        self._numbers = OnceASecond(self._counted_now)
        self._marks = OnceASecond(self._marked_now)
        self._metrics = OnceASecond(self._metrics_now)
        self._exports = asyncio.Semaphore(MOST_EXPORTS)
        self._thumbnails = asyncio.Semaphore(MAX_THUMBNAILS)
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
            raise RequestRefused(404, "there is no such file.")
        content, kind = self._static[name]
        return Response(content, headers={"content-type": kind, "cache-control": "no-cache"})

    # What it shows.

    async def stream(self, request: Request) -> Stream:
        return Stream(self._app.view)

    async def status(self, request: Request) -> Response:
        app, user = self._app, self._app.guard.user(request)
        return json_reply(
            {
                "title": app.title,
                "language": app.language,
                "may_act": user is not None,
                "may_unlock": app.guard.has_token,
                "user": user,
                "live": self._live,
                "status": app.view.status,
                # Of a station that has stopped talking nobody knows what it decided since.
                "part": app.view.part if self._live else None,
            }
        )

    async def numbers(self, request: Request) -> Response:
        return Response(await self._numbers.made(), headers=_JSON)

    def _counted_now(self) -> bytes:
        return to_json(self._app.numbers.content(datetime.now().astimezone())).encode()

    async def live(self, request: Request) -> Response:
        image = self._app.view.image(request.path_params["id"].removesuffix(".jpg"))
        if image is None:
            raise RequestRefused(404, "this image is not among the newest any more.")
        jpeg = await run_in_threadpool(image.jpeg)
        return image_reply(jpeg, "image/jpeg")

    async def image(self, request: Request) -> Response:
        verdict_id, which = request.path_params["id"], request.path_params["which"]
        if which == "thumbnail":
            thumbnail = self._app.view.thumbnail(verdict_id)
            if thumbnail is not None:
                return image_reply(await run_in_threadpool(thumbnail.drawn), "image/jpeg")
            async with self._thumbnails:
                small = await run_in_threadpool(self._app.parts.thumbnail, verdict_id)
            if small is None:
                raise RequestRefused(404, "no image of this part is kept.")
            return image_reply(small, "image/jpeg")
        if which not in IMAGES:
            raise RequestRefused(404, "there are image, overlay and thumbnail.")
        file = await run_in_threadpool(self._app.parts.opened, verdict_id, which)
        if file is None:
            raise RequestRefused(404, "no image of this part is kept.")
        return file_reply(file, KINDS[Path(file.name).suffix])

    async def search(self, request: Request) -> Response:
        app = self._app
        app.guard.check_rate(request)
        given, question = request.query_params, wanted(request)
        most = min(whole(given.get("limit"), 50) or 50, MOST_FOUND)
        before = whole(given.get("before"), None)

        def found() -> dict[str, Any]:
            page, said = app.parts.search(question, before, most), app.parts.feedback()
            rows = [app.parts.content(row, said) for row in page.rows]
            return {"parts": rows, "before": page.before}

        async with app.guard.reading(request):
            return json_reply(await run_in_threadpool(found))

    async def csv(self, request: Request) -> Response:
        app = self._app
        app.guard.check_rate(request)
        pieces = app.parts.csv(wanted(request))
        return Download(pieces, "parts.csv", "text/csv; charset=utf-8", self._exports)

    async def detail(self, request: Request) -> Response:
        app, seq = self._app, seq_of(request.path_params["seq"])
        app.guard.check_rate(request)

        def found() -> dict[str, Any] | None:
            row = app.parts.verdict(seq) if seq is not None else None
            return app.parts.detail(row, app.parts.feedback()) if row else None

        async with app.guard.reading(request):
            content = await run_in_threadpool(found)
        if content is None:
            raise RequestRefused(404, "the journal has no part of this number.")
        thumbnail = app.view.thumbnail(content["verdict"]["id"])
        if thumbnail is not None and not content["pictures"]:
            content["pictures"] = ["thumbnail"]
        return json_reply(content)

    async def preview(self, request: Request) -> Response:
        app = self._app
        app.guard.check_rate(request)
        threshold = number(request.query_params.get("image_threshold"))
        if app.view.status is None:
            raise RequestRefused(503, "the station has not said anything yet.")
        model = app.view.status["model"]

        def tried() -> dict[str, Any]:
            rows = app.parts.last_decided(model["sha256"], PARTS)
            return preview(rows, threshold, model["guard_band"], app.parts.feedback())

        async with app.guard.reading(request):
            return json_reply(await run_in_threadpool(tried))

    async def feedback(self, request: Request) -> Response:
        return Response(await self._marks.made(), headers=_JSON)

    def _marked_now(self) -> bytes:
        said = self._app.parts.feedback()
        return to_json({"feedback": [said[seq] for seq in sorted(said, reverse=True)]}).encode()

    async def feedback_tar(self, request: Request) -> Response:
        self._app.guard.check_rate(request)
        pieces = self._app.parts.feedback_tar()
        return Download(pieces, "feedback.tar", "application/x-tar", self._exports)

    # What it does.

    async def act(self, request: Request) -> Response:
        app, name = self._app, request.path_params["name"]
        if name not in ACTIONS:
            raise RequestRefused(404, f"there is no such action; there are {', '.join(ACTIONS)}.")
        try:
            actor = app.guard.actor(request)
        except RequestRefused as refused:
            await self._note_refused(request, name, refused)
            if isinstance(refused, TokenWrong):
                await self._wait_for_wrong_token()
            raise
        try:
            body = await asyncio.wait_for(bounded_body(request), BODY_LIMIT_S)
        except TimeoutError as error:
            raise RequestRefused(408, "the body of the request did not come.") from error
        asked = validated(ACTIONS[name], body)
        if name == "unlock":
            return json_reply({"done": {"by": actor.name}})
        if name == "feedback":
            asked = await run_in_threadpool(self._with_verdict, asked)
        if self._acting.locked():
            raise RequestRefused(
                409, "another action is being carried out. Try again when it is done."
            )
        async with self._acting:
            return json_reply({"done": dict(await app.station.do(name, asked, actor))})

    async def _note_refused(self, request: Request, name: str, refused: RequestRefused) -> None:
        """Have it recorded that somebody tried; what comes in masses is recorded once a while."""
        address = self._app.guard.address(request)
        if refused.status not in (401, 403):
            return
        before = self._app.guard.noting(address)
        if before is not None:
            asked = {"action": name, "why": refused.why, "not_recorded": before}
            with suppress(
                RequestRefused
            ):  # a station that is busy changes nothing about the answer
                await self._app.station.do("note_refused", asked, Actor("nobody", address))

    async def _wait_for_wrong_token(self) -> None:
        """Let who guesses wait; only so many do, others are told to come later."""
        wait_s = self._app.guard.wrong_tokens.wait_s()
        if wait_s == 0.0:
            return
        if self._guessing >= MAX_WAITING:
            raise RequestRefused(
                429, "too many wrong tokens. Wait a minute; the right one is taken."
            )
        self._guessing += 1
        try:
            await asyncio.sleep(wait_s)
        finally:
            self._guessing -= 1

    def _with_verdict(self, asked: dict[str, Any]) -> dict[str, Any]:
        row = self._app.parts.verdict(asked["seq"])
        if row is None:
            raise RequestRefused(404, "the journal has no part of this number.")
        allowed = {"false_reject": ("NOK", "NOT_DECIDABLE"), "missed_defect": ("OK",)}
        if row.result not in allowed.get(asked["mark"], (row.result,)):
            raise RequestRefused(409, f"a part that is {row.result} is no {asked['mark']}.")
        content = json.loads(row.payload)
        return {
            **asked,
            "verdict_id": content["id"],
            "part_id": row.part_id,
            "result": row.result,
            "raw_score": content["raw_score"],
            "record": content,
            "has_snapshot": self._app.parts.kept(content["id"], "picture") is not None,
        }

    # For machines.

    async def metrics(self, request: Request) -> Response:
        # Numbers of a station that has stopped talking would look as if all were well.
        if not self._live:
            raise RequestRefused(
                503, "the station says nothing. Look at its log, or restart the service."
            )
        return Response(await self._metrics.made(), headers={"content-type": CONTENT_TYPE})

    def _metrics_now(self) -> bytes:
        view = self._app.view
        assert view.status is not None
        return metrics_text(view.status, self._journal(), view.viewers)

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

    def _silent_s(self) -> float | None:
        """Return for how long the station has said nothing; None before its first word."""
        view = self._app.view
        return None if view.status is None else time.monotonic() - view.status_at_s

    async def livez(self, request: Request) -> Response:
        silent_s, live = self._silent_s(), self._live
        content = {"live": live, "silent_s": None if silent_s is None else round(silent_s, 1)}
        return json_reply(content, 200 if live else 503)

    @property
    def _live(self) -> bool:
        silent_s = self._silent_s()
        return silent_s is not None and silent_s < LIVE_WITHIN_S

    async def readyz(self, request: Request) -> Response:
        view = self._app.view
        if view.status is None or not self._live:
            return json_reply(
                {"ready": False, "reasons": {"silent": "the station says nothing"}}, 503
            )
        reasons, condition = view.status["reasons"], view.status["condition"]
        hindering = [reason for reason in reasons if reason in _NOT_READY]
        ready = condition in ("online", "degraded") and not hindering
        content = {"ready": ready, "condition": condition, "reasons": reasons}
        return json_reply(content, 200 if ready else 503)
