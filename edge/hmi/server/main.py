"""The process that serves the page; the station starts it and speaks to it over a link.

It ends when the link does, so it never outlives its station.
"""

import asyncio
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import cv2
import uvicorn
from anyio import to_thread

from edge.errors import StationError
from edge.hmi.ipc import Link, LinkBroken, Message
from edge.hmi.server.auth import Actor, Guard, RequestRefused
from edge.hmi.server.connections import REQUEST_LIMIT_S, PageProtocol, Places
from edge.hmi.server.handlers import Application
from edge.hmi.server.live_view import Image, LiveView
from edge.hmi.server.part_queries import PartQueries
from edge.hmi.server.production_stats import ProductionStats
from edge.hmi.server.routes import application
from edge.settings.hmi import HmiSettings
from edge.system.log_output import log_to_stderr
from edge.system.process_end import exit_process

log = logging.getLogger(__name__)

# The line goes first, whoever looks at it.
NICENESS = 10
# The kernel lets go of who does not read the answer.
UNREAD_LIMIT_MS = 20_000
SEND_BUFFER_BYTES = 256 * 1024
# That read, encode and export, for all who look.
MAX_THREADS = 12
LIFE_S = 2.0
DEED_LIMIT_S = 600.0
END_LIMIT_S = 2.0


class StationLink:
    """The station as the page's process knows it: asked for deeds, told who watches."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._numbers = 0
        self._asked: dict[int, asyncio.Future[Mapping[str, Any]]] = {}

    def watched(self, watched: bool) -> None:
        """Tell whether anybody looks at images."""
        self._tell("watched", {"watched": watched})

    async def live(self) -> None:
        """Give a sign of life, again and again."""
        while True:
            await asyncio.sleep(LIFE_S)
            self._tell("alive", {})

    def serving(self, address: str) -> None:
        """Tell where the page is."""
        self._tell("serving", {"address": address})

    async def do(self, name: str, asked: Mapping[str, Any], actor: Actor) -> Mapping[str, Any]:
        """Have a deed done; return what came of it.

        Raises:
            Refused: the station does not do it, with its reason.
        """
        self._numbers += 1
        number = self._numbers
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        request = {"number": number, "name": name, "asked": dict(asked)}
        try:
            self._tell("deed", {**request, "by": actor.name, "address": actor.address})
            found = await asyncio.wait_for(answer, DEED_LIMIT_S)
        except TimeoutError as error:
            raise RequestRefused(504, "the station has not answered; see its log.") from error
        finally:
            del self._asked[number]
        if "error" in found:
            raise RequestRefused(500 if found.get("defect") else 409, found["error"])
        return found["done"]

    def answered(self, content: Mapping[str, Any]) -> None:
        """Take the answer to a deed; one that nobody waits for any more is dropped."""
        waiting = self._asked.get(content["number"])
        if waiting is not None and not waiting.done():
            waiting.set_result(content)

    def _tell(self, kind: str, content: Mapping[str, Any]) -> None:
        try:
            self._link.send(kind, content)
        except LinkBroken:
            log.debug("the station is gone")


def main() -> int:
    """Serve until the link to the station ends; return the exit code of the process."""
    log_to_stderr()
    os.nice(NICENESS)
    cv2.setNumThreads(1)
    link = Link(Connection(int(sys.argv[1])))
    try:
        hello = link.receive().content
        settings = HmiSettings.model_validate(hello["settings"])
        listening = _listening(settings)
    except LinkBroken:
        return 0
    except OSError as error:
        log.error(
            "%s:%d: the page cannot be served there (%s). Choose another hmi.port, or end the "
            "other program.",
            settings.host,
            settings.port,
            error.strerror,
        )
        return 69
    try:
        asyncio.run(_serve(link, hello, settings, listening))
    except StationError as error:
        log.error("%s", error)
        return error.exit_code
    return 0


async def _serve(
    link: Link, hello: Mapping[str, Any], settings: HmiSettings, listening: socket.socket
) -> None:
    station = StationLink(link)
    view = LiveView(settings.thumbnails, station.watched)
    journal, snapshots = hello["journal"], hello["snapshots"]
    guard = Guard(
        hello["token"],
        settings.user_header,
        settings.trusted_proxies,
        settings.allowed_hosts,
        public_urls=settings.public_urls,
    )
    app = application(
        Application(
            title=hello["title"],
            language=settings.language,
            view=view,
            station=station,
            guard=guard,
            parts=PartQueries(Path(journal), Path(snapshots) if snapshots else None),
            numbers=ProductionStats(Path(journal), settings.shifts),
        )
    )
    to_thread.current_default_thread_limiter().total_tokens = MAX_THREADS
    places = Places(settings.connections, settings.trusted_proxies)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=cast(Any, partial(PageProtocol, places)),
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",  # whoever sends what is no HTTP writes no log
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=math.ceil(REQUEST_LIMIT_S),
            timeout_graceful_shutdown=1,
        )
    )
    loop = asyncio.get_running_loop()
    ears = threading.Thread(
        target=_hear, args=(link, loop, view, station, guard, server), name="ears", daemon=True
    )
    ears.start()
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    station.serving(f"http://{shown}:{port}")
    life = asyncio.create_task(station.live())
    await server.serve(sockets=[listening])
    life.cancel()


def _hear(
    link: Link,
    loop: asyncio.AbstractEventLoop,
    view: LiveView,
    station: StationLink,
    guard: Guard,
    server: uvicorn.Server,
) -> None:
    try:
        while True:
            message = link.receive()
            loop.call_soon_threadsafe(_take, message, view, station, guard)
    except (LinkBroken, RuntimeError):  # the station, or our own loop, has ended
        server.should_exit = True
        time.sleep(END_LIMIT_S)
        os._exit(0)  # a request that does not end is no reason to stay


def _take(message: Message, view: LiveView, station: StationLink, guard: Guard) -> None:
    content = message.content
    if message.kind == "status":
        view.take_status(content, time.monotonic())
    elif message.kind == "part":
        found = content["picture"]
        view.take_part(content, Image(found, message.blobs) if found else None)
    elif message.kind == "rejected":
        view.take_rejected(content["id"], Image(content["picture"], message.blobs))
    elif message.kind == "answer":
        station.answered(content)
    elif message.kind == "token":
        guard.take_token(content["token"])


def _listening(settings: HmiSettings) -> socket.socket:
    """Return a socket that listens; what it accepts inherits its limits.

    Who is told the address may connect at once, and waits until the server accepts.

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
