"""The handlers of the page's interface."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from edge.errors import StationError
from edge.hmi.actions import (
    AcknowledgeAlarm,
    AcknowledgeBody,
    ActionBody,
    Actor,
    BeginTeaching,
    BuildCandidate,
    CaptureBody,
    CaptureImages,
    CaptureToTeach,
    ChooseRecipe,
    EndTeaching,
    FeedbackBody,
    MarkedPart,
    MarkPart,
    MaskBody,
    RecipeBody,
    RecordRefusal,
    ReleaseCandidate,
    RollBack,
    RollbackBody,
    SetMask,
    SetThreshold,
    StationAction,
    StationActionResult,
    StrikeOut,
    TeachBody,
    TeachBuildBody,
    TeachCaptureBody,
    TeachEndBody,
    TeachReleaseBody,
    TeachStrikeBody,
    TeachTrialBody,
    ThresholdBody,
    TryCandidate,
    UnlockBody,
    Unlocked,
)
from edge.hmi.server.answer_models import (
    ActionAnswer,
    FoundParts,
    Liveness,
    MarkedParts,
    PageStatus,
    PartDetail,
    Readiness,
    ThresholdPreview,
    ZonesOfGoodParts,
)
from edge.hmi.server.auth import Guard, RequestRefused, TokenWrong, bounded_body
from edge.hmi.server.limits import MAX_WAITING
from edge.hmi.server.live_view import LiveView
from edge.hmi.server.part_queries import MEDIA_TYPES, PartQueries
from edge.hmi.server.production_stats import ProductionStats
from edge.hmi.server.prometheus import CONTENT_TYPE, JournalBacklog, metrics_text
from edge.hmi.server.requests import (
    ACTIONS,
    MAX_FOUND,
    ImagePath,
    PartPath,
    PartsPageQuery,
    PartsQuery,
    PreviewQuery,
    TaughtImagePath,
    parsed_body,
    parsed_path,
    parsed_query,
)
from edge.hmi.server.responses import Download, as_json, file_reply, image_reply, json_reply
from edge.hmi.server.sse import Stream
from edge.hmi.server.taught_images import TaughtImages
from edge.hmi.server.threshold_preview import PARTS, preview
from edge.hmi.server.zone_scores import zones_of_good_parts
from edge.journal.entries import JournalRow
from edge.journal.outbox import Outbox
from edge.station.recording.reports import journal_report

STATIC = Path(__file__).parents[1] / "static"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
BODY_LIMIT_S = 10.0
MAX_EXPORTS = 2
# That are made at a time: a list asks for fifty, and others wait for a thread, too.
MAX_THUMBNAILS = 2
# A station that has sent nothing for so long does not live.
LIVE_WITHIN_S = 5.0
# Reasons for which no part is inspected; others degrade the station, which goes on.
_NOT_READY = (
    "camera_lost", "camera_failed", "journal_unwritable", "journal_full",
)  # fmt: skip


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
    """The station, as far as the page can have it do something."""

    async def do(self, action: StationAction, actor: Actor) -> StationActionResult: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What the answers are made of."""

    title: str
    language: str
    view: LiveView
    station: StationClient
    guard: Guard
    parts: PartQueries
    numbers: ProductionStats
    taught: TaughtImages


