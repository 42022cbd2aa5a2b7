"""The station's end of its page: starts the process that serves it, and sends it what happens.

Nothing here is waited for. A verdict is counted and left where the page's thread finds it, which
looks ten times a second; what it finds is the newest, and what came between was counted. When the
other process is slow, hangs or dies, that thread waits or starts it again, and the line goes on.
"""

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue

from edge.contract.encoding import bounded, utc_text
from edge.contract.image_source import parse_name
from edge.contract.verdict import MAX_DETAIL_LENGTH, Verdict
from edge.errors import StationError
from edge.hmi.contents import DecidedPart, StationStatus
from edge.hmi.masks import MaskInForce
from edge.hmi.messages import (
    PAGE_MESSAGES,
    ActionDone,
    ActionFailed,
    ActionRequested,
    Hello,
    MaskShown,
    PageMessage,
    PartDecided,
    PartRejected,
    Serving,
    StatusChanged,
    TokenChanged,
    WatchedChanged,
)
from edge.hmi.page_token import read_token
from edge.hmi.station_end.actions import PageActions
from edge.hmi.station_end.preview_image import PreviewImage, make_preview
from edge.hmi.station_end.prometheus_counts import VerdictCounts
from edge.hmi.station_end.status import Sources
from edge.hmi.station_end.teaching.folder import FOLDER
from edge.inspection.decision import Result
from edge.journal.database import FILE_NAME
from edge.processes.child_process import END_LIMIT_S, ChildProcess, spawn
from edge.processes.link import Link, LinkBroken
from edge.settings.hmi import HmiSettings
from edge.station.monitoring.health import Health
from edge.station.pipeline.mailbox import EveryMailbox
from edge.station.pipeline.sinks import memory_bytes

log = logging.getLogger(__name__)

LOOK_S = 0.1
STATUS_S = 1.0
# Rejected parts whose images wait for the page's thread; more within one look keep their record.
MAX_REJECTED, MAX_REJECTED_BYTES = 8, 64 * 2**20
MAX_ACTIONS = 8
THUMBNAIL_PX = 360
FIRST_DELAY_S, MAX_DELAY_S = 1.0, 30.0
# A process that served so long had a good start; the next one may come at once.
GOOD_START_S = 60.0
# A process that gives no sign of life for so long hangs; it gives one every other second.
STUCK_S = 8.0
STARTING_LIMIT_S = 60.0
# This thread was stopped or starved, or busy with an action, and may have signs of life to read.
NOT_LOOKED_S = 2.0


