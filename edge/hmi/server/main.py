"""The process that serves the page; the station starts it and speaks to it over a link.

It ends when the link does, so it never outlives its station.
"""

import asyncio
import logging
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import uvicorn
from anyio import to_thread

from edge.errors import StationError
from edge.hmi.actions import Actor, StationAction, StationActionResult
from edge.hmi.contents import Content
from edge.hmi.messages import (
    STATION_MESSAGES,
    ActionDone,
    ActionFailed,
    ActionRequested,
    Alive,
    Hello,
    MaskShown,
    PartDecided,
    PartRejected,
    Serving,
    StationMessage,
    StatusChanged,
    TokenChanged,
    WatchedChanged,
)
from edge.hmi.server.auth import Guard, RequestRefused
from edge.hmi.server.connections import Places, make_server
from edge.hmi.server.handlers import Application
from edge.hmi.server.live_view import Image, LiveView
from edge.hmi.server.part_queries import PartQueries
from edge.hmi.server.production_stats import ProductionStats
from edge.hmi.server.routes import application
from edge.hmi.server.taught_images import TaughtImages
from edge.processes.link import Link, LinkBroken, Received
from edge.settings.hmi import HmiSettings
from edge.system.log_output import log_to_stderr
from edge.system.priority import READ_BESIDE, lower_priority
from edge.system.process_end import exit_process

log = logging.getLogger(__name__)

# The kernel lets go of who does not read the answer.
UNREAD_LIMIT_MS = 20_000
SEND_BUFFER_BYTES = 256 * 1024
# That read, encode and export, for all who look.
MAX_THREADS = 12
ALIVE_S = 2.0
ACTION_LIMIT_S = 600.0
END_LIMIT_S = 2.0


class StationLink:
    """The page's end of the link: requests actions, and says that it lives and who watches."""

    def __init__(self, link: Link[StationMessage]) -> None:
        self._link = link
        self._last_number = 0
        self._waiting: dict[int, asyncio.Future[ActionDone | ActionFailed]] = {}
        self._ended = False

    def on_watched(self, watched: bool) -> None:
        """Send whether anybody looks at images."""
        self._send(WatchedChanged(watched=watched))

    async def send_signs_of_life(self) -> None:
        """Send a sign of life, again and again."""
        while True:
            await asyncio.sleep(ALIVE_S)
            self._send(Alive())

    def on_serving(self, address: str) -> None:
        """Send where the page is."""
        self._send(Serving(address=address))

    async def do(self, action: StationAction, actor: Actor) -> StationActionResult:
        """Have an action carried out; return its result.

        Raises:
            RequestRefused: the station does not do it, with its reason, or has ended.
        """
        if self._ended:
            raise _ended()
        self._last_number += 1
        number = self._last_number
        waiting: asyncio.Future[ActionDone | ActionFailed]
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            self._send(ActionRequested(number=number, action=action, actor=actor))
            answer = await asyncio.wait_for(waiting, ACTION_LIMIT_S)
        except TimeoutError as error:
            raise RequestRefused(504, "the station has not answered; see its log.") from error
        finally:
            del self._waiting[number]
        if isinstance(answer, ActionFailed):
            status = 500 if answer.defect else 409
            raise RequestRefused(status, answer.error, answer.kind, answer.data)
        return answer.result

    def on_answer(self, answer: ActionDone | ActionFailed) -> None:
        """Take the answer to an action; one that nobody waits for any more is dropped."""
        waiting = self._waiting.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def on_end(self) -> None:
        """Answer who waits that the station has ended; nobody else will."""
        self._ended = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_ended())

    def _send(self, message: Content) -> None:
        try:
            self._link.send(message)
        except LinkBroken:
            log.debug("the station has ended")


def _ended() -> RequestRefused:
    return RequestRefused(
        504,
        "the station has ended. Once it is back, look whether this counts, and repeat it if not.",
    )


