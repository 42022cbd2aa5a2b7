"""The process of the OPC UA server; the station starts it and speaks to it over a link.

It reads the journal behind each commit, so what it shows is on record. It ends when the link does.
In the station's own process its library would keep the line waiting: seconds of Python at its
start, and a burst of Python for each request of a client.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import edge
from edge.errors import StationError
from edge.journal.entries import JournalError, JournalRow, RecordKind
from edge.journal.outbox import Outbox
from edge.plc.opcua.access import Users, secure
from edge.plc.opcua.bounds import BoundedServer
from edge.plc.opcua.machine_vision import MachineVision
from edge.plc.opcua.messages import (
    OPCUA_STATION_MESSAGES,
    OfferedRecipe,
    OpcUaHello,
    OpcUaReport,
    OpcUaStationMessage,
    RecipeAsked,
    RowsCommitted,
    StationChanged,
)
from edge.plc.opcua.startup_check import (
    application_uri,
    read_certificate,
    read_password,
    server_url,
)
from edge.plc.opcua.station_nodes import Recorded, StationNodes
from edge.processes.link import Link, LinkBroken
from edge.system.log_output import log_to_stderr
from edge.system.priority import READ_BESIDE, lower_priority
from edge.system.process_end import exit_process

log = logging.getLogger(__name__)

# How often the station hears that the process lives; rows that were not announced are found, too.
REPORT_S = 1.0
END_LIMIT_S = 2.0
# Further behind, the oldest verdicts get no event; they are counted.
MAX_BEHIND = 256
# Shown before who asks has a turn, and the station a sign of life.
MAX_AT_ONCE = 4


class OpcUaServer:
    """Shows a journal's newest verdict; all but the constructor runs in the loop."""

    def __init__(self, link: Link[OpcUaStationMessage], hello: OpcUaHello) -> None:
        self._link = link
        self._hello = hello
        self._outbox = Outbox(Path(hello.journal))
        self._changed = asyncio.Event()
        self._station: StationChanged | None = None
        self._seq = self._shown_seq = 0
        self._unreadable = False
        self._events = self._skipped = 0
        self.ended = False

    def on_message(self, message: OpcUaStationMessage) -> None:
        """Take a message of the station."""
        match message:
            case StationChanged():
                self._station = message
            case RowsCommitted() | OpcUaHello():
                pass
        self._changed.set()

    def end(self) -> None:
        """Ask ``serve`` to return."""
        self.ended = True
        self._changed.set()

    async def serve(self) -> None:
        """Serve until ``end``."""
        server = await self._new_server()
        user = self._hello.settings.username
        plain = await StationNodes.build(server, self._hello.station)
        vision = await MachineVision.build(
            server,
            may_choose=user is not None,
            ask_for_recipe=self._ask_for_recipe,
            read_rows=self._rows,
        )
        nodes = (plain, vision)
        newest = self._newest()
        for row in self._rows(newest, newest):
            await self._show(nodes, Recorded.of(row))
        self._seq = newest
        gc.enable()
        gc.freeze()  # what was built lives as long as the process
        shown: StationChanged | None = None
        loop = asyncio.get_running_loop()
        async with server:
            self._report(server)
            due_s = loop.time() + REPORT_S
            while not self.ended:
                self._changed.clear()
                station = self._station
                if station is not None and station != shown:
                    for one in nodes:
                        await one.show_station(station, datetime.now(UTC))
                    shown = station
                await self._show_new(nodes)
                if loop.time() >= due_s:
                    self._report(server)
                    due_s = loop.time() + REPORT_S
                await self._wait(due_s - loop.time())

    async def _wait(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(max(limit_s, 0.0)):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _show_new(self, nodes: Sequence[StationNodes | MachineVision]) -> None:
        """Show and send what is new, as much as can be done at once."""
        try:
            newest = self._newest()
            behind = newest - self._seq
            if behind > MAX_BEHIND:
                self._skipped += behind - MAX_BEHIND
                self._seq = newest - MAX_BEHIND
            last = min(newest, self._seq + MAX_AT_ONCE)
            rows = self._rows(self._seq + 1, last)
            # Events may come late; what stands for the newest verdict may not.
            ahead = self._rows(newest, newest) if newest > last else ()
        except JournalError as error:
            if not self._unreadable:
                log.warning("OPC UA shows no new verdict: %s", error)
            self._unreadable = True
            return
        self._unreadable = False
        for row in ahead:
            await self._show(nodes, Recorded.of(row))
        for row in rows:
            verdict = Recorded.of(row)
            await self._show(nodes, verdict)
            for one in nodes:
                await one.notify(verdict)
            self._seq = row.seq
            self._events += 1
            await asyncio.sleep(0)
        if newest > last:
            self._changed.set()

    async def _show(self, nodes: Sequence[StationNodes | MachineVision], verdict: Recorded) -> None:
        if verdict.row.seq > self._shown_seq:
            self._shown_seq = verdict.row.seq
            for one in nodes:
                await one.show(verdict)

    def _rows(self, first: int, last: int) -> Sequence[JournalRow]:
        return self._outbox.rows(RecordKind.VERDICT, first, last, last - first + 1)

    def _ask_for_recipe(self, recipe: OfferedRecipe) -> None:
        user = self._hello.settings.username or ""
        self._link.send(RecipeAsked(recipe=recipe, user=f"OPC UA {user}"))

    def _newest(self) -> int:
        return self._outbox.backlog().last_seq[RecordKind.VERDICT]

    def _report(self, server: BoundedServer) -> None:
        server.end_idle_connections(time.monotonic())
        self._link.send(
            OpcUaReport(
                serving=server.bserver is not None,
                connections=len(server.bserver.clients) if server.bserver else 0,
                events=self._events,
                skipped=self._skipped,
            )
        )

    async def _new_server(self) -> BoundedServer:
        settings, station = self._hello.settings, self._hello.station
        users = Users(settings.username, read_password(settings))
        server = BoundedServer(users, settings.connections)
        await server.init()
        server.set_endpoint(server_url(settings))
        server.set_server_name(f"inspection station {station}")
        certificate = read_certificate(settings)
        uri = application_uri(certificate) if certificate is not None else None
        await server.set_application_uri(uri or f"urn:{socket.gethostname()}:{station}")
        now = datetime.now(UTC)
        product = ("urn:inspection-station", "inspection-station", station)
        await server.set_build_info(*product, edge.__version__, "", now)
        await secure(server, settings)
        return server


def main() -> int:
    """Serve until the link to the station ends; return the exit code of the process."""
    log_to_stderr()
    # What clients do wrong is no news of the station's, nor that one is gone before its answer.
    for library in ("asyncua", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    lower_priority(READ_BESIDE)
    gc.disable()  # a third of the time to build the address space, which is all kept
    link = Link(Connection(int(sys.argv[1])), OPCUA_STATION_MESSAGES)
    try:
        hello = link.receive().message
    except LinkBroken:
        return 0
    if not isinstance(hello, OpcUaHello):
        return 0
    try:
        asyncio.run(_serve(link, hello))
    except StationError as error:
        log.error("%s", error)
        return error.exit_code
    except OSError as error:
        log.error(
            "%s: the OPC UA server cannot listen there (%s)", server_url(hello.settings), error
        )
        return 69
    except LinkBroken:
        return 0
    return 0


async def _serve(link: Link[OpcUaStationMessage], hello: OpcUaHello) -> None:
    server = OpcUaServer(link, hello)
    loop = asyncio.get_running_loop()
    threading.Thread(target=_read, args=(link, loop, server), name="reader", daemon=True).start()
    await server.serve()


def _read(
    link: Link[OpcUaStationMessage], loop: asyncio.AbstractEventLoop, server: OpcUaServer
) -> None:
    try:
        while True:
            loop.call_soon_threadsafe(server.on_message, link.receive().message)
    except (LinkBroken, RuntimeError):  # the station, or our own loop, has ended
        if not loop.is_closed():
            loop.call_soon_threadsafe(server.end)
        time.sleep(END_LIMIT_S)
        os._exit(0)  # a request that does not end is no reason to stay


if __name__ == "__main__":
    exit_process(main())