class Page:
    """The page of one station.

    ``on_verdict`` is called by one thread, behind the record of each verdict.

    Attributes:
        address: where it is served; None as long as it is not.
    """

    def __init__(
        self, settings: HmiSettings, journal_folder: Path, sources: Sources, actions: PageActions
    ) -> None:
        """Read the token.

        Raises:
            ConfigurationInvalid: its file cannot be used.
        """
        self.address: str | None = None
        self._journal_folder = journal_folder
        self._settings = settings
        self._token = self._read_token()
        self._sources = sources
        self._actions = actions
        self._health: Health = sources.health
        self._counts = VerdictCounts()
        self._latest: Verdict | None = None
        self._rejected: EveryMailbox[Verdict] = EveryMailbox(
            MAX_REJECTED, max_bytes=MAX_REJECTED_BYTES, size_bytes=memory_bytes
        )
        self._watched = False
        self._requests: Queue[ActionRequested] = Queue(MAX_ACTIONS)
        self._ending = threading.Event()
        self._serving: ChildProcess[PageMessage] | None = None
        self._reader_thread: threading.Thread | None = None
        self._heard_s = self._looked_s = 0.0
        self._threads = [
            threading.Thread(target=self._supervise, name="page", daemon=True),
            threading.Thread(target=self._do_actions, name="page actions", daemon=True),
        ]
        if actions.teaching is not None:
            self._threads.append(
                threading.Thread(
                    target=actions.teaching.run,
                    args=(self._ending.is_set,),
                    name="teaching",
                    daemon=True,
                )
            )

    def start(self) -> None:
        """Start the page; returns at once."""
        for thread in self._threads:
            thread.start()

    def on_verdict(self, verdict: Verdict) -> None:
        """Take a verdict; some microseconds."""
        self._counts.add(verdict)
        self._latest = verdict
        if verdict.inspection.decision.result is not Result.OK:
            self._rejected.put(verdict)
        self._actions.on_verdict(verdict)

    def outdated(self) -> bool:
        """Return whether the token differs from the one that the page asks for.

        Raises:
            ConfigurationInvalid: its file cannot be used.
        """
        return self._read_token() != self._token

    def renew(self) -> None:
        """Ask for the token that the file has now; whoever has the one before is locked out.

        Raises:
            ConfigurationInvalid: as of ``outdated``.
        """
        self._token = self._read_token()
        serving = self._serving
        if serving is not None:
            with suppress(LinkBroken):  # the process that comes next gets it at its start
                serving.link.send(TokenChanged(token=self._token))

    def _read_token(self) -> str | None:
        path = self._settings.token_file
        return read_token(Path(path)) if path else None

    def stop(self) -> None:
        """End the page and its process."""
        self._ending.set()
        serving = self._serving
        if serving is not None:
            serving.end()
        for thread in (self._threads[0], *self._threads[2:]):
            if thread.ident is not None:
                thread.join(END_LIMIT_S)

    # The page's thread.

    def _supervise(self) -> None:
        delay_s = FIRST_DELAY_S
        while not self._ending.is_set():
            began_s = time.monotonic()
            try:
                self._serve()
                why = "its process ended"
            except LinkBroken:
                why = "its process ended"
            except Exception as error:  # a defect of the page is no reason to stop the line
                log.exception("the page has met a defect")
                why = f"{type(error).__name__}: {error}"
            self._end_process()
            if self._ending.is_set():
                return
            self._health.set("page_down", True, self._trouble(why))
            if time.monotonic() - began_s > GOOD_START_S:
                delay_s = FIRST_DELAY_S
            self._ending.wait(delay_s)
            delay_s = min(2 * delay_s, MAX_DELAY_S)

    def _trouble(self, why: str) -> str:
        return (
            f"the page is not served ({why}); inspection continues. See the log; it is "
            "restarted automatically."
        )

    def _serve(self) -> None:
        self._heard_s = time.monotonic()
        self._serving = serving = spawn("edge.hmi.server.main", PAGE_MESSAGES)
        link = serving.link
        link.send(self._hello())
        self._reader_thread = threading.Thread(
            target=self._read, args=(link,), name="page reader", daemon=True
        )
        self._reader_thread.start()
        status_s = shown_s = 0.0
        shown: Verdict | None = None
        with_image = False
        mask: MaskInForce | None = None
        while not self._ending.wait(LOOK_S):
            now_s, latest = time.monotonic(), self._latest
            if now_s - status_s >= STATUS_S:
                status_s = now_s
                link.send(StatusChanged(status=self._status()))
                if self._actions.mask() is not mask:
                    mask = self._actions.mask()
                    link.send(MaskShown(mask=mask))
            while (rejected := self._rejected.get(0.0)) is not None:
                self._send_rejected(link, rejected)
            if latest is None:
                continue
            due = now_s - shown_s >= 1.0 / self._settings.pictures_per_second
            watched = self._watched and due
            if latest is not shown or (watched and not with_image):
                self._send_part(link, latest, watched)
                shown, with_image = latest, watched
                shown_s = now_s if watched else shown_s

    def _hello(self) -> Hello:
        sources = self._sources
        snapshots = sources.snapshots()
        named = sources.settings.mqtt.station if sources.settings.mqtt else None
        return Hello(
            settings=self._settings,
            token=self._token,
            title=self._settings.title or named or "Inspection station",
            journal=str(self._journal_folder / FILE_NAME),
            snapshots=str(snapshots.root) if snapshots else None,
            teaching=str(self._journal_folder / FOLDER) if self._actions.teaching else None,
        )

    def _status(self) -> StationStatus:
        return self._sources.status(
            self._journal_folder,
            self._counts.totals(),
            acknowledged=self._actions.acknowledged(),
            to_capture=self._actions.to_capture,
            teaching=self._actions.teaching_status(),
        )

    def _send_part(self, link: Link[PageMessage], verdict: Verdict, with_image: bool) -> None:
        width_px = self._settings.picture_width_px
        preview = self._preview(verdict, width_px) if with_image else None
        send_part(link, verdict, preview)

    def _send_rejected(self, link: Link[PageMessage], verdict: Verdict) -> None:
        preview = self._preview(verdict, THUMBNAIL_PX)
        if preview is not None:
            link.send(PartRejected(verdict_id=verdict.id, image=preview.layout), preview.blobs)

    def _preview(self, verdict: Verdict, width_px: int) -> PreviewImage | None:
        try:
            return make_preview(verdict, width_px)
        except Exception:  # a part that cannot be drawn still takes the place of the one before
            log.exception("the image of part %s cannot be shown", verdict.id)
            return None

    # Messages of the other process.

    def _read(self, link: Link[PageMessage]) -> None:
        try:
            while True:
                self._on_message(link.receive().message, link)
        except LinkBroken:
            return

    def _on_message(self, message: PageMessage, link: Link[PageMessage]) -> None:
        self._heard_s = time.monotonic()
        match message:
            case WatchedChanged():
                self._watched = message.watched
            case Serving():
                self.address = message.address
                self._health.set("page_down", False)
                log.info("the page is at %s", self.address)
            case ActionRequested():
                try:
                    self._requests.put_nowait(message)
                except Full:
                    busy = "the station is busy. Try again."
                    _answer(link, ActionFailed(number=message.number, error=busy))

    def _do_actions(self) -> None:
        while not self._ending.is_set():
            self._end_if_stuck()
            try:
                request = self._requests.get(timeout=LOOK_S * 5)
            except Empty:
                continue
            answer = self._carry_out(request)
            serving = self._serving
            if serving is not None:
                _answer(serving.link, answer)

    def _carry_out(self, request: ActionRequested) -> ActionDone | ActionFailed:
        number = request.number
        try:
            result = self._actions.do(request.action, request.actor)
            return ActionDone(number=number, result=result)
        except StationError as error:
            return ActionFailed(
                number=number, error=str(error), kind=error.kind, data=dict(error.data)
            )
        except Exception as error:  # the page gets it as an answer, and no reason to stop the line
            log.exception("an action of the page has met a defect")
            why = f"{type(error).__name__}: {error}"
            return ActionFailed(number=number, error=why, defect=True)

    # The other process.

    def _end_if_stuck(self) -> None:
        """End a process that is alive and does nothing; the page's thread starts the next."""
        serving, now_s = self._serving, time.monotonic()
        not_looked_s, self._looked_s = now_s - self._looked_s, now_s
        if not_looked_s > NOT_LOOKED_S:
            self._heard_s = now_s
        limit_s = STUCK_S if self.address else STARTING_LIMIT_S
        if serving is not None and now_s - self._heard_s > limit_s:
            log.warning("the process of the page hangs; starting it again")
            self._heard_s = now_s
            serving.process.kill()

    def _end_process(self) -> None:
        serving, self._serving = self._serving, None
        self.address, self._watched = None, False
        if serving is not None:
            serving.end()
            if self._reader_thread is not None:
                self._reader_thread.join(END_LIMIT_S)
            serving.link.close()