def main() -> int:
    """Serve until the link to the station ends; return the exit code of the process."""
    log_to_stderr()
    lower_priority(READ_BESIDE)
    cv2.setNumThreads(1)
    link = Link(Connection(int(sys.argv[1])), STATION_MESSAGES)
    try:
        hello = link.receive().message
        if not isinstance(hello, Hello):
            raise LinkBroken("not started by a station")
        settings = hello.settings
        listening = _listening(settings)
    except LinkBroken:
        return 0
    except OSError as error:
        log.error(
            "%s:%d: the page cannot be served at this address (%s). Choose another "
            "hmi.port, or end the other program.",
            settings.host,
            settings.port,
            error.strerror,
        )
        return 69
    try:
        asyncio.run(_serve(link, hello, listening))
    except StationError as error:
        log.error("%s", error)
        return error.exit_code
    return 0


async def _serve(link: Link[StationMessage], hello: Hello, listening: socket.socket) -> None:
    settings, station = hello.settings, StationLink(link)
    view = LiveView(settings.thumbnails, station.on_watched)
    journal, snapshots = Path(hello.journal), hello.snapshots
    guard = Guard(
        token=hello.token,
        user_header=settings.user_header,
        trusted_proxies=settings.trusted_proxies,
        allowed_hosts=settings.allowed_hosts,
        public_urls=settings.public_urls,
    )
    app = application(
        Application(
            title=hello.title,
            language=settings.language,
            view=view,
            station=station,
            guard=guard,
            parts=PartQueries(journal, Path(snapshots) if snapshots else None),
            numbers=ProductionStats(journal, settings.shifts),
            taught=TaughtImages(Path(hello.teaching) if hello.teaching else None),
        )
    )
    to_thread.current_default_thread_limiter().total_tokens = MAX_THREADS
    places = Places(settings.connections, settings.trusted_proxies)
    server = make_server(app, places)
    loop = asyncio.get_running_loop()
    reader = threading.Thread(
        target=_read,
        args=(link, loop, view, station),
        kwargs={"guard": guard, "server": server},
        name="reader",
        daemon=True,
    )
    reader.start()
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    station.on_serving(f"http://{shown}:{port}")
    alive = asyncio.create_task(station.send_signs_of_life())
    await server.serve(sockets=[listening])
    alive.cancel()


def _read(
    link: Link[StationMessage],
    loop: asyncio.AbstractEventLoop,
    view: LiveView,
    station: StationLink,
    *,
    guard: Guard,
    server: uvicorn.Server,
) -> None:
    try:
        while True:
            received = link.receive()
            loop.call_soon_threadsafe(_on_message, received, view, station, guard)
    except (LinkBroken, RuntimeError):  # the station, or our own loop, has ended
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(station.on_end)
        server.should_exit = True
        time.sleep(END_LIMIT_S)
        os._exit(0)  # a request that does not end is no reason to stay


def _on_message(
    received: Received[StationMessage], view: LiveView, station: StationLink, guard: Guard
) -> None:
    message, blobs = received.message, received.blobs
    match message:
        case StatusChanged():
            view.on_status(message.status)
        case PartDecided():
            view.on_part(message.part, Image(message.image, blobs) if message.image else None)
        case PartRejected():
            view.on_rejected(message.verdict_id, Image(message.image, blobs))
        case MaskShown():
            view.mask = message.mask
        case ActionDone() | ActionFailed():
            station.on_answer(message)
        case TokenChanged():
            guard.set_token(message.token)


def _listening(settings: HmiSettings) -> socket.socket:
    """Return a socket that listens; what it accepts inherits its limits.

    Whoever knows the address may connect at once, and waits until the server accepts.

    Raises:
        OSError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_LIMIT_MS)
        bound.bind((settings.host, settings.port))
        bound.listen()
    except OSError:
        bound.close()
        raise
    return bound


if __name__ == "__main__":
    exit_process(main())