class Handlers:
    """One method for each operation of the interface.

    Attributes:
        describe: makes the description of the interface, as JSON; whoever builds the routes sets
            it, and it is called when the first asks: a start does not wait for it.
    """

    describe: Callable[[], bytes] = staticmethod(lambda: b"{}")

    def __init__(self, app: Application) -> None:
        self._app = app
        self._acting = asyncio.Lock()
        self._guessing = 0
        self._numbers = OnceASecond(self._counted_now)
        self._marks = OnceASecond(self._marked_now)
        self._metrics = OnceASecond(self._metrics_now)
        self._exports = asyncio.Semaphore(MAX_EXPORTS)
        self._thumbnails = asyncio.Semaphore(MAX_THUMBNAILS)
        self._static = {
            path.name: (path.read_bytes(), _MEDIA_TYPES[path.suffix])
            for path in STATIC.iterdir()
            if path.suffix in _MEDIA_TYPES
        }

    # The page itself.

    async def index(self, request: Request) -> Response:
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    async def openapi(self, request: Request) -> Response:
        headers = {"content-type": "application/json", "cache-control": "no-cache"}
        return Response(await run_in_threadpool(self.describe), headers=headers)

    def _file(self, name: str) -> Response:
        if name not in self._static:
            raise RequestRefused(404, "there is no such file.")
        content, media_type = self._static[name]
        return Response(content, headers={"content-type": media_type, "cache-control": "no-cache"})

    # What it shows.

    async def stream(self, request: Request) -> Stream:
        return Stream(self._app.view)

    async def status(self, request: Request) -> Response:
        app, user = self._app, self._app.guard.user(request)
        return json_reply(
            PageStatus(
                title=app.title,
                language=app.language,
                may_act=user is not None,
                may_unlock=app.guard.has_token,
                user=user,
                live=self._live,
                status=app.view.status,
                # Nobody knows what a silent station has decided since.
                part=app.view.part if self._live else None,
            )
        )

    async def numbers(self, request: Request) -> Response:
        return json_reply(await self._numbers.made())

    def _counted_now(self) -> bytes:
        return as_json(self._app.numbers.numbers(datetime.now().astimezone()))

    async def live(self, request: Request) -> Response:
        image = self._app.view.image(request.path_params["id"].removesuffix(".jpg"))
        if image is None:
            raise RequestRefused(404, "this image is no longer among the newest.")
        jpeg = await run_in_threadpool(image.jpeg)
        return image_reply(jpeg, "image/jpeg")

    async def image(self, request: Request) -> Response:
        unknown = "only image, overlay and thumbnail exist."
        path = parsed_path(ImagePath, request.path_params, unknown)
        return await self._kept_image(path.id, path.which)

    async def _kept_image(self, verdict_id: str, which: str) -> Response:
        if which == "thumbnail":
            thumbnail = self._app.view.thumbnail(verdict_id)
            if thumbnail is not None:
                return image_reply(await run_in_threadpool(thumbnail.drawn), "image/jpeg")
            async with self._thumbnails:
                small = await run_in_threadpool(self._app.parts.thumbnail, verdict_id)
            if small is None:
                raise RequestRefused(404, "no image of this part is kept.")
            return image_reply(small, "image/jpeg")
        file = await run_in_threadpool(self._app.parts.opened, verdict_id, which)
        if file is None:
            raise RequestRefused(404, "no image of this part is kept.")
        return file_reply(file, MEDIA_TYPES[Path(file.name).suffix])

    async def taught_image(self, request: Request) -> Response:
        unknown = "there is no such image."
        path = parsed_path(TaughtImagePath, request.path_params, unknown)
        teaching = self._app.view.status.teaching if self._app.view.status is not None else None
        build = teaching.result.build if teaching is not None and teaching.result else None
        content = await run_in_threadpool(self._app.taught.read, path.which, path.number, build)
        if content is None:
            raise RequestRefused(404, unknown)
        # Numbers begin anew with the station.
        return Response(
            content, headers={"content-type": "image/jpeg", "cache-control": "no-store"}
        )

    async def search(self, request: Request) -> Response:
        app = self._app
        app.guard.check_rate(request)
        query = parsed_query(PartsPageQuery, request.query_params)
        max_count = min(query.limit or 50, MAX_FOUND)

        def found() -> FoundParts:
            page = app.parts.search(query.question(), query.before, max_count)
            marks = app.parts.feedback()
            rows = [app.parts.found_part(row, marks) for row in page.rows]
            return FoundParts(parts=rows, before=page.before)

        async with app.guard.reading(request):
            return json_reply(await run_in_threadpool(found))

    async def csv(self, request: Request) -> Response:
        app = self._app
        app.guard.check_rate(request)
        query = parsed_query(PartsQuery, request.query_params)
        pieces = app.parts.csv(query.question())
        return Download(pieces, "parts.csv", "text/csv; charset=utf-8", self._exports)

    async def detail(self, request: Request) -> Response:
        app, unknown = self._app, "the journal has no part of this number."
        app.guard.check_rate(request)
        seq = parsed_path(PartPath, request.path_params, unknown).seq

        def found() -> PartDetail | None:
            row = app.parts.verdict(seq)
            return app.parts.detail(row, app.parts.feedback()) if row else None

        async with app.guard.reading(request):
            part = await run_in_threadpool(found)
        if part is None:
            raise RequestRefused(404, unknown)
        if not part.images and app.view.thumbnail(part.verdict["id"]) is not None:
            part = part.model_copy(update={"images": ["thumbnail"]})
        return json_reply(part)

    async def preview(self, request: Request) -> Response:
        app = self._app
        app.guard.check_rate(request)
        threshold = parsed_query(PreviewQuery, request.query_params).image_threshold
        if app.view.status is None:
            raise RequestRefused(503, "the station has sent no status yet.")
        model, mask = app.view.status.model, app.view.mask
        zones = mask.zones if mask is not None else []
        own_zones = {zone.name for zone in zones if zone.threshold is not None}

        def tried() -> ThresholdPreview:
            rows = app.parts.last_decided(model.sha256, PARTS)
            feedback = app.parts.feedback()
            return preview(rows, threshold, model.guard_band, feedback, own_zones=own_zones)

        async with app.guard.reading(request):
            return json_reply(await run_in_threadpool(tried))

    async def zones(self, request: Request) -> Response:
        app = self._app
        app.guard.check_rate(request)
        status = app.view.status
        if status is None:
            raise RequestRefused(503, "the station has sent no status yet.")

        def looked() -> ZonesOfGoodParts:
            rows = app.parts.last_decided(status.model.sha256, PARTS)
            feedback = app.parts.feedback()
            return ZonesOfGoodParts(zones=zones_of_good_parts(rows, status.config_sha256, feedback))

        async with app.guard.reading(request):
            return json_reply(await run_in_threadpool(looked))

    async def mask(self, request: Request) -> Response:
        self._app.guard.check_rate(request)
        if self._app.view.mask is None:
            raise RequestRefused(503, "the station has sent no mask yet.")
        return json_reply(self._app.view.mask)

    async def feedback(self, request: Request) -> Response:
        return json_reply(await self._marks.made())

    def _marked_now(self) -> bytes:
        marks = self._app.parts.feedback()
        return as_json(MarkedParts(feedback=[marks[seq] for seq in sorted(marks, reverse=True)]))

    async def feedback_tar(self, request: Request) -> Response:
        self._app.guard.check_rate(request)
        pieces = self._app.parts.feedback_tar()
        return Download(pieces, "feedback.tar", "application/x-tar", self._exports)

    # What it does.

    async def act(self, request: Request) -> Response:
        app, name = self._app, request.path_params["name"]
        if name not in ACTIONS:
            raise RequestRefused(404, f"unknown action; known are {', '.join(ACTIONS)}.")
        try:
            actor = app.guard.actor(request)
        except RequestRefused as refused:
            await self._record_refusal(request, name, refused)
            if isinstance(refused, TokenWrong):
                await self._wait_for_wrong_token()
            raise
        try:
            body = await asyncio.wait_for(bounded_body(request), BODY_LIMIT_S)
        except TimeoutError as error:
            raise RequestRefused(408, "the body of the request did not arrive.") from error
        request_body = parsed_body(ACTIONS[name], body)
        if isinstance(request_body, UnlockBody):
            return json_reply(ActionAnswer(done=Unlocked(by=actor.name)))
        action = await run_in_threadpool(self._station_action, request_body)
        if self._acting.locked():
            raise RequestRefused(
                409, "another action is being carried out. Try again when it is done."
            )
        async with self._acting:
            result = await app.station.do(action, actor)
        return json_reply(ActionAnswer.model_validate({"done": result}))

    async def _record_refusal(self, request: Request, name: str, refused: RequestRefused) -> None:
        """Have it recorded that somebody tried; what comes in masses is recorded once a while."""
        address = self._app.guard.address(request)
        if refused.status not in (401, 403):
            return
        before = self._app.guard.noting(address)
        if before is not None:
            refusal = RecordRefusal(action=name, why=refused.why, not_recorded=before)
            with suppress(RequestRefused):  # a busy station changes nothing about the answer
                await self._app.station.do(refusal, Actor("nobody", address))

    async def _wait_for_wrong_token(self) -> None:
        """Delay the answer to a wrong token; of many, only some wait, others get 429."""
        wait_s = self._app.guard.wrong_tokens.wait_s()
        if wait_s == 0.0:
            return
        if self._guessing >= MAX_WAITING:
            raise RequestRefused(
                429, "too many wrong tokens. Wait a minute; the right token is still accepted."
            )
        self._guessing += 1
        try:
            await asyncio.sleep(wait_s)
        finally:
            self._guessing -= 1

    def _station_action(self, body: ActionBody) -> StationAction:
        match body:
            case ThresholdBody():
                return SetThreshold(body=body)
            case MaskBody():
                return SetMask(body=body)
            case FeedbackBody():
                return MarkPart(body=body, part=self._marked_part(body))
            case CaptureBody():
                return CaptureImages(body=body)
            case RollbackBody():
                return RollBack(body=body)
            case RecipeBody():
                return ChooseRecipe(body=body)
            case AcknowledgeBody():
                return AcknowledgeAlarm(body=body)
            case TeachBody():
                if not body.learn:
                    return BeginTeaching(body=body)
                parts = self._app.parts
                return BeginTeaching(
                    body=body,
                    marked=parts.marked_images(body.recipe),
                    inspected=parts.inspected_for(body.recipe),
                )
            case TeachCaptureBody():
                return CaptureToTeach(body=body)
            case TeachStrikeBody():
                return StrikeOut(body=body)
            case TeachBuildBody():
                return BuildCandidate(body=body)
            case TeachTrialBody():
                return TryCandidate(body=body)
            case TeachReleaseBody():
                return ReleaseCandidate(body=body)
            case TeachEndBody():
                return EndTeaching(body=body)
        raise AssertionError(f"no action has a body of {type(body).__name__}")

    def _marked_part(self, body: FeedbackBody) -> MarkedPart:
        row = self._app.parts.verdict(body.seq)
        if row is None:
            raise RequestRefused(404, "the journal has no part of this number.")
        _check_mark(row, body.mark)
        record = json.loads(row.payload)
        return MarkedPart(
            verdict_id=record["id"],
            part_id=row.part_id,
            result=row.result,
            raw_score=record["raw_score"],
            record=record,
            has_snapshot=self._app.parts.kept(record["id"], "image") is not None,
        )

    # For machines.

    async def metrics(self, request: Request) -> Response:
        # Numbers of a station that has stopped talking would look as if all were well.
        if not self._live:
            raise RequestRefused(
                503, "the station does not answer. See its log, or restart the service."
            )
        return Response(await self._metrics.made(), headers={"content-type": CONTENT_TYPE})

    def _metrics_now(self) -> bytes:
        view = self._app.view
        assert view.status is not None
        return metrics_text(view.status, self._journal(), view.viewers)

    def _journal(self) -> JournalBacklog | None:
        path = self._app.parts.journal
        try:
            outbox = Outbox(path)
            try:
                found = journal_report("", outbox, path, time.time_ns())
            finally:
                outbox.close()
        except StationError:
            return None
        return JournalBacklog(found.backlog, found.oldest_age_s, found.bytes, found.last_seq)

    def _silent_s(self) -> float | None:
        return self._app.view.silent_s()

    async def livez(self, request: Request) -> Response:
        silent_s, live = self._silent_s(), self._live
        content = Liveness(live=live, silent_s=None if silent_s is None else round(silent_s, 1))
        return json_reply(content, 200 if live else 503)

    @property
    def _live(self) -> bool:
        silent_s = self._silent_s()
        return silent_s is not None and silent_s < LIVE_WITHIN_S

    async def readyz(self, request: Request) -> Response:
        view = self._app.view
        if view.status is None or not self._live:
            silent = {"silent": "the station does not answer"}
            return json_reply(Readiness(ready=False, condition=None, reasons=silent), 503)
        reasons, condition = view.status.reasons, view.status.condition
        hindering = [reason for reason in reasons if reason in _NOT_READY]
        ready = condition in ("online", "degraded") and not hindering
        content = Readiness(ready=ready, condition=condition, reasons=reasons)
        return json_reply(content, 200 if ready else 503)


def _check_mark(row: JournalRow, mark: str) -> None:
    """Refuse a mark that does not contradict the verdict.

    Raises:
        RequestRefused: with 409.
    """
    allowed = {"false_reject": ("NOK", "NOT_DECIDABLE"), "missed_defect": ("OK",)}.get(mark)
    if allowed is not None and row.result not in allowed:
        raise RequestRefused(409, f"Only {' or '.join(allowed)} parts can be marked {mark}.")