def send_part(link: Link[PageMessage], verdict: Verdict, preview: PreviewImage | None) -> None:
    """Send a part, with its image if there is one.

    Raises:
        LinkBroken: there is no other end.
    """
    message = PartDecided(part=decided_part(verdict), image=preview.layout if preview else None)
    link.send(message, preview.blobs if preview else ())


def decided_part(verdict: Verdict) -> DecidedPart:
    """Return what is shown of a part beside its image."""
    inspection, recipe = verdict.inspection, verdict.asked_recipe(verdict.identity)
    return DecidedPart(
        id=verdict.id,
        part_id=verdict.part_id,
        image_name=parse_name(verdict.frame.source) if verdict.frame.source else None,
        result=inspection.decision.result,
        reason=inspection.decision.reason,
        detail=bounded(inspection.detail, MAX_DETAIL_LENGTH),
        score=inspection.normalized_score,
        raw_score=inspection.score,
        raw_threshold=inspection.threshold,
        decided_utc=utc_text(verdict.decided_utc_ns),
        total_ms=(verdict.decided_ns - verdict.frame.captured_ns) / 1e6,
        frame=verdict.frame.number,
        has_image=verdict.frame.pixels.size > 0,
        recipe=f"{recipe.id} {recipe.version}" if recipe else None,
    )


def _answer(link: Link[PageMessage], answer: ActionDone | ActionFailed) -> None:
    with suppress(LinkBroken):  # the page that sent the request is gone
        link.send(answer)
