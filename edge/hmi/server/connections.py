"""Who may connect to the page, and how long a request may take to come.

A connection holds memory and a file, and whoever can reach the port can open many and say little.
So a request has to be whole within its time, one address has a part of the places only, and some
more are kept for probes: a monitor learns that the station lives while others hold everything.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Collection
from enum import Enum, auto
from functools import partial
from typing import Any, cast

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.hmi.server.limits import network

# From the connection, or the end of the answer before, to the last byte of the request.
REQUEST_LIMIT_S = 15.0
# A probe asks at once, and once.
PROBE_LIMIT_S = 3.0
PROBE_PLACES, PROBE_PLACES_OF_ONE = 16, 4
# So much of a refused body is read and thrown away, so that its sender reads the refusal.
MAX_UNWANTED_BYTES = 2**20
# In the scope's state of a connection that may ask for probes only.
PROBES_ONLY = "probes_only"


class Place(Enum):
    """What a connection may ask for."""

    ANY = auto()
    PROBES = auto()
    NONE = auto()


class Places:
    """So many connections in all, half of them of one address, and some more for probes."""

    def __init__(self, max_count: int, proxies: Collection[str]) -> None:
        """Begin with all places free.

        Args:
            max_count: connections that may ask for anything.
            proxies: trusted ones, which connect for many.
        """
        self._max_connections = max_count
        self._of_one = max(1, max_count // 2)
        self._proxies = frozenset(proxies)
        self._assigned: dict[Place, Counter[str]] = {place: Counter() for place in Place}

    def assign(self, address: str) -> Place:
        """Take a place for a connection from an address."""
        who = network(address)
        any_assigned, probes = self._assigned[Place.ANY], self._assigned[Place.PROBES]
        own = address in self._proxies or any_assigned[who] < self._of_one
        if own and any_assigned.total() < self._max_connections:
            place = Place.ANY
        elif probes[who] < PROBE_PLACES_OF_ONE and probes.total() < PROBE_PLACES:
            place = Place.PROBES
        else:
            place = Place.NONE
        self._assigned[place][who] += 1
        return place

    def give_back(self, address: str, place: Place) -> None:
        """Give the place of a connection back."""
        who, assigned = network(address), self._assigned[place]
        assigned[who] -= 1
        if assigned[who] <= 0:
            del assigned[who]


class PageProtocol(H11Protocol):
    """HTTP that takes no request which does not come whole in time."""

    def __init__(self, places: Places, **given: Any) -> None:
        super().__init__(**given)
        self._places = places
        self._place = Place.NONE
        self._deadline: asyncio.TimerHandle | None = None
        self._unwanted_bytes = 0

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else "unknown"

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._place = self._places.assign(self._address)
        if self._place is Place.NONE:
            transport.abort()
            return
        if self._place is Place.PROBES:
            self.app_state = {**self.app_state, PROBES_ONLY: True}
        self._expect(PROBE_LIMIT_S if self._place is Place.PROBES else REQUEST_LIMIT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._places.give_back(self._address, self._place)
        self._expect(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            self._unwanted_bytes += len(data)
            if self._unwanted_bytes > MAX_UNWANTED_BYTES:
                self.transport.abort()
                return
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._expect(None)

    def handle_events(self) -> None:
        try:
            super().handle_events()
        except h11.LocalProtocolError:  # what is no HTTP came while an answer was on its way
            self.transport.abort()

    def on_response_complete(self) -> None:
        unwanted = self.conn.their_state is h11.SEND_BODY
        super().on_response_complete()
        if not unwanted:
            self._unwanted_bytes = 0
            waits = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
            self._expect(REQUEST_LIMIT_S if waits else None)

    def _expect(self, within_s: float | None) -> None:
        """End the connection unless a whole request comes in time; None where one has come."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
        if within_s is not None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(within_s, self.transport.abort)


def make_server(app: ASGIApp, places: Places) -> uvicorn.Server:
    """Return a server of this application that keeps to these bounds and writes no log."""
    return uvicorn.Server(
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
