"""The page of all stations: read-only, over what the broker has retained.

One thread holds the connection to the broker; the page's answers are made of what it has, once a
second for all who ask.
"""

import asyncio
import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge.contract.encoding import to_json
from edge.errors import StationError
from edge.fleet.errors import AddressTaken, LeadLost
from edge.fleet.fleet_link import FleetLink
from edge.fleet.station_rows import rollout_content, station_rows
from edge.hmi.server.auth import Guard
from edge.hmi.server.connections import Places, make_server
from edge.hmi.server.handlers import STATIC
from edge.hmi.server.responses import error_reply
from edge.hmi.server.routes import GuardedPage
from edge.settings.mqtt import MqttSettings

log = logging.getLogger(__name__)

TURN_S = 0.2
FRESH_S = 1.0
RETRY_S = 2.0
# After another command took the connection of this account: long enough for it to end.
TAKEN_OVER_S = 30.0
CONNECTIONS = 64
PAGE = "overview.html"
OWN = Path(__file__).parent / "static"
# Of the station's page, whose looks this one shares.
SHARED = ("page.css", "dom.js", "texts.js", "mask_texts.js", "align_texts.js", "icon.svg")
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class FleetView:
    """What the broker has, kept by a thread of its own, and the answer made of it."""

    def __init__(self, settings: MqttSettings, title: str) -> None:
        self._title = title
        self._stopping = threading.Event()
        self._changing = threading.Lock()  # around the link's content, not around the network
        self._link = FleetLink(settings, stopping=self._stopping.is_set)
        self._answer = b""
        self._made_s = -math.inf

    def connect(self) -> None:
        """Connect and read what is retained.

        Raises:
            StationError: the broker cannot be reached, or does not let this account read.
        """
        self._link.connect()

    def run(self) -> None:
        """Take what comes until ``stop``; the body of the thread."""
        while not self._stopping.is_set():
            try:
                self._turn()
            except LeadLost as error:
                log.error("%s", error)
                self._stopping.wait(TAKEN_OVER_S)
                self._link.start_over()
            except StationError as error:
                log.error("%s", error)
                self._stopping.wait(RETRY_S)

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        self._link.close()

    def answer(self) -> bytes:
        """Return all stations and the roll-out as JSON, at most a second old."""
        with self._changing:
            now_s = time.monotonic()
            if now_s - self._made_s > FRESH_S:
                self._made_s = now_s
                self._answer = to_json(self._content(now_s)).encode()
            return self._answer

    def _turn(self) -> None:
        if not self._link.connected:
            self._link.turn(TURN_S)  # connects anew, which may take long
            return
        self._link.wait(TURN_S)
        with self._changing:
            self._link.turn(0.0)

    def _content(self, now_s: float) -> dict[str, Any]:
        retained = self._link.retained
        return {
            "title": self._title,
            "connected": self._link.connected,
            "stations": [asdict(row) for row in station_rows(retained, now_s)],
            "rollout": rollout_content(retained),
        }


def application(view: FleetView, guard: Guard) -> GuardedPage:
    """Build the ASGI application."""
    files = {path.name: _file(path) for path in OWN.iterdir() if path.suffix in KINDS}
    files |= {name: _file(STATIC / name) for name in SHARED}

    def page(_: Request) -> Response:
        return _reply(files[PAGE])

    def static(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        return _reply(found) if found is not None else error_reply(404, "no such file.")

    def stations(_: Request) -> Response:
        return _reply((view.answer(), "application/json"))

    def alive(_: Request) -> Response:
        return _reply((b'{"alive":true}', "application/json"))

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", static),
            Route("/api/stations", stations),
            Route("/livez", alive),
        ]
    )
    app.router.redirect_slashes = False
    return GuardedPage(app, guard)


def serve(
    view: FleetView,
    listening: socket.socket,
    allowed_hosts: tuple[str, ...],
    on_serving: Callable[[], None],
) -> None:
    """Serve until a signal ends it."""
    reader = threading.Thread(target=view.run, name="overview", daemon=True)
    reader.start()
    places = Places(CONNECTIONS, ())
    server = make_server(application(view, Guard(token=None, allowed_hosts=allowed_hosts)), places)
    on_serving()
    try:
        asyncio.run(server.serve(sockets=[listening]))
    finally:
        view.stop()
        reader.join(2 * TURN_S + 1.0)
        view.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        AddressTaken: another program has the address, or it is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise AddressTaken(
            f"{host}:{port}: the page cannot be served at this address "
            f"({error.strerror}). Choose another --port, or end the other program."
        ) from error


def _file(path: Path) -> tuple[bytes, str]:
    return path.read_bytes(), KINDS[path.suffix]


def _reply(found: tuple[bytes, str]) -> Response:
    content, kind = found
    return Response(content, headers={"content-type": kind, "cache-control": "no-store"})
