"""The station's end of its OPC UA server: starts its process, and sends it what happens.

Nothing here is waited for. When the other process is slow, hangs or dies, this thread waits or
starts it again, and the line goes on.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.contract.verdict import Recipe
from edge.plc.opcua.messages import (
    OPCUA_MESSAGES,
    OfferedRecipe,
    OpcUaHello,
    OpcUaMessage,
    OpcUaReport,
    RecipeAsked,
    RowsCommitted,
    StationChanged,
)
from edge.plc.opcua.startup_check import check_usable, server_url
from edge.processes.child_process import ChildProcess, spawn
from edge.processes.link import Link, LinkBroken
from edge.settings.opcua import OpcUaSettings
from edge.station.monitoring.health import Health

log = logging.getLogger(__name__)

LOOK_S = 0.5
RECIPES_S = 1.0
FIRST_DELAY_S, MAX_DELAY_S = 1.0, 30.0
# A process that served so long had a good start; the next one may come at once.
GOOD_START_S = 60.0
# A process that gives no sign of life for so long hangs; it gives one every second.
STUCK_S = 15.0
STARTING_LIMIT_S = 120.0
# This thread was stopped or starved, and may have signs of life to read.
NOT_LOOKED_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcUaStatus:
    """What people see of the server.

    Attributes:
        serving: clients can connect.
        connections: open now.
        events: verdicts that had their event since its process began, ``skipped``: that had none.
    """

    address: str
    secured: bool
    serving: bool = False
    connections: int = 0
    events: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRecipes:
    """Which recipes the station has, and how one is asked for.

    Attributes:
        current: of parts that name none.
        offered: in force; None for a station with one model.
        choose: asks for a change, which an event confirms; returns at once.
    """

    current: Callable[[], Recipe | None]
    offered: Callable[[], list[Recipe] | None]
    choose: Callable[[Recipe, str], None]


class OpcUaProcess:
    """Runs the server of one station; ``run`` is the body of its thread."""

    def __init__(
        self,
        *,
        settings: OpcUaSettings,
        station: str,
        triggered: bool,
        journal: Path,
        health: Health,
    ) -> None:
        """Try address, certificate and key; nothing is served yet.

        Args:
            station: its name.
            triggered: parts come with triggers.
            journal: path of its database.
            health: shown, and degraded while the server is down.

        Raises:
            OpcUaNotInstalled, OpcUaUnusable, ConfigurationInvalid: names the key.
        """
        for doubt in check_usable(settings):
            log.warning("clients may refuse the OPC UA server: its certificate %s", doubt)
        self._hello = OpcUaHello(settings=settings, station=station, journal=str(journal))
        self._triggered = triggered
        self._health = health
        self._recipes: StationRecipes | None = None
        self._stopping = False
        self._woken = threading.Event()
        self._rows_came = False
        self._address = server_url(settings)
        self._report: OpcUaReport | None = None
        self._child: ChildProcess[OpcUaMessage] | None = None
        self._heard_s = self._looked_s = 0.0
        self._offered: tuple[OfferedRecipe, ...] | None = None
        self._offered_s = -math.inf

    def wake(self) -> None:
        """Note that there are new rows in the journal."""
        self._rows_came = True
        self._woken.set()

    def on_health(self, _reasons: tuple[str, ...]) -> None:
        """Note that something is wrong with the station that inspects, or no longer is."""
        self._woken.set()

    def set_recipes(self, recipes: StationRecipes) -> None:
        """Show these from now on."""
        self._recipes = recipes
        self._woken.set()

    def status(self) -> OpcUaStatus:
        """Return what people see of the server."""
        report = self._report
        secured = self._hello.settings.certificate_file is not None
        if report is None:
            return OpcUaStatus(address=self._address, secured=secured)
        return OpcUaStatus(
            address=self._address,
            secured=secured,
            serving=report.serving,
            connections=report.connections,
            events=report.events,
            skipped=report.skipped,
        )

    def stop(self) -> None:
        """Ask ``run`` to end the process and return."""
        self._stopping = True
        self._woken.set()

    def run(self) -> None:
        """Serve until ``stop``; the body of the thread."""
        delay_s = FIRST_DELAY_S
        while not self._stopping:
            began_s = time.monotonic()
            try:
                self._serve()
            except (LinkBroken, OSError) as error:
                log.warning("the process of the OPC UA server ended (%s)", error)
            finally:
                self._end_process()
            if self._stopping:
                return
            self._health.set(
                "opcua_down",
                True,
                "The OPC UA server is not running; inspection continues. See the log; it is "
                "restarted automatically.",
            )
            if time.monotonic() - began_s > GOOD_START_S:
                delay_s = FIRST_DELAY_S
            self._pause(delay_s)
            delay_s = min(2 * delay_s, MAX_DELAY_S)

    def _pause(self, delay_s: float) -> None:
        until_s = time.monotonic() + delay_s
        while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
            self._woken.wait(left_s)
            self._woken.clear()

    def _serve(self) -> None:
        self._heard_s = self._looked_s = time.monotonic()
        self._child = child = spawn("edge.plc.opcua.main", OPCUA_MESSAGES)
        link = child.link
        link.send(self._hello)
        threading.Thread(target=self._read, args=(link,), name="opcua reader", daemon=True).start()
        sent: StationChanged | None = None
        while not self._stopping:
            self._woken.wait(LOOK_S)
            self._woken.clear()
            if self._rows_came:
                self._rows_came = False
                link.send(RowsCommitted())
            now = self._now()
            if now != sent:
                link.send(now)
                sent = now
            self._end_if_stuck(child)

    def _now(self) -> StationChanged:
        health, recipes, now_s = self._health, self._recipes, time.monotonic()
        if recipes is not None and now_s - self._offered_s >= RECIPES_S:
            offered = recipes.offered()  # reads a folder
            self._offered = None if offered is None else tuple(map(_offered, offered))
            self._offered_s = now_s
        current = recipes.current() if recipes is not None else None
        return StationChanged(
            condition=health.condition,
            reasons=tuple(sorted(health.reasons)),
            recipe=_offered(current) if current else None,
            offered=self._offered,
            triggered=self._triggered,
        )

    def _read(self, link: Link[OpcUaMessage]) -> None:
        try:
            while True:
                message = link.receive().message
                self._heard_s = time.monotonic()
                match message:
                    case OpcUaReport():
                        if self._report is None and message.serving:
                            self._health.set("opcua_down", False)
                            secured = self._hello.settings.certificate_file is not None
                            log.info(
                                "OPC UA at %s%s",
                                self._address,
                                "" if secured else ", not encrypted",
                            )
                        self._report = message
                    case RecipeAsked(recipe=recipe, user=user):
                        if self._recipes is not None:
                            self._recipes.choose(Recipe(recipe.id, recipe.version), user)
        except LinkBroken:
            return

    def _end_if_stuck(self, child: ChildProcess[OpcUaMessage]) -> None:
        """End a process that is alive and does nothing; ``run`` starts the next."""
        now_s = time.monotonic()
        not_looked_s, self._looked_s = now_s - self._looked_s, now_s
        if not_looked_s > NOT_LOOKED_S:
            self._heard_s = now_s
        limit_s = STUCK_S if self._report else STARTING_LIMIT_S
        if now_s - self._heard_s > limit_s:
            child.process.kill()
            raise LinkBroken("it hangs")
        if child.process.poll() is not None:
            raise LinkBroken(f"exit code {child.process.returncode}")

    def _end_process(self) -> None:
        child, self._child = self._child, None
        self._report = None
        if child is not None:
            child.end()
            child.link.close()


def _offered(recipe: Recipe) -> OfferedRecipe:
    return OfferedRecipe(id=recipe.id, version=recipe.version)
