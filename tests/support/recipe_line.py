"""A station with recipes in this process: triggers as its ports queue them, verdicts as it decides.

Threads, journal and connection are those of ``edge-run``; only the ports' own protocols are left
out, so that thousands of parts pass in seconds.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.app.inspection_line import InspectionLine
from edge.app.signals import Stopper
from edge.app.station_base import StationBase
from edge.contract.commands import CommandRequest, SetRecipe, Trigger
from edge.contract.event import Event
from edge.contract.verdict import Recipe, Verdict
from edge.settings.layers import SettingsLayers
from edge.settings.station import Settings
from edge.station.recording.journal_folder import journal_folder
from tests.soak import times

GENEROUS_S = float(times(60, 600))


class RecipeLine:
    """A running line.

    Attributes:
        line: of the station.
        verdicts: in the order in which they were recorded.
    """

    def __init__(self, base: StationBase, line: InspectionLine) -> None:
        self.line = line
        self.verdicts: list[Verdict] = []
        self.events: list[Event] = []
        self._base = base
        self._triggered = 0
        self._changed = threading.Condition()
        line.recorder.add_observer(self)

    def on_verdict(self, verdict: Verdict) -> None:
        with self._changed:
            self.verdicts.append(verdict)
            self._changed.notify_all()

    def trigger(self, recipe_id: str | None = None, version: int | None = None) -> str:
        """Queue a trigger; returns its id."""
        self._triggered += 1
        trigger_id = f"t{self._triggered}"
        trigger = Trigger(
            trigger_id=trigger_id,
            part_id=None,
            recipe_id=recipe_id,
            recipe_version=version,
            deadline_ms=None,
            received_ns=time.monotonic_ns(),
        )
        end = time.monotonic() + GENEROUS_S
        while not self._base.messages.put(trigger):  # full, where a sender gets ``busy``
            assert time.monotonic() < end
            time.sleep(0.001)
        return trigger_id

    def set_recipe(self, recipe_id: str, version: int) -> None:
        """Queue the command."""
        command = SetRecipe(CommandRequest(name="set_recipe"), Recipe(recipe_id, version))
        assert self._base.messages.put(command)

    def wait(self, count: int) -> list[Verdict]:
        """Return the verdicts once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.verdicts) >= count, GENEROUS_S)
            return list(self.verdicts)

    def until_live(self, recipe: Recipe) -> None:
        """Wait until parts without a recipe are inspected for this one."""
        end = time.monotonic() + GENEROUS_S
        while self.line.model.recipe != recipe:
            assert time.monotonic() < end
            time.sleep(0.005)

    def until_resident(self, count: int) -> None:
        """Wait until so many recipes are in memory."""
        assert self.line.model.recipes is not None
        end = time.monotonic() + GENEROUS_S
        while len(self.line.model.recipes.names()) < count:
            assert time.monotonic() < end
            time.sleep(0.01)


@contextmanager
def recipe_line(settings: dict[str, Any], tuning: Path) -> Iterator[RecipeLine]:
    """Run a station until the end of the block."""
    valid = Settings.model_validate(settings)
    layers = SettingsLayers(valid, lambda: valid, journal_folder(valid))
    stopper = Stopper()
    base = StationBase(layers, once=False, stopper=stopper)
    base.start()
    line = InspectionLine(base, once=False, tuning=tuning, stopper=stopper)
    running = RecipeLine(base, line)
    thread = threading.Thread(target=line.inspect)
    thread.start()
    try:
        yield running
    finally:
        stopper.stop()
        thread.join(GENEROUS_S)
        line.stop_observers()
        base.stop(())
